"""Where conf/ and what belongs to it lie: in the checkout, beside the package; of an installed package, inside it.

A folder of one's own (`--config-dir`) is looked into as well: its method/x.yaml is `method=x` to every command.
"""

from __future__ import annotations

import os
from pathlib import Path

from lora_repro.errors import UserError

LIBRARY = Path(__file__).resolve().parents[1]
INSTALLED = (LIBRARY / "conf").is_dir()  # the wheel carries conf/ and experiments/ within
CONF = (LIBRARY if INSTALLED else LIBRARY.parent) / "conf"
ROOT = Path.cwd() if INSTALLED else LIBRARY.parent  # of runs/ and results/
EXPERIMENTS = "lora_repro.experiments" if INSTALLED else "experiments"
CACHE = Path.home() / ".cache" / "lora_repro" if INSTALLED else ROOT / ".cache"
DATA = Path(os.environ.get("LORA_REPRO_DATA") or CACHE / "data").expanduser()  # what `fetch` got
# Environment variables, so that the processes that a command starts know them too.
OWN = "LORA_REPRO_CONFIG_DIR"  # a folder beside conf/
TRUSTED = "LORA_REPRO_TRUST"  # packages whose classes a `_target_` may name, by commas


def own() -> str:
    """The reader's own folder of configurations, empty if there is none."""
    return os.environ.get(OWN, "")


def trusted() -> tuple[str, ...]:
    """The packages whose classes may be built: this one, and those that the reader named with --trust."""
    return ("lora_repro", *filter(None, os.environ.get(TRUSTED, "").split(",")))


def choices(group: str) -> list[str]:
    """The stems of a group's yaml files, in conf/ and in the reader's own folder."""
    folders = [CONF, Path(own())] if own() else [CONF]
    return sorted({path.stem for folder in folders for path in (folder / group).glob("[!.]*.yaml")})


def checkout(what: str) -> Path:
    """The root of the checkout. Raises UserError where the package is installed without one."""
    if INSTALLED:
        raise UserError(f"{what} needs a clone of the repository: run the command there")
    return ROOT

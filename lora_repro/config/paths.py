"""Where conf/ and what belongs to it lie: beside the package in a checkout, inside the package if it is installed.

The user's own folder (`--config-dir`) is searched as well: its method/x.yaml is `method=x` to every command.
"""

from __future__ import annotations

import os
from pathlib import Path

from lora_repro.errors import UserError
from lora_repro.files import once_per_version

LIBRARY = Path(__file__).resolve().parents[1]
INSTALLED = (LIBRARY / "conf").is_dir()  # the wheel has conf/ and experiments/ inside the package
CONF = (LIBRARY if INSTALLED else LIBRARY.parent) / "conf"
ROOT = Path.cwd() if INSTALLED else LIBRARY.parent  # where runs/ and results/ lie
EXPERIMENTS = "lora_repro.experiments" if INSTALLED else "experiments"
CACHE = Path.home() / ".cache" / "lora_repro" if INSTALLED else ROOT / ".cache"
DATA = Path(os.environ.get("LORA_REPRO_DATA") or CACHE / "data").expanduser()  # where `fetch` puts data
EVERY = "glob(*)"  # all rows of a table, in Hydra's words
# Environment variables, so that child processes know them too.
OWN = "LORA_REPRO_CONFIG_DIR"  # a folder beside conf/
TRUSTED = "LORA_REPRO_TRUST"  # packages whose classes a `_target_` may name, comma-separated


def cache_folder() -> Path:
    """Where backbones, and what else is built once, are kept: $LORA_REPRO_CACHE, or a folder of `CACHE`."""
    return Path(os.environ.get("LORA_REPRO_CACHE") or CACHE / "backbones").expanduser()


def own() -> str:
    """The user's own folder of configurations, empty if there is none."""
    return os.environ.get(OWN, "")


def folders() -> list[Path]:
    """conf/, and the user's own folder if there is one."""
    return [CONF, Path(own())] if own() else [CONF]


def trusted() -> tuple[str, ...]:
    """The packages whose classes may be built: this one, and those that the user named with --trust."""
    return ("lora_repro", *filter(None, os.environ.get(TRUSTED, "").split(",")))


def choices(group: str) -> list[str]:
    """What a group has to choose from, in conf/ and in the user's own folder: its yaml files, and the blocks of its own file."""
    names = {path.stem for folder in folders() for path in (folder / group).glob("[!.]*.yaml")}
    if holds_choices(group):
        names |= {block for folder in folders() for block in blocks_in(folder / f"{group}.yaml")}
    return sorted(names)


def holds_choices(path: str) -> bool:
    """Whether the yaml file of this name would be a group, with its blocks to choose from: row/<table>, or one at the top."""
    return "/" not in path or bool(table_of(f"{path}/row"))


def table_of(path: str) -> str:
    """The table of a row's config path (row/<table>/<row>); empty for any other path."""
    parts = path.removesuffix(".yaml").split("/")
    return parts[1] if parts[0] == "row" and len(parts) == 3 else ""


def blocks_in(file: Path) -> list[str]:
    """The blocks of a file, such as a table's rows, in their order; none if there is no such file."""
    return _blocks(file) if file.is_file() else []


@once_per_version
def _blocks(file: Path) -> list[str]:
    import yaml  # help texts and Tab need no table's rows

    values = yaml.load(file.read_text(encoding="utf-8"), yaml.CBaseLoader if hasattr(yaml, "CBaseLoader") else yaml.BaseLoader)
    return [key for key, value in values.items() if isinstance(value, dict)] if isinstance(values, dict) else []


def checkout_root(action: str) -> Path:
    """The root of the checkout. Raises UserError if the package is installed without one, or with the user's own folder."""
    if INSTALLED:
        raise UserError(f"{action} needs a clone of the repository, which holds the published results: run the command there")
    if own():
        raise UserError(f"{action} is for what conf/ declares: leave out --config-dir and {OWN}")
    return ROOT

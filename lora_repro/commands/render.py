"""Render everything published again, a part of it, or an experiment's tables with this checkout's runs.

    lora-repro render                      everything published: tables, figures, claims, report pages
    lora-repro render tables [EXPERIMENT]  results/*/{tables,figures} and report.json
    lora-repro render claims               the verdict on each claim: results/{claims,README}.md, report.json, README.md
    lora-repro render report               results/<profile>/report.html, what was learnt, and its pages
    lora-repro render report profile=laptop paths.data=/path/to/e2e   with the data's texts, to runs/laptop/report.html
    lora-repro render e2e profile=laptop   this checkout's runs beside the published ones and the paper's

The last form takes the training command's overrides (row/e2e=lora, seed=0, train.lr=1e-3), shows only those runs and writes its
tables under runs/. All forms read records and the files beside them, train nothing and need no network. The same records give
the same bytes. The first four forms do nothing if nothing has changed since the first last ran here;
without .cache/rendered they render anyway.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import sys
from collections.abc import Sequence
from importlib.metadata import distributions
from pathlib import Path

from lora_repro import console
from lora_repro.config.hydra_errors import did_you_mean
from lora_repro.config.paths import CACHE, ROOT, checkout_root, choices
from lora_repro.errors import UserError
from lora_repro.files import sha256, write_text
from lora_repro.records import manifest
from lora_repro.report import show


def parser() -> argparse.ArgumentParser:
    arg_parser = console.parser("render", __doc__)
    arg_parser.add_argument(
        "what", nargs="?", help="tables, claims, report, or an experiment: a file of experiments/ without .py"
    )
    arg_parser.add_argument("settings", nargs="*", help="for an experiment: profile=mini (default), other overrides of run")
    return arg_parser


@console.command
def main(arguments: Sequence[str], root: Path = ROOT) -> int:
    """The command line above; returns the exit status. `root`: the folder that holds runs/ and results/."""
    options = parser().parse_args(arguments)
    if options.what is None or options.what in PARTS:
        checkout_root("rendering what is published")
        if not options.settings and root == ROOT:
            return unless_done(root, options.what)
        for part in [PARTS[options.what]] if options.what else PARTS.values():
            part(options.settings, root)
        return 0
    name = options.what.removeprefix("experiment=")  # as the other commands spell it
    names = [*PARTS, *show.names()]
    if name not in [*names, *choices("experiment")]:
        raise UserError(f"cannot render {name!r}, which is no experiment; {did_you_mean(name, names)}")
    show.show(name, options.settings, root)
    return 0


def unless_done(root: Path, part_name: str | None = None) -> int:
    """All parts, or the named one, unless nothing that they read or write has changed since all were last rendered here."""
    mark, before = CACHE / "rendered", state(root)
    if mark.is_file() and mark.read_text(encoding="utf-8", errors="replace") == _digest(before):
        console.say("nothing that render reads has changed since it last ran here, and neither has what it wrote")
        return 0
    for part in [PARTS[part_name]] if part_name else PARTS.values():
        part((), root)
    if part_name:
        return 0
    after = state(root)
    changes = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
    if all(_written(name) for name in changes):  # else somebody edited what was being read
        with contextlib.suppress(OSError):
            write_text(mark, _digest(after))
    return 0


def state(root: Path) -> dict[str, str]:
    """Name -> digest of every file that decides what is rendered or is rendered, the installed packages, and our variables.

    tests/ counts: some claims are held by tests.
    """
    folders = ("lora_repro", "experiments", "conf", "docs", "tests", "results")
    files = [path for folder in folders for path in (root / folder).rglob("*")
             if path.is_file() and not path.name.startswith(".") and path.suffix not in (".pyc", ".tmp")]  # fmt: skip
    digests = {path.relative_to(root).as_posix(): sha256(path) for path in [root / "README.md", *files]}
    packages = sorted(f"{distribution.name} {distribution.version}" for distribution in distributions())
    ours = sorted(f"{name}={value}" for name, value in os.environ.items() if name.startswith("LORA_REPRO_"))
    return {**digests, "": "\n".join([sys.version, *packages, *ours])}


def _written(name: str) -> bool:
    """Whether `render` writes this file."""
    parts = name.split("/")
    return name == "README.md" or (parts[0] == "results" and not {*parts[2:3]} & {*manifest.EVIDENCE})


def _digest(digests: dict[str, str]) -> str:
    return hashlib.sha256(json.dumps(sorted(digests.items())).encode()).hexdigest()


def tables(settings: Sequence[str], root: Path) -> None:
    """The tables and figures of the named experiments, by default of all."""
    experiments = [item.removeprefix("experiment=") for item in settings]
    if overrides := [item for item in experiments if "=" in item]:
        raise UserError(f"{overrides[0]}: render tables takes no overrides, because it renders what is published as it is")
    show.render_published(experiments or show.names(), root)


def claims(settings: Sequence[str], root: Path) -> None:
    """The ledger of claims and what hangs on it."""
    from lora_repro.report import render  # here: an experiment's table needs neither claims nor pages

    if settings:
        raise UserError(f"render claims takes no settings: leave out {settings[0]}")
    render.render_claims(root)


def pages(settings: Sequence[str], root: Path) -> None:
    """The page of the named profile, by default of each."""
    from lora_repro.report import render

    arguments = console.options(settings, {"paths.data": "--data"})
    data = [item.removeprefix("--data=") for item in arguments if item.startswith("--data=")]
    profiles = [item for item in arguments if not item.startswith("--data=")]
    if len(profiles) > 1 or len(data) > 1:
        raise UserError(f"render report takes one profile=NAME and one paths.data=DIR, not {' '.join(settings)}")
    render.render_pages(root, profiles[0] if profiles else None, *data)


PARTS = {"tables": tables, "claims": claims, "report": pages}

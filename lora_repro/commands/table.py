"""Print an experiment's tables, or render all published tables and figures again.

    python -m lora_repro table e2e profile=laptop     this checkout's runs beside the published ones and the paper's
    python -m lora_repro table --published [NAME]     re-render results/*/{tables,figures} and report.json from the records

The first form takes the training command's overrides (row/e2e=lora, seed=0, train.lr=1e-3) and shows only those runs.
It reads records and the files beside them, trains nothing and needs no network.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from lora_repro import console
from lora_repro.config.paths import ROOT, checkout_root
from lora_repro.errors import UserError
from lora_repro.report import show


def parser() -> argparse.ArgumentParser:
    made = console.parser("table", __doc__)
    made.add_argument("--published", action="store_true", help="re-render everything under results/")
    made.add_argument("name", nargs="?", help="an experiment: a file of experiments/ without .py; with --published, default: all")
    made.add_argument("overrides", nargs="*", help="profile=mini (default), other overrides of run")
    return made


@console.command
def main(arguments: Sequence[str], root: Path = ROOT) -> int:
    """The command line above; returns the exit status. `root`: the folder that holds runs/ and results/."""
    given = parser().parse_args(arguments)
    name = given.name and given.name.removeprefix("experiment=")  # as the other commands spell it
    if given.published and given.overrides:
        raise UserError("--published takes no overrides: it renders what is published as it is")
    if given.published:
        checkout_root("rendering what is published")
        show.render_published([name] if name else show.names(), root)
    elif name:
        show.show(name, given.overrides, root)
    else:
        raise UserError(f"which experiment? {', '.join(show.names())}")
    return 0

"""Show what an experiment declares: its tables in the terminal, or all published tables and figures rendered again.

    python -m lora_repro.table e2e profile=laptop     this checkout's runs beside the published ones and the paper's
    python -m lora_repro.table --published [NAME]     re-render results/*/{tables,figures} from records alone

The first form takes the training command's overrides (row/e2e=lora, seed=0, train.lr=1e-3) and shows the cells they ask for.
Reads records and what lies beside them, trains nothing, needs no network.
"""

from __future__ import annotations

import argparse

from lora_repro import manners


def parser() -> argparse.ArgumentParser:
    made = manners.parser("lora_repro.table", __doc__)
    made.add_argument("--published", action="store_true", help="re-render everything under results/")
    made.add_argument("name", nargs="?", help="the experiment: a stem of experiments/; all of them with --published")
    made.add_argument("overrides", nargs="*", help="profile=mini (default) and the training command's others")
    return made


manners.begin(__name__, parser)  # --help does not wait for the imports below

import sys
from collections.abc import Sequence
from pathlib import Path

from lora_repro.errors import UserError
from lora_repro.report import present

ROOT = Path(__file__).resolve().parents[1]


def main(arguments: Sequence[str] | None = None, root: Path = ROOT) -> int:
    """The command line above; returns the exit status. `root`: the folder that holds runs/ and results/."""
    given = parser().parse_args(arguments)
    try:
        if given.published and given.overrides:
            raise UserError("--published takes no overrides: it renders what is published as it is")
        if given.published:
            present.render_published([given.name] if given.name else present.names(), root)
        elif given.name:
            present.show(given.name, given.overrides, root)
        else:
            raise UserError(f"which experiment? {', '.join(present.names())}")
    except UserError as error:
        return manners.failed(error)
    return 0


if __name__ == "__main__":
    sys.exit(main())

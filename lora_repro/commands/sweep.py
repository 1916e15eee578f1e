"""Print the runs of a sweep as commands for another scheduler; nothing is run. Each command resumes its run or does nothing.

    python -m lora_repro sweep experiment=e2e profile=paper                              for xargs, GNU parallel, dstack
    python -m lora_repro sweep --emit slurm-array experiment=e2e profile=paper > job.sh  sbatch job.sh
    python -m lora_repro sweep --emit sky experiment=e2e profile=paper > job.yaml        sky launch job.yaml
    python -m lora_repro sweep --emit wandb experiment=e2e profile=paper > sweep.yaml    wandb sweep sweep.yaml

Runs that others start from come first; a run already recorded in paths.runs is left out. A W&B sweep is a grid: it has only the
seeds that every row has, recorded or not. It can be edited into a search (method: bayes) over any key.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from lora_repro import console
from lora_repro.errors import UserError
from lora_repro.planning.cells import cells, with_starts
from lora_repro.records import record
from lora_repro.sweep import emit


def parser() -> argparse.ArgumentParser:
    made = console.parser("sweep", __doc__)
    made.add_argument("--emit", choices=emit.FORMS, default="lines", help="lines (default), slurm-array, sky or wandb")
    made.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="the sweep: experiment=e2e, or method=lora,full seed=0,1")
    return made


@console.command
def main(arguments: Sequence[str]) -> int:
    """The command line above; returns the exit status."""
    given = parser().parse_args([item for item in arguments if item not in ("-m", "--multirun")])
    asked = cells(given.overrides)
    if not asked:
        raise UserError("nothing to run: no row has these seeds")
    if given.emit == "wandb":
        print(emit.wandb_sweep(asked))
        return 0
    found = with_starts(asked)
    missing = [cell for cell in found if record.find(cell.folder, cell.asked) is None]
    if not missing:
        print(f"nothing to run: all {len(found)} runs are recorded", file=sys.stderr)
        return 0
    commands = list(map(emit.line, missing))
    print({"lines": "\n".join, "slurm-array": emit.slurm_array, "sky": emit.sky}[given.emit](commands))
    return 0

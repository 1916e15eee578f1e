"""Print the runs of a sweep as commands for any other engine; nothing is run. Each is idempotent, and goes on where it was left.

    python -m lora_repro sweep experiment=e2e profile=paper                              a line a run: xargs, GNU parallel, dstack
    python -m lora_repro sweep --emit slurm-array experiment=e2e profile=paper > job.sh  sbatch job.sh
    python -m lora_repro sweep --emit sky experiment=e2e profile=paper > job.yaml        sky launch job.yaml

Runs that others start from come first, and a run that is already recorded in paths.runs is left out.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence

from lora_repro import cli
from lora_repro.cells import Cell, cells, with_starts
from lora_repro.errors import UserError
from lora_repro.records import record

FORMS = ("lines", "slurm-array", "sky")


def line(cell: Cell) -> str:
    """The command of one run."""
    return shlex.join(["python", "-m", "lora_repro.run", *cell.overrides, "hydra.mode=RUN"])


def slurm_array(commands: Sequence[str]) -> str:
    """A job script: one array task a run, stopped in time to write its checkpoint, and queued again."""
    head = [
        "#!/bin/bash",
        f"#SBATCH --array=0-{len(commands) - 1} --gres=gpu:1 --time=12:00:00 --requeue --signal=B:TERM@300",
        "commands=(",
        *(f"  {shlex.quote(command)}" for command in commands),
        ")",
        "eval \"exec ${commands[$SLURM_ARRAY_TASK_ID]}\"",
    ]
    return "\n".join(head)


def sky(commands: Sequence[str]) -> str:
    """A SkyPilot task that works the runs off one after another on one GPU."""
    head = ["resources: {accelerators: 'A100:1', use_spot: true}", "setup: make setup", "run: |"]
    first, last = "  export PATH=$PWD/.venv/bin:$PATH", "  exit ${status:-0}"
    return "\n".join([*head, first, *(f"  {command} || status=$?" for command in commands), last])


def parser() -> argparse.ArgumentParser:
    made = cli.parser("sweep", __doc__)
    made.add_argument("--emit", choices=FORMS, default="lines", help="lines (default), slurm-array or sky")
    made.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="the sweep's: experiment=e2e, method=lora,full seed=0,1")
    return made


@cli.command
def main(arguments: Sequence[str]) -> int:
    """The command line above; returns the exit status."""
    given = parser().parse_args([item for item in arguments if item not in ("-m", "--multirun")])
    found = with_starts(cells(given.overrides))
    missing = [cell for cell in found if record.find(cell.folder) is None]
    if not found:
        raise UserError("nothing to run: no row asks for these seeds")
    if not missing:
        print(f"all {len(found)} runs have their record", file=sys.stderr)
        return 0
    commands = list(map(line, missing))
    print({"lines": "\n".join, "slurm-array": slurm_array, "sky": sky}[given.emit](commands))
    return 0

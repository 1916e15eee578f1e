"""Estimate what a command would run and cost; nothing is trained, downloaded or written.

    make plan EXPERIMENT=e2e PROFILE=paper
    lora-repro plan experiment=e2e profile=paper backbone=gpt2_medium
    lora-repro plan experiment=glue profile=laptop paths.data=/data/glue task=rte
    lora-repro plan -m method=lora,full seed=0,1
    make plan EXPERIMENT=e2e PROFILE=paper HARDWARE=a100           for another GPU: a100, h100, 4090, t4

One line per run:

    here      yes, begun (it has a checkpoint) or no
    trained   the number of trained parameters
    tokens    training tokens with padding, counted in the data; with *: estimated from documented mean lengths
    FLOPs     operations of the whole run
    time      published: what the published run took on a device of the same name with as many threads;
              estimated: the operations over this machine's speed, measured on a block of the model, anew each hour
    memory    estimated peak; published CPU records have 0.5 to 1.9 times the estimate

With `hardware=` a line is a row with all its seeds, in GPU-hours (lora_repro/costs/hardware.py).
"""

from __future__ import annotations

from collections.abc import Sequence

from lora_repro import console
from lora_repro.costs import plan
from lora_repro.costs.hardware import card
from lora_repro.errors import UserError
from lora_repro.planning.cells import cells, with_starts

HARDWARE = "hardware="


@console.command
def main(arguments: Sequence[str]) -> int:
    """The command line above; returns the exit status."""
    overrides = [item for item in arguments if not item.startswith(HARDWARE)]
    gpu_names = [item.removeprefix(HARDWARE) for item in arguments if item.startswith(HARDWARE)]
    gpu = card(gpu_names[-1]) if gpu_names else None
    lines = plan.plan_runs(with_starts(cells(overrides)), gpu)
    if not lines:
        raise UserError("nothing to plan: its rows have no such seed")
    print(plan.aligned(plan.gpu_rows(lines), plan.GPU_SIDES) if gpu else plan.table(lines))
    print("\n".join(["", *plan.totals(lines, gpu)]))
    if any(line.device == "cpu" and line.cell.asked["profile_name"] == "paper" for line in lines):
        console.say("times are for this machine's CPU, but profile paper is meant for a GPU: HARDWARE=a100 estimates for one")
    return 0

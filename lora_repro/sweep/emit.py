"""The runs of a sweep as commands for another scheduler (`run --emit`). Each command resumes its run or does nothing."""

from __future__ import annotations

import math
import shlex
import sys
from collections.abc import Sequence

import yaml

from lora_repro.config import paths
from lora_repro.errors import UserError
from lora_repro.planning.cells import Cell, cells, with_starts
from lora_repro.records import record

FORMS = ("lines", "slurm-array", "sky", "wandb")
ACTIVATE = "export PATH=$PWD/.venv/bin:$PATH"
OPTION = "--emit"


def requested(arguments: Sequence[str]) -> tuple[str, list[str]]:
    """(the form that `--emit FORM` names, the other arguments); the form is empty without the option.

    Raises UserError for an unknown form.
    """
    form, others, words = "", list[str](), iter(arguments)
    for item in words:
        name, equals, value = item.partition("=")
        if name != OPTION:
            others.append(item)
        elif (form := value if equals else next(words, "")) not in FORMS:
            raise UserError(f"{OPTION} needs one of {', '.join(FORMS)}; see lora-repro run --help")
    return form, others


def emit(form: str, overrides: Sequence[str]) -> None:
    """Print the runs that `overrides` ask for in a form of FORMS, without those already recorded, those that others start from
    first. Raises UserError if there is none, or if a W&B sweep cannot hold them.
    """
    runs = cells([item for item in overrides if item not in ("-m", "--multirun")])
    if not runs:
        raise UserError("nothing to run: no row has these seeds")
    if form == "wandb":
        print(wandb_sweep(runs))
        return
    every = with_starts(runs)
    missing = [cell for cell in every if record.find(cell.folder, cell.asked) is None]
    if not missing:
        print(f"nothing to run: all {len(every)} runs are recorded", file=sys.stderr)
        return
    commands = list(map(line, missing))
    print({"lines": "\n".join, "slurm-array": slurm_array, "sky": sky}[form](commands))


def program() -> list[str]:
    """The words of a run's command before its overrides, with the options that find the user's own yaml files and classes."""
    flags = {"--config-dir": paths.own(), "--trust": ",".join(paths.trusted()[1:])}
    options = (word for option, value in flags.items() if value for word in (option, value))
    return ["python", "-m", "lora_repro.run", *options]


def line(cell: Cell) -> str:
    """The command of one run."""
    return shlex.join([*program(), *cell.overrides, "hydra.mode=RUN"])


def slurm_array(commands: Sequence[str]) -> str:
    """A job script with one array task per run, which is stopped in time to write its checkpoint, and queued again.

    SLURM itself requeues tasks that were preempted or lost (--requeue), but not those that reached their time limit or exited
    with a status. The script requeues these if the run says that it is to be continued (exit code 75).
    """
    head = [
        "#!/bin/bash",
        f"#SBATCH --array=0-{len(commands) - 1} --gres=gpu:1 --time=12:00:00 --requeue --signal=B:TERM@300",
        ACTIVATE,
        "commands=(",
        *(f"  {shlex.quote(command)}" for command in commands),
        ")",
        "trap 'kill -TERM $!' TERM  # comes five minutes before the end, to this shell",
        'eval "${commands[$SLURM_ARRAY_TASK_ID]} &"; run=$!',
        "for again in 1 2 3; do wait $run; status=$?; [ $status -eq 143 ] || break; done  # a signal ends a wait, not the run",
        '[ $status -ne 75 ] || exec scontrol requeue "${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID"',
        "exit $status",
    ]
    return "\n".join(head)


def sky(commands: Sequence[str]) -> str:
    """A SkyPilot task that makes the runs one after another on one GPU."""
    head = ["workdir: .", "resources: {accelerators: 'A100:1', use_spot: true}", "setup: make setup", "run: |"]
    last = "  exit ${status:-0}"
    return "\n".join([*head, f"  {ACTIVATE}", *(f"  {command} || status=$?" for command in commands), last])


def wandb_sweep(runs: Sequence[Cell]) -> str:
    """The configuration of `wandb sweep`: overrides that all runs share are in its command, the others are its parameters.

    Only seeds that all rows have are kept. Raises UserError if the runs are still not a grid.
    """
    points = [dict(item.split("=", 1) for item in cell.overrides) for cell in runs]
    axes = [key for key in dict.fromkeys(key for point in points for key in point) if len({p.get(key) for p in points}) > 1]
    if any(key not in point for point in points for key in axes):
        raise UserError("a W&B sweep is a grid, and these runs set different keys: use --emit lines")
    others = [key for key in axes if key != "seed"]
    seeds: dict[tuple[str, ...], list[str]] = {}
    for point in points:
        seeds.setdefault(tuple(point[key] for key in others), []).append(point.get("seed", ""))
    every = dict.fromkeys(seed for row_seeds in seeds.values() for seed in row_seeds)
    common = [seed for seed in every if all(seed in row_seeds for row_seeds in seeds.values())]
    values = {key: list(dict.fromkeys(point[key] for point in points)) for key in others}
    if not common or len(seeds) != math.prod(map(len, values.values())):
        raise UserError("a W&B sweep is a grid, and some combinations of these values are no run: use --emit lines")
    if extra := len(points) - len(seeds) * len(common):
        print(f"{extra} runs left out: not every row has their seed; --emit lines prints them too", file=sys.stderr)
    if "seed" in axes:
        values["seed"] = common
    constants = [f"{key}={value}" for key, value in points[0].items() if key not in values and key != "tracker"]
    name = {"name": f"scores/{runs[0].score}", "goal": "maximize"}
    command = ["${env}", *program(), *constants, "tracker=wandb", "hydra.mode=RUN", "${args_no_hyphens}"]
    sweep = {"program": "lora_repro/run/__main__.py", "method": "grid", "metric": name,
             "parameters": {key: {"values": choices} for key, choices in values.items()}, "command": command}  # fmt: skip
    return yaml.safe_dump(sweep, sort_keys=False, allow_unicode=True).rstrip("\n")

"""Train, decode, score and record: one run, every row of a table, or a grid.

    lora-repro run method=lora seed=1                     one run at the default profile
    lora-repro run experiment=e2e                         every row of a table
    lora-repro run experiment=e2e row/e2e=lora profile=laptop paths.data=/data/e2e
    lora-repro run -m method=lora,full seed=0,1           a grid of your own
    lora-repro run experiment=e2e row/e2e=lora --cfg job  print the configuration, run nothing
    lora-repro run --emit lines experiment=e2e            print its runs as commands, run nothing
    eval "$(lora-repro -sc install=bash)"                           tab completion in bash and zsh (fish: install=fish | source)

A run that has a record is not repeated; an unfinished one resumes from its checkpoint.

--emit FORM prints the runs for another scheduler: `lines` (for xargs, GNU parallel, dstack), `slurm-array` (sbatch job.sh),
`sky` (sky launch job.yaml) or `wandb` (wandb sweep sweep.yaml). Each command resumes its run or does nothing. Runs that
others start from come first; a run already recorded in paths.runs is left out. A W&B sweep is a grid: it has only the seeds
that every row has, recorded or not. It can be edited into a search (method: bayes) over any key.
"""

from __future__ import annotations

import atexit
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from omegaconf import DictConfig, OmegaConf

from lora_repro import console
from lora_repro.config.compose import (
    QUESTIONS,
    check_options,
    compose,
    hydra_program,
    job_overrides,
    resolved,
    unswept,
)
from lora_repro.errors import UserError, known
from lora_repro.planning.cells import cell_of, row_has_seed
from lora_repro.records import attempts, record
from lora_repro.sweep import emit, gpus, preflight
from lora_repro.sweep.launch import sweep, wants_sweep
from lora_repro.sweep.run_summary import summary_line
from lora_repro.tracking import background


def job(config: DictConfig) -> None:
    """The one run that a command line asks for. A mistake becomes one line and an exit code."""
    from lora_repro.run import run  # here: they import torch, and a sweep trains in other processes
    from lora_repro.train.ranks import Ranks

    try:
        if not row_has_seed(config):
            name = f"row {config.row.name} of {config.row.table}" if config.row.table else "a run"
            raise UserError(f"seed={config.seed}: nothing to run, {name} has only the seeds 0 to {config.row.seeds - 1}")
        cell = cell_of(config, job_overrides())
        before = record.find(cell.folder, cell.asked) is not None
        run_record = run.run(config, job_overrides())
        if Ranks.here(config.device).first:
            print(summary_line(run_record, cell, before), flush=True)
    except Exception as error:
        if failure := known(error):
            attempts.record_failure(failure)
            sys.exit(console.report_error(failure))
        raise


@console.command
def started(arguments: Sequence[str]) -> int:
    """Hydra composes (from sys.argv); `job` runs one configuration, `sweep` many. Returns the exit code."""
    form, overrides = emit.requested(arguments)
    if form:
        emit.emit(form, overrides)
        return 0
    if not {*QUESTIONS} & {item.partition("=")[0] for item in arguments}:  # --cfg job, --cfg=job
        # Report a mistake once, before the first job; Hydra would report it in every job of a sweep.
        check_options(arguments)
        settings, several = unswept(arguments)
        config = compose(settings, hydra_node=True)
        plain = resolved(OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"]))
        if "bench" in config:
            raise UserError(f"experiment {config.row.table} trains nothing; run: lora-repro {config.row.table}")
        many = wants_sweep(arguments, config.hydra)
        if several and not many:
            raise UserError(f"{several[0]} has several values: add -m to run each; quote a value that contains a comma")
        preflight.check_writable(Path(plain["paths"]["runs"]))
        preflight.check_writable(Path(str(config.hydra.sweep.dir if many else config.hydra.run.dir)))
        if many:
            return sweep(arguments, config.hydra)
        gpus.say_if_cpu(config.device, config.profile_name)
    hydra_program(job)
    return 0


@background.awaited()
def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """The command line above. Leaves by SystemExit: `background.awaited`, which waits for mirrors, needs the exit code."""
    try:
        sys.exit(started(arguments))
    finally:
        # Registered last, so called before the libraries' exit hooks: there a second SIGTERM would end in a traceback.
        atexit.register(signal.signal, signal.SIGTERM, signal.SIG_IGN)

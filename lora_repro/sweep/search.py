"""Search for a learning rate with Optuna, on held-out data only; needs pip install -e '.[sweeps]'.

    python -m lora_repro search method=lora hydra.sweeper.n_trials=12
    python -m lora_repro search method=lora task=rte 'train.lr=tag(log,interval(1e-4,1e-2))' profile=laptop paths.data=/data/glue

It trains and judges trials as `tune` does: without decoding, never on test data. Each trial is a process of its own; the same
command finds finished trials again. Optuna cannot read a table's rows, so it takes no experiment=. The best rate is printed,
and no run adopts it. To compare methods, give each of them the same number of trials.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from lora_repro import cli
from lora_repro.config.compose import (
    compose,
    hydra_program,
    in_sweep,
    job_overrides,
    resolved,
    unresolved,
    unswept,
)
from lora_repro.errors import Busy, UserError
from lora_repro.records import record
from lora_repro.sweep import preflight, ray_launcher, supervise
from lora_repro.sweep.grid import ranking_key
from lora_repro.sweep.trial import TRIAL, trial, trial_config

SWEEPER = "hydra/sweeper=learning_rate"


def objective(config: DictConfig) -> float | None:
    """The value of one trial that Optuna minimises (dev loss or negated dev score); None if the trial failed."""
    try:
        refuse_tables(config)
        found = started(config) if in_sweep() else trial(config, config.train.lr)
    except UserError as error:
        supervise.record_failure(error)
        cli.report_error(error)
        if in_sweep() and not supervise.stopping():
            return None  # Optuna counts the trial as failed and continues
        sys.exit(error.exit_code)
    by = str(config.train.select_by)
    figure, _ = ranking_key(found, by)
    if in_sweep():
        print(f"train.lr={found['lr']:.3g}  dev {by} {signed(figure, by):.4f}", flush=True)
    return figure


def signed(figure: float, by: str) -> float:
    """The dev loss or the dev score as measured, not negated; a correlation may be below 0."""
    return -figure if by == "score" else figure


@unresolved()
def refuse_tables(config: DictConfig) -> None:
    if config.row.table:
        raise UserError("Optuna cannot search an experiment's rows: leave experiment= out, for example: method=lora task=e2e")


def started(config: DictConfig) -> dict[str, Any]:
    """Run a trial in a process of its own, unless it is there. Raises UserError if it ends without a dev loss."""
    _, folder = trial_config(config, config.train.lr)
    path = folder / TRIAL
    code = 0
    if not path.exists():
        with supervise.stoppable():
            how = (config.launch.tries, 1, config.launch.per_gpu, config.device)
            code = supervise.start("lora_repro", ["search", *job_overrides()], folder, *how)
    if not path.exists():
        silent = "another process is running it" if code == Busy.exit_code else "it did not start"
        why = supervise.attempts(folder).get("why", silent)
        raise UserError(f"the trial at train.lr={config.train.lr:.3g} has no dev loss: {why}")
    return record.read(path)


def search(arguments: list[str]) -> dict[str, float | str]:
    """Run Optuna on the command line (sys.argv); returns the best values.

    Raises UserError if the configuration does not compose, if it asks for no trial or no range, or if every trial failed.
    """
    cli.warn_ignored_tracker(arguments, "trials")
    fixed, ranges = unswept(arguments)
    config, node = compose(fixed), compose(fixed, hydra_node=True).hydra
    refuse_tables(config)
    if (trials := node.sweeper.get("n_trials", 1)) < 1:
        raise UserError(f"hydra.sweeper.n_trials must be at least 1, not {trials}")
    named = {item.partition("=")[0] for item in fixed}
    own = [f"{key}={value}" for key, value in (node.sweeper.get("params") or {}).items() if key not in named]
    if not ranges and not unswept(own)[1]:
        raise UserError("every setting has one value, so there is nothing to search: leave train.lr out, or give it a range")
    if str(node.launcher._target_) == ray_launcher.NAME:
        ray_launcher.use()
    preflight.check([resolved(config)])  # once, not in every trial's process
    result = Path(str(node.sweep.dir)) / "optimization_results.yaml"
    result.unlink(missing_ok=True)
    if not cli.verbose():
        logging.getLogger("optuna.study").setLevel(logging.WARNING)  # each trial prints a line of ours
    try:
        hydra_program(objective)
    except ValueError as error:
        if "No trials are completed" not in str(error):
            raise
        raise UserError("every trial failed, for the reasons above") from error
    best: Any = OmegaConf.load(result)
    by = str(config.train.select_by)
    return {**best.best_params, f"dev_{by}": signed(best.best_value, by)}


@cli.command
def main(arguments: Sequence[str]) -> int:
    """The command line above; returns the exit status. Hydra reads sys.argv."""
    if "hydra.mode=RUN" in arguments:
        hydra_program(objective)
        return 0
    given = list(arguments)
    if not any(item.startswith("hydra/sweeper=") for item in given):
        given.insert(0, SWEEPER)
    given.insert(0, "--multirun")
    sys.argv[1:] = given
    best = search(given)
    print("best: " + "  ".join(f"{key}={value if isinstance(value, str) else f'{value:.4g}'}" for key, value in best.items()))
    return 0

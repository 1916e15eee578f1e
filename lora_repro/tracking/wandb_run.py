"""Weights & Biases: a run is a W&B run whose id is its signature. Nothing else but wandb_board.py imports wandb.

Inputs, references (they are not ours) and paths never leave this machine; a model's outputs do.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from lora_repro.errors import UserError
from lora_repro.records.run_folder import ADAPTER
from lora_repro.tracking.background import Background, closers, one_line
from lora_repro.tracking.metrics import Ending, Mirror
from lora_repro.tracking.redaction import describe, sectioned, table

MODES = ("offline", "online", "disabled", "shared")
OLD_MODES = {"dryrun": "offline", "run": "online"}  # W&B's former names of its modes
ARTIFACT = "adapter-{}"
RESULTS = ("finished", "collapsed")  # a constant prediction is a result, not a failure


class WandbTracker:
    """Settings of the mirror.

    project: null is WANDB_PROJECT, else lora_repro. entity: null is WANDB_ENTITY, else the key's own.
    mode: null is WANDB_MODE if set, else online if WANDB_API_KEY is set, else offline; it never asks for a login.
    patience: seconds that the end of the program waits for W&B. predictions: rows of the prediction table, at most.
    adapter_mb: larger adapters (full fine-tuning's are whole models) stay on this machine.
    """

    def __init__(
        self,
        project: str | None = None,
        entity: str | None = None,
        mode: str | None = None,
        patience: float = 30,
        predictions: int = 200,
        adapter_mb: float = 64,
    ) -> None:
        if mode not in (None, *MODES):
            raise UserError(f"tracker.mode must be null or one of {', '.join(MODES)}, not {mode!r}")
        self.project = project or os.environ.get("WANDB_PROJECT") or "lora_repro"
        self.entity, self.patience = entity or os.environ.get("WANDB_ENTITY") or None, patience
        self.predictions, self.adapter_mb = predictions, adapter_mb
        env_mode = os.environ.get("WANDB_MODE")
        if mode is None and env_mode and env_mode not in (*MODES, *OLD_MODES):
            raise UserError(f"WANDB_MODE must be one of {', '.join(MODES)}, not {env_mode!r}")
        self.mode: Any = (
            mode or OLD_MODES.get(env_mode or "", env_mode) or ("online" if os.environ.get("WANDB_API_KEY") else "offline")
        )

    def start(self, signature: str, config: dict[str, Any], folder: Path) -> Mirror | None:
        return Background("W&B", lambda: WandbRun(self, signature, config, folder), self.patience)


class WandbRun:
    """A Mirror that talks to W&B; its calls may raise and may hang."""

    def __init__(self, tracker: WandbTracker, signature: str, config: dict[str, Any], folder: Path) -> None:
        self.tracker, self.signature, self.folder = tracker, signature, folder
        self.about = describe(signature, config)
        self.begun: Any = None

    def run(self, trains: bool = True) -> Any:
        """W&B's run. Its job type is `train`, or `eval` if it ends before it has logged a step."""
        if self.begun is None:
            job = "train" if trains else "eval"
            run = begin(self.tracker, self.folder, id=self.signature, resume="allow", job_type=job, **self.about)
            # A step metric of our own: a resumed run repeats the steps after its checkpoint; W&B's own step cannot go back.
            run.define_metric("*", step_metric="step")
            run.define_metric("eval/loss", step_metric="step", summary="min")
            run.define_metric("eval/score", step_metric="step", summary="max")
            self.begun = run
        return self.begun

    def log(self, step: int, values: dict[str, float]) -> None:
        self.run().log({"step": step, **sectioned(values)})

    def finish(self, ending: Ending) -> None:
        run = self.run(trains="steps" in ending.summary)
        try:
            run.summary.update({"status": ending.status, **ending.summary})
            if ending.status == "preempted":
                run.mark_preempting()
            if ending.predictions:
                run.log({"predictions": self._table(ending.predictions)})
            self._use(run, ending.starts)
            self._log_adapter(run, ending)
        finally:
            run.finish(exit_code=0 if ending.status in RESULTS else 1)

    def _use(self, run: Any, starts: Sequence[str]) -> None:
        """Link this run to the adapters that it started from, if W&B has them; offline it knows none."""
        import wandb

        for signature in starts:
            with suppress(wandb.Error, TypeError, ValueError):
                run.use_artifact(f"{ARTIFACT.format(signature)}:latest")

    def _table(self, predictions: list[dict[str, Any]]) -> Any:
        import wandb

        columns, rows = table(predictions, self.tracker.predictions)
        return wandb.Table(columns=[*columns], data=[*rows], allow_mixed_types=True)

    def _log_adapter(self, run: Any, ending: Ending) -> None:
        import wandb

        path = self.folder / ADAPTER
        if not path.is_file() or path.stat().st_size > self.tracker.adapter_mb * 1e6:
            return
        facts = {"status": ending.status, "starts": [ARTIFACT.format(signature) for signature in ending.starts]}
        artifact = wandb.Artifact(ARTIFACT.format(self.signature), type="adapter", metadata=facts)
        # Upload from the run's folder, where the file stays: a copy in W&B's cache would only cost time.
        artifact.add_file(str(path), policy="immutable", skip_cache=True)
        run.log_artifact(artifact)


def key_known() -> bool:
    """Whether W&B has a key: WANDB_API_KEY, or that of an earlier `wandb login`. Never asks for one.

    Raises wandb.Error where the server refuses the key or does not answer.
    """
    import wandb

    wandb.setup(wandb.Settings(silent=True, mode="online"))  # WANDB_MODE=offline would else answer that there is no key
    return bool(wandb.login(prompt=False))


def begin(tracker: WandbTracker, folder: Path, **about: Any) -> Any:
    """A new W&B run (a process may have any number) under `folder`; offline if online fails or there is no key."""
    import wandb

    settings = wandb.Settings(
        console="off",  # W&B does not capture the terminal
        silent=True,
        disable_git=True,  # a remote's address may contain a token; the record has the commit
        save_code=False,
        x_disable_meta=True,
        x_save_requirements=False,  # the record has the versions
        init_timeout=tracker.patience / 2,
    )
    logging.raiseExceptions = False  # on a full disk each line of wandb's log file would print a traceback
    folder.mkdir(parents=True, exist_ok=True)
    closers["W&B"] = wandb.teardown
    options: dict[str, Any] = {
        "project": tracker.project,
        "entity": tracker.entity,
        "dir": str(folder),
        "reinit": "create_new",
        "settings": settings,
        **about,
    }
    if tracker.mode in ("online", "shared"):
        try:
            if not key_known():
                raise UserError("no API key: set WANDB_API_KEY")
            run = wandb.init(mode=tracker.mode, **options)
            print(f"W&B: {run.url}", file=sys.stderr, flush=True)
            return run
        except (wandb.Error, UserError, TimeoutError) as error:
            print(f"W&B is not online ({one_line(error)}); this run is kept offline in {folder}", file=sys.stderr)
    return wandb.init(mode="disabled" if tracker.mode == "disabled" else "offline", **options)

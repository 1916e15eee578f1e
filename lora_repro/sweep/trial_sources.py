"""The runs that a learning-rate trial starts from; missing ones are run before it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from lora_repro import console
from lora_repro.config import signature
from lora_repro.config.compose import resolved_with_starts, starts_of
from lora_repro.errors import Busy, Terminated, UserError
from lora_repro.records import attempts, record
from lora_repro.sweep import supervise


def resolve_starts(config: DictConfig, overrides: Sequence[str]) -> DictConfig:
    """The configuration with folders of finished runs as `starts`; unchanged if it starts from none. `overrides` composed it.

    They are the runs that the table's own run starts from, not runs with the trial's seed, so they cost nothing extra if the
    table is run, too. They must not have trained on rows that the trial holds out: if the run itself holds out nothing, a start
    on its task or on a mixture of tasks is replaced by a run that holds out the same rows.

    Missing runs are each run in a process of their own. Raises UserError if one fails, Busy if another process is running it.
    """
    found = starts_of(config, overrides)
    if not found:
        return config
    folders = []
    for start, words in found:
        n = config.tune.held_out
        if n and start.task.get("held_out") == 0 and ("members" in start.task or start.task.name == config.task.name):
            words = (*words, f"task.held_out={n}")
            start = start.copy()
            OmegaConf.update(start, "task.held_out", n)
        asked = resolved_with_starts(start, words)
        folder = Path(str(start.paths.runs)) / str(start.profile_name) / signature.signature(asked)
        if record.find(folder, asked) is None:
            console.say(f"a trial starts from this run, made first: {start.row.name or start.method.name} on {start.task.name}")
            with supervise.stoppable():
                how = (start.launch.tries, 1, start.launch.per_gpu, start.device)
                code = supervise.start("lora_repro.run", list(words), folder, *how)
            if code == supervise.STOPPED:
                raise Terminated if supervise.stopping() else Busy(f"a trial needs {folder}, which another process is running")
        made = record.find(folder, asked)
        if made is None or made["status"] != "finished":
            why = made["status"] if made else attempts.attempts(folder).get("why", "it did not start")
            raise UserError(f"a trial of {config.row.name} needs the run {folder}, which is not finished: {why}")
        folders.append(str(folder))
    changed = config.copy()
    OmegaConf.set_struct(changed, False)
    changed.starts = folders
    return changed

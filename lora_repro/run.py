"""One run is a straight line: backbone, method, data, training, decoding, scoring, record.

    python -m lora_repro.run method=lora seed=1                     one run at the default profile
    python -m lora_repro.run experiment=e2e                         every row of a table
    python -m lora_repro.run experiment=e2e row/e2e=lora profile=laptop paths.data=/data/e2e
    python -m lora_repro.run -m method=lora,full seed=0,1           a grid of your own
    python -m lora_repro.run experiment=e2e row/e2e=lora --cfg job  the whole configuration, nothing run
    eval "$(python -m lora_repro.run -sc install=bash)"             tab completion in bash

A run that has a record is not repeated; an unfinished one goes on from its checkpoint.
"""

from __future__ import annotations

from lora_repro import completion, manners

manners.begin(__name__, __doc__)  # --help and the Tab key do not wait for the imports below
completion.begin(__name__)

import errno
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from lora_repro import outcome, provenance, record
from lora_repro.adapt import adapt
from lora_repro.answer import answer
from lora_repro.backbone.model import Backbone
from lora_repro.compose import asked_of, build, compose, hydra_program, job_overrides, source_of
from lora_repro.data import subset
from lora_repro.errors import Busy, UserError
from lora_repro.forecast import estimated_seconds
from lora_repro.forecast.estimate import announce
from lora_repro.parts import Parts
from lora_repro.sweep import asks, summary, supervise, sweep, wants_sweep
from lora_repro.tasks.base import Example, Splits
from lora_repro.tracking import Metrics, background
from lora_repro.train.precision import resolve_precision
from lora_repro.train.ranks import Ranks

WAIT_SECONDS = 5.0
UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)


def run(config: DictConfig, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """The record of one configuration: found if it exists, else measured and saved. Raises UserError.

    `overrides` composed it; they compose the run it starts from, if it names one.
    """
    asked = asked_of(config, overrides)
    name = record.signature(asked)
    folder = Path(config.paths.runs) / config.profile_name / name
    ranks = Ranks.here(config.device)
    if found := ranks.led(lambda: record.find(folder, asked)):
        return found
    start = first(config, overrides)
    with ranks.hold(record.lock(folder)):
        # Another process may have finished it while we waited to start.
        if found := ranks.led(lambda: record.find(folder)):
            return found
        try:
            mirror = build(config.tracker).start(name, asked, folder) if ranks.first else None
            with Metrics(folder / "metrics.jsonl", mirror) as metrics:
                return measure(config, asked, name, folder, metrics, start)
        except OSError as error:
            if error.errno in UNWRITABLE or error.errno is None:
                why = f"cannot write in {folder}: {error.strerror or error}; free some space, then run again"
            else:
                why = f"the run {folder} ended: {error}; the same command goes on from there"
            raise UserError(why) from error


def first(config: DictConfig, overrides: Sequence[str]) -> Path | None:
    """The folder of the run that this one starts from (`init_from`: a task), run now unless it is there already.

    One that another process is at is waited for. Raises UserError if it did not finish.
    """
    source = source_of(config, overrides)
    if source is None:
        return None
    task = str(source.task.name)
    found = awaited(source, task)
    if found["status"] != "finished":
        raise UserError(
            f"the {task} run that this one starts from is {found['status']}; see {found['signature']}"
        )
    return Path(str(source.paths.runs)) / str(source.profile_name) / str(found["signature"])


def awaited(source: DictConfig, task: str) -> dict[str, Any]:
    """The record of a run that others may start from too: whoever comes first runs it, the rest wait."""
    said = False
    while True:
        try:
            return run(source)
        except Busy:
            if not said:
                print(f"waiting for the {task} run, which another process is at", file=sys.stderr, flush=True)
            said = True
            time.sleep(WAIT_SECONDS)


def follow(parts: Parts, splits: Splits, folder: Path, start: Path | None) -> dict[str, Any]:
    """A run on a rank after the first: train along, then hear what the first one measured."""
    if parts.method.needs_model:
        adapt(parts, splits, folder, Metrics(folder / "metrics.jsonl"), start)
    return parts.ranks.led(dict[str, Any])


def answers(
    backbone: Backbone, parts: Parts, test: list[Example], measured: dict[str, Any], folder: Path
) -> list[str]:
    """What the model says to each test input: kept from an attempt that got no further, or found out now."""
    kept = outcome.answers(folder)
    if kept is None:
        took: dict[str, Any] = {}
        outputs = answer(backbone, parts, test, took)
        outcome.keep_answers(folder, outputs, took)
    else:
        outputs, took = kept
        measured["earlier_seconds"] = measured.get("earlier_seconds", 0.0) + took["decode_seconds"]
    measured.update(took)
    return outputs


def measure(
    config: DictConfig, asked: dict[str, Any], name: str, folder: Path, metrics: Metrics, start: Path | None = None
) -> dict[str, Any]:
    """The straight line. Each stage gets the value of the one before and nothing else."""
    started = time.monotonic()
    parts = Parts.of(config)
    provenance.reset_peak_memory()
    splits = parts.task.load(config.paths.data)
    if not parts.ranks.first:
        return follow(parts, splits, folder, start)
    estimated = estimated_seconds(parts, splits)
    test = subset(splits.test, parts.data.n_test, parts.data.subset_seed)
    outputs: list[str] = []
    if parts.method.needs_model:
        backbone, measured = adapt(parts, splits, folder, metrics, start)
        if start is not None:
            measured["started_from"] = start.name
        origin = {"label": backbone.label, "sha256": backbone.sha256}
        if not test:  # data.n_test=0: the trained weights and their dev loss are all that is wanted
            measured["scores"] = {"dev_loss": measured.get("dev_loss")}
        elif measured["status"] == "finished":
            outputs = answers(backbone, parts, test, measured, folder)
    else:
        outputs, test = parts.task.human(test)
        measured = {"status": "finished", "parameters": {"method": 0, "head": 0, "total": 0}}
        origin = {"label": "none", "sha256": ""}
    predictions = []
    if outputs:
        scores = parts.task.score(outputs, test)
        measured["scores"] = {key: record.finite(value) for key, value in scores.values.items()}
        predictions = [
            {"key": example.key, "output": text, **statistics}
            for example, text, statistics in zip(test, outputs, scores.per_input, strict=True)
        ]
    status = measured.pop("status")
    if "steps" in measured:  # an untuned backbone may say what it likes
        status = outcome.judge(status, outputs)
    # With the training of earlier attempts that this one went on from, but not their start.
    measured["wall_seconds"] = round(time.monotonic() - started + measured.pop("earlier_seconds", 0.0), 1)
    measured["estimated_seconds"] = estimated
    measured["peak_memory_mb"] = max(measured.get("peak_memory_mb", 0), provenance.peak_memory_mb(parts.device))
    ran = measured.pop("code", None)
    result = {
        "schema": record.SCHEMA,
        "signature": name,
        "status": status,
        "asked": record.identity(asked),
        "row": {key: asked["row"][key] for key in ("table", "name", "label")},
        "measured": measured,
        "where": {**place(parts, ran), "backbone": origin, "data": {"caption": splits.caption, "hashes": splits.hashes}},
    }
    record.save(folder, result, predictions)
    metrics.finish(result, predictions)
    outcome.clean(folder)
    return parts.ranks.led(lambda: result)


def place(parts: Parts, ran: dict[str, Any] | None) -> dict[str, Any]:
    """Code, machine and precision of a run, and how its batches were split where they were: dropout draws other masks then."""
    found = provenance.where(parts.device, resolve_precision(parts.train.precision, parts.device), ran)
    if parts.ranks.size > 1:
        found["processes"] = parts.ranks.size
    if parts.train.micro_batch_size:
        found["micro_batch_size"] = parts.train.micro_batch_size
    return found


def check_writable(folder: Path) -> None:
    """Raise UserError unless files can be made in `folder`; Hydra would answer with a traceback."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"x" * 4096)
    except OSError as error:
        raise UserError(
            f"cannot write in {folder}: {error.strerror}; choose another place with paths.runs=/path"
        ) from error


QUESTIONS = {"--cfg", "-c", "--info", "-i", "--hydra-help"}  # Hydra answers them and runs nothing


def job(config: DictConfig) -> None:
    """The one run that a command line asks for. A mistake becomes one line and an exit code."""
    try:
        if not asks(config):
            return  # this row asks for fewer seeds
        found = run(config, job_overrides())
        if Ranks.here(config.device).first:
            print(summary(found), flush=True)
    except UserError as error:
        supervise.confess(error)
        sys.exit(manners.failed(error))


@background.awaited()
def main() -> None:
    """Command line: Hydra composes; `job` runs one configuration, `sweep` many."""
    arguments = sys.argv[1:]
    try:
        if not QUESTIONS & set(arguments):
            # A mistake that Hydra would meet in every job of a sweep is one line here, before the first.
            fixed = [item for item in arguments if not item.startswith("-") and not set(item) & set(",*(")]
            config = compose(fixed, hydra_node=True)
            if "bench" in config:
                raise UserError(f"experiment {config.row.table} trains nothing; run: python -m lora_repro.{config.row.table}")
            check_writable(Path(config.paths.runs))
            if wants_sweep(arguments, config.hydra):
                announce(arguments)
                sys.exit(sweep(arguments, config.hydra))
        hydra_program(job)
    except UserError as error:
        sys.exit(manners.failed(error))


if __name__ == "__main__":
    main()

"""One run is a straight line: backbone, method, data, training, decoding, scoring, record.

    python -m lora_repro.run method=lora seed=1                     one run at the default profile
    python -m lora_repro.run experiment=e2e                         every row of a table
    python -m lora_repro.run experiment=e2e row/e2e=lora profile=laptop paths.data=/data/e2e

A run that has a record is not repeated; an unfinished one goes on from its checkpoint.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from lora_repro import outcome, provenance, record
from lora_repro.adapt import adapt
from lora_repro.answer import answer
from lora_repro.compose import CONF, build, compose, resolved
from lora_repro.data import subset
from lora_repro.errors import UserError
from lora_repro.estimate import announce
from lora_repro.parts import Parts
from lora_repro.precision import resolve_precision
from lora_repro.tracking import Metrics
from lora_repro.tracking.background import awaited


def run(config: DictConfig, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """The record of one configuration: found if it exists, else measured and saved. Raises UserError.

    `overrides` composed it; they compose the run it starts from, if it names one.
    """
    asked = resolved(config)
    name = record.signature(asked)
    folder = Path(config.paths.runs) / config.profile_name / name
    if found := record.find(folder):
        return found
    start = first(config, overrides)
    with record.lock(folder):
        if found := record.find(folder):  # another process finished it while we waited to start
            return found
        try:
            with Metrics(folder / "metrics.jsonl", build(config.tracker).start(name, asked, folder)) as metrics:
                return measure(config, asked, name, folder, metrics, start)
        except OSError as error:
            raise UserError(
                f"cannot write in {folder}: {error.strerror or error}; free some space, then run again"
            ) from error


def first(config: DictConfig, overrides: Sequence[str]) -> Path | None:
    """The folder of the run that this one starts from (`init_from`: a task), run now unless it is there already.

    It is the same command with that task, so a sweep meets its dependencies in any order. Raises UserError if it did not
    finish.
    """
    task = config.get("init_from")
    if not task:
        return None
    others = [item for item in overrides if item.split("=", 1)[0] not in ("task", "init_from")]
    source = compose([*others, f"task={task}", "init_from=null"])
    found = run(source)
    if found["status"] != "finished":
        raise UserError(
            f"the {task} run that this one starts from is {found['status']}; see {found['signature']}"
        )
    return Path(str(source.paths.runs)) / str(source.profile_name) / str(found["signature"])


def measure(
    config: DictConfig, asked: dict[str, Any], name: str, folder: Path, metrics: Metrics, start: Path | None = None
) -> dict[str, Any]:
    """The straight line. Each stage gets the value of the one before and nothing else."""
    started = time.monotonic()
    parts = Parts.of(config)
    provenance.reset_peak_memory()
    splits = parts.task.load(config.paths.data)
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
            outputs = answer(backbone, parts, test, measured)
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
    measured["wall_seconds"] = round(time.monotonic() - started, 1)
    measured["peak_memory_mb"] = provenance.peak_memory_mb(parts.device)
    result = {
        "schema": record.SCHEMA,
        "signature": name,
        "status": status,
        "asked": record.identity(asked),
        "row": {key: asked["row"][key] for key in ("table", "name", "label")},
        "measured": measured,
        "where": {
            **provenance.where(parts.device, resolve_precision(parts.train.precision, parts.device)),
            "backbone": origin,
            "data": {"caption": splits.caption, "hashes": splits.hashes},
        },
    }
    record.save(folder, result, predictions)
    metrics.finish(result, predictions)
    outcome.clean(folder)
    return result


def summary(found: dict[str, Any]) -> str:
    """One line a finished run: what was scored, with what, in how long."""
    scores = found["measured"].get("scores", {})
    shown = "  ".join(
        f"{key} {value:.4g}" if value is not None else f"{key} -" for key, value in scores.items()
    )
    asked = found["asked"]
    cell = f"{asked['task']['name']:<12}{found['row']['name']:<16} seed {asked['seed']}"
    return f"{cell}  {found['status']}  {shown}  ({found['measured']['wall_seconds']:.0f} s)"


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


exit_code = 0


def job(config: DictConfig) -> None:
    """One job of a sweep. Mistakes become one line and a non-zero exit at the end; the other jobs go on."""
    global exit_code
    try:
        if config.row.table and not config.row.label:
            raise UserError(
                f"experiment {config.row.table} needs its rows: run it as experiment={config.row.table}, without -m"
            )
        if config.seed >= config.row.seeds:
            return  # this row asks for fewer seeds than the sweep offers
        print(summary(run(config, HydraConfig.get().overrides.task)), flush=True)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        exit_code = exit_code or error.exit_code
        if error.exit_code == 130 or (error.exit_code == 75 and HydraConfig.get().mode == RunMode.RUN):
            sys.exit(error.exit_code)


@awaited()
def main() -> None:
    """Command line: Hydra composes, `job` runs."""
    try:
        # A mistake that Hydra would meet in every job of a sweep is one line here, before the first.
        fixed = [item for item in sys.argv[1:] if not item.startswith("-") and not set(item) & set(",*(")]
        config = compose(fixed)
        check_writable(Path(config.paths.runs))
        announce(sys.argv[1:])
        hydra.main(config_path=str(CONF), config_name="config", version_base="1.3")(job)()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    sys.exit(exit_code)


if __name__ == "__main__":
    main()

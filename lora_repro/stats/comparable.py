"""Which runs may be compared: the same seeds, inputs, data and weights; and the resamples of such pairs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from lora_repro.errors import UserError
from lora_repro.records.record import load_predictions
from lora_repro.results import Run
from lora_repro.stats.bootstrap import Draws, Resampled, difference, resampled_scores
from lora_repro.stats.kept import Arrays, kept

Pair = tuple[Run, Run]
File = tuple[Path, int]  # path and modification time: a file that is rewritten is not found in the caches


def paired(ours: Mapping[int, Run], theirs: Mapping[int, Run]) -> list[Pair]:
    """The pairs of runs of each shared seed that answered the same inputs or diverged; empty if all diverged.

    ours, theirs: seed -> run.
    """
    both = [(ours[seed], theirs[seed]) for seed in sorted(ours.keys() & theirs.keys())]
    pairs = [pair for pair in both if same_inputs(pair)]
    return pairs if any(run.trained for pair in pairs for run in pair) else []


def same_inputs(runs: Sequence[Run]) -> bool:
    """Whether all runs, apart from diverged ones, answered the same inputs."""
    answered = [inputs(run) for run in runs if run.trained]
    return all(keys is not None and keys == answered[0] for keys in answered)


def check_same_origin(records: Sequence[Mapping[str, Any]], same_backbone: bool = True) -> None:
    """Raise UserError unless all records used the same data files in one text form (and `same_backbone`: the same files of it).

    Older records have the hash of the backbone's weights only: what is unknown differs from nothing.
    """
    checks = {
        "data": {_data(record) for record in records},
        "text form": {str(record["asked"]["task"].get("text_form")) for record in records},
    }
    if same_backbone:
        # A row without a model (human texts) has no weights to differ in.
        used = [record["where"]["backbone"] for record in records if record["where"]["backbone"].get("sha256")]
        checks["backbone"] = {_named(backbone, "sha256") for backbone in used}
        checks["backbone files"] = {_named(backbone, "files_sha256") for backbone in used if "files_sha256" in backbone}
    for what, values in checks.items():
        if len(values) > 1:
            raise UserError(f"different {what} in one table: {' | '.join(sorted(values))}; rerun the older")


def _data(record: Mapping[str, Any]) -> str:
    data = record["where"]["data"]
    digests = ", ".join(f"{name} {digest[:12]}" for name, digest in sorted((data.get("hashes") or {}).items()))
    return f"{data['caption']} ({digests})"


def _named(backbone: Mapping[str, Any], key: str) -> str:
    return f"{backbone['label']} ({str(backbone.get(key, ''))[:12]})"


def is_generated(records: Sequence[Mapping[str, Any]]) -> bool:
    """Whether any of these runs used data that this repository generated."""
    return any(map(_generated, records))


def _generated(record: Mapping[str, Any]) -> bool:
    task = record.get("asked", {}).get("task") or {}
    sources = [part["source"] for part in (task, *(task.get("members") or ())) if part.get("source")]
    if sources:
        return "embedded" in sources  # what conf/task calls the data in this repository
    # Where no source is told, the caption's words are all that tells.
    return any(word in str(record["where"]["data"]["caption"]) for word in ("synthetic", "generated"))


def resampled(runs: Sequence[Run], metric: str, seed: int) -> Draws:
    """The difference of paired runs and its resamples; of each run they are drawn once. runs: ours and theirs alternate."""
    return _difference(tuple(_stamped(run.predictions) if run.trained else None for run in runs), metric, seed)


def inputs(run: Run) -> tuple[str, ...] | None:
    """The keys of the inputs that a run answered, in order; None if its predictions are not at hand."""
    return _inputs(_stamped(run.predictions)) if run.predictions.is_file() else None


def _stamped(path: Path) -> File:
    return path, path.stat().st_mtime_ns


@lru_cache(maxsize=8)  # a table compares every row with the same reference
def _predictions(file: File) -> list[dict[str, Any]]:
    return load_predictions(file[0])


@cache
def _difference(files: tuple[File | None, ...], metric: str, seed: int) -> Draws:
    runs = [None if file is None else _resampled(file, metric, seed) for file in files]
    return difference(runs[::2], runs[1::2], metric, seed=seed)


@cache
def _resampled(file: File, metric: str, seed: int) -> Resampled:
    def draw() -> Arrays:
        found = resampled_scores(_predictions(file), metric, seed=seed)
        return {name: np.asarray(value) for name, value in found._asdict().items()}

    arrays = kept(["scores", metric, seed], [file[0]], draw)
    return Resampled(arrays["score"].item(), arrays["each"], arrays["inputs"].item())


@cache
def _inputs(file: File) -> tuple[str, ...]:
    def keys() -> Arrays:
        return {"keys": np.asarray([str(line["key"]) for line in _predictions(file)], dtype=str)}

    return tuple(kept(["inputs"], [file[0]], keys)["keys"].tolist())

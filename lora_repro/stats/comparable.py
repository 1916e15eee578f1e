"""Which runs may be compared: the same seeds, inputs, data and weights; and the resamples of such pairs."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from lora_repro.config import signature
from lora_repro.errors import UserError
from lora_repro.metrics.corpus import counted_score
from lora_repro.records.record import load_predictions
from lora_repro.results import FINISHED, Run, Store
from lora_repro.stats.bootstrap import Draws, Resampled, difference, resampled_scores
from lora_repro.stats.kept import Arrays, kept
from lora_repro.stats.spread import Pooled, pooled

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
    key_tuples = [inputs(run) for run in runs if run.trained]
    return all(keys is not None and keys == key_tuples[0] for keys in key_tuples)


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
        backbones = [record["where"]["backbone"] for record in records if record["where"]["backbone"].get("sha256")]
        checks["backbone"] = {_named(backbone, "sha256") for backbone in backbones}
        checks["backbone files"] = {_named(backbone, "files_sha256") for backbone in backbones if "files_sha256" in backbone}
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


def resampled(sides: Sequence[Sequence[Run]], metric: str, seed: int) -> Draws:
    """`bootstrap.difference` of two or four sides, each with a run of every seed; resamples are drawn once a run.

    Seeds go together where all sides share their start and learning rate: the trained values of one seed then begin alike. Else
    the spread over seeds is the task's, if all rows that were trained alike have one (`spread.pooled`), or each side's own. A
    side without training has none.
    """
    paired = len({_start(side[0]) for side in sides}) == 1
    varies = tuple(any(_trains(run.record) for run in side) for side in sides)
    runs = [run for side, trains in zip(sides, varies, strict=True) for run in side if trains]
    alike = {(run.store, _training(run.record)) if run.store and _all_finished(run) else None for run in runs}
    common = next(iter(alike)) if len(alike) == 1 else None
    seed_spread = spread(*common, metric) if common else None
    files = tuple(tuple(_stamped(run.predictions) if run.trained else None for run in side) for side in sides)
    return _difference(files, metric, seed, paired, seed_spread, varies)


def _trains(record: Mapping[str, Any]) -> bool:
    """Whether a run had values to train, so that another seed gives another score."""
    values = record.get("measured", {}).get("parameters") or {"method": 1}
    return bool(values.get("method") or values.get("head"))


# What a record says of its configuration depends on its age: of a setting that came later it says nothing, and had the default.
# `_canonical` leaves defaults out.


def _canonical(config: Mapping[str, Any]) -> dict[str, Any]:
    """What was asked for without defaults; with them where a class is not at hand, as in another person's records."""
    try:
        return dict(signature.canonical(config))
    except UserError:
        return dict(config)


def _start(run: Run) -> str:
    """What a run's trained values begin as, beside its seed, and its learning rate."""
    config = _canonical(run.record["asked"])
    method = {key: value for key, value in config.get("method", {}).items() if key != "dropout"}
    backbone = config.get("backbone", {}).get("name")  # quantised or not, it has the same shapes
    return json.dumps([backbone, method, config.get("train", {}).get("lr")], sort_keys=True)


def _training(record: Mapping[str, Any]) -> str:
    """Task, data, backbone and length: rows for which it is equal were trained alike."""
    config = _canonical(record["asked"])
    length = [config.get("train", {}).get(key) for key in ("epochs", "steps")]
    alike = [config.get(key) for key in ("task", "data", "backbone")]
    return json.dumps([alike, length, bool(config.get("starts_from"))], sort_keys=True)


def _setting(record: Mapping[str, Any]) -> str:
    """Everything that was asked for but the seed: runs for which it is equal are one row."""
    return json.dumps({**_canonical(record["asked"]), "seed": None, "starts": None, "starts_from": None}, sort_keys=True)


def _all_finished(run: Run) -> bool:
    """Whether a run finished, and so did every other seed of its row in its store."""
    assert run.store
    row = _rows(run.store.origin or run.store).get(_training(run.record), {}).get(_setting(run.record), [])
    return run.finished and all(record["status"] == FINISHED for record in row)


def spread(store: Store, training: str, metric: str) -> Pooled | None:
    """The spread over seeds of the store's rows that were trained like this, but for those with a collapsed or diverged run.

    The store remembers what it was told, since a table that rests on it is another one once a run is added to such a row.
    """
    seed_spread = _spread(store.origin or store, training, metric)
    store.spreads[training, metric] = seed_spread
    return seed_spread


@cache
def _spread(store: Store, training: str, metric: str) -> Pooled | None:
    rows = [row for row in _rows(store).get(training, {}).values() if all(record["status"] == FINISHED for record in row)]
    scores = ([counted_score(record, metric) for record in row] for row in rows)
    return pooled([[score for score in row if score is not None] for row in scores])


@cache
def _rows(store: Store) -> Mapping[str, Mapping[str, list[dict[str, Any]]]]:
    """The records of each training by their setting, without those of rows that train nothing."""
    trainings: defaultdict[str, defaultdict[str, list[dict[str, Any]]]] = defaultdict(lambda: defaultdict(list))
    for record in filter(_trains, store.records.values()):
        trainings[_training(record)][_setting(record)].append(record)
    return trainings


def inputs(run: Run) -> tuple[str, ...] | None:
    """The keys of the inputs that a run answered, in order; None if its predictions are not at hand."""
    return _inputs(_stamped(run.predictions)) if run.predictions.is_file() else None


def _stamped(path: Path) -> File:
    return path, path.stat().st_mtime_ns


@lru_cache(maxsize=8)  # a table compares every row with the same reference
def _predictions(file: File) -> list[dict[str, Any]]:
    return load_predictions(file[0])


@cache
def _difference(
    files: tuple[tuple[File | None, ...], ...],
    metric: str,
    seed: int,
    paired: bool,
    common: Pooled | None,
    varies: tuple[bool, ...],
) -> Draws:
    runs = [[None if file is None else _resampled(file, metric, seed) for file in side] for side in files]
    return difference(runs, metric, seed=seed, paired=paired, common=common, varies=varies)


@cache
def _resampled(file: File, metric: str, seed: int) -> Resampled:
    def draw() -> Arrays:
        scores = resampled_scores(_predictions(file), metric, seed=seed)
        return {name: np.asarray(value) for name, value in scores._asdict().items()}

    arrays = kept(["scores", metric, seed], [file[0]], draw)
    return Resampled(arrays["score"].item(), arrays["each"], arrays["inputs"].item())


@cache
def _inputs(file: File) -> tuple[str, ...]:
    def keys() -> Arrays:
        text = json.dumps([str(line["key"]) for line in _predictions(file)])
        return {"keys": np.frombuffer(text.encode(), np.uint8)}

    return tuple(json.loads(kept(["inputs"], [file[0]], keys)["keys"].tobytes()))

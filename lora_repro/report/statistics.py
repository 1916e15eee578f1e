"""From runs to what a table prints of them: mean ± sd (n), and differences of paired runs with their interval.

Only finished runs are averaged.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from lora_repro.errors import UserError
from lora_repro.metrics.bootstrap import Floats, paired_draws
from lora_repro.record import load_predictions
from lora_repro.report.table import EMPTY, SINGLE
from lora_repro.results import Run

ARROW = {1: "↑", -1: "↓"}


@dataclass(frozen=True)
class Metric:
    """What a column shows: `key` in the record, printed as scale * value; direction +1 higher is better, -1 lower."""

    key: str
    label: str
    direction: int = +1
    scale: float = 100.0
    digits: int = 1

    @property
    def title(self) -> str:
        return f"{self.label} {ARROW[self.direction]}"


@dataclass(frozen=True)
class Mean:
    """Mean over n seeds and their sample standard deviation (n - 1), in printed units; n None: not stated."""

    mean: float
    sd: float | None
    n: int | None

    def text(self, digits: int) -> str:
        """`mean ± sd`; `mean†` for a single seed; `mean` where the source states no spread."""
        spread = "" if self.sd is None else f" ± {self.sd:.{digits}f}"
        return f"{self.mean:.{digits}f}".replace("-", "−") + f"{spread}{SINGLE if self.n == 1 else ''}"


@dataclass(frozen=True)
class Difference:
    """Row minus reference in printed units and its 95 % bootstrap interval, over n shared seeds."""

    mean: float
    low: float
    high: float
    n: int

    def text(self, digits: int) -> str:
        mean, low, high = (f"{value:+.{digits}f}".replace("-", "−") for value in (self.mean, self.low, self.high))
        return f"{mean} [{low}, {high}]{SINGLE if self.n == 1 else ''}"


def text_of(found: Mean | Difference | None, digits: int) -> str:
    return EMPTY if found is None else found.text(digits)


def summarise(values: Sequence[float]) -> Mean:
    """Mean and sample standard deviation sqrt(sum (x - mean)^2 / (n - 1)); no spread for n = 1."""
    return Mean(statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None, len(values))


Pair = tuple[Run, Run]


def paired(ours: Mapping[int, Run], theirs: Mapping[int, Run]) -> list[Pair]:
    """The runs of each seed that finished in both and answered the same inputs; seed -> run on either side."""
    both = [(ours[seed], theirs[seed]) for seed in sorted(ours.keys() & theirs.keys())]
    same = [pair for pair in both if all(run.finished for run in pair) and inputs(pair[0]) == inputs(pair[1])]
    return [pair for pair in same if inputs(pair[0]) is not None]


def difference(parts: Sequence[tuple[Sequence[Pair], str]], scale: float = 100.0) -> Difference | None:
    """Mean over `parts` (the pairs of a task, and its metric) of row minus reference; None where a part has no pair.

    Each resample of a task's inputs scores every seed of both methods, so the interval is that of the mean over seeds.
    """
    if not all(pairs for pairs, _ in parts):
        return None
    # A seed of its own for each: with one for all, tasks of equal size would draw the same resamples.
    drawn = [resampled([run for pair in pairs for run in pair], metric, seed) for seed, (pairs, metric) in enumerate(parts)]
    mean, (low, high) = np.mean([point for point, _ in drawn]), interval(np.mean([draws for _, draws in drawn], axis=0))
    return Difference(scale * float(mean), scale * float(low), scale * float(high), min(len(pairs) for pairs, _ in parts))


def interval(draws: Floats) -> tuple[float, float]:
    """The middle 95 % of the resamples in which the score is defined; NaN where it is in none."""
    defined = draws[~np.isnan(draws)]
    low, high = np.percentile(defined, [2.5, 97.5]) if len(defined) else (np.nan, np.nan)
    return float(low), float(high)


def resampled(runs: Sequence[Run], metric: str, seed: int) -> tuple[float, Floats]:
    """(difference, that of each resample of the inputs) of paired runs, ours and theirs by turns; once for the same files."""
    return _resampled(tuple(_stamped(run.predictions) for run in runs), metric, seed)


def inputs(run: Run) -> tuple[str, ...] | None:
    """The keys of the inputs that a run answered, in order; None where its answers are not at hand."""
    return _inputs(_stamped(run.predictions)) if run.predictions.is_file() else None


File = tuple[Path, int]  # and when it was written: what is remembered of a file must not outlive it


def _stamped(path: Path) -> File:
    return path, path.stat().st_mtime_ns


@lru_cache(maxsize=8)  # a table compares every row with one
def _predictions(file: File) -> list[dict[str, Any]]:
    return load_predictions(file[0])


@cache
def _resampled(files: tuple[File, ...], metric: str, seed: int) -> tuple[float, Floats]:
    runs = [_predictions(file) for file in files]
    point, draws, _ = paired_draws(runs[::2], runs[1::2], seed=seed, metric=metric)
    return point, draws


@cache
def _inputs(file: File) -> tuple[str, ...]:
    return tuple(str(line["key"]) for line in _predictions(file))


def one_origin(records: Sequence[Mapping[str, Any]], same_backbone: bool = True) -> None:
    """Raise UserError unless all records saw the same data files in one text form (through the same weights)."""
    checks = {
        "data": {_data(record) for record in records},
        "text form": {str(record["asked"]["task"].get("text_form")) for record in records},
    }
    if same_backbone:
        # A row without a model (human texts) has no weights to differ in.
        checks["backbone"] = {_backbone(record) for record in records if record["where"]["backbone"].get("sha256")}
    for what, values in checks.items():
        if len(values) > 1:
            raise UserError(f"different {what} in one table: {' | '.join(sorted(values))}; rerun the older")


def _data(record: Mapping[str, Any]) -> str:
    data = record["where"]["data"]
    digests = ", ".join(f"{name} {digest[:12]}" for name, digest in sorted((data.get("hashes") or {}).items()))
    return f"{data['caption']} ({digests})"


def _backbone(record: Mapping[str, Any]) -> str:
    backbone = record["where"]["backbone"]
    return f"{backbone['label']} ({str(backbone.get('sha256', ''))[:12]})"


def generated(records: Sequence[Mapping[str, Any]]) -> bool:
    """Whether any of these runs saw data that are not the real ones."""
    captions = [str(record["where"]["data"]["caption"]) for record in records]
    return any(word in caption for caption in captions for word in ("synthetic", "generated"))

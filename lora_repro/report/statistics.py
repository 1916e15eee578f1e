"""From runs to what a table prints: mean ± sd (n), and differences of paired runs with their interval.

No run is left out for its answers: collapsed and diverged runs count, too (`score` says how).
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import brentq
from scipy.special import ndtri

from lora_repro.errors import UserError
from lora_repro.metrics.bootstrap import LEVEL, Draws, Floats, counted_score, detectable, paired_draws
from lora_repro.records.record import load_predictions
from lora_repro.report.table import EMPTY, SINGLE, Number, bound, signed
from lora_repro.results import Run

ARROW = {1: "↑", -1: "↓"}
SMALLEST = 1e-12  # the smallest p; below it p is 0


@dataclass(frozen=True)
class Metric:
    """What a column shows: `key` in the record, printed as scale * value; direction: +1 if higher is better, -1 if lower.

    printed: the key of the paper's value, if it has another name in a row's `paper`.
    note: a footnote. A column with a note is left out of a table in which it has no value.
    """

    key: str
    label: str
    direction: int = +1
    scale: float = 100.0
    digits: int = 1
    printed: str = ""
    note: str = ""

    @property
    def title(self) -> str:
        return f"{self.label} {ARROW[self.direction]}"


GENERAL_RISE = Metric(
    "general_rise",
    "General loss: rise (nats per token)",
    direction=-1,
    scale=1,
    digits=2,
    note="General loss: rise, over the training, of the loss on twelve passages of general text: how much the model forgets.",
)


@dataclass(frozen=True)
class Mean:
    """Mean over n seeds and their sample standard deviation (n - 1), in printed units; n None: not stated."""

    mean: float
    sd: float | None
    n: int | None

    def text(self, digits: int) -> str:
        """`mean ± sd`; `mean†` for a single seed; `mean` if the source states no spread."""
        spread = "" if self.sd is None else f" ± {self.sd:.{digits}f}"
        text = f"{self.mean:.{digits}f}".replace("-", "−") + f"{spread}{SINGLE if self.n == 1 else ''}"
        return Number(text, self.mean, self.sd, self.n)


@dataclass(frozen=True)
class Difference:
    """Row minus reference in printed units over n shared seeds, with its 95 % bootstrap interval over inputs and seeds.

    error: the standard deviation of the resamples. p: two-sided, under no true difference; `holm` corrects it for the other
    differences of the table.
    """

    mean: float
    low: float
    high: float
    n: int
    error: float = math.nan
    p: float = math.nan

    @property
    def detectable(self) -> float:
        """NaN where the resamples do not differ: equal answers to these inputs say nothing of others."""
        return detectable(self.error) if self.error else math.nan

    def text(self, digits: int) -> str:
        """`−0.8 [−2.3, +0.7]*, Δ 2.1`: * marks a corrected p below 0.05, † a single seed; Δ is `detectable`."""
        low, high = (bound(end, digits) for end in (self.low, self.high))
        mark = SINGLE if self.n == 1 else "*" if self.p < LEVEL else ""
        least = "" if math.isnan(self.detectable) else f", Δ {self.detectable:.{digits}f}"
        return Number(f"{signed(self.mean, digits)} [{low}, {high}]{mark}{least}", self.mean, None, self.n, self.low, self.high)


def holm(differences: Sequence[Difference]) -> list[Difference]:
    """The differences with p corrected by Holm (1979): the k-th smallest of m times m - k + 1, made non-decreasing, at most 1.

    A difference without a p (NaN) stays as it is, and does not count in m.
    """
    order = sorted((at for at, one in enumerate(differences) if not math.isnan(one.p)), key=lambda at: differences[at].p)
    corrected, least = list(differences), 0.0
    for rank, at in enumerate(order):
        least = max(least, min(1.0, (len(order) - rank) * differences[at].p))
        corrected[at] = replace(differences[at], p=least)
    return corrected


def text_of(value: Mean | Difference | None, digits: int) -> str:
    return EMPTY if value is None else value.text(digits)


def summarise(values: Sequence[float]) -> Mean:
    """Mean and sample standard deviation sqrt(sum (x - mean)^2 / (n - 1)); no spread for n = 1."""
    return Mean(statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None, len(values))


Pair = tuple[Run, Run]


def score(run: Run, metric: str) -> float | None:
    """`counted_score` of a run, or the loss that the metric names; None if it was not measured, or the run diverged."""
    measured = run.record["measured"]
    losses = {"dev_loss": measured.get("dev_loss"), GENERAL_RISE.key: general_loss_rise(measured)}
    if metric in losses:
        return losses[metric] if run.trained else None  # a diverged run's held-out loss is from before it diverged
    return counted_score(run.record, metric)


def general_loss_rise(measured: Mapping[str, Any]) -> float | None:
    """Loss on general text after training minus before, in nats per token (`analysis.forgetting`); None if not measured."""
    before, after = (measured.get("general_loss", {}).get(key) for key in ("before", "after"))
    return None if before is None or after is None else float(after) - float(before)


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


def difference(parts: Sequence[tuple[Sequence[Pair], str]], scale: float = 100.0) -> Difference | None:
    """Mean over `parts` (the pairs of a task, and its metric) of row minus reference; None if a part has no pair.

    Each resample of a task's inputs and seeds scores both methods, so the interval is that of the mean over seeds.
    """
    if not all(pairs for pairs, _ in parts):
        return None
    # A seed per part: with one seed for all, tasks of equal size would draw the same resamples.
    drawn = [resampled([run for pair in pairs for run in pair], metric, seed) for seed, (pairs, metric) in enumerate(parts)]
    draws = np.mean([one.resamples for one in drawn], axis=0)
    mean, (low, high) = float(np.mean([one.difference for one in drawn])), interval(draws)
    n = min(len(pairs) for pairs, _ in parts)
    return Difference(scale * mean, scale * low, scale * high, n, scale * standard_error(draws), p_of(mean, drawn))


def p_of(mean: float, drawn: Sequence[Draws]) -> float:
    """Two-sided p of a mean over `drawn`, under no true difference: the level at which the interval at that level ends at 0.

    p solves |mean| = z(1 - p / 2) error(p), with the error of `Draws.at(p)`. NaN without an error.
    """

    def beyond(log_level: float) -> float:
        level = math.exp(log_level)
        error = standard_error(np.mean([one.at(level) for one in drawn], axis=0))
        return abs(mean) - float(ndtri(1 - level / 2)) * error

    ends = math.log(SMALLEST), math.log(1 - 1e-9)
    if mean == 0 or math.isnan(beyond(ends[0])):
        return 1.0 if mean == 0 else math.nan
    return 0.0 if beyond(ends[0]) >= 0 else 1.0 if beyond(ends[1]) <= 0 else math.exp(float(brentq(beyond, *ends, xtol=1e-3)))


def interval(draws: Floats, level: float = LEVEL) -> tuple[float, float]:
    """The middle 1 - level of the resamples in which the score is defined; NaN if there are none."""
    defined = draws[~np.isnan(draws)]
    low, high = np.percentile(defined, [50 * level, 100 - 50 * level]) if len(defined) else (np.nan, np.nan)
    return float(low), float(high)


def standard_error(draws: Floats) -> float:
    """A difference's error: the standard deviation of the resamples in which it is defined; NaN if there are none."""
    return math.nan if np.isnan(draws).all() else float(np.nanstd(draws))


def detectable_by(low: float, high: float) -> float:
    """`detectable` from a 95 % Student interval of a mean over seeds: half of its width counts as 1.96 errors."""
    return detectable((high - low) / 2 / float(ndtri(1 - LEVEL / 2)))


def resampled(runs: Sequence[Run], metric: str, seed: int) -> Draws:
    """The difference of paired runs and its resamples, computed once per files. runs: ours and theirs alternate."""
    return _resampled(tuple(_stamped(run.predictions) if run.trained else None for run in runs), metric, seed)


def inputs(run: Run) -> tuple[str, ...] | None:
    """The keys of the inputs that a run answered, in order; None if its predictions are not at hand."""
    return _inputs(_stamped(run.predictions)) if run.predictions.is_file() else None


File = tuple[Path, int]  # path and modification time: a file that is rewritten is not found in the caches


def _stamped(path: Path) -> File:
    return path, path.stat().st_mtime_ns


@lru_cache(maxsize=8)  # a table compares every row with the same reference
def _predictions(file: File) -> list[dict[str, Any]]:
    return load_predictions(file[0])


@cache
def _resampled(files: tuple[File | None, ...], metric: str, seed: int) -> Draws:
    runs = [None if file is None else _predictions(file) for file in files]
    return paired_draws(runs[::2], runs[1::2], seed=seed, metric=metric)


@cache
def _inputs(file: File) -> tuple[str, ...]:
    return tuple(str(line["key"]) for line in _predictions(file))


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
    """Whether any of these runs used generated data."""
    captions = [str(record["where"]["data"]["caption"]) for record in records]
    return any(word in caption for caption in captions for word in ("synthetic", "generated"))

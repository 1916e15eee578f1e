"""From runs to what a table prints: mean ± sd (n), and differences of paired runs with their interval.

No run is left out for its answers: collapsed and diverged runs count, too (`score` says how).
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from lora_repro.metrics.corpus import counted_score
from lora_repro.report.table import EMPTY, SINGLE, Number, bound, signed
from lora_repro.results import Run
from lora_repro.stats import intervals, spread
from lora_repro.stats.bootstrap import interval, p_of, standard_error
from lora_repro.stats.comparable import Pair, resampled
from lora_repro.stats.intervals import LEVEL, detectable
from lora_repro.stats.spread import UNKNOWN, Error

ARROW = {1: "↑", -1: "↓"}
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
    """Mean over n seeds and their sample standard deviation (n - 1), in printed units; n None: not stated.

    values: what it is the mean of, where that is known.
    """

    mean: float
    sd: float | None
    n: int | None
    values: tuple[float, ...] = field(default=(), compare=False, repr=False)

    def text(self, digits: int) -> str:
        """`mean ± sd`; `mean†` for a single seed; `mean` if the source states no spread."""
        spread = "" if self.sd is None else f" ± {self.sd:.{digits}f}"
        text = f"{self.mean:.{digits}f}".replace("-", "−") + f"{spread}{SINGLE if self.n == 1 else ''}"
        return Number(text, self.mean, self.sd, self.n, seeds=self.values)


@dataclass(frozen=True)
class Difference:
    """Row minus reference in printed units over n shared seeds, with its 95 % bootstrap interval over inputs and seeds.

    error: the standard deviation of the resamples. over_seeds: the part that seeds have in it. p: two-sided, under no true
    difference; `holm` corrects it for the other differences of the table.
    """

    mean: float
    low: float
    high: float
    n: int
    error: float = math.nan
    p: float = math.nan
    over_seeds: Error = UNKNOWN

    @property
    def detectable(self) -> float:
        """NaN where the resamples do not differ: equal answers to these inputs say nothing of others."""
        return detectable(self.error) if self.error else math.nan

    def told(self, direction: int) -> str:
        """What the interval says of the row: better or worse than the reference, open, or that there is one seed.

        direction: +1 if a higher value is better, -1 if a lower one is.
        """
        if self.n == 1:
            return "one seed"
        if self.p >= LEVEL or self.low <= 0 <= self.high or math.isnan(self.p):
            return "open"
        return "better" if self.mean * direction > 0 else "worse"

    def text(self, digits: int, direction: int = +1) -> str:
        """`−0.8 [−2.3, +0.7]*, Δ 2.1`: * marks a corrected p below 0.05, † a single seed; Δ is `detectable`.

        direction: as in `told`, which is the badge.
        """
        low, high = (bound(end, digits) for end in (self.low, self.high))
        mark = SINGLE if self.n == 1 else "*" if self.p < LEVEL else ""
        least = "" if math.isnan(self.detectable) else f", Δ {self.detectable:.{digits}f}"
        text = f"{signed(self.mean, digits)} [{low}, {high}]{mark}{least}"
        return Number(text, self.mean, None, self.n, self.low, self.high, equal=0, badge=self.told(direction))


def holm(differences: Sequence[Difference]) -> list[Difference]:
    """The differences with p corrected for one another (`intervals.holm`)."""
    p_values = intervals.holm([difference.p for difference in differences])
    return [replace(difference, p=p) for difference, p in zip(differences, p_values, strict=True)]


def text_of(value: Mean | Difference | None, digits: int) -> str:
    return EMPTY if value is None else value.text(digits)


def summarise(values: Sequence[float]) -> Mean:
    """Mean and sample standard deviation sqrt(sum (x - mean)^2 / (n - 1)); no spread for n = 1."""
    return Mean(statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None, len(values), tuple(values))


def score(run: Run, metric: str) -> float | None:
    """`counted_score` of a run, or the loss that the metric names; None if it was not measured, or the run diverged."""
    measurements = run.record["measured"]
    losses = {"dev_loss": measurements.get("dev_loss"), GENERAL_RISE.key: general_loss_rise(measurements)}
    if metric in losses:
        return losses[metric] if run.trained else None  # a diverged run's held-out loss is from before it diverged
    return counted_score(run.record, metric)


def general_loss_rise(measurements: Mapping[str, Any]) -> float | None:
    """Loss on general text after training minus before, in nats per token (`analysis.forgetting`); None if not measured."""
    before, after = (measurements.get("general_loss", {}).get(key) for key in ("before", "after"))
    return None if before is None or after is None else float(after) - float(before)


def difference(parts: Sequence[tuple[Sequence[Pair], str]], scale: float = 100.0) -> Difference | None:
    """Mean over `parts` (the pairs of a task, and its metric) of row minus reference; None if a part has no pair.

    Each resample of a task's inputs and seeds scores both methods, so the interval is that of the mean over seeds.
    """
    if not all(pairs for pairs, _ in parts):
        return None
    # A seed per part: with one seed for all, tasks of equal size would draw the same resamples.
    samples = [resampled(list(zip(*pairs, strict=True)), metric, seed) for seed, (pairs, metric) in enumerate(parts)]
    draws = np.mean([sample.resamples for sample in samples], axis=0)
    mean, (low, high) = float(np.mean([sample.difference for sample in samples])), interval(draws)
    n = min(len(pairs) for pairs, _ in parts)
    over_seeds = spread.mean([sample.error for sample in samples]).times(scale)
    return Difference(scale * mean, scale * low, scale * high, n, scale * standard_error(draws), p_of(mean, samples), over_seeds)

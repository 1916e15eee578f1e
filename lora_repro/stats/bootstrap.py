"""Paired bootstrap over test inputs and seeds: how certain is a difference between two methods' scores? (Koehn 2004.)"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from lora_repro.errors import UserError
from lora_repro.metrics.corpus import METRICS, CorpusMetric, Floats, Runs, Statistics, columns
from lora_repro.stats.intervals import LEVEL, widening
from lora_repro.stats.spread import Error, Pooled, error

DRAWS = 1000  # resamples
CHUNK = 100  # resamples drawn at a time: for QQP, GLUE's largest dev set, 100 × 40,430 counts take 32 MB
SIGNS = (1, -1, -1, 1)  # a - b, or (a - b) - (c - d)
SMALLEST = 1e-12  # the smallest p; below it p is 0


class InputVariance(NamedTuple):
    """The variance that the draw of test inputs causes: what all seeds share of it, and what one seed has of its own.

    A mean over k seeds has shared + own / k.
    """

    shared: float
    own: float

    @classmethod
    def of(cls, each: Floats) -> InputVariance:
        """each: [n, k], the value of k seeds in n resamples of the inputs; NaN if none of them is defined for all seeds.

        With V_1 the mean variance of one seed and V_k that of the mean over k, shared = (k V_k - V_1) / (k - 1), at least 0 and
        at most V_1: the mean covariance of two seeds. With one seed all of it counts as shared.
        """
        samples = each[~np.isnan(each).any(axis=1)]
        if not len(samples):
            return cls(np.nan, np.nan)
        k, of_one, mean = samples.shape[1], float(samples.var(axis=0).mean()), float(samples.mean(axis=1).var())
        shared = of_one if k == 1 else min(max(0.0, (k * mean - of_one) / (k - 1)), of_one)
        return cls(shared, of_one - shared)


class Draws(NamedTuple):
    """A difference of scores, the same in n resamples, and the number of inputs.

    each: [n, k], the difference of each seed in n resamples of the inputs, NaN where undefined; of methods with unequally many
    seeds [n, 1], that of their means. error: how far drawing other seeds would move the difference. seed: of the order in which
    resamples of the inputs meet those of the seeds.
    """

    difference: float
    each: Floats
    inputs: int
    error: Error
    seed: int = 0

    @property
    def by_seeds(self) -> Floats:
        """[n], normal quantiles in random order times the error over seeds, widened for an interval at 5 %."""
        return widening(LEVEL, self.error.freedom) * self.error.size * _normal(len(self.each), self.seed)

    @property
    def by_inputs(self) -> Floats:
        """[n], the mean over seeds in each resample of the inputs."""
        return np.asarray(self.each.mean(axis=1))

    @property
    def by_shared_inputs(self) -> Floats:
        """`by_inputs` with its deviations from its mean shrunk to what all seeds share of them (`InputVariance`).

        The rest, how each seed does on each input, already moves the seeds apart, so it counts in `by_seeds`. Where `by_seeds` is
        less than it, as when seeds are alike by luck, so much of it is kept that both together are no surer than `by_inputs`.
        """
        mean, variance = self.by_inputs, InputVariance.of(self.each)
        total = variance.shared + variance.own / self.each.shape[1]
        if not total > 0:  # inputs that say nothing, or no resample that is defined
            return mean
        part = min(max(variance.shared, total - float(self.by_seeds.var())), total)
        centre = np.nanmean(mean)
        return np.asarray(centre + (mean - centre) * np.sqrt(part / total))

    @property
    def resamples(self) -> Floats:
        """[n], of inputs and seeds: their middle 95 % are the difference's interval."""
        return self.by_shared_inputs + self.by_seeds

    def at(self, level: float) -> Floats:
        """The resamples widened for an interval at `level` instead, by t(1 - level / 2) / z(1 - level / 2)."""
        freedom = self.error.freedom
        return self.resamples + (widening(level, freedom) / widening(LEVEL, freedom) - 1) * self.by_seeds


class Resampled(NamedTuple):
    """One run's score on its inputs, and on n resamples of them, [n], NaN where it is undefined.

    Where it is undefined on all inputs (a correlation of equal numbers) both are the metric's `worst`.
    """

    score: float
    each: Floats
    inputs: int


@lru_cache(maxsize=4)  # a table compares many pairs of methods on the same few test sets
def resamples(inputs: int, n: int, seed: int) -> list[NDArray[np.uint16]]:
    """How often each input is drawn, [up to CHUNK resamples, inputs] at a time."""
    generator, chances = np.random.default_rng(seed), np.full(inputs, 1 / inputs)
    sizes = [min(CHUNK, n - start) for start in range(0, n, CHUNK)]
    return [generator.multinomial(inputs, chances, size).astype(np.uint16) for size in sizes]


def resampled_scores(statistics: Statistics, metric: str, n: int = DRAWS, seed: int = 0) -> Resampled:
    """A run's corpus metric in `n` resamples of its inputs, the same ones for every run with as many inputs.

    statistics: per input. Raises UserError on another metric, n < 1, no inputs, or statistics that lack a number.
    """
    if metric not in METRICS:
        raise UserError(f"metric={metric}: the bootstrap needs one of {', '.join(METRICS)}")
    if n < 1:
        raise UserError(f"n={n}: give at least 1 resample")
    table, rule = columns(statistics, metric), METRICS[metric]
    inputs = len(table)
    if not inputs:
        raise UserError("no inputs: a bootstrap needs a non-empty test set for each seed")
    (score,) = _scores(table, rule, np.ones((1, inputs)))
    if np.isnan(score):
        return Resampled(rule.worst, np.full(n, rule.worst), inputs)
    chunks = [_scores(table, rule, counts.astype(float)) for counts in resamples(inputs, n, seed)]
    return Resampled(float(score), np.concatenate(chunks), inputs)


def paired_draws(stats_a: Runs, stats_b: Runs, n: int = DRAWS, seed: int = 0, metric: str = "bleu") -> Draws:
    """`difference` of two methods, from one run's per-input statistics each or from lists of runs (None: one that diverged).

    Both methods have the same inputs in the same order. metric: a key of `METRICS`; cider takes per-input scores as stored, so
    that document frequencies stay those of the whole test set. Raises UserError as `resampled_scores` and `difference` do.
    """

    def of(statistics: Runs) -> list[Resampled | None]:
        seeds = [statistics] if statistics and isinstance(statistics[0], Mapping) else list(statistics)
        return [None if run is None else resampled_scores(run, metric, n, seed) for run in seeds]  # type: ignore[arg-type]

    return difference([of(stats_a), of(stats_b)], metric, n, seed)


def difference(
    sides: Sequence[Sequence[Resampled | None]],
    metric: str,
    n: int = DRAWS,
    seed: int = 0,
    paired: bool = True,
    common: Pooled | None = None,
    varies: Sequence[bool] = (),
) -> Draws:
    """The difference of a corpus metric and its `n` resamples of inputs and seeds, whose middle 95 % are its interval.

    sides: a and b of a - b, or a, b, c and d of (a - b) - (c - d); of each one entry a seed, None for a run that diverged, which
    has the metric's `worst`. paired: whether the sides' seeds go together. common: the spread of one run over seeds, if it is
    known from more rows than these (`spread.error`). varies: whether a side depends on its seed; empty: each does.

    - A resample draws inputs with replacement and scores every run of all sides on them. What the draw of seeds adds is normal,
      with the error that `spread.error` tells from the scores on the whole test set.
      That spread holds how each seed does on each input, so of what the inputs move only the part that seeds share is added.
    - The spread of few seeds is poorly known. So what seeds add is widened by t / 1.96, with t the 97.5 % quantile of Student's t
      with the error's degrees of freedom. In how many simulated cases the interval then holds the true difference stands in
      docs/protocol.md.
    - A resample in which a run's score is undefined (a correlation of equal numbers) is left out.

    Raises UserError for no seeds, inputs that differ in number, or if every run of all sides diverged.
    """
    sizes = list(dict.fromkeys(run.inputs for side in sides for run in side if run))
    if len(sizes) != 1 or not all(sides):
        mismatch = " against ".join(f"{size} inputs" for size in sizes) or "no inputs"
        raise UserError(f"{mismatch}: a paired bootstrap needs the same test inputs, for one seed at least")
    fallback = Resampled(METRICS[metric].worst, np.full(n, METRICS[metric].worst), sizes[0])
    runs = [[run or fallback for run in side] for side in sides]
    scores = [sign * np.array([run.score for run in side]) for sign, side in zip(SIGNS, runs, strict=False)]
    samples = [sign * np.stack([run.each for run in side], axis=1) for sign, side in zip(SIGNS, runs, strict=False)]
    if len({len(side) for side in sides}) > 1:
        samples = [sample.mean(axis=1, keepdims=True) for sample in samples]
    mean = float(sum(side.mean() for side in scores))
    return Draws(mean, np.asarray(sum(samples)), sizes[0], error(scores, paired, common, varies), seed)


def _scores(table: Floats, metric: CorpusMetric, weights: Floats) -> Floats:
    """[resamples] scores, from weights [resamples, inputs] and the metric's columns of each input.

    They are rounded to 13 decimals: BLAS sums in an order that depends on threads and machine, which would change figures.
    """
    return np.round(metric.corpus(weights @ table), 13)


@lru_cache(maxsize=16)
def _normal(n: int, seed: int) -> Floats:
    """[n], the quantiles of the normal distribution at (i + 1/2) / n in an order that `seed` draws."""
    return np.asarray(np.random.default_rng([seed, n]).permutation(ndtri((np.arange(n) + 0.5) / n)))


def p_of(mean: float, draws: Sequence[Draws]) -> float:
    """Two-sided p of a mean over `draws`, under no true difference: the level at which the interval at that level ends at 0.

    p solves |mean| = z(1 - p / 2) error(p), with the error of `Draws.at(p)`. NaN without an error.
    """

    from scipy.optimize import brentq  # slow to import

    def beyond(log_level: float) -> float:
        level = math.exp(log_level)
        error = standard_error(np.mean([draw.at(level) for draw in draws], axis=0))
        return abs(mean) - float(ndtri(1 - level / 2)) * error

    ends = math.log(SMALLEST), math.log(1 - 1e-9)
    if mean == 0 or math.isnan(beyond(ends[0])):
        return 1.0 if mean == 0 else math.nan
    return 0.0 if beyond(ends[0]) >= 0 else 1.0 if beyond(ends[1]) <= 0 else math.exp(float(brentq(beyond, *ends, xtol=1e-3)))


def interval(draws: Floats, level: float = LEVEL) -> tuple[float, float]:
    """The middle 1 - level of the resamples in which the score is defined; NaN if there are none."""
    samples = draws[~np.isnan(draws)]
    low, high = np.percentile(samples, [50 * level, 100 - 50 * level]) if len(samples) else (np.nan, np.nan)
    return float(low), float(high)


def standard_error(draws: Floats) -> float:
    """A difference's error: the standard deviation of the resamples in which it is defined; NaN if there are none."""
    return math.nan if np.isnan(draws).all() else float(np.nanstd(draws))

"""Whether further seeds could decide an inconclusive comparison, and about how many."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri, stdtrit

from lora_repro.metrics.bootstrap import Floats
from lora_repro.report.claims.reading import Region

MOST = 100  # seeds; beyond these a number is no plan


@dataclass(frozen=True)
class Spread:
    """What makes a difference's interval wide: the difference of each seed, and the variance that the draw of test inputs causes.

    shared: the part that all seeds have in common, which no number of seeds takes away. own: the part of one seed, of which a
    mean over k seeds keeps 1/k.
    """

    each: Sequence[float]
    shared: float
    own: float = 0.0

    @classmethod
    def of(cls, each: Sequence[float], drawn: Floats) -> Spread:
        """drawn: [n, k], each seed's difference in n resamples of the inputs.

        With V_1 the mean variance of one seed and V_k that of the mean over k, shared = (k V_k - V_1) / (k - 1), at least 0 and
        at most V_1: the mean covariance of two seeds. With one seed all of it counts as shared.
        """
        defined = drawn[~np.isnan(drawn).any(axis=1)]
        if not len(defined):
            return cls(each, math.nan, math.nan)
        k, one, mean = defined.shape[1], float(defined.var(axis=0).mean()), float(defined.mean(axis=1).var())
        shared = one if k == 1 else min(max(0.0, (k * mean - one) / (k - 1)), one)
        return cls(each, shared, one - shared)


def outlook(region: Region, spreads: Sequence[Spread], holds: float, fails: float, least: int) -> str:
    """Whether more seeds would decide a comparison; `spreads` has one entry per score that must agree. Empty for a single seed.

    A verdict needs every seed on the same side of each bound (`reading.judge`), so seeds on both sides rule one out for good.
    Otherwise k seeds, at least `least`, decide once hypot(t s / sqrt(k), z sqrt(shared + own / k)) is less than the mean's
    distance from the nearest bound: s the standard deviation over seeds, shared and own as in `Spread`, t and z the quantiles of
    Student's t (k - 1 degrees of freedom) and of the normal distribution at 1 - level / 2. The level is `holds` inside the region
    and `fails` outside it.
    """
    values = [one for spread in spreads for one in spread.each]
    if not all(map(math.isfinite, values)) or any(len(spread.each) < 2 for spread in spreads):
        return ""
    for bound in (region.floor, region.ceiling):
        if bound in values or len({one > bound for one in values}) > 1:
            return "seeds lie on both sides of a bound, or on it: no further seed can decide it"
    level = holds if region.floor < values[0] < region.ceiling else fails
    seeds = max(_seeds(region, spread, level, least) for spread in spreads)
    if math.isinf(seeds):
        return "its test inputs alone leave too wide an interval: no number of seeds can decide it"
    return f"{f'about {seeds:g}' if seeds <= MOST else f'only more than {MOST}'} seeds like these would decide it"


def _seeds(region: Region, spread: Spread, level: float, least: int) -> float:
    """How many seeds the formula of `outlook` asks for, more than there are; infinite if the inputs alone are too wide."""
    mean, deviation = statistics.fmean(spread.each), statistics.stdev(spread.each)
    distance = min(abs(mean - bound) for bound in (region.floor, region.ceiling))
    z = float(ndtri(1 - level / 2))
    if z * math.sqrt(spread.shared) >= distance:
        return math.inf
    counts = range(max(least, len(spread.each) + 1), MOST + 1)
    errors = ((k, z * math.sqrt(spread.shared + spread.own / k)) for k in counts)
    reach = (math.hypot(float(stdtrit(k - 1, 1 - level / 2)) * deviation / math.sqrt(k), error) for k, error in errors)
    return next((k for k, wide in zip(counts, reach, strict=True) if wide < distance), MOST + 1)

"""Whether further seeds could decide an inconclusive comparison, and about how many."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from scipy.special import ndtri, stdtrit

from lora_repro.report.claims.reading import Region

MOST = 100  # seeds; beyond these a number is no plan


@dataclass(frozen=True)
class Spread:
    """What makes a difference's interval wide: the difference of each seed, and the standard error `inputs` that the test inputs
    alone would leave with any number of seeds.
    """

    each: Sequence[float]
    inputs: float


def outlook(region: Region, spreads: Sequence[Spread], holds: float, fails: float, least: int) -> str:
    """Whether more seeds would decide a comparison; `spreads` has one entry per score that must agree. Empty for a single seed.

    A verdict needs every seed on the same side of each bound (`reading.judge`), so seeds on both sides rule one out for good.
    Otherwise k seeds, at least `least`, decide once hypot(t s / sqrt(k), z e) is less than the mean's distance from the nearest
    bound: s the standard deviation over seeds, e the error of the inputs, t and z the quantiles of Student's t (k - 1 degrees of
    freedom) and of the normal distribution at 1 - level / 2. The level is `holds` inside the region and `fails` outside it.
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
    fixed = float(ndtri(1 - level / 2)) * spread.inputs
    if fixed >= distance:
        return math.inf
    counts = range(max(least, len(spread.each) + 1), MOST + 1)
    reach = (math.hypot(float(stdtrit(k - 1, 1 - level / 2)) * deviation / math.sqrt(k), fixed) for k in counts)
    return next((k for k, wide in zip(counts, reach, strict=True) if wide < distance), MOST + 1)

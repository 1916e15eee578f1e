"""About how many seeds would decide an inconclusive comparison."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from scipy.special import ndtri, stdtrit

from lora_repro.metrics.bootstrap import InputVariance
from lora_repro.report.claims.reading import Region

MOST = 100  # seeds; beyond these a number is no plan


def outlook(region: Region, each: Sequence[float], inputs: InputVariance, level: float, least: int) -> str:
    """How many seeds, at least `least` and more than there are, would decide a comparison; empty for a single seed.

    each: the difference of each seed. inputs: the variance that the draw of test inputs causes, in the square of their units. If
    the mean, and the standard deviation s over seeds, stay as they are, k seeds decide it once hypot(t s / sqrt(k),
    z sqrt(shared)) is less than the mean's distance from the nearest bound: t and z are the quantiles of Student's t (k - 1
    degrees of freedom) and of the normal distribution at 1 - level / 2. s holds what seeds have of their own on the inputs.
    """
    if len(each) < 2 or not all(map(math.isfinite, (*each, inputs.shared))):
        return ""
    mean, deviation = statistics.fmean(each), statistics.stdev(each)
    distance = min(abs(mean - bound) for bound in (region.floor, region.ceiling))
    by_inputs = float(ndtri(1 - level / 2)) * math.sqrt(inputs.shared)
    if by_inputs >= distance:
        return "its test inputs alone leave too wide an interval: no number of seeds can decide it"
    for k in range(max(least, len(each) + 1), MOST + 1):
        if math.hypot(float(stdtrit(k - 1, 1 - level / 2)) * deviation / math.sqrt(k), by_inputs) < distance:
            return f"about {k} seeds like these would decide it"
    return f"only more than {MOST} seeds like these would decide it"

"""Intervals and errors of a mean: levels, Student's t, and the least difference that a comparison would show."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.special import ndtri, stdtrit

LEVEL = 0.05


def widening(level: float, freedom: float) -> float:
    """t(1 - level / 2) / z(1 - level / 2): how much wider an interval is with so few degrees of freedom."""
    return float(stdtrit(freedom, 1 - level / 2) / ndtri(1 - level / 2))


def student(values: Sequence[float]) -> tuple[float, float, float]:
    """(mean, low, high): the mean and its 95 % interval by Student's t; low and high are NaN for a single value."""
    n = len(values)
    mean, reach = float(np.mean(values)), math.nan
    if n > 1:
        reach = float(stdtrit(n - 1, 0.975)) * float(np.std(values, ddof=1)) / math.sqrt(n)
    return mean, mean - reach, mean + reach


def detectable(error: float, level: float = LEVEL) -> float:
    """The least true difference that a comparison with this error shows with a chance of 80 %: at 5 % (1.96 + 0.84) errors."""
    return float(ndtri(1 - level / 2) + ndtri(0.8)) * error


def detectable_by(low: float, high: float) -> float:
    """`detectable` from a 95 % Student interval of a mean over seeds: half of its width counts as 1.96 errors."""
    return detectable((high - low) / 2 / float(ndtri(1 - LEVEL / 2)))

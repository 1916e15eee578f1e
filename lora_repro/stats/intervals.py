"""Levels: Student's t, the least difference that a comparison would show, and how several comparisons or looks share a level."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri, stdtrit

LEVEL = 0.05
NODES = 64  # of the quadrature: ten digits at five looks


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


def holm(values: Sequence[float]) -> list[float]:
    """The p's corrected by Holm (1979): the k-th smallest of m times m - k + 1, made non-decreasing, at most 1.

    NaN stays as it is, and does not count in m.
    """
    order = sorted((at for at, p in enumerate(values) if not math.isnan(p)), key=lambda at: values[at])
    p_values, least = list(values), 0.0
    for rank, at in enumerate(order):
        least = max(least, min(1.0, (len(order) - rank) * values[at]))
        p_values[at] = least
    return p_values


class Levels(NamedTuple):
    """The levels at which one comparison may show that a claim holds, and that it fails."""

    holds: float
    fails: float

    def at_each_look(self, looks: int) -> Levels:
        """The levels of each of `looks` looks at the seeds so far, by `pocock`."""
        return Levels(pocock(self.holds, looks), pocock(self.fails, looks))


@cache
def pocock(level: float, looks: int) -> float:
    """The level of each of `looks` equally spaced looks such that one of them is significant by chance at `level` in all.

    Pocock (1977), two-sided, for looks of equally many seeds each: of 5 % in two looks each has 2.94 %, in three 2.21 %. With the
    sum S_i of i standard normal steps, and c sought, P(|S_i| <= c sqrt(i) for every i) = 1 - level; the answer is 2 (1 - Φ(c)).
    """
    if looks == 1:
        return level
    from scipy.optimize import brentq  # slow to import

    ends = float(ndtri(1 - level / 2)), float(ndtri(1 - level / 2 / looks))  # one look; looks that know nothing of one another
    critical = brentq(lambda c: _stays(c, looks) - (1 - level), *ends, xtol=1e-12)
    return float(2 * ndtr(-critical))


def _stays(critical: float, looks: int) -> float:
    """P(|S_i| <= critical sqrt(i) for i = 1..looks), by Gauss-Legendre quadrature of the density of S_i without those stopped."""
    points, weights = np.polynomial.legendre.leggauss(NODES)
    previous, density = critical * points, _density(critical * points)
    for look in range(2, looks + 1):
        wider = critical * np.sqrt(look) * points
        step = _density(wider[:, None] - previous[None, :])
        density = step @ (density * weights * critical * np.sqrt(look - 1))
        previous = wider
    return float(density @ weights * critical * np.sqrt(looks))


def _density(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """The standard normal density."""
    return np.asarray(np.exp(-(x**2) / 2.0) / np.sqrt(2 * np.pi), np.float64)

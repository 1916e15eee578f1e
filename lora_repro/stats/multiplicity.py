"""Several comparisons, and several looks at growing evidence: how a level is shared among them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

NODES = 64  # of the quadrature: ten digits at five looks


def holm(values: Sequence[float]) -> list[float]:
    """The p's corrected by Holm (1979): the k-th smallest of m times m - k + 1, made non-decreasing, at most 1.

    NaN stays as it is, and does not count in m.
    """
    order = sorted((at for at, p in enumerate(values) if not math.isnan(p)), key=lambda at: values[at])
    corrected, least = list(values), 0.0
    for rank, at in enumerate(order):
        least = max(least, min(1.0, (len(order) - rank) * values[at]))
        corrected[at] = least
    return corrected


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
    at, density = critical * points, _density(critical * points)
    for look in range(2, looks + 1):
        wider = critical * np.sqrt(look) * points
        step = _density(wider[:, None] - at[None, :])
        density = step @ (density * weights * critical * np.sqrt(look - 1))
        at = wider
    return float(density @ weights * critical * np.sqrt(looks))


def _density(at: NDArray[np.float64]) -> NDArray[np.float64]:
    """The standard normal density."""
    return np.asarray(np.exp(-(at**2) / 2.0) / np.sqrt(2 * np.pi), np.float64)

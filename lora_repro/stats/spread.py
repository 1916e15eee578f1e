"""How far seeds move a score, and how well that is known: one row's spread, or that of all rows which were trained alike."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import chdtrc

from lora_repro.metrics.corpus import Floats

SEEDS = 3  # the fewest of a row whose spread is pooled
FREEDOM = 10  # the fewest degrees of freedom of a pooled spread: with fewer the test of equal variances sees little
REJECTED = 0.1  # level of that test


class Pooled(NamedTuple):
    """The standard deviation over seeds that `rows` rows share, with its degrees of freedom."""

    sd: float
    freedom: int
    rows: int


class Error(NamedTuple):
    """The standard error of a difference of means over seeds, with its degrees of freedom: infinite where it is not known.

    pooled: the spread that it was made from, if not the rows' own.
    """

    size: float
    freedom: float
    pooled: Pooled | None = None

    @property
    def text(self) -> str:
        """`3.4 degrees of freedom over seeds`, and where the spread is pooled over how many rows; empty where it is not known."""
        if math.isinf(self.freedom):
            return ""
        text = f"{self.freedom:.{0 if self.freedom >= 10 else 1}f}".removesuffix(".0") + " degrees of freedom over seeds"
        return f"{text}, whose spread is that of {self.pooled.rows} rows trained alike" if self.pooled else text

    def times(self, scale: float) -> Error:
        """The error of `scale` times the difference."""
        return self._replace(size=scale * self.size)


UNKNOWN = Error(0.0, math.inf)


def pooled(rows: Sequence[Sequence[float]]) -> Pooled | None:
    """sqrt(sum of squared deviations from each row's mean / sum of (k - 1)), over rows of k >= `SEEDS` scores.

    None if Bartlett's test (1937) rejects equal variances at `REJECTED`, for a single row, and below `FREEDOM`.
    """
    scores = [np.asarray(row, float) for row in rows if len(row) >= SEEDS]
    freedom = sum(len(row) - 1 for row in scores)
    if len(scores) < 2 or freedom < FREEDOM:
        return None
    variances, freedoms = np.array([row.var(ddof=1) for row in scores]), np.array([len(row) - 1 for row in scores])
    common = float(freedoms @ variances) / freedom
    if not variances.min() > 0 or _bartlett(variances / common, freedoms) < REJECTED:
        return None
    return Pooled(math.sqrt(common), freedom, len(scores))


def _bartlett(quotients: Floats, freedoms: NDArray[np.int_]) -> float:
    """p of equal variances. quotients: of each row's variance and the pooled one; each: their degrees of freedom f_i.

    -sum f_i ln q_i / (1 + (sum 1 / f_i - 1 / sum f_i) / (3 (k - 1))) has nearly a chi-squared distribution with k - 1 degrees of
    freedom. (scipy.stats has it, too, and takes a second to import.)
    """
    k = len(freedoms)
    correction = 1 + ((1 / freedoms).sum() - 1 / freedoms.sum()) / (3 * (k - 1))
    return float(chdtrc(k - 1, -float(freedoms @ np.log(quotients)) / correction))


def error(sides: Sequence[Floats], paired: bool, common: Pooled | None, varies: Sequence[bool] = ()) -> Error:
    """The error of a sum or difference of the means of `sides`, each one [k] scores by seed.

    sides: as they enter the sum, those that are subtracted with their sign changed. varies: whether a side depends on its seed;
    one that does not adds nothing; empty: each does. By the first rule that fits:

    - paired, and as many seeds on every side: s of the sums of one seed, s / sqrt(k), with k - 1 degrees of freedom;
    - common: its standard deviation times sqrt(sum of 1 / k);
    - else sqrt(sum of s² / k), with the degrees of freedom of Welch (1947) and Satterthwaite (1946),
      (sum of s² / k)² / sum of (s² / k)² / (k - 1).

    A single seed has no spread of its own: it adds nothing.
    """
    sides = [side for side, depends in zip(sides, varies or [True] * len(sides), strict=True) if depends]
    sizes = [len(side) for side in sides]
    if paired and len(set(sizes)) == 1:
        total = np.sum(sides, axis=0)
        return Error(float(total.std(ddof=1)) / math.sqrt(sizes[0]), sizes[0] - 1) if sizes[0] > 1 else UNKNOWN
    if common:
        return Error(common.sd * math.sqrt(sum(1 / k for k in sizes)), common.freedom, common)
    several = [(float(side.var(ddof=1)) / len(side), len(side) - 1) for side in sides if len(side) > 1]
    total_variance = sum(variance for variance, _ in several)
    if not total_variance:
        return Error(0.0, min((freedom for _, freedom in several), default=math.inf))
    return Error(math.sqrt(total_variance), total_variance**2 / sum(variance**2 / freedom for variance, freedom in several))


def mean(errors: Sequence[Error]) -> Error:
    """The error of a mean of independent differences, one a task, with the degrees of freedom of Satterthwaite (1946).

    Where one of them is `UNKNOWN`, so are the degrees of freedom.
    """
    variance = sum(error.size**2 for error in errors)
    size, common = math.sqrt(variance) / len(errors), next((error.pooled for error in errors if len(errors) == 1), None)
    if UNKNOWN in errors or not variance:
        return Error(size, math.inf if UNKNOWN in errors else min(error.freedom for error in errors), common)
    return Error(size, variance**2 / sum(error.size**4 / error.freedom for error in errors), common)

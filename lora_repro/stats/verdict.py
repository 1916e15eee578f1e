"""The one rule that turns an interval into a verdict, and how many seeds would decide where there is none."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from scipy.special import ndtri, stdtrit

from lora_repro.errors import UserError
from lora_repro.stats.bootstrap import InputVariance
from lora_repro.stats.spread import Error

REPLICATED, REFUTED, INCONCLUSIVE = "replicated", "not replicated", "inconclusive"
CONTRADICTED = "contradicted by its source"  # not replicated, by a test that the source's own numbers fail, too
NOT_RUN = "not run at this scale"
ARITHMETIC, TESTED = "arithmetic", "tested"
BESIDE = "not judged"  # of a reading that is shown beside those that decide a claim
LEAST = 3  # the fewest seeds or rounds for a verdict
HOW = ("all", "any", "most")
MOST = 100  # seeds; beyond these a number is no plan


@dataclass(frozen=True)
class Region:
    """Where a value must lie for a claim to hold: above `floor` and below `ceiling`, either of which may be infinite.

    unit: of both, as it follows them in a sentence.
    """

    floor: float = -math.inf
    ceiling: float = math.inf
    unit: str = ""

    @classmethod
    def of(cls, floor: float | None, ceiling: float | None) -> Region:
        """None: no bound on that side. Raises UserError unless there is a bound, and the floor lies below the ceiling."""
        region = cls(-math.inf if floor is None else floor, math.inf if ceiling is None else ceiling)
        if not region.floor < region.ceiling or (floor is None and ceiling is None):
            raise UserError(f"a claim needs a floor below a ceiling, or one of them, not {floor} and {ceiling}")
        return region

    def holds(self, value: float) -> bool:
        return self.floor < value < self.ceiling

    @property
    def words(self) -> str:
        ends = [text for text, end in ((f"above {plain(self.floor)}", self.floor), (f"below {plain(self.ceiling)}", self.ceiling))
                if math.isfinite(end)]  # fmt: skip
        return " and ".join(ends)


def plain(value: float) -> str:
    """A threshold without trailing zeros, with a typographic minus sign."""
    return f"{value:g}".replace("-", "−")


def judge(region: Region, low: float, high: float, n: int, least: int = LEAST) -> str:
    """The verdict on one reading, by its interval alone.

    Replicated: [low, high] lies in the region. Not replicated: it lies outside, on one side. Inconclusive: anything else, and
    whenever n is below `least` or an end is not finite.
    """
    if n < least or not math.isfinite(low) or not math.isfinite(high):
        return INCONCLUSIVE
    if region.holds(low) and region.holds(high):
        return REPLICATED
    return REFUTED if high < region.floor or low > region.ceiling else INCONCLUSIVE


def inside(region: Region, each: Sequence[float], unit: str = "seeds") -> str:
    """`4 of 5 seeds inside`: how many single values lie in the region. They enter no verdict; of a single one nothing is said."""
    return f"{sum(map(region.holds, each))} of {len(each)} {unit} inside" if len(each) > 1 else ""


def combined(verdicts: Sequence[str], rule: str) -> str:
    """The verdict of a claim that makes several comparisons.

    all: replicated if every comparison is; not replicated if one is not replicated. any: replicated if one is; not replicated if
    every one is not replicated. most: replicated if more than half are; not replicated if half or more are not replicated.
    agree: the verdict that all share. Otherwise the claim is inconclusive; comparisons that were not run decide nothing.
    """
    if not verdicts or set(verdicts) == {NOT_RUN}:
        return NOT_RUN
    if len(set(verdicts)) == 1:
        return verdicts[0]
    yes, no = verdicts.count(REPLICATED), verdicts.count(REFUTED)
    if rule == "all":
        return REFUTED if no else INCONCLUSIVE
    if rule == "agree":
        return INCONCLUSIVE
    if rule == "any":
        return REPLICATED if yes else INCONCLUSIVE
    if 2 * yes > len(verdicts):
        return REPLICATED
    return REFUTED if 2 * no >= len(verdicts) else INCONCLUSIVE


def outlook(region: Region, value: float, n: int, error: Error, inputs: InputVariance, level: float, least: int) -> str:
    """How many seeds, at least `least` and more than the `n` there are, would decide a comparison; empty for a single seed.

    error: of the value, over seeds. inputs: the variance that the draw of test inputs causes, in the square of its units. If the
    value, and the standard deviation s = error sqrt(n) of one seed, stay as they are, k seeds decide it once
    hypot(t s / sqrt(k), z sqrt(shared)) is less than the value's distance from the nearest bound: t and z are the quantiles of
    Student's t and of the normal distribution at 1 - level / 2. t has the error's degrees of freedom times (k - 1) / (n - 1). s
    holds what seeds have of their own on the inputs.
    """
    if n < 2 or not all(map(math.isfinite, (value, error.size, inputs.shared))):
        return ""
    deviation = error.size * math.sqrt(n)
    distance = min(abs(value - bound) for bound in (region.floor, region.ceiling))
    by_inputs = float(ndtri(1 - level / 2)) * math.sqrt(inputs.shared)
    if by_inputs >= distance:
        return "its test inputs alone leave too wide an interval: no number of seeds can decide it"
    for k in range(max(least, n + 1), MOST + 1):
        quantile = float(stdtrit(error.freedom * (k - 1) / (n - 1), 1 - level / 2))
        if math.hypot(quantile * deviation / math.sqrt(k), by_inputs) < distance:
            return f"about {k} seeds like these would decide it"
    return f"only more than {MOST} seeds like these would decide it"

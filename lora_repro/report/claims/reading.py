"""A number read for a claim, and the one rule that turns numbers into a verdict."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

from lora_repro.errors import UserError
from lora_repro.report.table import bound, signed

REPLICATED, REFUTED, INCONCLUSIVE = "replicated", "not replicated", "inconclusive"
NOT_RUN = "not run at this scale"
ARITHMETIC, TESTED = "arithmetic", "tested"
BESIDE = "not judged"  # of a reading that stands beside those of a claim
LEAST = 3  # seeds or rounds behind a verdict
HOW = ("all", "any", "most")


@dataclass(frozen=True)
class Region:
    """Where a value must lie for a claim to hold: above `floor`, below `ceiling`, either without end."""

    floor: float = -math.inf
    ceiling: float = math.inf

    @classmethod
    def of(cls, floor: float | None, ceiling: float | None) -> Region:
        """None: no end on that side. Raises UserError unless something is left out and something left."""
        region = cls(-math.inf if floor is None else floor, math.inf if ceiling is None else ceiling)
        if not region.floor < region.ceiling or (floor is None and ceiling is None):
            raise UserError(f"a claim needs a floor below a ceiling, or one of them, not {floor} and {ceiling}")
        return region

    @property
    def words(self) -> str:
        ends = [text for text, end in ((f"above {plain(self.floor)}", self.floor), (f"below {plain(self.ceiling)}", self.ceiling))
                if math.isfinite(end)]  # fmt: skip
        return " and ".join(ends)


@dataclass(frozen=True)
class Reading:
    """What one comparison gave: value and interval [low, high] in `unit`, over n seeds (rounds, of timings).

    value None: no number, `notes` says why. sources: the files read, relative to results/. generated: not real data.
    """

    what: str
    unit: str
    verdict: str
    value: float | None = None
    low: float | None = None
    high: float | None = None
    n: int = 0
    digits: int = 1
    signed: bool = False
    notes: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    generated: bool = False
    part: int = 0  # of a claim of several parts
    better: str = ""  # of a claim "at least as good": the verdict on better
    detectable: float | None = None  # of a difference between methods with an interval: the least one that would have shown

    def __post_init__(self) -> None:
        for name in ("low", "high", "detectable"):  # an end that is no number is none
            if (end := getattr(self, name)) is not None and not math.isfinite(end):
                object.__setattr__(self, name, None)

    @property
    def text(self) -> str:
        """`+0.4 [−0.6, +1.2] (3)`; † marks n = 1; no brackets for a value that has no spread."""
        if self.value is None:
            return "—"
        ends = [bound(end, self.digits, self.signed) for end in (self.low, self.high) if end is not None]
        interval = f" [{', '.join(ends)}]" if ends else ""
        count = f" ({self.n}{'†' if self.n == 1 else ''})" if self.n else ""
        return f"{signed(self.value, self.digits, self.signed)}{interval}{count}"

    @property
    def detail(self) -> str:
        """`text`, and where it is known `, Δ 2.1`: `detectable`, as in the tables."""
        return self.text + ("" if self.detectable is None else f", Δ {self.detectable:,.{self.digits}f}")


def plain(value: float) -> str:
    """A threshold as it is written: no digits that it lacks, a sign that is a sign."""
    return f"{value:g}".replace("-", "−")


def judge(region: Region, low: float, high: float, n: int, each: Sequence[float] = (), least: int = LEAST) -> str:
    """Replicated: [low, high] and every single value behind them (`each`) lie in the region.

    Not replicated: all of them lie on one side outside of it. Else, and with fewer seeds than `least`, inconclusive.
    """
    values = (low, high, *each)
    if n < least or not all(math.isfinite(value) for value in values):
        return INCONCLUSIVE
    if all(region.floor < value < region.ceiling for value in values):
        return REPLICATED
    outside = all(value < region.floor for value in values) or all(value > region.ceiling for value in values)
    return REFUTED if outside else INCONCLUSIVE


def student(values: Sequence[float]) -> tuple[float, float, float]:
    """(mean, low, high): the mean and Student's 95 % interval of it; NaN for its ends where there is one value."""
    n = len(values)
    mean, reach = float(np.mean(values)), math.nan
    if n > 1:
        reach = float(stdtrit(n - 1, 0.975)) * float(np.std(values, ddof=1)) / math.sqrt(n)
    return mean, mean - reach, mean + reach


def combined(verdicts: Sequence[str], how: str) -> str:
    """The verdict of a claim that makes several comparisons.

    all: replicated if each is, not replicated if one is not. any: the other way round. most: replicated if more than half
    are, not replicated if half are not. agree: either verdict only if each has it. Comparisons that were not run count as
    undecided.
    """
    if not verdicts or set(verdicts) == {NOT_RUN}:
        return NOT_RUN
    if len(set(verdicts)) == 1:
        return verdicts[0]
    yes, no = verdicts.count(REPLICATED), verdicts.count(REFUTED)
    if how == "all":
        return REFUTED if no else INCONCLUSIVE
    if how == "agree":
        return INCONCLUSIVE
    if how == "any":
        return REPLICATED if yes else INCONCLUSIVE
    if 2 * yes > len(verdicts):
        return REPLICATED
    return REFUTED if 2 * no >= len(verdicts) else INCONCLUSIVE

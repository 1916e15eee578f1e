"""A number read for a claim, and the one rule that turns numbers into a verdict."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.special import stdtrit

from lora_repro.errors import UserError
from lora_repro.report.table import bound, signed

REPLICATED, REFUTED, INCONCLUSIVE = "replicated", "not replicated", "inconclusive"
CONTRADICTED = "contradicted by its source"  # not replicated, by a test that the source's own numbers fail, too
NOT_RUN = "not run at this scale"
ARITHMETIC, TESTED = "arithmetic", "tested"
BESIDE = "not judged"  # of a reading that is shown beside those that decide a claim
LEAST = 3  # the fewest seeds or rounds for a verdict
HOW = ("all", "any", "most")


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


class Doubt(NamedTuple):
    """What keeps a reading from a verdict: in a few words, and as a note with the cell that it is about."""

    reason: str
    note: str

    @staticmethod
    def reasons(doubts: Sequence[Doubt]) -> str:
        return ", ".join(dict.fromkeys(one.reason for one in doubts))


@dataclass(frozen=True)
class Reading:
    """The result of one comparison: value and interval [low, high] in `unit`, over n seeds (rounds for timings).

    value None: no number; `notes` says why. sources: the files read, relative to results/. generated: not real data. inside: how
    many of the single values behind it lie where the claim says. region: where that is. says: the value in a sentence, in
    place of `what` is `text`. reason: why there is no verdict, in a few words.
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
    part: int = 0  # index of the part that it belongs to, in a claim of several parts
    better: str = ""  # second verdict of a claim "at least as good": whether it is better
    detectable: float | None = None  # the least true difference between methods that would have shown; None without an interval
    inside: str = ""
    region: Region | None = None
    says: str = ""
    reason: str = ""

    def __post_init__(self) -> None:
        for name in ("low", "high", "detectable"):  # NaN and infinity become None
            if (end := getattr(self, name)) is not None and not math.isfinite(end):
                object.__setattr__(self, name, None)

    @property
    def asks(self) -> str:
        """Where the claim says that the value lies, in words; empty if it does not say."""
        return self.region.words + self.region.unit if self.region else ""

    @property
    def text(self) -> str:
        """`+0.4 [−0.6, +1.2] (3)`: value, interval (left out if there is none) and n; † marks n = 1."""
        if self.value is None:
            return "—"
        ends = [bound(end, self.digits, self.signed) for end in (self.low, self.high) if end is not None]
        interval = f" [{', '.join(ends)}]" if ends else ""
        count = f" ({self.n}{'†' if self.n == 1 else ''})" if self.n else ""
        return f"{signed(self.value, self.digits, self.signed)}{interval}{count}"

    @property
    def detail(self) -> str:
        """`text`, then `, 4 of 5 seeds inside` and `, Δ 2.1` as in the tables, where these are known."""
        least = "" if self.detectable is None else f", Δ {self.detectable:,.{self.digits}f}"
        return self.text + (f", {self.inside}" if self.inside else "") + least


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


def inside(region: Region, each: Sequence[float], what: str = "seeds") -> str:
    """`4 of 5 seeds inside`: how many single values lie in the region. They enter no verdict; of a single one nothing is said."""
    return f"{sum(map(region.holds, each))} of {len(each)} {what} inside" if len(each) > 1 else ""


def student(values: Sequence[float]) -> tuple[float, float, float]:
    """(mean, low, high): the mean and its 95 % interval by Student's t; low and high are NaN for a single value."""
    n = len(values)
    mean, reach = float(np.mean(values)), math.nan
    if n > 1:
        reach = float(stdtrit(n - 1, 0.975)) * float(np.std(values, ddof=1)) / math.sqrt(n)
    return mean, mean - reach, mean + reach


def combined(verdicts: Sequence[str], how: str) -> str:
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
    if how == "all":
        return REFUTED if no else INCONCLUSIVE
    if how == "agree":
        return INCONCLUSIVE
    if how == "any":
        return REPLICATED if yes else INCONCLUSIVE
    if 2 * yes > len(verdicts):
        return REPLICATED
    return REFUTED if 2 * no >= len(verdicts) else INCONCLUSIVE

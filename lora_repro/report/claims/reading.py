"""A number read for a claim: `stats.verdict` has the rule that turns it into a verdict."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from lora_repro.report.table import bound, signed
from lora_repro.stats.verdict import Region


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

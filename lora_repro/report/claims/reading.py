"""A number read for a claim, and a verdict in plain words from the reading that decides.

`stats.verdict` has the rule that turns a number into a verdict.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from lora_repro.report.table import bound, signed
from lora_repro.stats.verdict import (
    ARITHMETIC,
    BESIDE,
    CONTRADICTED,
    INCONCLUSIVE,
    NOT_RUN,
    REFUTED,
    REPLICATED,
    TESTED,
    Region,
)


class Doubt(NamedTuple):
    """What keeps a reading from a verdict: in a few words, and as a note with the cell that it is about."""

    reason: str
    note: str

    @staticmethod
    def reasons(doubts: Sequence[Doubt]) -> str:
        return ", ".join(dict.fromkeys(doubt.reason for doubt in doubts))


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


NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
# Verdict of a comparison -> how one such went, and how several did.
WENT = {REPLICATED: ("holds", "hold"), REFUTED: ("fails", "fail"), INCONCLUSIVE: ("is open", "are open"),
        NOT_RUN: ("was not run", "were not run")}  # fmt: skip


def difference_in_words(labels: Sequence[str], value: float, low: float, high: float) -> str:
    """`LoRA is 5.2 points behind full fine-tuning [3.3, 7.4 behind]`; of four labels the difference of two gains."""
    names = [_inside_a_sentence(label) if index else label for index, label in enumerate(labels)]
    if len(names) == 4:
        first, second = (f"the step from {b} to {a}" for a, b in (names[:2], names[2:]))
        return f"{first[0].upper()}{first[1:]} brings {_points(value)} {_side(value, 'more', 'less')} than {second} " \
               f"{_ends(low, high, 'more', 'less')}"  # fmt: skip
    return f"{names[0]} is {_points(value)} {_side(value, 'ahead of', 'behind')} {names[1]} {_ends(low, high, 'ahead', 'behind')}"


def epochs_in_words(records: Sequence[Mapping[str, Any]]) -> str:
    """`after one to three epochs`, of the rows that trained; `after 500 steps` where steps were asked for."""
    runs = [record for record in records if record["measured"].get("steps")]
    trainings = [record["asked"].get("train") or {} for record in runs]
    epochs = sorted({float(training["epochs"]) for training in trainings if training.get("epochs") and not training.get("steps")})
    if len(epochs) and all(not training.get("steps") for training in trainings):
        ends = [_number(end) for end in dict.fromkeys((epochs[0], epochs[-1]))]
        return f"after {' to '.join(ends)} epoch{'' if epochs[-1] == 1 else 's'}"
    steps = sorted({int(record["measured"]["steps"]) for record in runs})
    return f"after {' to '.join(f'{end:,}' for end in dict.fromkeys((steps[0], steps[-1])))} steps" if steps else "untrained"


def sentence(verdict: str, readings: Sequence[Reading]) -> str:
    """One sentence on a claim at one profile, from the first of the readings that have its verdict, or keep it from one."""
    comparisons = [reading for reading in readings if reading.verdict != BESIDE]
    if verdict == NOT_RUN or not comparisons:
        return "Nothing was run for it."
    if verdict in (ARITHMETIC, TESTED):
        return f"{comparisons[0].what}: {verdict}." if verdict == TESTED else f"{comparisons[0].what}: {comparisons[0].notes[0]}."
    first = deciding(verdict, comparisons)
    ends = "no verdict" if verdict == INCONCLUSIVE else verdict
    counts = Counter(comparison.verdict for comparison in comparisons)
    others = ", ".join(f"{count} {went[count > 1]}" for kind, went in WENT.items() if (count := counts[kind]))
    return f"{_told(first)}: {ends}." + (f" Of {len(comparisons)} comparisons {others}." if len(comparisons) > 1 else "")


def deciding(verdict: str, readings: Sequence[Reading]) -> Reading:
    """The first of the readings that have the verdict, or keep the claim from one; with a value if one of them has a value."""
    target = REFUTED if verdict == CONTRADICTED else verdict
    return next((reading for reading in readings if reading.verdict == target and reading.value is not None),
                next((reading for reading in readings if reading.verdict in (target, NOT_RUN)), readings[0]))  # fmt: skip


def _told(reading: Reading) -> str:
    """The value, what the claim asks of it, and why there is no verdict."""
    name = reading.what if reading.unit in ("", *reading.what.split()) else f"{reading.what} ({reading.unit})"
    if reading.value is None:
        value = f"{name} {'was not run' if reading.verdict == NOT_RUN else 'has no value'}"
    else:
        value = reading.says or f"{name} is {reading.text}"
    if reading.reason:
        return f"{value}, {reading.reason}"
    return value + (f", where the claim asks for {reading.asks}" if reading.asks and reading.value is not None else "")


def _inside_a_sentence(label: str) -> str:
    """A label with a small first letter, unless its first word is a name such as LoRA or AdapterP."""
    return label[0].lower() + label[1:] if re.match(r"[A-Z][a-z-]+( |$)", label) else label


def _points(value: float) -> str:
    return f"{signed(abs(value), 1, plus=False)} points"


def _side(value: float, more: str, less: str) -> str:
    return more if value >= 0 else less


def _ends(low: float, high: float, more: str, less: str) -> str:
    """`[3.3, 7.4 behind]`, or `[7.4 behind, 1.1 ahead]` on both sides of 0; empty without an interval."""
    if not abs(low) < float("inf") or not abs(high) < float("inf"):
        return "[no interval]"
    sides = [_side(end, more, less) for end in (low, high)]
    ends = [bound(abs(end), 1, plus=False) for end in (low, high)]
    if sides[0] == sides[1]:
        return f"[{', '.join(ends if low >= 0 else ends[::-1])} {sides[0]}]"
    return f"[{ends[0]} {sides[0]}, {ends[1]} {sides[1]}]"


def _number(value: float) -> str:
    return NUMBERS[int(value)] if value in range(len(NUMBERS)) else f"{value:g}"

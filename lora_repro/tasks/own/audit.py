"""What there is to know of the user's data before anything trains, on one screen.

The smallest difference that the test rows can show between two methods: each right answer of one that is a wrong one of the
other moves the difference of their accuracies by 1 / n. If they disagree so on a share d of n test rows and neither is better,
the difference has the error sqrt(d / n), and `stats.intervals.detectable` makes of it the least true difference that shows at
5 % with a chance of 80 %: 2.8 sqrt(d / n). d is unknown before a run; `DISAGREE` is assumed. More seeds do not lower it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from lora_repro.stats.intervals import detectable
from lora_repro.tasks.own.columns import Row
from lora_repro.tasks.own.data import OwnData, content

DISAGREE = 0.1
SHOWN = 5  # places or classes that are named


@dataclass(frozen=True)
class Repeated:
    """Rows of `split` whose input is also in `other` (the same split: more than once). places: of the first ones."""

    split: str
    other: str
    rows: int
    places: tuple[int, ...]


@dataclass(frozen=True)
class Audit:
    """What was found.

    - counts: split -> rows. columns: how they were found. said: what was held out.
    - classes: (class, training rows), most first. majority: the accuracy on test of always answering the first.
    - repeated: inputs that occur again. contradicting: training rows whose input has another answer elsewhere in training.
    - empty: split -> places of rows that are left out. unseen: classes of the test rows of which no training row is left.
    - points: the smallest difference of accuracies (of texts: exact matches) that the test rows can show; None for numbers.
    """

    title: str
    counts: dict[str, int]
    columns: str
    classes: tuple[tuple[str, int], ...]
    majority: float | None
    repeated: tuple[Repeated, ...]
    contradicting: int
    empty: dict[str, tuple[int, ...]]
    unseen: tuple[str, ...]
    points: float | None
    unit: dict[str, str]
    said: tuple[str, ...]

    @property
    def text(self) -> str:
        """At most one screen: a line for each thing that there is to say."""
        rows = ", ".join(f"{n:,} {split}" for split, n in self.counts.items())
        lines = [f"{self.title}: {rows} rows; {self.columns}", *self.said]
        if self.classes:
            listing = ", ".join(f"{label[:30]} {n:,}" for label, n in self.classes[:SHOWN])
            more = f", {len(self.classes) - SHOWN} more" if len(self.classes) > SHOWN else ""
            always = f"always {self.classes[0][0][:30]}: accuracy {100 * (self.majority or 0):.1f} on test"
            lines.append(f"training rows by class: {listing}{more}; {always}")
        for repeat in self.repeated:
            leak = repeat.split != repeat.other
            finding = f"{repeat.rows:,} {repeat.split} rows {f'also stand in {repeat.other}' if leak else 'repeat an input'}"
            lines.append(f"{'LEAK: ' if leak else ''}{finding}{self._at(repeat.split, repeat.places, repeat.rows)}")
        if self.contradicting:
            lines.append(f"{self.contradicting:,} training rows have an input that has another answer, too")
        for split, places in self.empty.items():
            lines.append(f"{len(places):,} rows of the {split} file are empty and left out{self._at(split, places, len(places))}")
        if self.unseen:
            lines.append(f"after holding out no training row is left of: {', '.join(self.unseen[:SHOWN])}")
        if self.points is not None:
            metric = "accuracy" if self.classes else "exact match"
            lines.append(f"{self.counts['test']:,} test rows can show a difference of about {self.points:.1f} points of {metric} "
                         f"(if two methods disagree on {DISAGREE:.0%} of them)")  # fmt: skip
        return "\n".join(lines)

    def _at(self, split: str, places: Sequence[int], n: int) -> str:
        unit = self.unit.get(split, self.unit["train"])  # rows held out have places in the training file
        return f": {unit} {', '.join(map(str, places[:SHOWN]))}{', ...' if n > SHOWN else ''}"


def audit(data: OwnData) -> Audit:
    """What is to be said of these data."""
    splits = {"train": data.parts.train, "dev": data.parts.dev, "test": data.parts.test}
    of_classes = data.columns.kind == "class"
    class_counts = Counter(row.answer for row in data.parts.train).most_common() if of_classes else []
    pairs = [("train", "train"), ("dev", "train"), ("test", "train"), ("test", "dev"), ("test", "test")]
    return Audit(
        data.names["train"],
        {split: len(rows) for split, rows in splits.items()},
        data.columns.said,
        tuple(class_counts),
        sum(row.answer == class_counts[0][0] for row in data.parts.test) / len(data.parts.test) if class_counts else None,
        tuple(repeat for pair in pairs if (repeat := _repeated(splits, *pair)).rows),
        _contradicting(data.parts.train),
        {split: tuple(places) for split, places in data.empty.items() if places},
        tuple(sorted({row.answer for row in data.parts.test} - {label for label, _ in class_counts})) if of_classes else (),
        None if data.columns.kind == "number" else 100 * detectable(math.sqrt(DISAGREE / len(data.parts.test))),
        dict(data.unit),
        data.parts.said,
    )


def _repeated(splits: dict[str, tuple[Row, ...]], split: str, other: str) -> Repeated:
    """Rows of one split whose input another one has; in the same split, each row after the first with its input."""
    texts = {content(row) for row in splits[other]} if split != other else set()
    places = []
    for row in splits[split]:
        text = content(row)
        if text in texts:
            places.append(row.place)
        if split == other:
            texts.add(text)
    return Repeated(split, other, len(places), tuple(places[:SHOWN]))


def _contradicting(rows: Sequence[Row]) -> int:
    answers: dict[str, set[str]] = {}
    for row in rows:
        answers.setdefault(content(row), set()).add(row.answer)
    return sum(len(answers[content(row)]) > 1 for row in rows)

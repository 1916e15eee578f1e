"""Several sentence tasks as one (for a multi-task adapter: Pfeiffer et al. 2021, arXiv 2005.00247, Section 3.1)."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from lora_repro.errors import UserError
from lora_repro.metrics import glue as metrics
from lora_repro.tasks.base import AbstractTask, Example, Scores, Splits, check_scorable
from lora_repro.tasks.glue.task import Glue


@dataclass(frozen=True, kw_only=True)
class Mixture(AbstractTask):
    """The rows of all `members` together, to train on every task at once. Scored by accuracy over all rows.

    Every class of every member is a class of its own (`rte: entailment`), and a number becomes the nearest whole number on its
    scale. So there is one head with an output per class, where the source has a head per task. The loss thus also asks for the
    task, which the form of a row gives away.

    names: the members' names in files. most: how many rows of each member to train on, drawn once (null: all). held_out: how many
    of a member's own held-out rows choose, drawn once (0: all); a member that holds out none holds out this many.
    """

    objective: ClassVar[str] = "lora_repro.objectives.classification.Classification"
    scored: ClassVar[tuple[str, ...]] = ("test",)
    name: str
    label: str
    names: Sequence[str]
    members: Sequence[Glue]
    kind: str = "class"
    metrics: Sequence[str] = ("accuracy",)
    most: int | None = None
    held_out: int = 0

    def __post_init__(self) -> None:
        if len(self.members) < 2 or len(set(self.names)) < len(self.members):
            raise UserError(f"task {self.name} needs at least two different tasks: task.names=[rte,cola], not {list(self.names)}")
        if bad := [member.name for member in self.members if not isinstance(member, Glue)]:
            raise UserError(f"task {self.name} mixes only sentence tasks, and {bad[0]} answers with text: leave it out")
        if bad := [member.name for member in self.members if member.kind == "number" and not member.scale]:
            raise UserError(f"task {self.name}: {bad[0]} has a number but no scale to round it on; give {bad[0]} a scale")
        if tuple(self.metrics) != ("accuracy",):
            raise UserError(f"task {self.name} is scored by accuracy alone: task.metrics=[accuracy], not {list(self.metrics)}")
        members = [*self.members]
        if self.held_out:
            members = [replace(member, held_out=member.held_out or self.held_out) for member in members]
        object.__setattr__(self, "members", members)
        object.__setattr__(self, "labels", tuple(label for member in self.members for label in labels_of(member)))

    @property
    def attribution(self) -> str:
        return " ".join(dict.fromkeys(member.attribution for member in self.members))

    @property
    def source(self) -> str:
        """The source that needs most: hub if any member needs it, else folder, else embedded."""
        return min((member.source for member in self.members), key=("hub", "folder", "embedded").index)

    @property
    def directions(self) -> dict[str, int]:
        return dict.fromkeys(self.metrics, 1)

    @property
    def rows(self) -> dict[str, int]:
        """Row counts from the members' yamls; empty if one of them asserts none. Held-out rows count as train."""
        if not all({"train", *member.scored} <= set(member.rows) for member in self.members):
            return {}
        most = math.inf if self.most is None else self.most
        train = sum(min(most, member.rows["train"] - member.held_out) for member in self.members)
        test = sum(member.rows[split] for member in self.members for split in member.scored)
        return {"train": int(train) + self.held_out, "test": test}

    def load(self, folder: str | None) -> Splits:
        member_splits = [member.load(folder) for member in self.members]
        train, dev, test = [], [], []
        for member, splits in zip(self.members, member_splits, strict=True):
            train += [relabelled(member, example) for example in drawn(splits.train, self.most)]
            dev += [relabelled(member, example) for example in drawn(splits.dev, self.held_out or None)]
            test += [relabelled(member, example) for example in splits.test]
        caption = f"{self.label} of {', '.join(splits.caption for splits in member_splits)}"
        hashes = {name: value for splits in member_splits for name, value in splits.hashes.items()}
        both = zip(self.members, member_splits, strict=True)
        others = tuple(f"{member.name} {split}" for member, splits in both for split in splits.others)
        return Splits(train, dev, test, caption, hashes, others)

    def ready(self, folder: str | None) -> None:
        for member in self.members:
            member.ready(folder)

    def ask(self, text: str) -> Example:
        """The example for one sentence, or for `first || second` if a member compares two. Raises UserError if none takes it."""
        several = "||" in text
        takers = [member for member in self.members if member.pairs == several]
        if not takers:
            raise UserError(f"{self.label} takes {'one sentence' if several else 'two sentences: FIRST || SECOND'}")
        return takers[0].ask(text)

    def quality(self, answers: list[str], gold: list[str]) -> float:
        return metrics.accuracy(answers, gold)

    def score(self, outputs: list[str], examples: list[Example]) -> Scores:
        """Accuracy over all rows. Raises UserError when the lengths differ or an example has no label."""
        check_scorable(outputs, examples, "label")
        gold = [example.references[0] for example in examples]
        return Scores(
            metrics.score(self.metrics, outputs, gold, None),
            metrics.per_input_statistics(outputs, gold, None, regression=False),
        )


def labels_of(member: Glue) -> list[str]:
    """The classes of a member in the mixture."""
    if member.kind == "class":
        return [f"{member.name}: {label}" for label in member.labels]
    least, most = member.scale
    return [f"{member.name}: {number}" for number in range(round(least), round(most) + 1)]


def relabelled(member: Glue, example: Example) -> Example:
    """The example with its label as named in the mixture."""

    def called(label: str) -> str:
        return f"{member.name}: {label if member.kind == 'class' else round(float(label))}"

    target = called(example.target) if example.target else ""
    return replace(example, target=target, references=tuple(map(called, example.references)))


def drawn(rows: Sequence[Example], most: int | None) -> Sequence[Example]:
    """At most `most` of the rows, drawn at random since a file may be sorted by source, in file order."""
    if most is None or most >= len(rows):
        return rows
    return [rows[i] for i in sorted(random.Random(0).sample(range(len(rows)), most))]

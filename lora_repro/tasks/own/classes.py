"""A class or a number for one text or two, from the user's own files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from lora_repro.errors import UserError
from lora_repro.metrics import glue as metrics
from lora_repro.tasks.base import Example, Scores, Splits, check_scorable, example_key
from lora_repro.tasks.own.columns import Row
from lora_repro.tasks.own.data import content
from lora_repro.tasks.own.task import OWN_SCORE, OwnTask

OF_CLASSES, OF_NUMBERS = ("accuracy", "f1", "matthews"), ("pearson", "spearman")


@dataclass(frozen=True, kw_only=True)
class OwnLabels(OwnTask):
    """Texts, or pairs of them, with a class (`kind: class`) or a number (`kind: number`). Other fields: `OwnTask`.

    `classes`: the answers, in the order of the head's outputs; left out, those of the training file. F1 of two classes is that of
    `positive`, left out the one with fewer training rows; of more classes the mean over them (macro). Raises UserError on other
    values.
    """

    objective: ClassVar[str] = "lora_repro.objectives.classification.Classification"
    name: str = "own_labels"
    label: str = "own data"
    kind: str = "class"
    train: str | None = None
    dev: str | None = None
    test: str | None = None
    columns: Mapping[str, str | None] = field(default_factory=dict)
    classes: Sequence[str] = ()
    positive: str | None = None
    metrics: Sequence[str] = ("accuracy",)
    held_out: int = 200
    max_train: int | None = None
    max_test: int | None = None
    function: str | None = None
    with_texts: bool = False
    sha256: Mapping[str, str | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.kind not in ("class", "number"):
            raise UserError(f"task.kind={self.kind}: choose class or number")
        self.check()
        if self.metrics[0] == "spearman":
            raise UserError("task.metrics: put pearson before spearman, since tables compare by the first metric")
        if self.kind == "number" and OWN_SCORE in self.metrics:
            raise UserError("task.function scores a class or a text, and task.kind=number has neither: leave it out")

    @property
    def scores(self) -> tuple[str, ...]:  # type: ignore[override]
        return OF_CLASSES if self.kind == "class" else OF_NUMBERS

    @property
    def labels(self) -> tuple[str, ...]:  # type: ignore[override]
        """The classes; none for a number. Raises UserError if they are neither given nor in a file."""
        return () if self.kind == "number" else tuple(self.classes) or self.data().classes

    def load(self, folder: str | None) -> Splits:
        if self.kind == "class" and self.train is not None:
            classes = self.data().classes
            for key, labels in (("classes", self.classes), ("positive", [self.positive] if self.positive else [])):
                if labels and (bad := [*(set(classes) - {*labels} if key == "classes" else {*labels} - set(classes))]):
                    problem = "leaves out" if key == "classes" else "is no class of the data:"
                    raise UserError(f"task.{key} {problem} {sorted(bad)[0]!r}; the data have {', '.join(classes)}")
        return super().load(folder)

    @property
    def found(self) -> dict[str, Any]:
        if self.train is None:
            return {}
        data = self.data()
        classes = {"classes": list(self.labels), "positive": self.positive or data.rarest} if self.kind == "class" else {}
        return {"columns": data.columns.roles, **classes}

    def example(self, row: Row, scored: bool) -> Example:
        answer = "" if scored else row.answer
        return Example(example_key(content(row)), row.input, answer, (row.answer,) if scored else (), row.second)

    def ask(self, text: str) -> Example:
        """The example for one text or, if the task compares two, for `first || second`."""
        pairs = bool(self.columns.get("text_pair")) if self.train is None else self.data().columns.second is not None
        first, _, second = (part.strip() for part in text.partition("||" if pairs else "\0"))
        if not first or pairs != bool(second):
            raise UserError(f"this task takes {'two texts: FIRST || SECOND' if pairs else 'one text'}")
        return Example(example_key(f"{first}\n{second}" if second else first), first, "", second=second or None)

    def _positive(self) -> str | None:
        """The class that F1 counts, if there are two."""
        if self.kind == "number" or len(self.labels) != 2:
            return None
        return self.positive or self.data().rarest

    def _values(self, names: Sequence[str], answers: Sequence[str], gold: Sequence[str]) -> dict[str, float]:
        positive = self._positive()
        if positive is None and "f1" in names:
            others = metrics.score([metric for metric in names if metric != "f1"], answers, gold)
            return {metric: others.get(metric, metrics.macro_f1(answers, gold)) for metric in names}
        return metrics.score(names, answers, gold, positive)

    def quality(self, answers: list[str], gold: list[str]) -> float:
        """The main score, by which the epoch and the rate are chosen: the first of `metrics` that is not the user's own."""
        first = next((metric for metric in self.metrics if metric != OWN_SCORE), self.scores[0])
        return self._values([first], answers, gold)[first]

    def score(self, outputs: list[str], examples: list[Example]) -> Scores:
        """Corpus scores of one answer per example, and the statistics from which a bootstrap recomputes them.

        A correlation with constant answers is NaN. Raises UserError when the lengths differ or an example has no label.
        """
        check_scorable(outputs, examples, "label")
        gold = [example.references[0] for example in examples]
        positive = self._positive()
        statistics = metrics.per_input_statistics(outputs, gold, positive, regression=self.kind == "number")
        if self.kind == "class" and positive is None:
            statistics = [{**line, "predicted": output} for line, output in zip(statistics, outputs, strict=True)]
        values = self._values([metric for metric in self.metrics if metric != OWN_SCORE], outputs, gold)
        values |= self.told(statistics, outputs, examples)
        return Scores({metric: values[metric] for metric in self.metrics}, statistics)

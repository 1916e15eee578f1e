"""The interface of a task: what it gives to the rest of the suite, and what it gets back.

A task knows files and metrics, but no tokenizer and no model. Nothing here imports torch.
"""

from __future__ import annotations

import abc
import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from lora_repro.errors import UserError

SPLITS = ("train", "dev", "test")


def check_scorable(outputs: Sequence[str], examples: Sequence[Example], gold: str = "references") -> None:
    """Raise UserError unless there is one output per example, at least one, and each example has its `gold` answers."""
    if len(outputs) != len(examples) or not examples:
        raise UserError(f"{len(outputs)} outputs for {len(examples)} inputs; give one per input, in order")
    if missing := [example.key for example in examples if not example.references]:
        raise UserError(f"input {missing[0]} has no {gold}; score a split with answers")


def example_key(text: str) -> str:
    """Short id of an input: the first 12 hexadecimal digits of sha256(text, UTF-8)."""
    return hashlib.sha256(text.encode("utf-8")).hexdigest()[:12]


@dataclass(frozen=True)
class Example:
    """One input, the text to train on (`target`, "" in test) and, in grouped splits, all its human texts (`references`).

    Of a sentence pair, `input` is the first sentence and `second` the other one. If the answer is a class or a number, `target`
    is its text in train and dev, and in test it is the only one of `references`. `group`: its part of the test set, if parts are
    scored separately (`seen`, `unseen`).
    """

    key: str
    input: str
    target: str
    references: tuple[str, ...] = ()
    second: str | None = None
    group: str = ""


@dataclass(frozen=True)
class Splits:
    """The three splits of a task.

    train, dev: one Example per (input, text) pair, in file order. test: one Example per distinct input, in the order of
    first appearance, with its references in file order. caption: what tables print about the data. hashes: file name ->
    sha256 of its bytes (or of the generated rows). said: what is to be said of the data before anything trains. others: the
    splits that are known not to be the official ones.
    """

    train: list[Example]
    dev: list[Example]
    test: list[Example]
    caption: str
    hashes: dict[str, str]
    others: tuple[str, ...] = ()
    said: str = ""


@dataclass(frozen=True)
class Scores:
    """Corpus-level `values` (fractions; NIST in its own unit) and the statistics behind them.

    per_input: for each test input, in order, the JSON-able statistics from which a bootstrap recomputes them.
    """

    values: dict[str, float]
    per_input: list[dict[str, object]]


class AbstractTask(abc.ABC):
    """A data set and its metrics.

    - `directions`: metric -> +1 if higher is better, -1 if lower, in print order. `metric`: the task's main score in a table.
    - `kind`: what an answer is: a `text`, a `class` (one of `labels`) or a `number`. `answers`: all possible answer texts, if
      they are few and fixed.
    - `objective`: the class in lora_repro/objectives that turns an example into what a model is trained on and asked. It is a
      name, since nothing here imports torch.
    - `attribution`: what must be stated where real texts are shown. `publishes_outputs`: False if the licence of the real data
      covers even what a model makes of them; then only keys and statistics are published. `keeps_outputs`: False if even a run's
      own folder holds only these.
    - `cut`: what is cut from an input that does not fit, "" if that is an error. `parts`: the names of an input's parts, if all
      inputs have the same.
    """

    name: str
    kind: str = "text"
    labels: Sequence[str] = ()
    answers: Sequence[str] = ()
    objective: ClassVar[str] = "lora_repro.objectives.completion.Completion"
    publishes_outputs: ClassVar[bool] = True
    keeps_outputs: bool = True
    cut: ClassVar[str] = ""
    parts: ClassVar[tuple[str, ...]] = ()

    @property
    def attribution(self) -> str:
        return ""

    @property
    @abc.abstractmethod
    def directions(self) -> dict[str, int]: ...

    @property
    def metric(self) -> str:
        return next(iter(self.directions))

    @abc.abstractmethod
    def load(self, folder: str | None) -> Splits:
        """Read the splits; `folder` holds local files. Raises UserError on any bad input."""

    @property
    def found(self) -> dict[str, Any]:
        """Settings that were read from the data instead of given, for a task that is built again without its data."""
        return {}

    def ready(self, folder: str | None) -> None:  # noqa: B027  (a task without files has nothing to look for)
        """Raise UserError if files that `load` would read are missing, without reading any."""

    def ask(self, text: str) -> Example:
        """The example for a user's own text. Raises UserError if it is no input of this task."""
        return Example(example_key(text), text, "")

    def parted(self, text: str) -> list[tuple[int, int]]:
        """(first character, index in `parts`) of each part of an input, in order. Raises UserError if it is no input."""
        return []

    def shorter(self, example: Example) -> Iterator[Example]:
        """The example with less and less of its input, cut as `cut` says; its key and texts stay. Empty by default."""
        return iter(())

    def fit(self, example: Example, fits: Callable[[Example], bool]) -> Example:
        """The example itself if it fits, else the first of `shorter` that does, which is a new object.

        `fits`: counts tokens, which a task does not know. Raises UserError if none fits.
        """
        if fits(example):
            return example
        variant = next((shorter for shorter in self.shorter(example) if fits(shorter)), None)
        if variant is None:
            raise UserError(self.too_long(example))
        return variant

    def too_long(self, example: Example) -> str:
        """The error for an example of which no form fits."""
        rule = f"only {self.cut} may be cut" if self.cut else "nothing of it may be cut"
        return f"input {example.key} is too long, and {rule}: raise data.max_length"

    def remark(self, example: Example, output: str) -> str:
        """A remark on one output that needs no reference; empty for most tasks."""
        return ""

    @abc.abstractmethod
    def score(self, outputs: list[str], examples: list[Example]) -> Scores:
        """Score one output per example, in order, against the example's references."""

    def quality(self, answers: list[str], gold: list[str]) -> float:
        """`metric` of answers that are classes or numbers; NaN if undefined. Raises UserError for texts."""
        raise UserError("a text has no single gold answer to select by: set train.select_by=loss")

    def human(self, examples: list[Example]) -> tuple[list[str], list[Example]]:
        """Human agreement: (each input's last reference as an output, the examples with their other references).

        Inputs with fewer than two references (14 of E2E's 630) are left out. Raises UserError if none has two.
        """
        several = [example for example in examples if len(example.references) >= 2]
        if examples and not several:
            raise UserError("this task has one answer per input: there are no human texts to score (method=human)")
        outputs = [example.references[-1] for example in several]
        return outputs, [replace(example, references=example.references[:-1]) for example in several]

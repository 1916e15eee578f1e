"""What a task hands to the rest of the suite, and what it gets back.

A task knows files and metrics; it knows no tokenizer and no model. Nothing here imports torch.
"""

from __future__ import annotations

import abc
import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

from lora_repro.errors import UserError


def example_key(text: str) -> str:
    """Short id of an input: the first 12 hexadecimal digits of sha256(text, UTF-8)."""
    return hashlib.sha256(text.encode("utf-8")).hexdigest()[:12]


@dataclass(frozen=True)
class Example:
    """One input, the text to train on (`target`, "" in test) and, in grouped splits, all its human texts.

    Of a sentence pair `input` is the first and `second` the other one. Where the answer is a class or a number, `target`
    is its text in train and dev, and `references` holds it alone in test. `group`: the part of the test set that it is in, where
    the parts are scored apart (`seen`, `unseen`).
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

    train, dev: one Example per (input, text) pair, in file order. test: one Example per distinct input,
    in first-seen order, its references in file order. caption: what tables print about the data.
    hashes: file name -> sha256 of its bytes (or of the generated rows).
    """

    train: list[Example]
    dev: list[Example]
    test: list[Example]
    caption: str
    hashes: dict[str, str]


@dataclass(frozen=True)
class Scores:
    """Corpus-level `values` (fractions; NIST in its own unit) and their ingredients.

    per_input: for each test input, in order, the JSON-able statistics from which a bootstrap recomputes them.
    """

    values: dict[str, float]
    per_input: list[dict[str, object]]


class AbstractTask(abc.ABC):
    """A data set and its metrics. `directions`: metric -> +1 higher is better, -1 lower, in print order.

    `kind`: what an answer is: a `text`, a `class` (one of `labels`) or a `number`. `objective`: the class in
    lora_repro/objectives that makes of an example what a model is trained on and asked; by name, for nothing here knows torch.
    `answers`: all texts that are an answer, where they are few and given. `metric`: the score that stands for the task in a
    table. `attribution`: what must be said where real texts are shown. `publishes_outputs`: False where the licence of the
    real data keeps even what a model says about them; then keys and statistics are published.
    `cut`: what an input loses where it does not fit, "" where that is an error. `parts`: what an input is made of, by name, where
    that is the same for all of them.
    """

    name: str
    kind: str = "text"
    labels: Sequence[str] = ()
    answers: Sequence[str] = ()
    attribution: ClassVar[str] = ""
    objective: ClassVar[str] = "lora_repro.objectives.completion.Completion"
    publishes_outputs: ClassVar[bool] = True
    cut: ClassVar[str] = ""
    parts: ClassVar[tuple[str, ...]] = ()

    @property
    @abc.abstractmethod
    def directions(self) -> dict[str, int]: ...

    @property
    def metric(self) -> str:
        return next(iter(self.directions))

    @abc.abstractmethod
    def load(self, folder: str | None) -> Splits:
        """Read the splits; `folder` is where local files lie. Raises UserError on any bad input."""

    def ready(self, folder: str | None) -> None:  # noqa: B027  (a task without files has nothing to look for)
        """Raise UserError where files that `load` would read are not there. Reads none of them."""

    def ask(self, text: str) -> Example:
        """The example that a user's own text asks. Raises UserError where it is no input of this task."""
        return Example(example_key(text), text, "")

    def parted(self, text: str) -> list[tuple[int, int]]:
        """(first character, index in `parts`) of each part of an input, in its order. Raises UserError where it is no input."""
        return []

    def shorter(self, example: Example) -> Iterator[Example]:
        """The example with ever less of its input, by the rule of `cut`; its key and texts stay. Nothing by default."""
        return iter(())

    def fit(self, example: Example, fits: Callable[[Example], bool]) -> Example:
        """The example itself, or the first of `shorter` that fits (one knows tokens). What was cut is not the same object.

        Raises UserError where none fits.
        """
        if fits(example):
            return example
        shortened = next((shorter for shorter in self.shorter(example) if fits(shorter)), None)
        if shortened is None:
            what = f"only {self.cut} may be cut" if self.cut else "nothing of it may be cut"
            raise UserError(f"input {example.key} is too long, and {what}: raise data.max_length")
        return shortened

    def remark(self, example: Example, output: str) -> str:
        """What can be said of one output without a reference; mostly nothing."""
        return ""

    @abc.abstractmethod
    def score(self, outputs: list[str], examples: list[Example]) -> Scores:
        """Score one output per example, in order, against the example's references."""

    def quality(self, answers: list[str], gold: list[str]) -> float:
        """`metric` of answers that are classes or numbers; NaN where it is undefined. Raises UserError where they are texts."""
        raise UserError("a text has no single gold answer to select by: set train.select_by=loss")

    def human(self, examples: list[Example]) -> tuple[list[str], list[Example]]:
        """Each input's last reference as an output, and the examples with the others as references.

        Inputs with fewer than two references are left out. Raises UserError where the task has one answer an input.
        """
        raise UserError("this task has one answer per input: there are no human texts to score (method=human)")

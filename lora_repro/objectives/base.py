"""The interface of an objective. A new kind of task is one new file beside this one.

A task names its objective once (`AbstractTask.objective`); no other code asks what kind of task it is.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Protocol, Self

import torch

from lora_repro.data import Batch, Encoded

if TYPE_CHECKING:
    from lora_repro.backbone.model import Backbone
    from lora_repro.backbone.spec import BackboneSpec
    from lora_repro.tasks.base import AbstractTask, Example


class Decoder(Protocol):
    """What a cost forecast reads of a decoder: inputs per batch, beams per input, and the most tokens that it may write."""

    @property
    def batch_size(self) -> int: ...
    @property
    def beam(self) -> int: ...
    @property
    def max_new_tokens(self) -> int: ...


@dataclass(frozen=True)
class Objective(abc.ABC):
    """One kind of task. `answering`: the progress bar's word for it. `freezes`: whether `frozen` saves calls of the body."""

    answering: ClassVar[str] = "answer"
    freezes: ClassVar[bool] = False

    @classmethod
    @abc.abstractmethod
    def of(cls, task: AbstractTask, decoder: object, select_by: str) -> Self:
        """The objective of this task. Raises UserError if it cannot answer with this decoder or select by `select_by`."""

    @property
    @abc.abstractmethod
    def decoding(self) -> Decoder:
        """The decoder that answers."""

    @abc.abstractmethod
    def fit(self, spec: BackboneSpec) -> BackboneSpec:
        """The backbone with the head that this task needs. Raises UserError if its yaml or the command line asks for another."""

    @abc.abstractmethod
    def encode(
        self, examples: Sequence[Example], backbone: Backbone, slots: tuple[int, int], max_length: int
    ) -> tuple[list[Encoded], int]:
        """Rows to train on, in order, and how many of them were cut to `max_length`. Uses only the backbone's tokenizer."""

    @abc.abstractmethod
    def ask(
        self,
        examples: Sequence[Example],
        backbone: Backbone,
        slots: tuple[int, int],
        max_length: int,
        shots: Sequence[Example] = (),
    ) -> tuple[list[Encoded], int]:
        """As `encode`, for inputs to answer. `shots`: solved examples to put before each input; UserError if it takes none."""

    @abc.abstractmethod
    def count(self, row: Encoded) -> int:
        """Number of loss terms of a row; the loss of a batch is the mean over the terms of all rows."""

    @abc.abstractmethod
    def summed(self, backbone: Backbone, batch: Batch, label_smoothing: float) -> torch.Tensor:
        """Sum of the loss terms of a batch."""

    @abc.abstractmethod
    def validate(self, backbone: Backbone, rows: Sequence[Encoded], batch_size: int) -> dict[str, float]:
        """`dev_loss`, the unsmoothed mean loss, and whatever else is worth logging."""

    def figure(self, validation: dict[str, float]) -> float:
        """The number that the best checkpoint minimises."""
        return validation["dev_loss"]

    def added(self, backbone: Backbone) -> int:
        """How many positions the longest answer takes after its input; 0 if nothing is written."""
        return 0

    def reach(self, backbone: Backbone) -> int | None:
        """How many positions, a row's with its answer's, may be answered; None if only the backbone sets a limit."""
        return None

    @abc.abstractmethod
    def answer(
        self, backbone: Backbone, rows: Sequence[Encoded], progress: Callable[[int], None]
    ) -> tuple[list[str], int]:
        """One output per row, in order, and the number of model calls. `progress` gets the number of newly finished rows."""

    def plain(self, texts: Sequence[str], backbone: Backbone, slots: tuple[int, int], outside: int = 0) -> list[Encoded]:
        """Rows of plain texts, without prompts, to be validated; none if the model writes no text.

        outside: positions that the method takes up outside a row.
        """
        return []

    def frozen(self, backbone: Backbone, rows: Sequence[Encoded], batch_size: int, passes: float) -> Sequence[Encoded]:
        """The rows with the frozen body's features, if the loss needs no more of the body and `passes` over the rows repay it."""
        return rows


def position_keywords(backbone: Backbone, batch: Batch) -> dict[str, torch.Tensor]:
    """The keywords besides ids and mask, which methods in the decoder consume: slots, and segments if the backbone reads them."""
    keywords = {"virtual": batch.virtual} if batch.slots else {}
    return keywords | ({"segments": batch.segments} if backbone.reads_segments else {})

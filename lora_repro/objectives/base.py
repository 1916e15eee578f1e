"""What the rest of the project asks of an objective. A new kind of task is one file beside this, which its task names.

The task says which one (`AbstractTask.objective`), once; nobody asks what kind of task it is.
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
    """What a forecast reads of how a model answers: inputs at a time, beams of each, tokens that it may write."""

    @property
    def batch_size(self) -> int: ...
    @property
    def beam(self) -> int: ...
    @property
    def max_new_tokens(self) -> int: ...


@dataclass(frozen=True)
class Objective(abc.ABC):
    """One kind of task, whole. `answering`: what a progress bar calls it. `freezes`: whether `frozen` spares the body's calls."""

    answering: ClassVar[str] = "answer"
    freezes: ClassVar[bool] = False

    @classmethod
    @abc.abstractmethod
    def of(cls, task: AbstractTask, decoder: object, select_by: str) -> Self:
        """The objective of this task. Raises UserError where it cannot answer by that decoder, or choose by that figure."""

    @property
    @abc.abstractmethod
    def decoding(self) -> Decoder:
        """How it answers."""

    @abc.abstractmethod
    def fit(self, spec: BackboneSpec) -> BackboneSpec:
        """The backbone with the head that is needed. Raises UserError where its yaml or the command line says otherwise."""

    @abc.abstractmethod
    def encode(
        self, examples: Sequence[Example], backbone: Backbone, slots: tuple[int, int], max_length: int
    ) -> tuple[list[Encoded], int]:
        """Rows to train on, in order, and how many of them had to be cut to `max_length`. Only its tokenizer is used."""

    @abc.abstractmethod
    def ask(
        self,
        examples: Sequence[Example],
        backbone: Backbone,
        slots: tuple[int, int],
        max_length: int,
        shots: Sequence[Example] = (),
    ) -> tuple[list[Encoded], int]:
        """The same of inputs to answer. `shots`: examples that stand before each with their answers; UserError if none can."""

    @abc.abstractmethod
    def count(self, row: Encoded) -> int:
        """Loss terms of a row: the loss of a batch is the mean over all of them."""

    @abc.abstractmethod
    def features(self, backbone: Backbone, batch: Batch) -> torch.Tensor:
        """What the loss needs of the body, a vector (d) for each of a row's loss terms, row by row: `Batch.features`."""

    @abc.abstractmethod
    def summed(self, backbone: Backbone, batch: Batch, label_smoothing: float) -> torch.Tensor:
        """Sum of the loss over a batch."""

    @abc.abstractmethod
    def validate(self, backbone: Backbone, rows: Sequence[Encoded], batch_size: int) -> dict[str, float]:
        """`dev_loss`, the unsmoothed mean loss, and whatever else is worth logging."""

    def figure(self, validation: dict[str, float]) -> float:
        """What the best checkpoint has least of."""
        return validation["dev_loss"]

    def added(self, backbone: Backbone) -> int:
        """How many positions the longest answer takes after its input; none where nothing is written."""
        return 0

    @abc.abstractmethod
    def answer(
        self, backbone: Backbone, rows: Sequence[Encoded], progress: Callable[[int], None]
    ) -> tuple[list[str], int]:
        """One output a row, in order, and the model calls that it took. `progress` is told of rows as they are finished."""

    def plain(self, texts: Sequence[str], backbone: Backbone, slots: tuple[int, int], outside: int = 0) -> list[Encoded]:
        """Rows of texts as they stand, no answers to anything, to be validated; none where the model writes no text.

        outside: positions that the method takes beside a row.
        """
        return []

    def frozen(self, backbone: Backbone, rows: Sequence[Encoded], batch_size: int, passes: float) -> Sequence[Encoded]:
        """The rows with what a frozen body says of each, where the loss needs no more of it and `passes` over them pay for it."""
        return rows


def said_of_positions(backbone: Backbone, batch: Batch) -> dict[str, torch.Tensor]:
    """The keywords beside ids and mask that what stands in the decoder takes out again: slots, and segments if it reads them."""
    said = {"virtual": batch.virtual} if batch.slots else {}
    return said | ({"segments": batch.segments} if backbone.reads_segments else {})

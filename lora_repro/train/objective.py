"""The training objective: label-smoothed cross-entropy on completion tokens and EOS (paper, Table 11; Section 2).

For logits z over V words and target y, with smoothing eps:  (1 - eps) * -log p(y) + eps * (1/V) * sum_v -log p(v).
The smoothing mass is spread over the full vocabulary, target included, as in the authors' code.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch.nn import functional as F

from lora_repro.backbone.model import Backbone
from lora_repro.data import Batch, Encoded, collate, encode, evaluation_batches

if TYPE_CHECKING:
    from lora_repro.tasks.base import Example


def summed_loss(backbone: Backbone, batch: Batch, label_smoothing: float) -> tuple[torch.Tensor, int]:
    """Sum of the loss over scored positions, and their number.

    Only scored positions (about 40 % of an E2E sequence) go through the LM head, which is a fifth of SmolLM2's FLOPs and
    nearly all of its activation memory: N x 49,152 floats.
    """
    scored = batch.targets != -100  # (B, T)
    virtual = {"virtual": batch.virtual} if bool((batch.virtual >= 0).any()) else {}
    hidden = backbone.decoder(
        input_ids=batch.ids, attention_mask=batch.attention, use_cache=False, **virtual
    ).last_hidden_state  # (B, T, d)
    logits = backbone.head.module(hidden[scored])  # (N, V)
    loss = F.cross_entropy(
        logits.float(), batch.targets[scored], label_smoothing=label_smoothing, reduction="sum"
    )
    return loss, int(scored.sum())


@torch.no_grad()
def validation_loss(backbone: Backbone, batches: Iterable[Batch], device: torch.device) -> float:
    """Mean negative log-likelihood per scored token, nats, without smoothing.

    A mean over all tokens; the authors average the per-batch means, which weighs short batches more.
    """
    total, count = 0.0, 0
    for batch in batches:
        loss, n = summed_loss(backbone, batch.to(device), 0.0)
        total, count = total + float(loss), count + n
    return total / count


class Objective(Protocol):
    """What the training loop asks of a kind of task. Rows and batches are its own; the loop only hands them back."""

    def encode(
        self, examples: Sequence[Example], backbone: Backbone, slots: tuple[int, int], max_length: int
    ) -> tuple[list[Any], int]:
        """Rows in order, and how many of them had to be cut to `max_length`."""

    def count(self, row: Any) -> int:
        """Loss terms of a row: the loss of a batch is the mean over all of them."""

    def collate(self, rows: Sequence[Any], pad: int) -> Any:
        """A batch with `tokens` and `to(device)`."""

    def summed(self, backbone: Backbone, batch: Any, label_smoothing: float) -> torch.Tensor:
        """Sum of the loss over a batch."""

    def validate(self, backbone: Backbone, rows: Sequence[Any], batch_size: int) -> dict[str, float]:
        """`dev_loss`, the unsmoothed mean loss, and whatever else is worth logging."""

    def figure(self, validation: dict[str, float]) -> float:
        """What the best checkpoint has least of."""


@dataclass(frozen=True)
class Completion:
    """The objective above: a text after a prompt, chosen by its validation loss."""

    def encode(
        self, examples: Sequence[Example], backbone: Backbone, slots: tuple[int, int], max_length: int
    ) -> tuple[list[Encoded], int]:
        return encode(examples, backbone, slots, max_length), 0

    def count(self, row: Encoded) -> int:
        return len(row.ids) - row.prompt_length

    def collate(self, rows: Sequence[Encoded], pad: int) -> Batch:
        return collate(rows, pad)

    def summed(self, backbone: Backbone, batch: Batch, label_smoothing: float) -> torch.Tensor:
        return summed_loss(backbone, batch, label_smoothing)[0]

    def validate(self, backbone: Backbone, rows: Sequence[Encoded], batch_size: int) -> dict[str, float]:
        device = backbone.embedding.weight.device
        return {
            "dev_loss": validation_loss(backbone, evaluation_batches(rows, batch_size, backbone.pad), device)
        }

    def figure(self, validation: dict[str, float]) -> float:
        return validation["dev_loss"]

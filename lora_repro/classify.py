"""From a sentence's hidden states to a class or a number: training objective, validation and answers.

Classes: cross-entropy over the labels (label-smoothed if asked). A number: squared error of the one output, as in the
authors' GLUE code. The head of the task is new, so it is drawn from the run's seed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn import functional as F

from lora_repro.backbone.model import Backbone
from lora_repro.errors import UserError
from lora_repro.sentences import SentenceBatch, SentenceRow, collate_sentences, encode_sentence

if TYPE_CHECKING:
    from lora_repro.tasks.base import Example

STD = 0.02  # of a new head's weights: what BERT, RoBERTa, DeBERTa and GPT-2 name as `initializer_range`


def reset_head(backbone: Backbone) -> None:
    """Draw the task's new head from torch's global generator: weights N(0, 0.02^2), biases zero."""
    for module in backbone.classifier:
        for part in module.modules():
            if isinstance(part, nn.Linear):
                nn.init.normal_(part.weight, 0.0, STD)
                if part.bias is not None:
                    nn.init.zeros_(part.bias)


def features_of(backbone: Backbone, batch: SentenceBatch) -> torch.Tensor:
    """(B, d): what the body says of each row, as `backbone.pooling` reads it.

    `first`: the first position, through the body's pretrained pooler if it has one; `last`: the last real position, which
    in a decoder is the only one that has seen the whole row; `mean`: over all real positions.
    """
    extra: dict[str, Any] = {"virtual": batch.virtual} if bool((batch.virtual >= 0).any()) else {}
    if getattr(backbone.model.config, "type_vocab_size", 0) == 2:
        extra["token_type_ids"] = batch.segments
    if backbone.table.pooling == "last":
        extra["use_cache"] = False
    out = backbone.decoder(input_ids=batch.ids, attention_mask=batch.attention, **extra)
    hidden: torch.Tensor = out.last_hidden_state  # (B, T, d)
    if backbone.pooling == "mean":
        real = batch.attention.unsqueeze(-1).to(hidden.dtype)  # (B, T, 1)
        return (hidden * real).sum(1) / real.sum(1)
    if backbone.pooling == "last":
        return hidden[torch.arange(len(hidden), device=hidden.device), batch.lengths - 1]
    pooled: torch.Tensor | None = getattr(out, "pooler_output", None)
    return hidden[:, 0] if pooled is None else pooled


def logits_of(backbone: Backbone, features: torch.Tensor) -> torch.Tensor:
    """(B, n_labels) class scores, or (B, 1) a number, from features (B, d)."""
    x = features.unsqueeze(1) if backbone.table.picks_first else features
    for module in backbone.classifier:
        x = module(x)
    return x


@dataclass(frozen=True)
class Classification:
    """`labels`: the classes, in the order of the head's outputs; empty for a number.

    `score(answers, gold)`, higher is better, chooses the checkpoint instead of the validation loss where it is given.
    """

    labels: tuple[str, ...]
    score: Callable[[list[str], list[str]], float] | None = None

    @property
    def regression(self) -> bool:
        return not self.labels

    def encode(
        self, examples: Sequence[Example], backbone: Backbone, slots: tuple[int, int], max_length: int
    ) -> tuple[list[SentenceRow], int]:
        """Rows in order, and how many of them were cut to `max_length`. An example to answer has label 0."""
        config: Any = backbone.model.config
        limit = getattr(config, "max_position_embeddings", None)
        if limit is not None and backbone.architecture == "roberta":
            limit -= config.pad_token_id + 1  # its positions start after the padding's
        if limit is not None and max_length > limit:
            raise UserError(
                f"data.max_length={max_length}, but this backbone has {limit} positions; lower it"
            )
        found = [encode_sentence(e, self._label(e.target), backbone, slots, max_length) for e in examples]
        return [row for row, _ in found], sum(cut > 0 for _, cut in found)

    def _label(self, text: str) -> float:
        if not text:
            return 0.0
        return float(text) if self.regression else float(self.labels.index(text))

    def count(self, row: SentenceRow) -> int:
        """Loss terms of a row."""
        return 1

    def collate(self, rows: Sequence[SentenceRow], pad: int) -> SentenceBatch:
        return collate_sentences(rows, pad, self.regression)

    def summed(self, backbone: Backbone, batch: SentenceBatch, label_smoothing: float) -> torch.Tensor:
        """Sum of the loss over the rows of a batch."""
        return self._loss(self._logits(backbone, batch), batch.labels, label_smoothing)

    def _logits(self, backbone: Backbone, batch: SentenceBatch) -> torch.Tensor:
        features = features_of(backbone, batch) if batch.features is None else batch.features
        return logits_of(backbone, features).float()

    def _loss(self, logits: torch.Tensor, labels: torch.Tensor, label_smoothing: float) -> torch.Tensor:
        if self.regression:
            return F.mse_loss(logits[:, 0], labels, reduction="sum")
        return F.cross_entropy(logits, labels, label_smoothing=label_smoothing, reduction="sum")

    @torch.no_grad()
    def validate(self, backbone: Backbone, rows: Sequence[SentenceRow], batch_size: int) -> dict[str, float]:
        """`dev_loss`: mean loss a row, without smoothing; `dev_score` where there is a score."""
        total, answers = 0.0, [""] * len(rows)
        for order, batch in self._batches(backbone, rows, batch_size):
            logits = self._logits(backbone, batch)
            total += float(self._loss(logits, batch.labels, 0.0))
            for index, text in zip(order, self._texts(logits), strict=True):
                answers[index] = text
        found = {"dev_loss": total / len(rows)}
        if self.score is not None:
            gold = [f"{row.label}" if self.regression else self.labels[int(row.label)] for row in rows]
            found["dev_score"] = self.score(answers, gold)
        return found

    def figure(self, validation: dict[str, float]) -> float:
        """What the best checkpoint has least of. An undefined score (constant answers) is the worst there is."""
        if self.score is None:
            return validation["dev_loss"]
        score = validation["dev_score"]
        return -score if score == score else float("inf")

    @torch.no_grad()
    def answers(
        self,
        backbone: Backbone,
        rows: Sequence[SentenceRow],
        batch_size: int,
        progress: Callable[[int], None],
    ) -> tuple[list[str], int]:
        """The class (or the number, four decimals) of each row in order, and the forward calls it took."""
        found, calls = [""] * len(rows), 0
        for order, batch in self._batches(backbone, rows, batch_size):
            for index, text in zip(order, self._texts(self._logits(backbone, batch)), strict=True):
                found[index] = text
            calls += 1
            progress(len(order))
        return found, calls

    def _texts(self, logits: torch.Tensor) -> list[str]:
        if self.regression:
            return [f"{value:.4f}" for value in logits[:, 0].tolist()]
        return [self.labels[index] for index in logits.argmax(dim=1).tolist()]

    @torch.no_grad()
    def cached(self, backbone: Backbone, rows: Sequence[SentenceRow], batch_size: int) -> list[SentenceRow]:
        """The rows with the features of the frozen body, which then runs once instead of once an epoch.

        Equal to running it every time where the body has no dropout (backbone.dropout 0) and nothing in it is trained;
        padding to other lengths moves the last bits. With dropout this is the usual feature-based transfer: one noiseless
        pass.
        """
        body_was_training = backbone.model.training
        backbone.model.eval()
        found = list(rows)
        for order, batch in self._batches(backbone, rows, batch_size):
            for index, vector in zip(order, features_of(backbone, batch).float().cpu(), strict=True):
                found[index] = replace(rows[index], features=vector)
        backbone.model.train(body_was_training)
        return found

    def _batches(
        self, backbone: Backbone, rows: Sequence[SentenceRow], batch_size: int
    ) -> Iterator[tuple[list[int], SentenceBatch]]:
        """(indices, batch) of every row once, sorted by length so that little is padding."""
        device = backbone.embedding.weight.device
        order = sorted(range(len(rows)), key=lambda index: len(rows[index].ids))
        for start in range(0, len(order), batch_size):
            chosen = order[start : start + batch_size]
            yield chosen, self.collate([rows[index] for index in chosen], backbone.pad).to(device)


@dataclass(frozen=True)
class Labeller:
    """How a trained classifier answers: `batch_size` changes speed and memory only."""

    batch_size: int = 64

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise UserError(f"decode.batch_size must be at least 1, not {self.batch_size}")

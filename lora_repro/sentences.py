"""One sentence or a pair to token ids, and rows to padded batches, for tasks whose answer is a class or a number.

    [cls] [prefix slots] first ([separator] second) [infix slots] eos

is BERT's "[CLS] A [SEP] B [SEP]" and RoBERTa's "<s> A </s></s> B </s>"; a decoder has no cls and answers at eos. Masks come
from lengths, never from `ids != pad`. A slot's placeholder is eos and not pad: RoBERTa counts positions over real tokens only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from lora_repro.errors import UserError

if TYPE_CHECKING:
    from lora_repro.backbone.model import Backbone
    from lora_repro.tasks.base import Example


@dataclass(frozen=True)
class SentenceRow:
    """`ids`, `virtual` (slot index, or -1 at a real token) and `segments` (1 from the second sentence on), of equal length.

    `label`: index of the class, or the number itself. `features` (d): what a frozen body says of the row, once computed.
    """

    ids: list[int]
    virtual: list[int]
    segments: list[int]
    label: float
    features: torch.Tensor | None = None


@dataclass(frozen=True)
class SentenceBatch:
    """Right-padded ids, attention (1 at real positions), virtual, segments, all (B, T); lengths, labels (B); features (B, d)."""

    ids: torch.Tensor
    attention: torch.Tensor
    virtual: torch.Tensor
    segments: torch.Tensor
    lengths: torch.Tensor
    labels: torch.Tensor
    features: torch.Tensor | None

    def to(self, device: torch.device) -> SentenceBatch:
        features = None if self.features is None else self.features.to(device)
        return SentenceBatch(
            self.ids.to(device),
            self.attention.to(device),
            self.virtual.to(device),
            self.segments.to(device),
            self.lengths.to(device),
            self.labels.to(device),
            features,
        )

    @property
    def tokens(self) -> int:
        """Positions computed, padding included: what a step costs."""
        return self.ids.numel()


def encode_sentence(
    example: Example, label: float, backbone: Backbone, slots: tuple[int, int], max_length: int
) -> tuple[SentenceRow, int]:
    """The row of one example and how many tokens were cut: from the longer sentence first, one at a time, until all fits."""
    prefix, infix = slots
    first: list[int] = backbone.tokenizer.encode(example.input, add_special_tokens=False)
    second: list[int] = []
    if example.second is not None:
        second = backbone.tokenizer.encode(example.second, add_special_tokens=False)
    between = backbone.separator if example.second is not None else []
    room = max_length - len(backbone.cls) - prefix - infix - len(between) - 1
    if room < 2:
        raise UserError(
            f"data.max_length={max_length} leaves no room for text beside {prefix + infix} virtual tokens; raise it"
        )
    cut = 0
    while len(first) + len(second) > room:
        (first if len(first) > len(second) else second).pop()
        cut += 1
    filler = backbone.eos
    opening = [*backbone.cls, *[filler] * prefix, *first, *between]
    ids = [*opening, *second, *[filler] * infix, backbone.eos]
    virtual = [-1] * len(ids)
    virtual[len(backbone.cls) : len(backbone.cls) + prefix] = range(prefix)
    virtual[len(ids) - 1 - infix : len(ids) - 1] = range(prefix, prefix + infix)
    segments = [0] * len(opening) + [int(example.second is not None)] * (len(ids) - len(opening))
    return SentenceRow(ids, virtual, segments, label), cut


def collate_sentences(rows: Sequence[SentenceRow], pad: int, regression: bool) -> SentenceBatch:
    """Pad to the longest row."""
    longest = max(len(row.ids) for row in rows)
    shape = (len(rows), longest)
    ids, virtual = torch.full(shape, pad), torch.full(shape, -1)
    attention, segments = torch.zeros(shape, dtype=torch.long), torch.zeros(shape, dtype=torch.long)
    for b, row in enumerate(rows):
        n = len(row.ids)
        ids[b, :n] = torch.tensor(row.ids)
        virtual[b, :n] = torch.tensor(row.virtual)
        segments[b, :n] = torch.tensor(row.segments)
        attention[b, :n] = 1
    labels = torch.tensor([row.label for row in rows], dtype=torch.float32 if regression else torch.long)
    known = [row.features for row in rows if row.features is not None]
    features = torch.stack(known) if len(known) == len(rows) else None
    return SentenceBatch(ids, attention, virtual, segments, attention.sum(1), labels, features)

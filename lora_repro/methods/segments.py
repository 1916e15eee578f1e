"""Segment embeddings (Versatile Language Model, Lin et al. 2020, arXiv 2004.03829), which go with AdapterL there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, final

import torch
from torch import nn

from lora_repro.methods._slots import Positions, segments_of
from lora_repro.methods.base import AbstractMethod, Shape, Trainable, named, require, require_whole

if TYPE_CHECKING:
    from lora_repro.backbone.model import Backbone


class SegmentRows(nn.Module):
    """rows (n, d): row s is added to the embedding of every token of segment s."""

    def __init__(self, n: int, width: int, std: float, positions: Positions, device: torch.device):
        super().__init__()
        self.rows = nn.Parameter(torch.empty(n, width, device=device).normal_(0.0, std))
        self.positions = positions

    def add(self, table: nn.Module, args: object, output: torch.Tensor) -> torch.Tensor:
        """Forward hook of the table of token embeddings; a call that tells no segments is all of the first one."""
        segments = self.positions.segments
        rows = self.rows[0] if segments is None else nn.functional.embedding(segments, self.rows)
        return output + rows.to(output.dtype)


@final
@dataclass(frozen=True, kw_only=True)
class Segments(AbstractMethod):
    """A trained row for each of `n` parts of a sequence, summed with the token embeddings.

    Part 0 is the prompt and 1 the completion; of a pair of sentences, the first and the second. The source keeps these rows in
    the table of token embeddings and gives their ids as token types, which is the same sum; it has a row for each attribute of
    an E2E input, where this has one for all of them. Rows start N(0, std^2). Count: n d.
    """

    name: str = "segments"
    n: int = 2
    std: float = 0.02

    def __post_init__(self) -> None:
        require_whole("segments n", self.n, 2)
        require(self.std >= 0, f"segments std must not be negative: {self.std}")

    def insert(self, backbone: Backbone) -> Trainable:
        made = SegmentRows(self.n, backbone.embedding.weight.shape[1], self.std, segments_of(backbone), backbone.device)
        backbone.decoder.add_module("segments", made)
        backbone.embedding.register_forward_hook(made.add)
        return Trainable(method=named(backbone.model, [made.rows]))

    def count(self, shape: Shape) -> int:
        return self.n * shape.hidden_size

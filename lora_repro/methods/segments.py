"""Segment embeddings (Versatile Language Model, Lin et al. 2020, arXiv 2004.03829), which the source uses with AdapterL."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, final

import torch
from torch import nn

from lora_repro.config.validation import Range
from lora_repro.methods._slots import Positions, segments_of
from lora_repro.methods.base import AbstractMethod, Shape, Trainable, named

if TYPE_CHECKING:
    from lora_repro.backbone.model import Backbone


class SegmentRows(nn.Module):
    """rows (n, d): row s is added to the embedding of every token of segment s.

    With `parts` row 0 serves segments 0 and 1 (the completion and what leads to it), row 1 + k serves part k (segment 2 + k).
    """

    def __init__(self, n: int, width: int, std: float, parts: bool, positions: Positions, device: torch.device):
        super().__init__()
        self.rows = nn.Parameter(torch.empty(n, width, device=device).normal_(0.0, std))
        self.parts, self.positions = parts, positions

    def add(self, table: nn.Module, args: object, output: torch.Tensor) -> torch.Tensor:
        """Forward hook of the token embedding table; in a call without segments every token gets row 0."""
        segments = self.positions.segments
        if segments is not None and self.parts:
            segments = (segments - 1).clamp(min=0)
        rows = self.rows[0] if segments is None else nn.functional.embedding(segments, self.rows)
        return output + rows.to(output.dtype)


@final
@dataclass(frozen=True, kw_only=True)
class Segments(AbstractMethod):
    """A trained row for each of `n` segments of a sequence, added to the token embeddings.

    Segments 0 and 1 are prompt and completion, or the two sentences of a pair. With `parts` the segments are the completion (with
    the separator before it) and each part of the input that the task names: in the source one for each of E2E's 8 attributes, so
    n is 9. The source keeps these rows in the token embedding table and passes their ids as token types, which gives the same
    sum. Rows start as N(0, std^2). Count: n d.
    """

    name: str = "segments"
    n: Annotated[int, Range(2)] = 2
    std: Annotated[float, Range(0)] = 0.02
    parts: bool = False

    def insert(self, backbone: Backbone) -> Trainable:
        positions = segments_of(backbone, self.n - 1 if self.parts else 0)
        width = backbone.embedding.weight.shape[1]
        segments = SegmentRows(self.n, width, self.std, self.parts, positions, backbone.device)
        backbone.decoder.add_module("segments", segments)
        backbone.embedding.register_forward_hook(segments.add)
        return Trainable(method=named(backbone.model, [segments.rows]))

    def count(self, shape: Shape) -> int:
        return self.n * shape.hidden_size

"""The layer that LoRA puts in a projection's place: base(x) plus a scaled low-rank update."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import nn

from lora_repro.methods.base import matched, require, weight_of


class LoraPart(nn.Module):
    """Update of output columns [start, start + size): A (r, d_in), B (size, r), float32, B zero at first."""

    def __init__(
        self, start: int, size: int, d_in: int, rank: int, init: str, std: float, device: torch.device
    ):
        super().__init__()
        self.start, self.size = start, size
        self.A = nn.Parameter(torch.empty(rank, d_in, device=device))
        self.B = nn.Parameter(torch.zeros(size, rank, device=device))
        with torch.no_grad():
            if init == "kaiming":  # what the released code's kaiming_uniform_(a=sqrt(5)) comes to
                self.A.uniform_(-1 / math.sqrt(d_in), 1 / math.sqrt(d_in))
            else:
                self.A.normal_(0.0, std)


class LoraLinear(nn.Module):
    """base(x) + scaling * B A dropout(x), added per part into that part's output columns; x (..., d_in).

    `base` is an nn.Linear (weight (out, in)) or a transformers Conv1D (weight (in, out)), fused or not. The
    parts share one dropout draw, as the released code's fused layer does. While merged, forward is base(x)
    alone and A, B take no part. merge and unmerge are explicit: train() and eval() never call them.
    """

    def __init__(self, base: nn.Module, parts: dict[str, LoraPart], scaling: float, dropout: float = 0.0):
        super().__init__()
        self.base = base
        self.parts = nn.ModuleDict(parts)
        self.scaling = scaling
        self.dropout = nn.Dropout(dropout)
        self.original: torch.Tensor | None = None  # the base weight from before merge(); None = not merged

    @property
    def merged(self) -> bool:
        return self.original is not None

    def updates(self) -> list[LoraPart]:
        """The parts in the order of their columns."""
        parts = [part for part in self.parts.values() if isinstance(part, LoraPart)]
        return sorted(parts, key=lambda part: part.start)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.base(x)  # (..., out)
        if self.merged:
            return out
        x = self.dropout(x)
        pieces, end = [], 0
        for part in self.updates():
            if part.start > end:  # columns without an update, such as the keys between query and value
                pieces.append(out.new_zeros(()).expand(*out.shape[:-1], part.start - end))
            low = F.linear(matched(x, part.A.dtype), part.A) * self.scaling  # (..., r): scaled while narrow
            pieces.append(F.linear(low, part.B).to(out.dtype))  # (..., size)
            end = part.start + part.size
        if end < out.shape[-1]:
            pieces.append(out.new_zeros(()).expand(*out.shape[:-1], out.shape[-1] - end))
        return out + (pieces[0] if len(pieces) == 1 else torch.cat(pieces, dim=-1))

    @torch.no_grad()
    def delta(self) -> torch.Tensor:
        """scaling * B A of all parts as an nn.Linear weight (out, d_in), float32; zero elsewhere."""
        delta = torch.zeros_like(weight_of(self.base), dtype=torch.float32)
        for part in self.updates():
            delta[part.start : part.start + part.size] = self.scaling * (part.B.float() @ part.A.float())
        return delta

    @torch.no_grad()
    def merge(self) -> None:
        """W <- W + scaling * B A, added in float32, once at most. Raises UserError if it is not finite."""
        if self.merged:
            return
        delta, weight = self.delta(), weight_of(self.base)
        finite = bool(torch.isfinite(delta).all())
        require(finite, "cannot merge: the LoRA update is not finite (the run diverged); lower train.lr")
        self.original = weight.detach().clone()  # kept, for W + D - D is not W in floating point
        weight.copy_(weight.float() + delta)

    @torch.no_grad()
    def unmerge(self) -> None:
        """Put back the base weight bit for bit; a second call changes nothing."""
        if self.original is not None:
            weight_of(self.base).copy_(self.original)
            self.original = None

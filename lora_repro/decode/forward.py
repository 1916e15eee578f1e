"""The model calls of a beam search: prompts once, then one token for each live beam."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from lora_repro.backbone.addressed import attending, cache_name
from lora_repro.decode.cache import ATTENTION, BeamTree
from lora_repro.decode.selection import Beams

if TYPE_CHECKING:
    from lora_repro.data import Encoded


class BeamForward:
    """The model calls of one batch: left-padded prompts once, then one token for each live beam.

    `segments`: pass the segment of each position to the model; generated tokens have the segment after their prompt's last.
    """

    def __init__(self, model: nn.Module, prompts: Sequence[Encoded], pad: int, beam: int, segments: bool = False) -> None:
        self.model, self.prompts, self.pad, self.beam, self.segments = model, prompts, pad, beam, segments
        self.device = next(model.parameters()).device
        self.lengths = torch.tensor([len(prompt.ids) for prompt in prompts])
        self.mask = self._left_padded([[1] * len(prompt.ids) for prompt in prompts], 0)  # (B, P)
        self.calls = 0
        self.cache: Any = None
        self.cache_name = cache_name(model)

    def _left_padded(self, rows: list[list[int]], fill: int) -> Tensor:
        width = max(map(len, rows))
        return torch.tensor([[fill] * (width - len(row)) + row for row in rows])

    def _call(self, ids: Tensor, positions: Tensor, **extra: Tensor) -> Tensor:
        """Next-token logits (rows, V) after `ids` (rows, t)."""
        self.calls += 1
        inputs = {"input_ids": ids, "position_ids": positions, **extra}
        # Slots are looked up on the host: on a GPU they would be copied back, and the host would wait for them.
        inputs = {name: value if name == "virtual" else value.to(self.device) for name, value in inputs.items()}
        out = self.model(**inputs, **{self.cache_name: self.cache}, use_cache=True, logits_to_keep=1)
        self.cache = getattr(out, self.cache_name)
        logits: Tensor = out.logits[:, -1]
        return logits

    def prompt(self) -> Tensor:
        ids = self._left_padded([prompt.ids for prompt in self.prompts], self.pad)
        # A left-padded row gets the position ids of an unpadded one; those of the padding are masked.
        positions = (self.mask.cumsum(1) - 1).clamp(min=0)
        virtual = self._left_padded([prompt.virtual for prompt in self.prompts], -1)
        extra = {"virtual": virtual} if bool((virtual >= 0).any()) else {}
        if self.segments:
            extra["segments"] = self._left_padded([prompt.segments for prompt in self.prompts], 0)
        logits = self._call(ids, positions, attention_mask=self.mask, **extra)
        self.cache = BeamTree(self.cache, self.mask, self.beam)
        return logits

    def step(self, beams: Beams) -> Tensor:
        """Run the last token of every beam; returns logits (R, V)."""
        self.cache.follow(beams)
        positions = (self.lengths[beams.owner] + beams.history.shape[1] - 1)[:, None]
        extra = {}
        if self.segments:
            after = torch.tensor([prompt.segments[-1] + 1 for prompt in self.prompts])
            extra["segments"] = after[beams.owner][:, None]
        with attending(self.model.config, ATTENTION):
            return self._call(beams.history[:, -1:], positions, **extra)

"""Trained keys and values before every sequence, in all layers (Li & Liang 2021, arXiv 2101.00190)."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers import DynamicCache

from lora_repro.backbone.addressed import cache_name


class KeyValuePrefix(nn.Module):
    """Keys and values of n prefix positions in L layers: (L, 2, n_kv_heads, n, head_dim).

    With `mid` they are MLP(E), E (n, d) ~ N(0, 1), d -> mid -> tanh -> 2 L kv_size: the source's
    re-parametrisation, which is dropped after training. If `initial` (n, 2 L kv_size) is given, they are
    trained directly instead.
    """

    def __init__(
        self,
        n: int,
        layers: int,
        heads: int,
        head_dim: int,
        width: int = 0,
        mid: int = 0,
        initial: torch.Tensor | None = None,
        device: torch.device | None = None,
    ):
        super().__init__()
        self.sizes = (n, layers, 2, heads, head_dim)
        out = layers * 2 * heads * head_dim
        self.mlp: nn.Module = nn.Identity()
        if initial is None:
            initial = torch.randn(n, width, device=device)
            self.mlp = nn.Sequential(nn.Linear(width, mid), nn.Tanh(), nn.Linear(mid, out)).to(device)
        self.embedding = nn.Parameter(initial.float())

    def forward(self) -> torch.Tensor:
        flat: torch.Tensor = self.mlp(self.embedding)  # (n, 2 L kv_size)
        return flat.view(self.sizes).permute(1, 2, 3, 0, 4)  # (L, 2, heads, n, head_dim)

    def prepend(
        self, decoder: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[Any, dict[str, Any]]:
        """Pre-hook of the decoder: puts the prefix into the cache and extends mask and positions to match.

        A sequence starts with a cache that holds the prefix. Later calls bring that cache back, so only the mask (B, T) or
        (B, 1, T, T) and position_ids (B, T), which the caller counts without the prefix, are extended. The caller's mask covers
        right or left padding; the prefix is never masked.
        """
        old, new = kwargs.pop("past_key_values", None), kwargs.pop("cache", None)
        cache = old if new is None else new
        tokens = args[0] if args else kwargs["input_ids"]  # (B, T)
        batch, n = tokens.shape[0], self.sizes[0]
        past = 0 if cache is None else int(cache.get_seq_length())
        mask = kwargs.get("attention_mask")
        if mask is None:
            mask = tokens.new_ones(batch, tokens.shape[1] + max(past - n, 0))
        kwargs["attention_mask"] = torch.cat([mask.new_ones(*mask.shape[:-1], n), mask], dim=-1)  # (..., n + T)
        if kwargs.get("position_ids") is not None:
            kwargs["position_ids"] = kwargs["position_ids"] + n
        if past == 0:
            cache = DynamicCache() if cache is None else cache
            for layer, (key, value) in enumerate(self()):
                cache.update(key.expand(batch, -1, -1, -1), value.expand(batch, -1, -1, -1), layer)
        return args, kwargs | {cache_name(decoder): cache}

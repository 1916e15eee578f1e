"""Keys and values of a beam search: each generated token is kept once, however many beams continue from it.

The beams of a prompt are the paths of a tree rooted at the prompt. The prompt's row of the cache holds its own columns, then one
column for each token on a live path; the column of a token that no live beam descends from is reused. So nothing is copied when a
beam continues a sibling's text, and all beams of a prompt attend in one matrix product:

    scores (k g, P + C) = q (k g, d) K^T        a prompt's k beams, the g query heads of a key head, C columns of tokens

with -inf where a beam does not descend from a column's token.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer

from lora_repro.decode.selection import Beams
from lora_repro.errors import UserError

GROWTH = 16  # columns added at a time
ATTENTION = "beam_tree"  # the name by which a model's configuration asks for `attend`
NARROW = "beam search cannot exceed the narrowest window of a model's attention: lower data.max_length or decode.max_new_tokens"


def window(config: Any) -> int | None:
    """The narrowest window of a model's attention, in positions: so far a search can go. None if all layers see all positions."""
    layers: list[Any] = DynamicCache(config=config).layers
    return min((layer.sliding_window for layer in layers if layer.is_sliding), default=None)


class _Layer(DynamicLayer):
    """Keys and values (B, heads, P + C, d) of one layer; initially those of the prompts."""

    keys: Tensor
    values: Tensor

    def __init__(self, tree: BeamTree, keys: Tensor, values: Tensor, dtype: torch.dtype) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.lazy_initialization(keys, values)
        self.tree = tree
        self.keys, self.values = keys.to(dtype), values.to(dtype)

    def keep(self, prompts: Tensor) -> None:
        """Drop all prompts but these."""
        self.keys, self.values = self.keys[prompts], self.values[prompts]

    def grow(self, columns: int) -> None:
        """Add columns of zeros: uninitialised memory may hold NaN, which a mask does not remove."""
        self.keys, self.values = (nn.functional.pad(tensor, (0, 0, 0, columns)) for tensor in (self.keys, self.values))

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> Any:
        """Write the new tokens' keys and values (R, heads, 1, d). Returns the layer itself, which `attend` reads."""
        for cache, new in ((self.keys, key_states), (self.values, value_states)):
            cache[self.tree.seat, :, self.tree.column] = new[:, :, 0].to(cache.dtype)
        return self, self


class BeamTree(Cache):
    """The model's cache during a beam search.

    `path` (R, C): which token columns each beam descends from. `prompts` (B,): the batch's prompts that still have a beam.
    `span`: how many positions the longest beam has, its prompt's included.
    For the beams of the last `follow`: `seat` (R,) and `column` (R,) are the row and column of each beam's new token, `slot` (R,)
    is its place among its prompt's beams, and `bias` (B, beam, P + C) is added to the attention scores, 0 or -inf.
    """

    def __init__(self, cache: Any, mask: Tensor, beam: int) -> None:
        """Take over what the prompt call left in `cache`; mask (B, P): the prompts' real positions.

        A prefix that a method put before them in `cache` is visible to every beam. Under autocast, keys and values are stored in
        the autocast type on a GPU, and in float32 on a CPU, which multiplies these small matrices as fast in float32.
        """
        keys = cache.layers[0].keys
        self.device, kind = keys.device, keys.device.type
        lower = torch.is_autocast_enabled(kind) and kind != "cpu"
        dtype = torch.get_autocast_dtype(kind) if lower else torch.float32
        super().__init__(layers=[_Layer(self, layer.keys, layer.values, dtype) for layer in cache.layers])
        self.beam, self.dtype = beam, dtype
        self.prompts = torch.arange(len(mask))
        self.shown = nn.functional.pad(mask.bool(), (keys.shape[2] - mask.shape[1], 0), value=True)
        self.path = torch.zeros(len(mask), 0, dtype=torch.bool)
        widths = [layer.keys.shape[2] for layer in cache.layers]
        self.span = self.before = max(mask.shape[1], *widths)
        self.cut = min(widths) < self.before  # by a window, of which transformers keeps no more columns than it needs

    def follow(self, beams: Beams) -> None:
        """Assign a column to the last token of each beam. `beams.parent`: each beam's row in the previous `follow`.

        Raises UserError if a prompt exceeds a window.
        """
        if self.cut:
            raise UserError(NARROW)
        self._leave(beams.owner.unique())  # type: ignore[no-untyped-call]
        seat, path = torch.searchsorted(self.prompts, beams.owner), self.path[beams.parent]
        used = torch.zeros(len(self.prompts), path.shape[1]).index_add_(0, seat, path.float()) > 0
        more = int(used.sum(1).max()) + self.beam - path.shape[1]
        if more > 0:
            more += -more % GROWTH
            path, used = nn.functional.pad(path, (0, more)), nn.functional.pad(used, (0, more))
            for layer in self._own():
                layer.grow(more)
        free = used.int().argsort(dim=1, stable=True)  # (B, C): columns on no path come first
        column = free[seat, beams.slot]
        path[torch.arange(len(path)), column] = True
        self.path, self.span = path, self.before + int(path.sum(1).max())
        bias = torch.zeros(len(self.prompts), self.beam, self.shown.shape[1] + path.shape[1])
        bias[seat, beams.slot] = torch.where(torch.cat([self.shown[seat], path], 1), 0.0, -torch.inf)
        self.bias = bias.to(self.device, self.dtype)
        self.column = (column + self.shown.shape[1]).to(self.device)
        self.seat, self.slot = seat.to(self.device), beams.slot.to(self.device)

    def _leave(self, live: Tensor) -> None:
        """Drop the rows of prompts that are not `live`."""
        if len(live) == len(self.prompts):
            return
        rows = torch.searchsorted(self.prompts, live)
        self.prompts, self.shown = live, self.shown[rows]
        for layer in self._own():
            layer.keep(rows.to(self.device))

    def _own(self) -> list[_Layer]:
        return [layer for layer in self.layers if isinstance(layer, _Layer)]


def attend(
    module: nn.Module, query: Tensor, layer: _Layer, _: Any, mask: Any, scaling: float, **settings: Any
) -> tuple[Tensor, None]:
    """Attention (R, 1, heads, d) of each beam's new token, query (R, heads, 1, d), over its prompt and its own tokens.

    The scores scaling q k^T may be capped softly, as Gemma 2 does. Raises UserError for sinks or a window narrower than that.
    """
    tree, cap = layer.tree, settings.get("softcap")
    prompts, kv, columns, d = layer.keys.shape
    if settings.get("s_aux") is not None:
        raise UserError(f"beam search cannot decode with {type(module).__name__}: its attention has sinks")
    if (settings.get("sliding_window") or tree.span) < tree.span:
        raise UserError(NARROW)
    grid = layer.keys.new_zeros(prompts, tree.beam, query.shape[1], d)
    grid[tree.seat, tree.slot] = query[:, :, 0].to(grid.dtype) * scaling
    with torch.autocast(query.device.type, enabled=False):
        q = grid.view(prompts, tree.beam, kv, -1, d).transpose(1, 2).reshape(prompts * kv, -1, d)
        scores = torch.bmm(q, layer.keys.flatten(0, 1).mT).view(prompts, kv, tree.beam, -1, columns)
        scores = scores if cap is None else cap * torch.tanh(scores / cap)
        scores += tree.bias[:, None, :, None]
        weights = scores.softmax(-1, dtype=torch.float32).to(grid.dtype).view(prompts * kv, -1, columns)
        out = torch.bmm(weights, layer.values.flatten(0, 1)).view(prompts, kv, tree.beam, -1, d)
    context = out.transpose(1, 2)[tree.seat, tree.slot]  # (R, kv, g, d)
    return context.reshape(len(context), 1, -1, d).to(query.dtype), None


AttentionInterface.register(ATTENTION, attend)

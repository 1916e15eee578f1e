"""A loaded model: frozen, with its tokenizer and the addresses of its parts."""

from __future__ import annotations

import copy
import itertools
import os
import shutil
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils._triton import has_triton
from torch.utils.checkpoint import checkpoint
from transformers import Cache, PreTrainedTokenizerFast

from lora_repro import console
from lora_repro.backbone import packed
from lora_repro.backbone.addressed import AddressedModel, attending
from lora_repro.backbone.dropout import replace_dropout
from lora_repro.errors import UserError

COMPILER = "inductor"
LENGTHS = 32  # compiled training pads rows to a multiple of so many positions, so that few shapes are compiled
SHAPES = 64  # compiled shapes at most; torch's default is 8
STD = 0.02  # of a new head's weights: the `initializer_range` of BERT, RoBERTa, DeBERTa and GPT-2


def _again(block: nn.Module, forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """A block's forward pass, recomputed in the backward pass if gradients flow through the block."""
    tensors = itertools.chain(block.parameters(), *((x,) for x in args if isinstance(x, torch.Tensor)))
    if not torch.is_grad_enabled() or not any(tensor.requires_grad for tensor in tensors):
        return forward(*args, **kwargs)

    def run(*args: Any, **kwargs: Any) -> Any:
        # A block adds its keys to the cache that holds a trained prefix, so each run gets a cache without them.
        return forward(*map(_alike, args), **{name: _alike(value) for name, value in kwargs.items()})

    return checkpoint(run, *args, use_reentrant=False, **kwargs)


def _alike(value: Any) -> Any:
    """A shallow copy of a cache, which can grow without the original; anything else as it is."""
    if isinstance(value, Cache):
        value = copy.copy(value)
        value.layers = [copy.copy(layer) for layer in value.layers]
    return value


class Backbone(AddressedModel):
    """A frozen model with its tokenizer and the addresses of its parts.

    Attributes besides those of `AddressedModel`: `tokenizer`, `separator` (token ids between input and completion), `eos`,
    `pad`, `cls` (what opens a row: an id or nothing), `label`, `sha256` (of the weights) and `files_sha256` (of configuration,
    tokenizer and weights); both are empty for a random model.
    """

    def __init__(
        self,
        model: nn.Module,
        tokenizer: PreTrainedTokenizerFast,
        separator: str,
        eos: str,
        pad: str,
        label: str = "",
        cls: str | None = None,
        pooling: str | None = None,
        new_pooler: bool = False,
    ) -> None:
        super().__init__(model.eval(), pooling, new_pooler)
        replace_dropout(self.model)
        self.model.requires_grad_(False)
        assert self.head  # raises UserError here for a model without one
        self.tokenizer = tokenizer
        self.separator: list[int] = tokenizer.encode(separator, add_special_tokens=False)
        self.eos = self._token(eos)
        self.pad = self._token(pad)
        self.cls = [] if cls is None else [self._token(cls)]
        self.label = label
        self.sha256 = ""
        self.files_sha256 = ""
        self.compiled: Any = None  # the compiled decoder (`compile`), which training calls
        self.recomputes = False  # whether a block keeps only its input for the backward pass (`recompute`)

    def _token(self, text: str) -> int:
        index = self.tokenizer.convert_tokens_to_ids(text)
        unknown = self.tokenizer.unk_token_id
        if not isinstance(index, int) or (index == unknown and text != self.tokenizer.unk_token):
            raise UserError(
                f"the tokenizer of this backbone has no token {text!r}: correct its yaml in conf/backbone"
            )
        return index

    @property
    def recorded(self) -> dict[str, str]:
        """What a record holds of it: its label and its hashes; a random model has no files."""
        files = {"files_sha256": self.files_sha256} if self.files_sha256 else {}
        return {"label": self.label, "sha256": self.sha256, **files}

    @property
    def batching(self) -> str:
        """How `hidden` computes a batch: `packed` on a CPU (faster there) if the architecture allows it; else `padded`."""
        packs = self.plain and self.compiled is None and not self.recomputes
        return "packed" if packs and self.device.type == "cpu" else "padded"

    @property
    def plain(self) -> bool:
        """Whether every position attends to all of its row, or to all before it: no window, no position bias."""
        config: Any = self.model.config
        window = getattr(config, "sliding_window", None) is not None
        return self.table.packs and not getattr(config, "use_sliding_window", window)

    @property
    def lengths(self) -> int:
        """Training pads rows to a multiple of so many positions."""
        return 1 if self.compiled is None else LENGTHS

    @property
    def drops(self) -> bool:
        """Whether the model has any dropout in training."""
        settings = [getattr(self.model.config, name, 0.0) for name in self.table.dropouts]
        return any(settings) or any(isinstance(part, nn.Dropout) and part.p > 0 for part in self.model.modules())

    @property
    def first_position(self) -> int:
        """The id of a row's first position."""
        config: Any = self.model.config
        return int(config.pad_token_id) + 1 if self.table.after_padding else 0

    @property
    def positions(self) -> int | None:
        """How many positions a row may have; None if the model's configuration sets no limit."""
        most = getattr(self.model.config, "max_position_embeddings", None)
        return None if most is None else int(most) - self.first_position

    def hidden(self, ids: torch.Tensor, attention: torch.Tensor, **keywords: torch.Tensor) -> torch.Tensor:
        """The body's last hidden state (B, T, d) of right-padded rows: ids and attention (1 at real positions), (B, T).

        `said` (B, T): further keywords of the decoder for each position. The result is undefined at padding.
        """
        extra: dict[str, Any] = {"use_cache": False} if self.table.pooling == "last" else {}
        if self.batching == "padded":
            mask = self._mask(attention)
            decoder = self.compiled if self.compiled is not None and self.model.training else self.decoder
            self.real = attention.bool()
            try:
                out: torch.Tensor = decoder(input_ids=ids, attention_mask=mask, **keywords, **extra).last_hidden_state
            finally:
                self.real = None
            return out
        real = attention.bool()
        positions = attention.cumsum(1) - 1 + self.first_position
        rows = {name: x[real][None] for name, x in {"input_ids": ids, "position_ids": positions, **keywords}.items()}
        packing = packed.Packing(attention.sum(1).tolist())
        with attending(self.model.config, packed.NAME):
            states: torch.Tensor = self.decoder(**rows, packing=packing, **extra).last_hidden_state[0]  # (N, d)
        return states.new_zeros(*ids.shape, states.shape[-1]).index_put((real,), states)

    def compile(self) -> None:
        """Compile training's forward and backward passes, the method's modules included.

        That gives fewer and larger kernels, and on a GPU one graph to launch in place of all of them. Each shape is compiled
        once, so rows are padded to multiples of `LENGTHS`. Results are the same up to rounding. Raises UserError if there is no
        compiler.
        """
        on_gpu = self.device.type == "cuda"
        if not (has_triton() if on_gpu else shutil.which(os.environ.get("CXX", "g++"))):
            raise UserError(f"train.compile=true needs {'triton' if on_gpu else 'a C++ compiler (g++, or CXX=/path/to/one)'}")
        if not on_gpu:
            console.warn("train.compile=true: a CPU compiles each length of rows for a minute or more before its first step")
        torch._dynamo.config.recompile_limit = SHAPES
        mode = "reduce-overhead" if on_gpu else None
        self.compiled = torch.compile(self.decoder, dynamic=False, backend=COMPILER, mode=mode)

    def recompute(self) -> None:
        """Gradient checkpointing: training keeps only each block's input and recomputes the block in the backward pass.

        Instead of the inputs of every product in all blocks, memory holds d values per position and block, plus one block's own
        inputs and attention scores. A step takes one more forward pass. Rows are then padded on a CPU too; results and dropout
        masks equal those of padded rows without recomputation.
        """
        self.recomputes = True
        for layer in self.layers:
            layer.forward = partial(_again, layer, layer.forward)

    def _mask(self, attention: torch.Tensor) -> torch.Tensor:
        """(B, 1, T, T), true where a position attends to another; transformers uses it unchanged if its attention is torch's.

        From a mask (B, T) transformers would ask the device whether it is all ones, and wait for the answer. A causal model never
        sees the padding, which follows its row.
        """
        if getattr(self.model.config, "_attn_implementation", None) != "sdpa" or not self.plain:
            return attention
        rows, width = attention.shape
        if self.table.pooling == "last":
            return attention.new_ones(width, width, dtype=torch.bool).tril().expand(rows, 1, -1, -1)
        return attention.bool()[:, None, None, :].expand(-1, 1, width, -1)

    def reset_head(self) -> None:
        """Initialise the classifier, if there is one, from torch's CPU generator: weights N(0, 0.02^2), biases zero.

        A LayerNorm in it starts as the identity. A GPU's generator gives other numbers for the same seed, and a head that random
        directions only move is in no file.
        """
        for part in (part for module in self.classifier for part in module.modules()):
            if isinstance(part, nn.Linear):
                part.weight.data.copy_(torch.empty_like(part.weight, device="cpu").normal_(0.0, STD))
                if part.bias is not None:
                    nn.init.zeros_(part.bias)
            if isinstance(part, nn.LayerNorm):
                part.reset_parameters()

    def to(self, device: torch.device) -> Backbone:
        if device.index is not None:  # pinned memory and synchronisation use the current GPU
            torch.cuda.set_device(device)
        self.model.to(device)
        return self

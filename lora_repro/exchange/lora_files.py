"""The LoRA factors in a checkpoint of any format: ours, peft's, or the LoRA authors' released adapter.

    ours      <...layers.N...>.parts.KIND.A / .B               alpha and rank from the record beside it
    peft      <...layers.N...>.<module>.lora_A.weight / _B     lora_alpha, its patterns and use_rslora from adapter_config.json
    authors   roberta.encoder.layer.N....KIND.lora_A / _B      alpha / r is given; 2 for the released one (authors.py says why)
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from lora_repro.analysis import spectra
from lora_repro.analysis.probed_run import scaling_of
from lora_repro.analysis.spectra import Array
from lora_repro.errors import UserError, printable
from lora_repro.records import record
from lora_repro.records.run_folder import ADAPTER, RECORD

# The four attention matrices, by the end of their path in the layer; any other matrix keeps its path, such as mlp.c_proj.
KINDS = {
    "query": r"(query|q_proj|q_lin)",
    "key": r"(key|k_proj|k_lin)",
    "value": r"(value|v_proj|v_lin)",
    "output": r"(attn\.c_proj|attention\.output\.dense|o_proj|out_proj|out_lin)",
}
LAYER = r"(?:^|\.)(?:h|layers?)\.(\d+)\."
OURS = re.compile(LAYER + r"(.+)\.parts\.([^.]+)\.([AB])$", re.DOTALL)
OTHERS = re.compile(LAYER + r"(.+)\.lora_([AB])(?:\.default)?(?:\.weight)?$", re.DOTALL)
LAYERS, LARGEST = 10_000, 1e30  # more layers or a larger update than any trained model has
PLAIN = 2.0  # alpha / r of the authors' released RoBERTa-base adapter, 16 / 8


def read(path: Path, scaling: float | None = None) -> dict[tuple[str, int], spectra.Factors]:
    """(kind, layer) -> factors of a run folder, an adapter file, a peft folder or an authors' .bin; kind as in KINDS or a path.

    scaling: alpha / r of a .bin, which does not hold it; None: that of the released RoBERTa-base adapter. Raises UserError if the
    file cannot be read, holds no LoRA or more than LoRA, has two matrices of one name, or its scaling is unknown.
    """
    file, scale = _file(path, scaling)
    tensors = _authors(file) if file.suffix == ".bin" else _tensors(file)
    halves: dict[tuple[str, int], dict[str, Array]] = {}
    modules: dict[tuple[str, int], str] = {}
    for name, tensor in tensors.items():
        if not (match := _named(name)):
            continue
        if match[0][1] >= LAYERS:
            raise UserError(f"{file}: {name:.80} is of a layer that no model has: give a LoRA's file")
        place, letter, modules[place] = match
        if letter in halves.setdefault(place, {}):
            raise UserError(f"{file} has more than one {letter} of {place[0]} in layer {place[1] + 1}: give a file with one LoRA")
        halves[place][letter] = tensor
    if not halves or any(set(pair) != {"A", "B"} for pair in halves.values()):
        raise UserError(f"{file} holds no LoRA: it has no pairs of A and B")
    for (kind, layer), pair in halves.items():
        fits = pair["A"].ndim == pair["B"].ndim == 2 and len(pair["A"]) == pair["B"].shape[1]
        if not (fits and pair["A"].size and pair["B"].size and np.isfinite(pair["A"]).all() and np.isfinite(pair["B"]).all()):
            shapes = " and ".join(str(pair[letter].shape) for letter in "AB")
            raise UserError(f"{file}: A and B of {kind} in layer {layer + 1} ({shapes}) must be finite, (r, d_in) and (d_out, r)")
    updates = {
        place: spectra.Factors(pair["A"], pair["B"], scale(modules[place], len(pair["A"])))
        for place, pair in sorted(halves.items())
    }
    for (kind, layer), factors in updates.items():
        if not factors.largest_norm < LARGEST:
            size = f"alpha / rank {factors.scaling:.3g}, update of up to {factors.largest_norm:.3g}"
            raise UserError(f"{file}: {kind} in layer {layer + 1} is too large to analyse ({size}): that training diverged")
    return updates


def _named(name: str) -> tuple[tuple[str, int], str, str] | None:
    """((kind, layer), A or B, the module's full name) of a LoRA tensor; None for any other tensor.

    A kind is printed and drawn, so control characters in it are written as escapes.
    """
    if match := OURS.search(name):
        path, part, letter = match[2], match[3], match[4]
        # In a fused matrix the part names the kind; the parts of an MLP share one name, and the path distinguishes them.
        kind = part if part in KINDS else _kind(path)
        return (printable(kind), _layer(match[1])), letter, name.partition(".parts.")[0]
    if match := OTHERS.search(name):
        return (printable(_kind(match[2])), _layer(match[1])), match[3], name.partition(".lora_")[0]
    return None


def _layer(digits: str) -> int:
    return int(digits) if len(digits) < len(str(LAYERS)) else LAYERS


def _kind(path: str) -> str:
    return next((kind for kind, end in KINDS.items() if re.search(rf"(^|\.){end}$", path)), path)


def _file(path: Path, scaling: float | None) -> tuple[Path, Callable[[str, int], float]]:
    """The file with the tensors, and alpha / rank as a function of a module's name and rank."""
    if path.is_dir():
        files = [path / name for name in (ADAPTER, "adapter_model.safetensors") if (path / name).is_file()]
        if not files:
            raise UserError(f"{path} has neither adapter.safetensors (of a run) nor adapter_model.safetensors (of peft)")
        path = files[0]
    if path.suffix == ".bin":
        return path, lambda name, rank: PLAIN if scaling is None else scaling
    if not path.exists():
        raise UserError(f"there is no {path}")
    folder = path.parent
    try:
        if (folder / "adapter_config.json").is_file():
            return path, _of_peft(folder)
        if not (folder / RECORD).exists():
            raise FileNotFoundError(RECORD)
        method: dict[str, Any] = record.of_run(folder, [path.name])["asked"]["method"]
        if not str(method.get("_target_", "Lora")).endswith("Lora"):
            raise UserError(f"{path} is an adapter of {method.get('name')}, not of LoRA (alpha / rank B A): give a LoRA's")
        scale = scaling_of(method)
        if not math.isfinite(scale):
            raise ValueError(scale)
        return path, lambda name, rank: scale
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
        raise UserError(f"{path} needs record.json or adapter_config.json beside it, for its alpha and rank") from error


def _of_peft(folder: Path) -> Callable[[str, int], float]:
    """peft's alpha / rank by module name and rank; alpha_pattern may give a module an alpha of its own.

    An export of ours must be as it was written.
    """
    from lora_repro.exchange.open_checkpoint import read_origin  # lazy: only this format needs torch
    from lora_repro.exchange.peft_lora import patterned, refuse_extras

    read_origin(folder)
    config: dict[str, Any] = dict(json.loads((folder / "adapter_config.json").read_text(encoding="utf-8")))
    refuse_extras(config)
    root = bool(config.get("use_rslora"))
    return lambda name, rank: patterned(name, config, "alpha_pattern", "lora_alpha") / (rank**0.5 if root else rank)


def _tensors(file: Path) -> dict[str, Array]:
    from lora_repro.exchange.load_tensors import read_tensors  # numpy has no bf16

    return {name: tensor.numpy() for name, tensor in read_tensors(file).items()}


def _authors(file: Path) -> dict[str, Array]:
    from lora_repro.exchange.authors import read as read_authors  # lazy: only this format needs torch

    return {name: tensor.numpy() for name, tensor in read_authors(file).items()}

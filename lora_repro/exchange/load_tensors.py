"""Copying saved tensors into a model's parameters by name: all of them or, with an error, none."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from lora_repro.errors import UserError
from lora_repro.methods.base import require


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a safetensors file. Raises UserError if it is missing, no plain file, damaged, or holds no floats."""
    require(path.is_file(), f"no file {path}: give a folder that holds it")  # reading a pipe would block
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise UserError(f"cannot read {path}, which is damaged: {str(error).splitlines()[0]}") from None
    for name, tensor in tensors.items():
        require(tensor.is_floating_point(), f"{path}: {name} is {tensor.dtype}, but an adapter's tensors must be floats")
    return {name: tensor.float() for name, tensor in tensors.items()}


def same_names(tensors: Iterable[str], names: Iterable[str], out: str) -> None:
    """Raise UserError, ending in `out` (how to fix it), unless both hold the same names."""
    names = list(names)
    for name in sorted(set(tensors) ^ set(names)):
        raise UserError(f"the adapter {'lacks' if name in names else 'has an unknown'} {name}; {out}")


def check_fit(parameters: Mapping[str, torch.Tensor], tensors: Mapping[str, torch.Tensor], out: str) -> None:
    """Raise UserError, ending in `out`, unless each parameter has a finite tensor of its shape and no tensor is left over."""
    same_names(tensors, parameters, out)
    for name, parameter in parameters.items():
        fits, shape = tensors[name].shape == parameter.shape, tuple(parameter.shape)
        require(fits, f"the adapter's {name} does not have the model's shape {shape}; {out}")
        finite = bool(tensors[name].isfinite().all())
        require(finite, f"the adapter's {name} holds NaN or infinity: that run diverged")


@torch.no_grad()
def fill(parameters: Mapping[str, torch.Tensor], tensors: Mapping[str, torch.Tensor], out: str) -> None:
    """Copy each tensor into the parameter of its name, in the parameter's dtype. Raises UserError as `check_fit` does."""
    check_fit(parameters, tensors, out)
    for name, parameter in parameters.items():
        parameter.copy_(tensors[name])

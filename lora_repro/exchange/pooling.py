"""Whether a transformers class pools a sentence's features as we do, and a file for the head's weights if it does not."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import safe_open
from torch import nn

from lora_repro.errors import UserError
from lora_repro.exchange.load_tensors import fill, read_tensors
from lora_repro.methods.base import named
from lora_repro.train.checkpoint import save_tensors

if TYPE_CHECKING:
    from lora_repro.backbone.addressed import AddressedModel

HEAD = "head.safetensors"  # beside a bare body: the weights that turn features into class scores


def fits_auto_class(backbone: AddressedModel) -> bool:
    """Whether AutoModelForSequenceClassification computes our logits: only if the head reads the first position, as BERT's does.

    That class never takes the mean over positions, and finds a decoder's last position by `ids != pad`, which is wrong if eos is
    pad. Such a model is exported as its body with a separate head, so that no class silently computes other logits.
    """
    return not backbone.classifier or backbone.pooling == backbone.table.pooling == "first"


def outside(backbone: AddressedModel) -> nn.Module:
    """The module to export: the model, or its body if no class computes our logits."""
    body: nn.Module = backbone.model.base_model  # type: ignore[assignment]
    return backbone.model if fits_auto_class(backbone) else body


def head(backbone: AddressedModel) -> dict[str, nn.Parameter]:
    """The parameters of a sentence task's head by their names in the model; empty for a language model."""
    return named(backbone.model, (p for module in backbone.classifier for p in module.parameters()))


def save_head(folder: Path, backbone: AddressedModel) -> None:
    """Write the head to a file of its own if only the body is exported."""
    if not fits_auto_class(backbone):
        save_tensors(folder / HEAD, {name: p.detach() for name, p in head(backbone).items()})


def load_head(folder: Path, backbone: AddressedModel, tensors: dict[str, torch.Tensor] | None = None) -> None:
    """Fill the head from `tensors`, or from head.safetensors, unless the folder's model holds it already.

    Raises UserError if no trained head is found: a newly initialised one would answer at random.
    """
    parameters, out = head(backbone), "name the task that it was trained for"
    if tensors:
        fill(parameters, tensors, out)
    elif (folder / HEAD).is_file():
        fill(parameters, read_tensors(folder / HEAD), out)
    elif missing := sorted(set(parameters) - _stored(folder)):
        raise UserError(f"{folder} holds no trained head ({missing[0]}); {out}")


def _stored(folder: Path) -> set[str]:
    names: set[str] = set()
    for path in folder.glob("model*.safetensors"):
        with safe_open(path, "pt") as file:
            names |= set(file.keys())
    return names

"""Whether a class of transformers reads a sentence's features where we do, and the head's weights if it does not."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import safe_open
from torch import nn

from lora_repro.errors import UserError
from lora_repro.exchange.fill import fill, read_tensors
from lora_repro.methods.base import named
from lora_repro.train.checkpoint import save_tensors

if TYPE_CHECKING:
    from lora_repro.backbone.addressed import AddressedModel

HEAD = "head.safetensors"  # beside a bare body: the weights that turn features into class scores


def plainly(backbone: AddressedModel) -> bool:
    """Whether AutoModelForSequenceClassification computes our logits: it must read the first position, as BERT's does.

    A mean over positions it never takes; a decoder's last position it finds by `ids != pad`, which is wrong where eos is pad.
    Such a model leaves as its body, with the head apart, so that no class reads it wrongly without a warning.
    """
    return not backbone.classifier or backbone.pooling == backbone.table.pooling == "first"


def outside(backbone: AddressedModel) -> nn.Module:
    """The module that leaves: the model, or its body where no class reads it as we do."""
    return backbone.model if plainly(backbone) else backbone.decoder


def head(backbone: AddressedModel) -> dict[str, nn.Parameter]:
    """The parameters of a sentence task's head under their names in the model; none for a language model."""
    return named(backbone.model, (p for module in backbone.classifier for p in module.parameters()))


def save_head(folder: Path, backbone: AddressedModel) -> None:
    """Write the head beside a bare body."""
    if not plainly(backbone):
        save_tensors(folder / HEAD, {name: p.detach() for name, p in head(backbone).items()})


def load_head(folder: Path, backbone: AddressedModel, apart: dict[str, torch.Tensor] | None = None) -> None:
    """Fill the head from tensors given apart, or from head.safetensors, unless the folder's model holds it already.

    Raises UserError if it is nowhere: a head newly drawn would answer at random.
    """
    wanted, out = head(backbone), "name the task that it was trained for"
    if apart:
        fill(wanted, apart, out)
    elif (folder / HEAD).is_file():
        fill(wanted, read_tensors(folder / HEAD), out)
    elif missing := sorted(set(wanted) - _stored(folder)):
        raise UserError(f"{folder} holds no trained head ({missing[0]}); {out}")


def _stored(folder: Path) -> set[str]:
    names: set[str] = set()
    for path in folder.glob("model*.safetensors"):
        with safe_open(path, "pt") as file:
            names |= set(file.keys())
    return names

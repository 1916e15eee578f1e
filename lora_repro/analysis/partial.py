"""What a part of an update gains: the model with lambda times every change D, or with the top k directions of every D.

Scaling after training is how later work sets methods beside one another at equal performance (Shuttleworth et al. 2024, arXiv
2410.21228, Section 5); truncation asks how many directions of D the model uses, where a spectrum says how many it has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import torch
from torch import nn

from lora_repro.backbone import weights
from lora_repro.backbone.model import Backbone
from lora_repro.methods.update import PartUpdate, Update, unmerge, updates


@dataclass(frozen=True)
class Change:
    """What training changed of one tensor.

    change: D, float32. put: writes the tensor that has another D. rows: where D holds the changes of several matrices, the rows
    of each. matrix: whether D has directions; a bias, a LayerNorm or an embedding has none and stays as trained.
    """

    change: torch.Tensor
    put: Callable[[torch.Tensor], None]
    rows: Sequence[slice]
    matrix: bool


@contextmanager
def changes(backbone: Backbone, before: Mapping[str, torch.Tensor]) -> Iterator[list[Change]]:
    """Everything that a method changed in a trained backbone; afterwards the model is as it was, bit for bit.

    before: the backbone's own parameters by name, from before the method was applied. New parameters outside any update, such as
    a head, are no change of a tensor and stay as trained.
    """
    blocks = {id(parameter) for layer in backbone.layers for parameter in layer.parameters()}
    own = {name: parameter for name, parameter in backbone.model.named_parameters() if name in before and parameter.requires_grad}
    snapshot = {name: parameter.detach().clone() for name, parameter in own.items() if not torch.equal(parameter, before[name])}
    of_matrix: dict[nn.Module, list[Update]] = {}
    for module in updates(backbone.model):
        of_matrix.setdefault(weights.bare(module), []).append(module)
    try:
        deltas = [_of_updates(modules) for modules in of_matrix.values()]
        for name, now in snapshot.items():
            writer = partial(_put, own[name], before[name])
            matrix = now.ndim == 2 and id(own[name]) in blocks
            deltas.append(Change(now.float() - before[name].float(), writer, [slice(0, len(now))], matrix))
        yield deltas
    finally:
        unmerge(backbone.model)
        for name, now in snapshot.items():
            own[name].data.copy_(now)


def _of_updates(modules: Sequence[Update]) -> Change:
    """The sum of all updates of a matrix, which are merged meanwhile: the model then multiplies by what `put` writes."""
    change = torch.stack([module.delta() for module in modules]).sum(dim=0)
    base = weights.bare(modules[0])
    weight = weights.read(base).detach().float() - change + torch.stack([module.added() for module in modules]).sum(dim=0)
    for module in modules:
        module.merge()
    parts = [part for module in modules if isinstance(module, PartUpdate) for part in module.ordered()]
    ends = sorted({(part.start, part.start + part.size) for part in parts}) or [(0, len(change))]
    return Change(change, lambda part: weights.write(base, weight + part), [slice(*two) for two in ends], True)


@torch.no_grad()
def _put(parameter: torch.Tensor, before: torch.Tensor, change: torch.Tensor) -> None:
    parameter.copy_(before.float() + change)


def scaled(deltas: Sequence[Change], factor: float) -> None:
    """Give the model `factor` times every change."""
    for delta in deltas:
        delta.put(factor * delta.change)


class Directions:
    """The singular directions of every change, from which the model gets as many as asked for."""

    def __init__(self, deltas: Sequence[Change], most: int) -> None:
        """most: the largest number that is asked for."""
        self.found = [delta for delta in deltas if delta.matrix]
        self.rest = [delta for delta in deltas if not delta.matrix]
        self.parts = [[_top(delta.change[rows], most) for rows in delta.rows] for delta in self.found]

    def keep(self, k: int) -> None:
        """Give the model the top k directions of every change, matrix by matrix."""
        for delta in self.rest:
            delta.put(delta.change)
        for delta, parts in zip(self.found, self.parts, strict=True):
            truncation = torch.zeros_like(delta.change)
            for rows, (left, right) in zip(delta.rows, parts, strict=True):
                truncation[rows] = left[:, :k] @ right[:k]
            delta.put(truncation)


def _top(change: torch.Tensor, most: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(left (out, k), right (k, in)): the leading k = min(most, out, in) singular directions, left with the singular values."""
    u, s, vt = torch.linalg.svd(change.double(), full_matrices=False)
    return (u * s)[:, :most].float(), vt[:most].float()

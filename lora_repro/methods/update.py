"""A matrix whose effective weight a method changes: what probing, merging, timing and exporting ask of it.

    W'      what the module multiplies by            W       the backbone's own weight, before any method
    delta   W' - W                                   factors (left, right) with left right = delta, where the method has them
"""

from __future__ import annotations

import abc
from collections.abc import Iterator

import torch
from torch import nn

from lora_repro.backbone import weights
from lora_repro.errors import UserError


class Update(nn.Module, abc.ABC):
    """Stands in a projection's place, around the matrix `base` (out, in), which may be fused: rows are its outputs.

    While merged, forward must be base(x) alone. merge and unmerge are explicit: train() and eval() never call them.
    `scaling` is the factor that `factors` puts into its left one; 1 for a method without one.
    """

    def __init__(self, base: nn.Module, scaling: float = 1.0) -> None:
        super().__init__()
        self.base = base
        self.scaling = scaling
        self.original: torch.Tensor | None = None  # the base's weight from before merge(); None = not merged

    @abc.abstractmethod
    def delta(self) -> torch.Tensor:
        """W' - W (out, in), float32, zero in rows that are not changed; the same merged or not.

        W is the backbone's own weight, also where the method changed that at its start.
        """

    def added(self) -> torch.Tensor:
        """What merging adds to the base's weight as it stands: `delta`, unless the method changed that at its start."""
        return self.delta()

    def factors(self, rows: slice) -> tuple[torch.Tensor, torch.Tensor] | None:
        """(left (size, k), right (k, in)), float64, whose product is delta()[rows]; None where there are none."""
        return None

    @property
    def merged(self) -> bool:
        return self.original is not None

    @torch.no_grad()
    def merge(self) -> None:
        """The base's weight <- W', added in float32, once at most. Raises UserError if it is not finite."""
        if self.merged:
            return
        added, weight = self.added(), weights.read(self.base)
        if not bool(torch.isfinite(added).all()):
            raise UserError("cannot merge: the update is not finite (the run diverged); lower train.lr")
        original = weight.detach().clone()  # kept, for W + D - D is not W in floating point
        weights.write(self.base, weight.float() + added)
        self.original = original

    def unmerge(self) -> None:
        """Put back the base's weight bit for bit; a second call changes nothing."""
        if self.original is not None:
            weights.write(self.base, self.original)
            self.original = None


def updates(model: nn.Module) -> Iterator[Update]:
    """Every updated matrix of a model, an outer one before what it stands around."""
    return (module for module in model.modules() if isinstance(module, Update))


def merge(model: nn.Module) -> None:
    """Merge every update of the model into its base weight; all of them or, with a UserError, none."""
    try:
        for module in updates(model):
            module.merge()
    except UserError:
        unmerge(model)
        raise


def unmerge(model: nn.Module) -> None:
    """Undo `merge` exactly; of two updates of one matrix the later one first."""
    for module in reversed(list(updates(model))):
        module.unmerge()


def strip(model: nn.Module) -> None:
    """Merge every update and put each base back in its place: the architecture as it was. Raises UserError as `merge`."""
    merge(model)
    for parent in list(model.modules()):
        for attribute, module in list(parent.named_children()):
            while isinstance(module, Update):
                module = module.base
                setattr(parent, attribute, module)

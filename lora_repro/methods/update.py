"""A matrix whose effective weight a method changes: the interface that probing, merging, timing and exporting use.

    W'      what the module multiplies by            W       the backbone's own weight, before any method
    delta   W' - W                                   factors (left, right) with left right = delta, where the method has them
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar

import torch
from torch import nn
from torch.nn.utils.parametrize import is_parametrized, remove_parametrizations

from lora_repro.backbone import weights
from lora_repro.backbone.dropout import Dropout
from lora_repro.errors import UserError


class Update(nn.Module, abc.ABC):
    """Replaces a projection and wraps its matrix `base` (out, in), which may be fused; its rows are the outputs.

    While merged, forward must be base(x) alone. merge and unmerge are explicit: train() and eval() never call them.
    `scaling` is the factor contained in the left one of `factors`; 1 for a method without one. Raises UserError if `base`
    holds an update that is not `adds`: merging would then give another function than running unmerged.
    """

    adds: ClassVar[bool] = True  # whether the effective weight is W plus a matrix that does not depend on W

    def __init__(self, base: nn.Module, scaling: float = 1.0) -> None:
        super().__init__()
        for inner in weights.chain(base):
            if not getattr(inner, "adds", True):
                around = f"{type(self).__name__} around {type(inner).__name__}"
                raise UserError(f"{around} would change when merged: name the method of {type(self).__name__} first")
        self.base = base
        self.scaling = scaling
        self.original: torch.Tensor | None = None  # the base's weight from before merge(); None = not merged

    @abc.abstractmethod
    def delta(self) -> torch.Tensor:
        """W' - W (out, in), float32, zero in unchanged rows; the same whether merged or not.

        W is the backbone's original weight, even if the method changed it on insertion (as PiSSA does).
        """

    def added(self) -> torch.Tensor:
        """What merging adds to the base's current weight: `delta`, unless the method changed that weight on insertion."""
        return self.delta()

    def factors(self, rows: slice) -> tuple[torch.Tensor, torch.Tensor] | None:
        """(left (size, k), right (k, in)), float64, whose product is delta()[rows]; None if the method has none."""
        return None

    @property
    def merged(self) -> bool:
        return self.original is not None

    @torch.no_grad()
    def merge(self) -> None:
        """Set the base's weight to W', added in float32; does nothing if merged. Raises UserError if the update is not finite."""
        if self.merged:
            return
        update, weight = self.added(), weights.read(self.base)
        if not bool(torch.isfinite(update).all()):
            raise UserError("cannot merge: the update is not finite (the run diverged); lower train.lr")
        original = weight.detach().clone()  # kept because W + D - D is not W in floating point
        weights.write(self.base, weight.float() + update)
        self.original = original

    def unmerge(self) -> None:
        """Put back the base's weight bit for bit; a second call changes nothing."""
        if self.original is not None:
            weights.write(self.base, self.original)
            self.original = None


class PartUpdate(Update):
    """An update of some rows of a matrix in parts: each part is a module with its first row `start` and its `size`.

    out = base(x) + the term of each part on dropout(x), in that part's output columns. All parts share one dropout draw.
    """

    def __init__(self, base: nn.Module, parts: Mapping[str, nn.Module], scaling: float = 1.0, dropout: float = 0.0) -> None:
        super().__init__(base, scaling)
        self.parts = nn.ModuleDict(parts)
        self.dropout = Dropout(dropout)

    @abc.abstractmethod
    def term(self, part: Any, x: torch.Tensor) -> torch.Tensor:
        """What a part adds to its output columns (..., size), from x (..., in)."""

    @abc.abstractmethod
    def change(self, part: Any) -> torch.Tensor:
        """delta of a part's rows (size, in), float32."""

    def split(self, part: Any) -> tuple[torch.Tensor, torch.Tensor] | None:
        """`factors` of a part's rows."""
        return None

    def ordered(self) -> list[Any]:
        """The parts in the order of their rows."""
        return sorted(self.parts.values(), key=_start)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.base(x)  # (..., out)
        if self.merged:
            return out
        x = self.dropout(x)
        pieces, end = [], 0
        for part in self.ordered():
            if part.start > end:  # columns without an update, such as the keys between query and value
                pieces.append(out.new_zeros(()).expand(*out.shape[:-1], part.start - end))
            pieces.append(self.term(part, x).to(out.dtype))
            end = part.start + part.size
        if end < out.shape[-1]:
            pieces.append(out.new_zeros(()).expand(*out.shape[:-1], out.shape[-1] - end))
        return out + (pieces[0] if len(pieces) == 1 else torch.cat(pieces, dim=-1))

    @torch.no_grad()
    def delta(self) -> torch.Tensor:
        return self.spread(self.change)

    def spread(self, change: Callable[[Any], torch.Tensor]) -> torch.Tensor:
        """(out, in): `change` of every part in its rows, zero elsewhere."""
        changes = [(part, change(part)) for part in self.ordered()]
        d_in, out = weights.sizes(self.base)
        matrix = torch.zeros(out, d_in, device=changes[0][1].device)
        for part, value in changes:
            matrix[part.start : part.start + part.size] = value
        return matrix

    @torch.no_grad()
    def factors(self, rows: slice) -> tuple[torch.Tensor, torch.Tensor] | None:
        parts = [part for part in self.ordered() if (part.start, part.start + part.size) == (rows.start, rows.stop)]
        return self.split(parts[0]) if parts else None


def _start(part: Any) -> int:
    return int(part.start)


def updates(model: nn.Module) -> Iterator[Update]:
    """Every update in a model, an outer one before the one that it wraps."""
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
    """Undo `merge` exactly; of nested updates of one matrix the one merged last is undone first."""
    for module in reversed(list(updates(model))):
        module.unmerge()


def strip(model: nn.Module) -> None:
    """Merge every update and put each base back in its place: the original architecture. Raises UserError as `merge` does.

    A tensor computed by a torch parametrisation becomes a plain tensor of the computed value.
    """
    for module in list(model.modules()):
        if is_parametrized(module):
            for name in list(module.get_submodule("parametrizations")._modules):
                remove_parametrizations(module, name)
    merge(model)
    for parent in list(model.modules()):
        for attribute, module in list(parent.named_children()):
            while isinstance(module, Update):
                module = module.base
                setattr(parent, attribute, module)

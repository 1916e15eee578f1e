"""Training in a random subspace of d dimensions (Li et al. 2018, arXiv 1804.08838; Aghajanyan et al. 2020, arXiv 2012.13255)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal, final

import torch
from torch import nn
from torch.nn.utils.parametrize import register_parametrization

from lora_repro.backbone import weights
from lora_repro.config.validation import Range
from lora_repro.methods._fastfood import Fastfood
from lora_repro.methods._subspace import Moved, Subspace
from lora_repro.methods.base import (
    AbstractMethod,
    Shape,
    Trainable,
    named,
    require,
)

if TYPE_CHECKING:
    from lora_repro.backbone.model import Backbone



@dataclass
class Place:
    """A tensor of the backbone: number of values, layer (L: outside all layers), and every (module, attribute) that holds it."""

    values: int
    layer: int
    spots: list[tuple[nn.Module, str]]


def moved_by(backbone: Backbone, embeddings: bool) -> list[Place]:
    """The backbone's own tensors, a tied one once; embedding tables only if asked for."""
    layer_of = {module: index for index, layer in enumerate(backbone.layers) for module in layer.modules()}
    tables = {id(module.weight) for module in backbone.model.modules() if isinstance(module, nn.Embedding)}
    places: dict[int, Place] = {}
    for module in backbone.model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if parameter.requires_grad or (id(parameter) in tables and not embeddings):
                continue  # a trainable parameter of an earlier method stays that method's
            place = Place(parameter.numel(), layer_of.get(module, backbone.n_layers), [])
            places.setdefault(id(parameter), place).spots.append((module, name))
    return list(places.values())


@final
@dataclass(frozen=True, kw_only=True)
class IntrinsicDimension(AbstractMethod):
    """Replaces every tensor W_i of the model, the new head's included, by W_i + P_i theta; one theta is trained. Count: d.

    form: `did` has a theta of d values. `said` is W_i + s_l P_i theta with a trained scale s_l for each layer l and one for
    everything outside the layers; the scales count in d, so theta has d - L - 1 values.

    embeddings: whether embedding tables are among the W_i (with them a tied prediction layer). P_i is a Fastfood matrix drawn
    from `projection_seed` and the index of W_i, whatever the run's seed; a resumed run draws it again.

    released: compute as the released code of Aghajanyan et al. does:
    - Its transform divides by sqrt(N) twice in the backward pass but not in the forward pass. So the part of theta's gradient
      that comes from W_i is divided by N_i, the power of two at or above W_i's size: a bias weighs as much as a thousand
      matrices.
    - W_i uses only the first N_i values of theta.
    - SAID has a scale for each tensor.
    """

    name: str = "intrinsic_dimension"
    d: Annotated[int, Range(1)] = 1000
    form: Literal["did", "said"] = "did"
    embeddings: bool = False
    projection_seed: int = 0
    released: bool = False

    @property
    def covers_head(self) -> bool:
        return True

    def insert(self, backbone: Backbone) -> Trainable:
        weights.refuse_stored([backbone.model], "intrinsic_dimension")
        places = moved_by(backbone, self.embeddings)
        most = sum(place.values for place in places)
        require(self.d <= most, f"method.d={self.d:,} exceeds the {most:,} values that it moves; lower it")
        groups = [number if self.released else place.layer for number, place in enumerate(places)]
        n_scales = 0 if self.form == "did" else max(groups) + 1
        fits = self.d > n_scales
        require(fits, f"method.d={self.d} must be above {n_scales}, the number of scales that SAID counts in it")
        subspace = Subspace(self.d - n_scales, n_scales, backbone.device)
        for number, (place, group) in enumerate(zip(places, groups, strict=True)):
            projection = Fastfood(place.values, self.d - n_scales, self.projection_seed * 1_000_003 + number, self.released)
            parametrization = Moved(subspace, group, projection, 1 / projection.large if self.released else 1.0)
            for module, attribute in place.spots:
                register_parametrization(module, attribute, parametrization, unsafe=True)
        return Trainable(method=named(backbone.model, subspace.parameters()))

    def count(self, shape: Shape) -> int:
        return self.d

    def trained(self, values: Mapping[str, torch.Tensor]) -> bool:
        """Whether theta is non-zero, as it is after the first step; scales never start at zero."""
        return super().trained({name: value for name, value in values.items() if name.endswith(".theta")})

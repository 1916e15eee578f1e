"""Target matrices: the kinds that a yaml may name, and a backbone's matrices, with the parts of a fused one grouped."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from lora_repro.backbone.architecture import KINDS
from lora_repro.methods.base import Shape, require

if TYPE_CHECKING:
    from lora_repro.backbone.architecture import Projection
    from lora_repro.backbone.model import Backbone


def check_targets(method: str, targets: Sequence[str]) -> tuple[str, ...]:
    """The kinds that a yaml lists, as a tuple. Raises UserError unless they are known and listed once."""
    listed = not isinstance(targets, str) and len(targets) > 0
    require(listed, f"{method} targets must be a list of {', '.join(KINDS)}")
    unknown = [kind for kind in targets if kind not in KINDS]
    require(not unknown, f"{method} target must be one of {', '.join(KINDS)}, not {(unknown or [''])[0]!r}")
    require(len(set(targets)) == len(targets), f"{method} targets repeat: {tuple(targets)}")
    return tuple(targets)


def modules(backbone: Backbone, targets: Sequence[str]) -> Iterator[dict[str, Projection]]:
    """The target parts of each module that holds any, layer by layer: GPT-2's c_attn gives `query` and `value` together."""
    for layer in range(backbone.n_layers):
        parts: dict[tuple[int, str], dict[str, Projection]] = {}
        for kind in targets:
            for place in backbone.projections(layer, kind):  # an MLP has several, each a module of its own
                parts.setdefault((id(place.parent), place.attribute), {})[kind] = place
        yield from parts.values()


def sizes(shape: Shape, targets: Sequence[str]) -> list[tuple[int, int]]:
    """(d_in, d_out) of every target matrix of one layer; for a part of a fused matrix d_out is the part's width."""
    return [pair for kind in targets for pair in shape.matrices[kind]]


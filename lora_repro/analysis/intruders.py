"""How many intruder dimensions adapters create in the weights that they were trained on, if these are at hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from lora_repro.analysis.probe import to_numpy
from lora_repro.analysis.probed_run import NAMES
from lora_repro.analysis.spectra import Factors, intruders, svd
from lora_repro.backbone import availability, weights
from lora_repro.backbone.model import Backbone
from lora_repro.config.compose import build, compose
from lora_repro.errors import UserError

Counts = dict[tuple[str, int], int]


def intruders_in(base: str, adapters: Sequence[Mapping[tuple[str, int], Factors]]) -> list[tuple[Counts, str]]:
    """For each adapter: (its `counts` in a backbone of conf/backbone, a note on them or why there are none). Downloads nothing.

    Raises UserError if there is no such backbone, or as `counts` does.
    """
    spec = build(compose([f"backbone={base}"]).backbone)
    if not availability.has_weights(spec):
        why = f"{spec.label} is not on this machine (lora-repro fetch {base})"
        return [({}, f"Intruder dimensions are not counted: {why}.")] * len(adapters)
    backbone = replace(spec, head="classification" if spec.cls else "lm").load()
    adapter_counts = [counts(adapter, backbone) for adapter in adapters]
    return [(count, _said(count, f"{backbone.label} ({backbone.sha256 or 'random weights'})")) for count in adapter_counts]


def counts(adapter: Mapping[tuple[str, int], Factors], backbone: Backbone) -> Counts:
    """(kind, layer) -> `spectra.intruders` of W + D, for the attention matrices. Raises UserError if W has another shape."""
    intruder_counts = {}
    for (kind, layer), factors in adapter.items():
        if kind not in NAMES:
            continue
        if layer >= backbone.n_layers:
            raise UserError(f"{backbone.label} has no layer {layer + 1}: the adapter was trained on another model")
        place = backbone.projections(layer, kind)[0]
        weight, update = to_numpy(weights.read(place.module)[place.rows]), factors.update
        if weight.shape != update.shape:
            shapes = f"{weight.shape}, not {update.shape}"
            raise UserError(f"{NAMES[kind]} of {backbone.label} is {shapes}: the adapter was trained on another model")
        intruder_counts[kind, layer] = intruders(svd(weight)[0], weight + update)
    return intruder_counts


def _said(intruder_counts: Counts, base: str) -> str:
    kinds = {kind: [count for (name, _), count in intruder_counts.items() if name == kind] for kind, _ in intruder_counts}
    means = ", ".join(f"{np.mean(counts):.2f} in {NAMES[kind]}" for kind, counts in kinds.items()) or "no matrix of attention"
    definition = "of the top 10 left singular vectors of W + ΔW, those that have no cosine of 0.5 with any of W's"
    return f"Intruders: {definition}. Mean over layers: {means}. W is that of {base}."

"""What a training does to single weight matrices: the size, spectrum and directions of each update, step by step.

A run with `probe=updates` leaves `updates.safetensors` beside its record: small arrays from which the subspace and delta-W
figures are drawn without the model (L layers, T observed steps, K kept directions, d_in inputs of the matrix):

    steps (T,)                           the steps observed; the last one is of the selected weights
    <kind>.norm (T, L)                   ||D||_F of the effective update D, alpha / rank included
    <kind>.effective_rank (T, L)         analysis.spectra.effective_rank of D
    <kind>.inside_<r> (T, L)             ||U^T W V||_F, U and V the top r directions of D; NaN where D has fewer
    <kind>.weight_norm (L,)              ||W||_F
    <kind>.weight_top_<r> (L,)           ||U^T W V||_F, U and V the top r directions of W
    <kind>.weight_random_<r> (L,)        ||U^T W V||_F, U and V r random directions
    <kind>.intruders (L,)                analysis.spectra.intruders of W + D
    <kind>.intruders_scaled (S, L)       the same of W + lambda D, for the S values of `scales`
    <kind>.spectrum (L, K)               singular values of the final D
    <kind>.basis_<layer> (d_in, K)       right singular vectors of the right factor (LoRA's A), or of D without one; float16
    <kind>.weight_similarity_<layer>     phi(W, basis, i, j), i in `weight_directions`, j up to K
    scales (S,), scales.<loss> (S,)      the model's losses with lambda times every update (analysis.partial)
    top (M,), top.<loss> (M,)            its losses with the top k directions of every update
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from safetensors.numpy import load_file

from lora_repro.analysis.partial import Directions, changes, scaled
from lora_repro.analysis.spectra import (
    Array,
    effective_rank,
    intruders,
    projected_norm,
    random_basis,
    similarity,
    singular_product,
    svd,
)
from lora_repro.backbone import weights
from lora_repro.backbone.architecture import Projection
from lora_repro.backbone.model import Backbone
from lora_repro.config.validation import Range, check
from lora_repro.errors import UserError
from lora_repro.methods.update import Update
from lora_repro.records.run_folder import OBSERVED, UPDATES
from lora_repro.train import checkpoint

Losses = Callable[[], Mapping[str, float | None]]


@dataclass(frozen=True)
class UpdateProbe:
    """What to measure: `kinds` of matrices; `directions`, the r of Table 7; `depths` of the layers whose bases are kept (0 is
    the first, 1 the last); `points`, the number of equally spaced steps; `keep`, how many directions of an update are kept;
    `scales`, the lambda, and `top`, the k, for which the trained model is asked again with a part of its update.
    """

    name: str
    kinds: Sequence[Literal["query", "key", "value", "output"]] = ("query", "value")
    directions: Sequence[Annotated[int, Range(1)]] = (4, 8, 64)
    depths: Sequence[Annotated[float, Range(0, 1)]] = (0.0, 0.5, 1.0)
    points: Annotated[int, Range(1)] = 8
    keep: Annotated[int, Range(1)] = 64
    scales: Sequence[Annotated[float, Range(0)]] = ()
    top: Sequence[Annotated[int, Range(1)]] = ()

    def __post_init__(self) -> None:
        check(f"{__name__}.UpdateProbe", vars(self), "probe")
        if not self.kinds:
            raise UserError("probe.kinds is empty: name a kind of matrix, such as query, or leave the probe out")

    def begin(self, backbone: Backbone, folder: Path) -> Observer:
        """Copy the weights; call this before a method is applied."""
        return Observer(self, backbone, folder)


class Observer:
    """One run's weights before training, and the measurement of their updates."""

    def __init__(self, probe: UpdateProbe, backbone: Backbone, folder: Path) -> None:
        self.probe, self.path = probe, folder / OBSERVED
        self.final = folder / UPDATES
        self.backbone = backbone
        partly = bool(probe.scales or probe.top)
        if partly and any(isinstance(module, weights.StoredMatrix) for module in backbone.model.modules()):
            raise UserError("probe.scales and probe.top need a backbone in floats: leave them out, or backbone.quantise")
        parameters = backbone.model.named_parameters() if partly else ()
        self.before = {name: parameter.detach().clone() for name, parameter in parameters}
        self.places = {
            kind: [backbone.projections(layer, kind)[0] for layer in range(backbone.n_layers)] for kind in probe.kinds
        }
        self.weights = {
            kind: [to_numpy(weights.read(place.module)[place.rows]) for place in places] for kind, places in self.places.items()
        }
        last = backbone.n_layers - 1
        self.layers = sorted({round(depth * last) for depth in probe.depths})

    def observe(self, step: int, total: int) -> None:
        """Measure if `step` is one of the observed steps. A resumed run measures the steps after its checkpoint again."""
        steps = {max(1, round(total * point / self.probe.points)) for point in range(1, self.probe.points + 1)}
        if step in steps:
            # Weights with NaN have no spectrum; the next loss that is read ends the training.
            with suppress(np.linalg.LinAlgError):
                self._measure(step)

    def _measure(self, step: int) -> None:
        now: dict[str, list[float]] = {}
        for kind, places in self.places.items():
            for place, weight in zip(places, self.weights[kind], strict=True):
                u, s, v = decomposed(place, weight)
                now.setdefault(f"{kind}.norm", []).append(float(np.linalg.norm(s)))
                now.setdefault(f"{kind}.effective_rank", []).append(effective_rank(s))
                full = int((s > 1e-6 * s[0]).sum()) if s[0] else 0
                for r in self.probe.directions:
                    inside = projected_norm(weight, u[:, :r], v[:, :r]) if r <= full else math.nan
                    now.setdefault(f"{kind}.inside_{r}", []).append(inside)
        history = load_file(self.path) if self.path.exists() else {"steps": np.zeros(0, np.int64)}
        before = history["steps"] < step
        arrays = {"steps": np.append(history["steps"][before], step)}
        for name, values in now.items():
            row = np.asarray([values], np.float32)  # (1, L)
            arrays[name] = np.concatenate([history[name][before], row]) if name in history else row
        write(arrays, self.path)

    def finish(self, steps: int, losses: Losses) -> None:
        """Measure the selected weights and write all arrays. The file of observed steps stays until the run has its record.

        losses: the model's losses as it is at the call, by name; None where it has no such loss.
        """
        self._measure(steps)
        arrays: dict[str, Array] = dict(load_file(self.path))
        some = self.weights[self.probe.kinds[0]][0]
        stride = max(1, some.shape[1] // 64)
        arrays["weight_directions"] = np.arange(stride, min(some.shape) + 1, stride)
        for kind, places in self.places.items():
            measurements: dict[str, list[float]] = {}
            spectra, parts = [], []
            for layer, (place, weight) in enumerate(zip(places, self.weights[kind], strict=True)):
                left, values, right = svd(weight)
                for name, value in self._constants(layer, weight, values).items():
                    measurements.setdefault(name, []).append(value)
                change = update(place, weight)
                measurements.setdefault("intruders", []).append(intruders(left, weight + change))
                parts.append([intruders(left, weight + factor * change) for factor in self.probe.scales])
                _, s, v = decomposed(place, weight)
                spectra.append(padded(s, min(self.probe.keep, *weight.shape)))
                if layer not in self.layers:
                    continue
                pair = factors(place)
                basis = (v if pair is None else svd(pair[1])[2])[:, : self.probe.keep]
                arrays[f"{kind}.basis_{layer}"] = basis.astype(np.float16)
                index = [i - 1 for i in arrays["weight_directions"] if i <= right.shape[1]]
                arrays[f"{kind}.weight_similarity_{layer}"] = similarity(right, basis)[index].astype(np.float32)
            arrays |= {f"{kind}.{name}": np.asarray(measurement, np.float32) for name, measurement in measurements.items()}
            arrays[f"{kind}.spectrum"] = np.asarray(spectra, np.float32)
            if self.probe.scales:
                arrays[f"{kind}.intruders_scaled"] = np.asarray(parts, np.float32).T
        write(arrays | self._partly(losses), self.final)

    def _partly(self, losses: Losses) -> dict[str, Array]:
        """The losses of the model with a part of its update, for every value of `scales` and `top`."""
        arrays: dict[str, Array] = {}
        if not self.before:
            return arrays
        with changes(self.backbone, self.before) as deltas:
            if self.probe.scales:
                arrays |= by_part("scales", self.probe.scales, partial(scaled, deltas), losses)
            if self.probe.top:
                arrays |= by_part("top", self.probe.top, Directions(deltas, max(self.probe.top)).keep, losses)
        return arrays

    def _constants(self, layer: int, weight: Array, s: Array) -> dict[str, float]:
        """The measurements of one matrix before training, with singular values `s`."""
        norms = {"weight_norm": float(np.linalg.norm(s))}
        for r in self.probe.directions:
            norms[f"weight_top_{r}"] = float(np.linalg.norm(s[:r]))
            left, right = (random_basis(n, min(r, n), layer + 1000 * side) for side, n in enumerate(weight.shape))
            norms[f"weight_random_{r}"] = projected_norm(weight, left, right)
        return norms


def by_part(name: str, parts: Sequence[Any], give: Callable[[Any], None], losses: Losses) -> dict[str, Array]:
    """`name`, the parts themselves, and `name`.<loss>, every loss of a model that `give` gave each of them in turn."""
    measurements = []
    for part in parts:
        give(part)
        measurements.append(losses())
    keys = [key for key, value in measurements[0].items() if value is not None]
    losses_of = {f"{name}.{key}": np.asarray([measurement[key] for measurement in measurements], np.float32) for key in keys}
    return {name: np.asarray(parts), **losses_of}


def write(arrays: Mapping[str, Array], path: Path) -> None:
    checkpoint.save_tensors(path, {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in arrays.items()})


def to_numpy(tensor: torch.Tensor) -> Array:
    """The tensor as a float64 array on the CPU."""
    return tensor.detach().to("cpu", torch.float64).numpy()


def updates_at(place: Projection) -> list[Update]:
    """The updates of the matrix at a projection's place, outermost first; empty if it has none."""
    return [module for module in weights.chain(place.module) if isinstance(module, Update)]


def update(place: Projection, before: Array) -> Array:
    """The effective update D (size, d_in) of a projection: what a method adds to W, or else W now minus W before."""
    if modules := updates_at(place):
        return sum((to_numpy(module.delta()[place.rows]) for module in modules), np.zeros_like(before))
    now = weights.read(place.module)
    if not now.requires_grad:  # frozen: it differs only by its rounding to bf16
        return np.zeros_like(before)
    return to_numpy(now[place.rows]) - before


def factors(place: Projection) -> tuple[Array, Array] | None:
    """(left (size, k), right (k, d_in)) whose product is the update; None unless there is a single update with factors."""
    pairs = [module.factors(place.rows) for module in updates_at(place)]
    if len(pairs) != 1 or pairs[0] is None:
        return None
    left, right = pairs[0]
    return to_numpy(left), to_numpy(right)


def decomposed(place: Projection, before: Array) -> tuple[Array, Array, Array]:
    """`singular` of `update`, from its factors if it has them: (size, k), (k,), (d_in, k)."""
    pair = factors(place)
    return svd(update(place, before)) if pair is None else singular_product(*pair)


def padded(values: Array, length: int) -> Array:
    """The first `length` values, padded with zeros."""
    return np.pad(values, (0, max(0, length - len(values))))[:length]

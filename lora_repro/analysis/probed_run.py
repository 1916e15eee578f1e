"""A probed run: its description and the arrays that its probe measured (probe.py documents them)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors.numpy import load_file

from lora_repro.analysis.spectra import Array
from lora_repro.files import once_per_version

if TYPE_CHECKING:
    from lora_repro.results import Run

NAMES = {"query": "W_q", "key": "W_k", "value": "W_v", "output": "W_o"}  # as the paper writes them


def scaling_of(method: Mapping[str, Any]) -> float:
    """alpha / r of a run's method node, or alpha / sqrt(r) for rsLoRA. Raises KeyError if it has no alpha or rank."""
    return float(method["alpha"] / method["rank"] ** (0.5 if method.get("scaling") == "sqrt_rank" else 1))


@dataclass(frozen=True)
class ProbedRun:
    """One run: its row, seed, LoRA rank and alpha / rank (None for another method), record and arrays.

    unsearched: whether its learning rate is a first guess that was not searched.
    """

    row: str
    label: str
    seed: int
    rank: int | None
    scaling: float | None
    record: dict[str, Any] = field(repr=False)
    arrays: dict[str, Array] = field(repr=False)
    unsearched: bool = False

    @property
    def kinds(self) -> list[str]:
        return [name.removesuffix(".norm") for name in self.arrays if name.endswith(".norm")]

    @property
    def n_layers(self) -> int:
        return int(self.arrays[f"{self.kinds[0]}.norm"].shape[1])

    @property
    def kept_layers(self) -> list[int]:
        """The layers whose directions were kept, in order."""
        names = (name.partition(".basis_")[2] for name in self.arrays if ".basis_" in name)
        return sorted({int(name) for name in names})

    @property
    def middle(self) -> int:
        """The layer shown as the middle of the model: that of a probe's depth 0.5."""
        return round(0.5 * (self.n_layers - 1))

    def basis(self, kind: str, layer: int) -> Array:
        """(d_in, K): right singular vectors of A, or of the update if the method has no A."""
        return self.arrays[f"{kind}.basis_{layer}"]


def probed_runs(runs: Sequence[Run]) -> list[ProbedRun]:
    """The trained runs that left arrays, each once, sorted by row, rank and seed."""
    probes: dict[str, ProbedRun] = {}
    for run in runs:
        if not run.trained or not run.updates.is_file():
            continue
        method = run.cell.asked["method"]
        rank = method.get("rank")
        label = run.cell.row.label if rank is None else f"{run.cell.row.label}, r = {rank}"
        scaling = scaling_of(method) if rank and "alpha" in method else None
        cell, arrays = run.cell, _arrays(run.updates)
        probes[run.signature] = ProbedRun(cell.row.name, label, cell.seed, rank, scaling, run.record, arrays, cell.unsearched)
    return sorted(probes.values(), key=lambda run: (run.rank is None, run.row, run.rank or 0, run.seed))


@once_per_version  # several experiments read the same runs
def _arrays(path: Path) -> dict[str, Any]:
    return load_file(path)


def groups_of(runs: Sequence[ProbedRun]) -> list[list[ProbedRun]]:
    """Groups of runs that differ only in their seed."""
    labels = dict.fromkeys(run.label for run in runs)
    return [[run for run in runs if run.label == label] for label in labels]


def directions(run: ProbedRun) -> list[int]:
    """The measured r to show: only the rank of a LoRA run, all of them for another method."""
    kind = run.kinds[0]
    ranks = sorted(int(name.rpartition("_")[2]) for name in run.arrays if name.startswith(f"{kind}.inside_"))
    return [r for r in ranks if run.rank is None or r == run.rank]


def update_factors(run: ProbedRun, kind: str, r: int, step: int = -1) -> Array:
    """Amplification ||D||_F / ||U^T W V||_F of every layer, alpha / rank included, at an observed step (-1: the end)."""
    return np.asarray(run.arrays[f"{kind}.norm"][step] / run.arrays[f"{kind}.inside_{r}"][step])


def random_factors(run: ProbedRun, kind: str, r: int, step: int = -1) -> Array:
    """The null of `update_factors`: ||D||_F / ||U^T W V||_F of every layer with U, V random, for an update of the same norm."""
    return np.asarray(run.arrays[f"{kind}.norm"][step] / run.arrays[f"{kind}.weight_random_{r}"])


def losses_of_parts(run: ProbedRun, name: str) -> Array:
    """The losses `name`.dev_loss, in float64, of the parts `name` of a run's update (scales or top); empty if not asked for."""
    return np.asarray(run.arrays.get(f"{name}.dev_loss", ()), np.float64)


def scale_at(run: ProbedRun, loss: float) -> float:
    """The smallest lambda at which the run's held-out loss is at most `loss`, linear between the measured lambda.

    The loss with the whole update must be at most `loss`.
    """
    scales, losses = np.asarray(run.arrays["scales"], np.float64), losses_of_parts(run, "scales")
    index = int(np.argmax(losses <= loss))
    if index == 0:
        return float(scales[0])
    share = (losses[index - 1] - loss) / (losses[index - 1] - losses[index])
    return float(scales[index - 1] + share * (scales[index] - scales[index - 1]))


def gap_at(run: ProbedRun, scale: float) -> float:
    """How far apart the measured lambda are between which `scale` lies; 0 at a measured one."""
    scales = np.asarray(run.arrays["scales"], np.float64)
    if np.isclose(scales, scale).any():
        return 0.0
    return float(scales[scales > scale].min() - scales[scales < scale].max())


def at_scale(run: ProbedRun, name: str, scale: float) -> Array:
    """An array whose first axis is the run's lambda, such as `scales.general_loss` (S,), at one lambda, linear in between."""
    scales, values = np.asarray(run.arrays["scales"], np.float64), np.asarray(run.arrays[name], np.float64)
    columns = values.reshape(len(scales), -1).T
    return np.array([np.interp(scale, scales, column) for column in columns]).reshape(values.shape[1:])


def gain_kept(run: ProbedRun, name: str) -> Array:
    """(parts,): the share of the gain in held-out loss that each part keeps: (L_0 - L_part) / (L_0 - L_1) of lambda 0 and 1.

    Empty if the run was not asked for the parts `name`, or not for lambda 0 and 1.
    """
    scales, losses = list(run.arrays.get("scales", ())), losses_of_parts(run, "scales")
    if not {0.0, 1.0} <= {*scales}:
        return np.empty(0)
    nothing, full_loss = losses[scales.index(0.0)], losses[scales.index(1.0)]
    return np.asarray((nothing - losses_of_parts(run, name)) / (nothing - full_loss))

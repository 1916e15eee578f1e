"""Heat maps of the subspace analysis (Figures 3, 4, 6, 7, 8 of the paper), from probed runs.

Every row of panels ends with what two random Gaussian matrices give and with the chance level, on the same colour scale.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from lora_repro.analysis.overlaps import between_ranks, between_seeds, gaussian, with_weight
from lora_repro.analysis.spectra import Array, chance, random_basis, similarity
from lora_repro.analysis.updates import NAMES, Probed
from lora_repro.report.figures.heatmap import Map, save

PHI = "φ(i, j): 1 = one span contains the other, 0 = orthogonal"
SHARE = 0.2  # of W's directions, from the top: where the paper looks (its Figure 8 shows the top 10 %)


def figures(runs: Sequence[Probed], title: str, stem: Path) -> list[Path]:
    """`stem`_ranks, _seeds and _weight, as SVG and PNG, of whatever the runs allow."""
    lora = [run for run in runs if run.rank]
    if not lora:
        return []
    paths = []
    layers, kinds = lora[0].kept_layers, lora[0].kinds
    ranks = sorted({run.rank for run in lora if run.rank})
    m, n = ranks[0], ranks[-1]
    if pairs := len(between_ranks(lora, kinds[0], layers[0])):
        rows = []
        for kind in kinds:
            grids = [np.mean(list(between_ranks(lora, kind, layer).values()), axis=0) for layer in layers]
            rows += [_row(lora, kind, grids), _row(lora, kind, [grid[:, :m] for grid in grids], f", j ≤ {m}")]
        what = f"A of r = {m} (i, down) and, of another seed, r = {n} (j, across); {_mean(pairs)}"
        paths += save(rows, f"{title}\n{what}", PHI, stem.with_name(f"{stem.name}_ranks"))
    if pairs := len(between_seeds(lora, kinds[0], layers[0])):
        rows = []
        for kind in kinds:
            grids = [np.mean(between_seeds(lora, kind, layer), axis=0) for layer in layers]
            first = n // 8 or 1
            rows += [_row(lora, kind, grids), _row(lora, kind, [grid[:first, :first] for grid in grids], f", i, j ≤ {first}")]
        what = f"A of r = {n} of two seeds; {_mean(pairs)}"
        paths += save(rows, f"{title}\n{what}", PHI, stem.with_name(f"{stem.name}_seeds"))
    return [*paths, *_weight_figure(lora, title, stem)]


def _mean(pairs: int) -> str:
    return f"mean over {pairs} pairs of runs" if pairs > 1 else "one pair of runs"


def beside_chance(grid_shape: tuple[int, int], dimension: int) -> list[Map]:
    """The two panels to read phi against: two Gaussian matrices, and max(i, j)/d."""
    random = panel("two Gaussian matrices", gaussian(dimension, *grid_shape))
    return [random, panel("chance, max(i, j)/d", chance(*grid_shape, dimension))]


def panel(title: str, grid: Array) -> Map:
    """phi over i (down) and j (across)."""
    return Map(title, grid, "j", "i", (1, grid.shape[1]), (1, grid.shape[0]))


def _row(lora: Sequence[Probed], kind: str, grids: Sequence[Array], part: str = "") -> list[Map]:
    """A panel a kept layer, then the two to read them against; `part`: which of the directions they show."""
    layers = lora[0].kept_layers
    row = [panel(f"{NAMES[kind]}, layer {layer + 1}{part}", grid) for layer, grid in zip(layers, grids, strict=True)]
    shape = grids[0].shape
    return [*row, *beside_chance((shape[0], shape[1]), lora[0].basis(kind, layers[0]).shape[0])]


def _weight_figure(lora: Sequence[Probed], title: str, stem: Path) -> list[Path]:
    """Top i directions of W, up to SHARE of them, and top j of A: a row a matrix and rank, mean over its seeds."""
    rows = []
    for kind in lora[0].kinds:
        for rank in sorted({run.rank for run in lora if run.rank}):
            same, row = [run for run in lora if run.rank == rank], []
            d = same[0].basis(kind, same[0].kept_layers[0]).shape[0]
            for layer in same[0].kept_layers:
                index = with_weight(same[0], kind, layer)[0]
                index = index[index <= SHARE * d]
                grid = np.mean([with_weight(run, kind, layer)[1] for run in same], axis=0)[: len(index)]
                row.append(_weight_panel(f"{NAMES[kind]}, layer {layer + 1}, r = {rank}", grid, index))
            n = grid.shape[1]
            # Any fixed orthonormal basis may stand for W's: a Gaussian subspace prefers none.
            random = similarity(np.eye(d), random_basis(d, n, seed=1))[index - 1]
            row.append(_weight_panel("Gaussian in A's place", random, index))
            row.append(_weight_panel("chance, max(i, j)/d", chance(int(index[-1]), n, d)[index - 1], index))
            rows.append(row)
    seeds = len({run.seed for run in lora})
    what = f"Top i directions of W, up to {100 * SHARE:.0f} % of them, and top j of A; mean over n = {seeds} seeds"
    return save(rows, f"{title}\n{what}", PHI, stem.with_name(f"{stem.name}_weight"))


def _weight_panel(title: str, grid: Array, index: Array) -> Map:
    return Map(title, grid, "j", "i of W", (1, grid.shape[1]), (float(index[0]), float(index[-1])))

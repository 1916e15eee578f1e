"""Sheets and heat maps of the subspace analysis (Figures 3, 4, 6, 7, 8 of the paper), from probed runs."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from lora_repro.analysis import Array, chance, random_basis, similarity
from lora_repro.heatmap import Map, save
from lora_repro.overlaps import between_ranks, between_seeds, gaussian, with_weight
from lora_repro.rows import Block
from lora_repro.sheet import Sheet
from lora_repro.updates import Probed

NAMES = {"query": "W_q", "key": "W_k", "value": "W_v", "output": "W_o"}
PHI = "φ(i, j): 1 = one span contains the other, 0 = orthogonal"


def sheets(runs: Sequence[Probed], facts: tuple[str, ...], blocks: Sequence[Block] = ()) -> list[Sheet]:
    """Between ranks, between seeds, and with W: a line a layer and matrix, chance in brackets."""
    lora = [run for run in runs if run.rank]
    if not lora:
        return []
    ranks = sorted({run.rank for run in lora if run.rank})
    d = lora[0].basis(lora[0].kinds[0], lora[0].kept_layers[0]).shape[0]
    found = []
    if len(ranks) > 1:
        m, n = ranks[0], ranks[-1]
        places = sorted({(1, 1), (2, 2), (m, m), (m, n)})
        rows = _rows(lora, places, d, lambda kind, layer: list(between_ranks(lora, kind, layer).values()))
        title = f"{facts[0]}: A of rank {m} and of rank {n}, same seed"
        found.append(_sheet((title, *facts[1:]), places, rows))
    if any(between_seeds(lora, kind, lora[0].kept_layers[0]) for kind in lora[0].kinds):
        n = ranks[-1]
        places = sorted({(1, 1), (4, 4), (n // 8 or 1, n // 8 or 1), (n, n)})
        rows = _rows(lora, places, d, lambda kind, layer: between_seeds(lora, kind, layer))
        random = gaussian(d, n, n)
        rows.append(("—", "two Gaussian matrices", *[_cell([random], i, j, d) for i, j in places], "1"))
        found.append(_sheet((f"{facts[0]}: A of rank {n} from two seeds", *facts[1:]), places, rows))
    found.append(_weight_sheet(lora, facts, d))
    return found


def _rows(
    lora: Sequence[Probed],
    places: Sequence[tuple[int, int]],
    d: int,
    grids: Callable[[str, int], list[Array]],
) -> list[tuple[str, ...]]:
    rows = []
    for kind in lora[0].kinds:
        for layer in lora[0].kept_layers:
            found = grids(kind, layer)
            cells = [_cell(found, i, j, d) for i, j in places]
            rows.append((f"{layer + 1} of {lora[0].n_layers}", NAMES[kind], *cells, str(len(found))))
    return rows


def _cell(grids: Sequence[Array], i: int, j: int, d: int) -> str:
    """Mean ± sd over the grids at (i, j), and the chance level max(i, j)/d."""
    values = [float(grid[min(i, grid.shape[0]) - 1, min(j, grid.shape[1]) - 1]) for grid in grids]
    if not values:
        return "—"
    spread = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else "†"
    return f"{statistics.fmean(values):.2f}{spread} ({max(i, j) / d:.2f})"


def _sheet(facts: tuple[str, ...], places: Sequence[tuple[int, int]], rows: Sequence[tuple[str, ...]]) -> Sheet:
    header = ("Layer", "Matrix", *[f"φ({i}, {j})" for i, j in places], "n")
    notes = (
        "φ of right singular vectors of A (Section 7.2), n comparisons; in brackets the chance level max(i, j)/d of two "
        "random subspaces.",
        "† n = 1: no spread, supports no verdict.",
    )
    return Sheet(facts, header, "ll" + "r" * (len(places) + 1), tuple(rows), notes)


def _weight_sheet(lora: Sequence[Probed], facts: tuple[str, ...], d: int) -> Sheet:
    """phi(W, A, i, 4) at i = 10 % of d, W's directions against A's and against a Gaussian matrix's (Figure 8)."""
    rows = []
    for kind in lora[0].kinds:
        for layer in lora[0].kept_layers:
            cells = []
            for rank in sorted({run.rank for run in lora if run.rank}):
                same = [with_weight(run, kind, layer) for run in lora if run.rank == rank]
                place = int(np.argmin(np.abs(same[0][0] - d / 10)))
                values = [float(grid[place, min(4, grid.shape[1]) - 1]) for _, grid in same]
                spread = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else "†"
                cells.append(f"{statistics.fmean(values):.2f}{spread}")
            i = int(same[0][0][place])
            rows.append((f"{layer + 1} of {lora[0].n_layers}", NAMES[kind], str(i), *cells, f"{i / d:.2f}"))
    ranks = sorted({run.rank for run in lora if run.rank})
    header = ("Layer", "Matrix", "i", *[f"φ(W, A of r = {rank}, i, 4)" for rank in ranks], "chance")
    notes = ("How much of the 4 top directions of A lies in the top i ≈ d/10 directions of W; the paper: barely above 0.2.",)
    return Sheet((f"{facts[0]}: W and A", *facts[1:]), header, "ll" + "r" * (len(ranks) + 2), tuple(rows), notes)


def figures(runs: Sequence[Probed], title: str, folder: Path) -> list[Path]:
    """subspace_ranks, subspace_seeds and subspace_weight, as SVG and PNG, of whatever the runs allow."""
    lora = [run for run in runs if run.rank]
    if not lora:
        return []
    first, paths = lora[0], []
    layers, kinds = first.kept_layers, first.kinds
    d = first.basis(kinds[0], layers[0]).shape[0]
    ranks = sorted({run.rank for run in lora if run.rank})
    m, n = ranks[0], ranks[-1]
    if all(between_ranks(lora, kind, layers[0]) for kind in kinds):
        rows = []
        for kind in kinds:
            grids = [next(iter(between_ranks(lora, kind, layer).values())) for layer in layers]
            rows.append([_map(f"{NAMES[kind]}, layer {layer + 1}", g) for layer, g in zip(layers, grids, strict=True)])
            rows[-1].append(_map("chance, max(i, j)/d", chance(grids[0].shape[0], grids[0].shape[1], d)))
        paths += save(rows, f"{title}\nA of r = {m} (i, down) and r = {n} (j, across)", PHI, folder / "subspace_ranks", 1.0)
    if all(between_seeds(lora, kind, layers[0]) for kind in kinds):
        rows = []
        for kind in kinds:
            grids = [between_seeds(lora, kind, layer)[0] for layer in layers]
            rows.append([_map(f"{NAMES[kind]}, layer {layer + 1}", g) for layer, g in zip(layers, grids, strict=True)])
            rows[-1].append(_map("two Gaussian matrices", gaussian(d, *grids[0].shape)))
        paths += save(rows, f"{title}\nA of r = {n}, two seeds", PHI, folder / "subspace_seeds")
    return [*paths, *_weight_figure(lora, title, folder)]


def _map(title: str, grid: Array) -> Map:
    return Map(title, grid, "j", "i", (1, grid.shape[1]), (1, grid.shape[0]))


def _weight_figure(lora: Sequence[Probed], title: str, folder: Path) -> list[Path]:
    """Each rank's first seed in the middle kept layer, and a Gaussian matrix in A's place."""
    layer = lora[0].kept_layers[len(lora[0].kept_layers) // 2]
    rows = []
    for kind in lora[0].kinds:
        row, shape = [], (1, 1)
        for rank in sorted({run.rank for run in lora if run.rank}):
            index, grid = with_weight(next(run for run in lora if run.rank == rank), kind, layer)
            bounds = (float(index[0]), float(index[-1]))
            row.append(Map(f"{NAMES[kind]}, layer {layer + 1}: A of r = {rank}", grid, "j", "i of W", (1, grid.shape[1]), bounds))
            shape = (len(index), grid.shape[1])
        d = lora[0].basis(kind, layer).shape[0]
        # Any fixed orthonormal basis may stand for W's: a Gaussian subspace prefers none.
        random = similarity(np.eye(d), random_basis(d, shape[1], seed=1))[[int(i) - 1 for i in index]]
        row.append(Map("a Gaussian matrix in A's place", random, "j", "i of W", (1, shape[1]), bounds))
        rows.append(row)
    return save(rows, f"{title}\nTop i directions of W and top j of A", PHI, folder / "subspace_weight")

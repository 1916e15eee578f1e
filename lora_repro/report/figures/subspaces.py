"""Heat maps of the subspace analysis in the form of the paper's Figures 3, 4, 6, 7 and 8, from probed runs.

All share one colour scale, 0 to 1 as phi, and are shown beside the phi of two random Gaussian matrices. The paper's maps are
images; the few values that it prints are in the captions here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from lora_repro.analysis.overlaps import between_ranks, between_seeds, gaussian, with_weight
from lora_repro.analysis.probed_run import NAMES, ProbedRun
from lora_repro.analysis.spectra import Array, chance, random_basis, similarity
from lora_repro.report.figures.heatmap import Heatmap, save

PHI = "φ(i, j): 1 = one span holds the other, 0 = orthogonal"
SHARE = 0.2  # the share of W's directions shown, from the top (the paper's Figure 8 shows the top 10 %)
PAPER = {
    "ranks": "The paper (GPT-3 175B, layer 48, r = 8 and 64): only the top direction is shared, with φ > 0.5.",
    "seeds": "The paper (GPT-3 175B, layer 48, r = 64): ΔW_q shares more directions than ΔW_v, two Gaussian matrices none.",
    "weight": "The paper (GPT-3 175B): φ of the top 4 directions of ΔW_q and the top 10 % of W_q is barely above 0.2.",
}
Grids = Callable[[str, int], Array]  # (kind of matrix, layer) -> phi


def figures(runs: Sequence[ProbedRun], title: str, stem: Path) -> list[Path]:
    """Draw the figures that the runs allow: `stem`_ranks and `stem`_seeds at the middle layer, with the suffix _layers at every
    kept layer, and `stem`_weight.

    title: whose runs these are, for the captions.
    """
    lora = [run for run in runs if run.rank]
    if not lora:
        return []
    ranks = sorted({run.rank for run in lora if run.rank})
    m, n = ranks[0], ranks[-1]
    middle = f"layer {_middle(lora[0]) + 1} of {lora[0].n_layers}"
    first = n // 8 or 1
    paths = []
    if pairs := len(between_ranks(lora, lora[0].kinds[0], lora[0].kept_layers[0])):
        what = f"A of r = {m} (i, down) and, of another seed, r = {n} (j, across); {_mean(pairs)}"
        zoom = f"j ≤ {m}"

        def of_ranks(kind: str, layer: int) -> Array:
            return np.asarray(np.mean(list(between_ranks(lora, kind, layer).values()), axis=0))

        said = f"Top directions of r = {m} and r = {n}, {middle}: φ(1, 1) is {_at(lora, of_ranks, 1)}"
        paths += _drawn(lora, of_ranks, m, 1, zoom, said, "ranks", f"{what}. {_caption(title)}", stem)
    if pairs := len(between_seeds(lora, lora[0].kinds[0], lora[0].kept_layers[0])):
        what, zoom = f"A of r = {n} of two seeds; {_mean(pairs)}", f"i, j ≤ {first}"

        def of_seeds(kind: str, layer: int) -> Array:
            return np.asarray(np.mean(between_seeds(lora, kind, layer), axis=0))

        said = f"Directions that two seeds share at r = {n}, {middle}: φ({first}, {first}) is {_at(lora, of_seeds, first)}"
        paths += _drawn(lora, of_seeds, first, first, zoom, said, "seeds", f"{what}. {_caption(title)}", stem)
    return [*paths, *_weight_figure(lora, title, stem)]


def _drawn(
    lora: Sequence[ProbedRun], grids: Grids, part: int, dim: int, zoom: str, said: str, name: str, caption: str, stem: Path
) -> list[Path]:
    """Figures 3 and 4: one panel per matrix at the middle layer and one of Gaussians, then the first `part` directions again.
    Figures 6 and 7: the same matrices at every kept layer.

    dim: the i = j whose phi the titles give.
    """
    run, layer = lora[0], _middle(lora[0])
    every = {kind: grids(kind, layer) for kind in run.kinds}
    shape = next(iter(every.values())).shape
    d = run.basis(run.kinds[0], layer).shape[0]
    full, near = (shape[0], shape[1]), (min(part, shape[0]), min(part, shape[1]))
    random, _ = beside_chance(full, d)
    _, level = beside_chance(near, d)
    one = [panel(f"Δ{NAMES[kind]}", grid) for kind, grid in every.items()]
    two = [panel(f"Δ{NAMES[kind]}, {zoom}", grid[: near[0], : near[1]]) for kind, grid in every.items()]
    caption = f"{caption} {PAPER[name]}"
    here = f"Layer {layer + 1} of {run.n_layers}. {caption}"
    paths = save([[*one, random], [*two, level]], said, PHI, stem.with_name(f"{stem.name}_{name}"), 1.0, here)
    layers = {kind: {at: grids(kind, at) for at in run.kept_layers} for kind in run.kinds}
    maps = [[panel(f"Δ{NAMES[kind]}, layer {at + 1}", grid) for at, grid in phis.items()] for kind, phis in layers.items()]
    value, at, kind = max((grid[dim - 1, dim - 1], at, kind) for kind, phis in layers.items() for at, grid in phis.items())
    most = f"φ({dim}, {dim}) is largest in layer {at + 1} of {run.n_layers}: {value:.2f} in {NAMES[kind]}"
    least = f"Chance, max(i, j)/d, is at most {max(full) / d:.2f}."
    to = stem.with_name(f"{stem.name}_{name}_layers")
    return [*paths, *save(maps, f"{said.partition(', layer')[0]}: {most}", PHI, to, 1.0, f"{caption} {least}")]


def _middle(run: ProbedRun) -> int:
    """The kept layer nearest to the middle of the model."""
    return min(run.kept_layers, key=lambda layer: abs(layer - run.middle))


def _at(lora: Sequence[ProbedRun], grids: Grids, dim: int) -> str:
    """`0.62 in W_q, 0.41 in W_v`: phi(dim, dim) of the middle layer."""
    values = {kind: grids(kind, _middle(lora[0])) for kind in lora[0].kinds}
    return ", ".join(f"{grid[dim - 1, dim - 1]:.2f} in {NAMES[kind]}" for kind, grid in values.items())


def _caption(title: str) -> str:
    return ". ".join(title.splitlines()).rstrip(".") + "."


def _mean(pairs: int) -> str:
    return f"mean over {pairs} pairs of runs" if pairs > 1 else "one pair of runs"


def beside_chance(grid_shape: tuple[int, int], dimension: int) -> list[Heatmap]:
    """The two baselines of phi as panels: two Gaussian matrices, and the chance level max(i, j)/d."""
    random = panel("two Gaussian matrices", gaussian(dimension, *grid_shape))
    return [random, panel("chance, max(i, j)/d", chance(*grid_shape, dimension))]


def panel(title: str, grid: Array) -> Heatmap:
    """The panel of phi over i (down) and j (across)."""
    return Heatmap(title, grid, "j", "i", (1, grid.shape[1]), (1, grid.shape[0]))


def _weight_figure(lora: Sequence[ProbedRun], title: str, stem: Path) -> list[Path]:
    """Figure 8: the top i directions of W, up to SHARE of them, and the top j of A, mean over seeds. A row of panels per matrix,
    with one panel per rank.
    """
    rows, values = [], []
    layer = _middle(lora[0])
    d = lora[0].basis(lora[0].kinds[0], layer).shape[0]
    ranks = sorted({run.rank for run in lora if run.rank})
    for kind in lora[0].kinds:
        row = []
        for rank in ranks:
            same = [run for run in lora if run.rank == rank]
            index = with_weight(same[0], kind, layer)[0]
            index = index[index <= SHARE * d]
            grid = np.mean([with_weight(run, kind, layer)[1] for run in same], axis=0)[: len(index)]
            row.append(_weight_panel(f"{NAMES[kind]}, ΔW of r = {rank}", grid, index))
            tenth = int(np.argmin(np.abs(index - d / 10)))
            i = int(index[tenth])
            values.append(f"{grid[tenth, min(4, grid.shape[1]) - 1]:.2f} in {NAMES[kind]} at r = {rank}")
        # Any fixed orthonormal basis may replace that of W: a Gaussian subspace prefers no direction.
        random = similarity(np.eye(d), random_basis(d, grid.shape[1], seed=1))[index - 1]
        rows.append([*row, _weight_panel("Gaussian in A's place", random, index)])
    seeds = len({run.seed for run in lora})
    what = f"Top i directions of W, i up to {100 * SHARE:.0f} % of d = {d}, and top j of A; mean over n = {seeds} seeds"
    level = f"Chance, max(i, j)/d, is {i / d:.2f} at i = {i}, about d/10."
    caption = f"Layer {layer + 1} of {lora[0].n_layers}. {what}. {_caption(title)} {PAPER['weight']} {level}"
    where = f"layer {layer + 1} of {lora[0].n_layers}"
    said = f"φ of the top {i} directions of W and the top 4 of ΔW, {where}: {', '.join(values)}"
    return save(rows, said, PHI, stem.with_name(f"{stem.name}_weight"), 1.0, caption)


def _weight_panel(title: str, grid: Array, index: Array) -> Heatmap:
    return Heatmap(title, grid, "j", "i of W", (1, grid.shape[1]), (float(index[0]), float(index[-1])))

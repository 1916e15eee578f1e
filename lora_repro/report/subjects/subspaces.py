"""The directions that updates share (Figures 3, 4, 6, 7 and 8 of the paper), from probed runs: tables, heat maps, and the claims.

All maps share one colour scale, 0 to 1 as phi, and are shown beside the phi of two random Gaussian matrices. The paper's maps are
images; the few values that it prints are in the captions here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from lora_repro.analysis.overlaps import (
    Pair,
    between_ranks,
    between_seeds,
    gaussian,
    independent,
    rank_pairs,
    seed_pairs,
    with_weight,
)
from lora_repro.analysis.probed_run import NAMES, ProbedRun
from lora_repro.analysis.spectra import Array, chance, random_basis, similarity
from lora_repro.errors import UserError
from lora_repro.report.claims.base import Evidence
from lora_repro.report.claims.reading import Reading
from lora_repro.report.exhibit import Exhibit, ReportRequest
from lora_repro.report.figures.heatmap import Heatmap, save
from lora_repro.report.numbers import summarise
from lora_repro.report.subjects import probed
from lora_repro.report.subjects.probed import Probing, of_values, region_rule
from lora_repro.report.table import EMPTY, SINGLE, Number, Table, format_count
from lora_repro.results import Store
from lora_repro.stats.verdict import NOT_RUN

PHI = "φ(i, j): 1 = one span holds the other, 0 = orthogonal"
SHARE = 0.2  # the share of W's directions shown, from the top (the paper's Figure 8 shows the top 10 %)
PAPER = {
    "ranks": "The paper (GPT-3 175B, layer 48, r = 8 and 64): only the top direction is shared, with φ > 0.5.",
    "seeds": "The paper (GPT-3 175B, layer 48, r = 64): ΔW_q shares more directions than ΔW_v, two Gaussian matrices none.",
    "weight": "The paper (GPT-3 175B): φ of the top 4 directions of ΔW_q and the top 10 % of W_q is barely above 0.2.",
}
Grids = Callable[[str, int], Array]  # (kind of matrix, layer) -> phi
Pairs = Sequence[tuple[str, Sequence[Pair]]]
WORDS = {"ranks": "ranks, of different seeds", "seeds": "seeds", "seeds of each rank": "seeds, at each rank"}
OF = {"ranks": "smallest/largest", "seeds": "largest", "seeds of each rank": "each"}  # the ranks that are read


@dataclass(frozen=True)
class Subspaces:
    """Which directions updates share between two ranks, between two seeds, and with W: tables and heat maps."""

    title: str

    def exhibits(self, ask: ReportRequest, stores: Sequence[Store]) -> list[Exhibit]:
        return probed.exhibits(ask, stores, self.title, tables, figures)


def tables(runs: Sequence[ProbedRun], facts: tuple[str, ...]) -> list[Table]:
    """The tables between ranks, between seeds, and with W: one line per layer and matrix, the chance level in brackets."""
    lora = [run for run in runs if run.rank]
    if not lora:
        return []
    ranks = sorted({run.rank for run in lora if run.rank})
    d = lora[0].basis(lora[0].kinds[0], lora[0].kept_layers[0]).shape[0]
    tables = []
    if len(ranks) > 1:
        m, n = ranks[0], ranks[-1]
        places = sorted({(1, 1), (2, 2), (m, m), (m, n)})
        rows = _rows(lora, places, rank_pairs(lora), lambda kind, layer: list(between_ranks(lora, kind, layer).values()))
        title = f"{facts[0]}: A of rank {m} and of rank {n}, different seeds"
        tables.append(_beside(_table((title, *facts[1:]), places, rows), lora))
    if seed_pairs(lora):
        n = ranks[-1]
        places = sorted({(1, 1), (4, 4), (n // 8 or 1, n // 8 or 1), (n, n)})
        rows = _rows(lora, places, seed_pairs(lora), lambda kind, layer: between_seeds(lora, kind, layer))
        random = gaussian(d, n, n)
        rows.append((EMPTY, "two Gaussian matrices", *[_cell([random], 1, i, j, d) for i, j in places], format_count(1)))
        tables.append(_table((f"{facts[0]}: A of rank {n} from two seeds", *facts[1:]), places, rows))
    tables.append(_weight_table(lora, facts, d))
    return tables


def _rows(
    lora: Sequence[ProbedRun],
    places: Sequence[tuple[int, int]],
    pairs: Sequence[Pair],
    grids: Callable[[str, int], list[Array]],
) -> list[tuple[str, ...]]:
    rows = []
    n = independent(pairs)
    for kind in lora[0].kinds:
        for layer in lora[0].kept_layers:
            of_seeds = grids(kind, layer)
            d = lora[0].basis(kind, layer).shape[0]
            cells = [_cell(of_seeds, n, i, j, d) for i, j in places]
            rows.append((f"{layer + 1} of {lora[0].n_layers}", NAMES[kind], *cells, format_count(n)))
    return rows


def _cell(grids: Sequence[Array], n: int, i: int, j: int, d: int) -> str:
    """Mean ± sd over the grids at (i, j), for n = 1 their range; then the chance level max(i, j)/d. As a number: the mean."""
    values = [float(grid[min(i, grid.shape[0]) - 1, min(j, grid.shape[1]) - 1]) for grid in grids]
    if not values:
        return EMPTY
    mean, ends = summarise(values), dict.fromkeys(f"{value:.2f}" for value in (min(values), max(values)))
    text = mean.text(2) if n > 1 else f"{'–'.join(ends)}{SINGLE}"
    return Number(f"{text} ({max(i, j) / d:.2f})", mean.mean, mean.sd if n > 1 else None, n)


def _beside(table: Table, lora: Sequence[ProbedRun]) -> Table:
    """The table of two ranks with phi(1, 1) at the same seed as its last column, and a note why that is not evidence."""
    rows = []
    places = [(kind, layer) for kind in lora[0].kinds for layer in lora[0].kept_layers]
    for row, (kind, layer) in zip(table.rows, places, strict=True):
        values = [f"{grid[0, 0]:.2f}" for grid in between_ranks(lora, kind, layer, same_seed=True).values()]
        rows.append((*row, ", ".join(values) or EMPTY))
    note = (
        "Same seed: not evidence. Two runs of one seed share the order of the data and, in the first adapted matrix (W_q of "
        "layer 1), the initial values: A of the smaller rank starts as the first rows of the larger rank's A."
    )
    return replace(table, header=(*table.header, "same seed: φ(1, 1)"), sides=table.sides + "r", rows=tuple(rows),
                   footnotes=(*table.footnotes, note))  # fmt: skip


def _table(facts: tuple[str, ...], places: Sequence[tuple[int, int]], rows: Sequence[tuple[str, ...]]) -> Table:
    header = ("Layer", "Matrix", *[f"φ({i}, {j})" for i, j in places], "n")
    notes = (
        "φ of the right singular vectors of A (Section 7.2): mean ± sd over all pairs of seeds. n: the number of pairs that "
        "share no seed. In brackets: the chance level max(i, j)/d, that of two random subspaces.",
        "† n = 1: one pair of seeds (both ways round where the ranks differ); supports no verdict.",
    )
    return Table(facts, header, "ll" + "r" * (len(places) + 1), tuple(rows), notes, keys=2)


def _weight_table(lora: Sequence[ProbedRun], facts: tuple[str, ...], d: int) -> Table:
    """phi(W, A, i, 4) at i = 10 % of d, of W's and A's directions, with the chance level i / d (Figure 8)."""
    rows = []
    for kind in lora[0].kinds:
        for layer in lora[0].kept_layers:
            cells = []
            for rank in sorted({run.rank for run in lora if run.rank}):
                same = [with_weight(run, kind, layer) for run in lora if run.rank == rank]
                row = int(np.argmin(np.abs(same[0][0] - d / 10)))
                cells.append(summarise([float(grid[row, min(4, grid.shape[1]) - 1]) for _, grid in same]).text(2))
            i = int(same[0][0][row])
            chance = Number(f"{i / d:.2f}", i / d)
            rows.append((f"{layer + 1} of {lora[0].n_layers}", NAMES[kind], format_count(i), *cells, chance))
    ranks = sorted({run.rank for run in lora if run.rank})
    header = ("Layer", "Matrix", "i", *[f"φ(W, A of r = {rank}, i, 4)" for rank in ranks], "chance")
    notes = ("φ: how much of the top 4 directions of A lies in the top i ≈ d/10 directions of W. The paper: barely above 0.2.",)
    return Table((f"{facts[0]}: W and A", *facts[1:]), header, "ll" + "r" * (len(ranks) + 2), tuple(rows), notes, keys=2)


def figures(runs: Sequence[ProbedRun], caption: str, stem: Path) -> list[Path]:
    """Draw the figures that the runs allow: `stem`_ranks and `stem`_seeds at the middle layer, with the suffix _layers at every
    kept layer, and `stem`_weight.

    caption: whose runs these are.
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
        description = f"A of r = {m} (i, down) and, of another seed, r = {n} (j, across); {_mean(pairs)}"
        zoom = f"j ≤ {m}"

        def of_ranks(kind: str, layer: int) -> Array:
            return np.asarray(np.mean(list(between_ranks(lora, kind, layer).values()), axis=0))

        title = f"Top directions of r = {m} and r = {n}, {middle}: φ(1, 1) is {_at(lora, of_ranks, 1)}"
        paths += _drawn(lora, of_ranks, m, 1, zoom, title, "ranks", f"{description}. {caption}", stem)
    if pairs := len(between_seeds(lora, lora[0].kinds[0], lora[0].kept_layers[0])):
        description, zoom = f"A of r = {n} of two seeds; {_mean(pairs)}", f"i, j ≤ {first}"

        def of_seeds(kind: str, layer: int) -> Array:
            return np.asarray(np.mean(between_seeds(lora, kind, layer), axis=0))

        title = f"Directions that two seeds share at r = {n}, {middle}: φ({first}, {first}) is {_at(lora, of_seeds, first)}"
        paths += _drawn(lora, of_seeds, first, first, zoom, title, "seeds", f"{description}. {caption}", stem)
    return [*paths, *_weight_figure(lora, caption, stem)]


def _drawn(
    lora: Sequence[ProbedRun], grids: Grids, part: int, dim: int, zoom: str, title: str, name: str, caption: str, stem: Path
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
    full_panels = [panel(f"Δ{NAMES[kind]}", grid) for kind, grid in every.items()]
    near_panels = [panel(f"Δ{NAMES[kind]}, {zoom}", grid[: near[0], : near[1]]) for kind, grid in every.items()]
    caption = f"{caption} {PAPER[name]}"
    layer_caption = f"Layer {layer + 1} of {run.n_layers}. {caption}"
    panels = [[*full_panels, random], [*near_panels, level]]
    paths = save(panels, title, PHI, stem.with_name(f"{stem.name}_{name}"), 1.0, layer_caption)
    layers = {kind: {at: grids(kind, at) for at in run.kept_layers} for kind in run.kinds}
    maps = [[panel(f"Δ{NAMES[kind]}, layer {at + 1}", grid) for at, grid in phis.items()] for kind, phis in layers.items()]
    value, at, kind = max((grid[dim - 1, dim - 1], at, kind) for kind, phis in layers.items() for at, grid in phis.items())
    most = f"φ({dim}, {dim}) is largest in layer {at + 1} of {run.n_layers}: {value:.2f} in {NAMES[kind]}"
    least = f"Chance, max(i, j)/d, is at most {max(full) / d:.2f}."
    to = stem.with_name(f"{stem.name}_{name}_layers")
    return [*paths, *save(maps, f"{title.partition(', layer')[0]}: {most}", PHI, to, 1.0, f"{caption} {least}")]


def _middle(run: ProbedRun) -> int:
    """The kept layer nearest to the middle of the model."""
    return min(run.kept_layers, key=lambda layer: abs(layer - run.middle))


def _at(lora: Sequence[ProbedRun], grids: Grids, dim: int) -> str:
    """`0.62 in W_q, 0.41 in W_v`: phi(dim, dim) of the middle layer."""
    values = {kind: grids(kind, _middle(lora[0])) for kind in lora[0].kinds}
    return ", ".join(f"{grid[dim - 1, dim - 1]:.2f} in {NAMES[kind]}" for kind, grid in values.items())


def _mean(pairs: int) -> str:
    return f"mean over {pairs} pairs of runs" if pairs > 1 else "one pair of runs"


def beside_chance(grid_shape: tuple[int, int], dimension: int) -> list[Heatmap]:
    """The two baselines of phi as panels: two Gaussian matrices, and the chance level max(i, j)/d."""
    random = panel("two Gaussian matrices", gaussian(dimension, *grid_shape))
    return [random, panel("chance, max(i, j)/d", chance(*grid_shape, dimension))]


def panel(title: str, grid: Array) -> Heatmap:
    """The panel of phi over i (down) and j (across)."""
    return Heatmap(title, grid, "j", "i", (1, grid.shape[1]), (1, grid.shape[0]))


def _weight_figure(lora: Sequence[ProbedRun], caption: str, stem: Path) -> list[Path]:
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
    description = f"Top i directions of W, i up to {100 * SHARE:.0f} % of d = {d}, and top j of A; mean over n = {seeds} seeds"
    level = f"Chance, max(i, j)/d, is {i / d:.2f} at i = {i}, about d/10."
    caption = f"Layer {layer + 1} of {lora[0].n_layers}. {description}. {caption} {PAPER['weight']} {level}"
    layer_text = f"layer {layer + 1} of {lora[0].n_layers}"
    title = f"φ of the top {i} directions of W and the top 4 of ΔW, {layer_text}: {', '.join(values)}"
    return save(rows, title, PHI, stem.with_name(f"{stem.name}_weight"), 1.0, caption)


def _weight_panel(title: str, grid: Array, index: Array) -> Heatmap:
    return Heatmap(title, grid, "j", "i of W", (1, grid.shape[1]), (float(index[0]), float(index[-1])))


class Overlap(Probing):
    """phi of directions first..last of A between two ranks or between two seeds, minus a baseline.

    between: `ranks`, the smallest and the largest, of different seeds; `seeds`, of the largest rank; or `seeds of each rank`.
    less: `nothing`; `chance`, k/d for k directions in d dimensions; or another kind, whose phi in the same layer is subtracted.
    """

    def __init__(
        self, kinds: Sequence[str], between: str, first: int = 1, last: int = 1, less: str = "nothing",
        floor: float | None = None, ceiling: float | None = None,
    ) -> None:  # fmt: skip
        super().__init__(kinds, floor, ceiling)
        self.between, self.first, self.last, self.less = between, first, last, less
        if between not in WORDS or not 1 <= first <= last or less not in ("nothing", "chance", *NAMES):
            raise UserError(f"between is {' or '.join(WORDS)}, less nothing, chance or a kind, and 1 <= first <= last")

    @property
    def _directions(self) -> str:
        return f"direction {self.first}" if self.first == self.last else f"directions {self.first}–{self.last}"

    @property
    def rule(self) -> str:
        off = {"nothing": "", "chance": " minus the chance level"}.get(self.less, f" minus φ of {NAMES.get(self.less)}")
        names = ", ".join(NAMES[kind] for kind in self.kinds)
        return (f"φ of singular {self._directions} of A between {WORDS[self.between]}, {names}{off}: "
                f"{region_rule(self.region)}")  # fmt: skip

    def read(self, evidence: Evidence) -> list[Reading]:
        off = "" if self.less == "nothing" else f" − {NAMES.get(self.less, self.less)}"
        runs = evidence.probed(self.table)
        quantity = f"φ of {self._directions} between {WORDS[self.between].partition(',')[0]}{off}"
        readings = self.absent(evidence, runs, OF[self.between], quantity, "φ")
        for between, pairs in [] if readings and self.between != "seeds of each rank" else self._pairs(runs):
            for kind in self.kinds:
                values = [(pair, np.array([self._value(pair, kind, layer) for layer in pair[0].kept_layers])) for pair in pairs]
                quantity = f"φ of {self._directions} between {between}, {NAMES[kind]}{off}"
                readings += of_values(quantity, "φ", values, self.region, evidence) or [Reading(quantity, "φ", NOT_RUN)]
        return readings

    def _pairs(self, runs: Sequence[ProbedRun]) -> Pairs:
        """(between what, the pairs) for each reading of a kind of matrix."""
        if self.between == "ranks":
            return [("ranks", rank_pairs(runs))]
        if self.between == "seeds":
            return [("seeds", seed_pairs(runs))]
        ranks = sorted({run.rank for run in runs if run.rank})
        return [(f"seeds, r = {rank}", seed_pairs([run for run in runs if run.rank == rank])) for rank in ranks]

    def _value(self, pair: Pair, kind: str, layer: int) -> float:
        value = self._phi(pair, kind, layer)
        if self.less == "chance":
            one, other = (self._part(run.basis(kind, layer)) for run in pair)
            return value - float(chance(one.shape[1], other.shape[1], one.shape[0])[-1, -1])
        return value if self.less == "nothing" else value - self._phi(pair, self.less, layer)

    def _phi(self, pair: Pair, kind: str, layer: int) -> float:
        one, other = (self._part(run.basis(kind, layer)) for run in pair)
        return float(similarity(one, other)[-1, -1]) if one.shape[1] and other.shape[1] else math.nan

    def _part(self, basis: Array) -> Array:
        return basis[:, self.first - 1 : self.last]


class WithWeight(Probing):
    """phi of the `top` directions of A and the top `share` of W's d directions (Figure 8), minus the chance level max(i, j)/d."""

    def __init__(
        self, kinds: Sequence[str], share: float, top: int, floor: float | None = None, ceiling: float | None = None
    ) -> None:
        super().__init__(kinds, floor, ceiling)
        self.share, self.top = share, top

    @property
    def rule(self) -> str:
        which = f"the top {self.top} directions of A and the top {100 * self.share:g} % of W's"
        return f"φ of {which}, at every rank, minus the chance level: {region_rule(self.region)}"

    def read(self, evidence: Evidence) -> list[Reading]:
        runs = evidence.probed(self.table)
        label = f"φ of the top {self.top} of A and {100 * self.share:g} % of W − chance"
        readings = self.absent(evidence, runs, "each", label, "φ")
        for kind in self.kinds:
            both = [((run,), np.array([self._values(run, kind, layer) for layer in run.kept_layers])) for run in runs]
            values = [(group, layers[:, 0] - layers[:, 1]) for group, layers in both]
            means = np.mean([layers.mean(axis=0) for _, layers in both], axis=0) if both else ()
            notes = ["φ {:.2f}, chance {:.2f}".format(*means)] if both else []
            quantity = f"φ of the top {self.top} of A and {100 * self.share:g} % of W, {NAMES[kind]} − chance"
            readings += of_values(quantity, "φ", values, self.region, evidence, notes=notes)
        return readings

    def _values(self, run: ProbedRun, kind: str, layer: int) -> tuple[float, float]:
        """(phi, its chance level for two random subspaces of these sizes)."""
        index, grid = with_weight(run, kind, layer)
        d = run.basis(kind, layer).shape[0]
        row, j = int(np.argmin(np.abs(index - self.share * d))), min(self.top, grid.shape[1])
        return float(grid[row, j - 1]), max(int(index[row]), j) / d

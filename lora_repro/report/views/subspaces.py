"""The directions that updates share (Figures 3, 4, 6, 7, 8 of the paper), from probed runs, as tables."""

from __future__ import annotations

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
from lora_repro.analysis.spectra import Array
from lora_repro.report.exhibit import Exhibit, ReportRequest
from lora_repro.report.numbers import summarise
from lora_repro.report.table import EMPTY, SINGLE, Number, Table, format_count
from lora_repro.report.views import probed
from lora_repro.results import Store


@dataclass(frozen=True)
class Subspaces:
    """Which directions updates share between two ranks, between two seeds, and with W: tables and heat maps."""

    title: str

    def exhibits(self, ask: ReportRequest, stores: Sequence[Store]) -> list[Exhibit]:
        return probed.exhibits(ask, stores, self.title, tables, _draw)


def _draw(runs: Sequence[ProbedRun], title: str, stem: Path) -> list[Path]:
    from lora_repro.report.figures import subspaces  # lazy: matplotlib is slow to import

    return subspaces.figures(runs, title, stem)


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

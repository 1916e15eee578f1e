"""Differences between cells of the tables: two rows, two sizes of a row, or a difference of two such differences."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lora_repro.claims.base import ClaimTest
from lora_repro.claims.cells import Cell, expanded
from lora_repro.claims.evidence import Evidence, Record, generated
from lora_repro.claims.reading import HOW, INCONCLUSIVE, NOT_RUN, Reading, Region, judge
from lora_repro.errors import UserError
from lora_repro.metrics.bootstrap import paired_draws
from lora_repro.tables.columns import score_of, task_label
from lora_repro.tables.rows import Block, Row
from lora_repro.tables.stores import one_origin

SIGNS = (1, -1, -1, 1)  # a − b, or (a − b) − (c − d)


@dataclass(frozen=True)
class Place:
    """A cell on one task: the declared row, its records by seed, and its name for the eye."""

    block: Block
    row: Row
    label: str
    runs: dict[int, Record]

    @property
    def finished(self) -> dict[int, Record]:
        return {seed: run for seed, run in self.runs.items() if run["status"] == "finished"}


class Compare(ClaimTest):
    """The value a − b of each comparison [a, b] (or (a − b) − (c − d) of [a, b, c, d]) lies in the region.

    Scores in per cent (BLEU, or each task's own), with the paired bootstrap over test inputs of report.py and grid.py and
    over the seeds that all cells have. tasks: `mean` over the table's tasks (each resampled on its own), or `each` alone.
    """

    def __init__(
        self,
        comparisons: Sequence[Sequence[str]],
        floor: float | None = None,
        ceiling: float | None = None,
        tasks: str = "mean",
        combine: str = "all",
    ) -> None:
        self.comparisons = [[Cell.of(text) for text in texts] for texts in comparisons]
        self.region, self.tasks, self.combine = Region.of(floor, ceiling), tasks, combine
        if any(len(cells) not in (2, 4) or len({cell.table for cell in cells}) > 1 for cells in self.comparisons):
            raise UserError("a comparison names two or four cells of one table")
        if tasks not in ("mean", "each") or combine not in HOW:
            raise UserError(f"tasks is mean or each and combine one of {', '.join(HOW)}, not {tasks} and {combine}")

    def rows(self) -> dict[str, set[str]]:
        found: dict[str, set[str]] = {}
        for cell in itertools.chain(*self.comparisons):
            found.setdefault(cell.table, set()).add(cell.row)
        return found

    @property
    def rule(self) -> str:
        names = "; ".join(_expression([f"`{cell.name}`" for cell in cells]) for cells in self.comparisons)
        over = "of the mean over the tasks" if self.tasks == "mean" else "on each task"
        several = {"all": "every one", "any": "at least one", "most": "more than half"}[self.combine]
        return f"{names}, {over}: {self.region.words} (points of the score); {several} of the comparisons"

    def read(self, evidence: Evidence) -> list[Reading]:
        found = []
        for cells in self.comparisons:
            blocks = evidence.blocks(cells[0].table)
            for backbone in dict.fromkeys(block.backbone for block in blocks):
                mine = [block for block in blocks if block.backbone == backbone]
                tasks = list(dict.fromkeys(block.task for block in mine))
                groups = [[task] for task in tasks] if self.tasks == "each" else [tasks]
                for sized, group in itertools.product(expanded(cells, _sizes(mine)), groups):
                    places = [[_place(mine, cell, task, evidence) for cell in sized] for task in group]
                    found.append(self._reading(places, evidence))
        return found

    def _reading(self, places: Sequence[Sequence[Place]], evidence: Evidence) -> Reading:
        """`places`: for each task its cells."""
        records = [run for cells in places for place in cells for run in place.runs.values()]
        tasks = [task_label(cells[0].block) for cells in places]
        facts: dict[str, Any] = {
            "what": _expression([place.label for place in places[0]]),
            "unit": f"{score_of(places[0][0].block).label}, {tasks[0]}" if len(tasks) == 1 else f"mean of {', '.join(tasks)}",
            "signed": True,
            "notes": _notes(places),
            "sources": tuple(dict.fromkeys(evidence.source(str(run["signature"])) for run in records)),
            "generated": generated(records),
        }
        if not all(place.runs for cells in places for place in cells):
            return Reading(verdict=NOT_RUN, **facts)
        for cells in places:
            one_origin([run for place in cells for run in place.runs.values()])
        seeds = _shared_seeds(places, evidence)
        if not seeds:
            return Reading(verdict=INCONCLUSIVE, **facts)
        points, draws = zip(*(_draws(cells, seeds, evidence, at) for at, cells in enumerate(places)), strict=True)
        low, high = (float(100 * end) for end in np.nanpercentile(np.mean(draws, axis=0), [2.5, 97.5]))
        each = [100 * float(np.mean([_of_seed(cells, seed) for cells in places])) for seed in seeds]
        verdict = judge(self.region, low, high, len(seeds), each)
        return Reading(verdict=verdict, value=100 * float(np.mean(points)), low=low, high=high, n=len(seeds), **facts)


def _sizes(blocks: Sequence[Block]) -> list[int]:
    sizes = dict.fromkeys(block.config["row"]["size"] for block in blocks)
    return [int(size) for size in sizes if size is not None] if len(sizes) > 1 else []


def _place(blocks: Sequence[Block], cell: Cell, task: str, evidence: Evidence) -> Place:
    fitting = [b for b in blocks if b.task == task and cell.size in (None, str(b.config["row"]["size"]))]
    # A row without a size is the same run in every block; one with sizes must say which.
    if cell.size is None and len({r.asked[s][0] for b in fitting for r in b.rows if r.name == cell.row for s in (0,)}) > 1:
        raise UserError(f"{cell.table}/{cell.row} is several cells; name one of them, such as {cell.table}/{cell.row}@max")
    row = next(row for row in fitting[0].rows if row.name == cell.row)
    label = row.label if cell.size is None else f"{row.label}, size {cell.size}"
    return Place(fitting[0], row, label, evidence.runs(row))


def _shared_seeds(places: Sequence[Sequence[Place]], evidence: Evidence) -> list[int]:
    """Seeds that finished in every cell of every task and answered the same inputs within a task."""
    shared = sorted(set.intersection(*({*place.finished} for cells in places for place in cells)))
    return [seed for seed in shared if all(_same_inputs(cells, seed, evidence) for cells in places)]


def _same_inputs(cells: Sequence[Place], seed: int, evidence: Evidence) -> bool:
    lines = [evidence.predictions(str(place.runs[seed]["signature"])) for place in cells]
    keys = [None if found is None else [line["key"] for line in found] for found in lines]
    return bool(keys[0]) and all(other == keys[0] for other in keys)


def _draws(cells: Sequence[Place], seeds: Sequence[int], evidence: Evidence, at: int) -> tuple[float, Any]:
    """(value, its resamples) on one task. Both halves of four cells draw the same resamples: the same seed `at`."""
    runs = [[evidence.predictions(str(place.runs[seed]["signature"])) or [] for seed in seeds] for place in cells]
    metric = score_of(cells[0].block).key
    halves = [paired_draws(a, b, seed=at, metric=metric) for a, b in zip(runs[::2], runs[1::2], strict=True)]
    signs = (1, -1)[: len(halves)]
    point = sum(sign * half[0] for sign, half in zip(signs, halves, strict=True))
    return point, sum(sign * half[1] for sign, half in zip(signs, halves, strict=True))


def _of_seed(cells: Sequence[Place], seed: int) -> float:
    metric = score_of(cells[0].block).key
    scores = [float(place.runs[seed]["measured"]["scores"][metric]) for place in cells]
    return sum(sign * score for sign, score in zip(SIGNS, scores, strict=False))


def _notes(places: Sequence[Sequence[Place]]) -> tuple[str, ...]:
    """Trained parameters of both sides; runs that are missing, collapsed or diverged: they enter no number."""
    sizes = []
    for place in places[0]:
        counts = {run["measured"]["parameters"]["method"] for run in place.finished.values()}
        sizes += [f"{place.label}: {'–'.join(f'{count:,}' for count in sorted(counts))} trained"] if counts else []
    lost = []
    for cells in places:
        for place in cells:
            where = f"{place.label} on {task_label(place.block)}"
            if not place.runs:
                lost.append(f"{where}: no run")
            counted = Counter(str(run["status"]) for run in place.runs.values() if run["status"] != "finished")
            lost += [f"{where}: {n} of {len(place.runs)} {status}" for status, n in sorted(counted.items())]
    return (*sizes, *lost)


def _expression(names: Sequence[str]) -> str:
    halves = [f"{a} − {b}" for a, b in zip(names[::2], names[1::2], strict=True)]
    return halves[0] if len(halves) == 1 else " − ".join(f"({half})" for half in halves)

"""Differences between cells of the tables: two rows, two sizes of a row, or a difference of two such differences."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from lora_repro.cells import Cell
from lora_repro.errors import UserError
from lora_repro.metrics.bootstrap import LEVEL, Draws, detectable
from lora_repro.report.claims.base import ClaimTest, Operand, expanded, rows_by_table
from lora_repro.report.claims.evidence import Evidence
from lora_repro.report.claims.outlook import Spread, outlook
from lora_repro.report.claims.reading import (
    HOW,
    INCONCLUSIVE,
    LEAST,
    NOT_RUN,
    REFUTED,
    REPLICATED,
    Reading,
    Region,
    combined,
    judge,
)
from lora_repro.report.claims.settled import unsettled
from lora_repro.report.columns import score_label, task_label
from lora_repro.report.statistics import (
    check_same_origin,
    inputs,
    interval,
    is_generated,
    resampled,
    same_inputs,
    score,
    standard_error,
)
from lora_repro.report.table import bound, signed
from lora_repro.results import Run, backbone_name, by_place, grouped

SIGNS = (1, -1, -1, 1)  # a − b, or (a − b) − (c − d)
INPUTS = 200  # the fewest test inputs for a verdict
BETTER = Region(floor=0.0)


@dataclass(frozen=True)
class Place:
    """An operand on one task: its runs by seed, one of its cells, and its display name."""

    cell: Cell
    label: str
    runs: dict[int, Run]


class Compare(ClaimTest):
    """The value a − b of each comparison [a, b] (or (a − b) − (c − d) of [a, b, c, d]) lies in the region.

    Scores in per cent (BLEU, or each task's own), over the seeds that all cells share, with the tables' paired bootstrap over
    inputs and seeds. A verdict also takes 200 test inputs, learning rates that were searched or prescribed, and cells that have
    stopped rising (`settled`).

    tasks: `mean` over the table's tasks (each resampled separately), or `each` on its own. only: the tasks to read; empty: all.
    least: the fewest seeds for a verdict. agree: further metric -> +1 if higher is better, -1 if lower; each must give the same
    verdict. better: whether to give a second verdict, on whether the value is above 0.

    Where one of m comparisons alone can decide the claim, its level is Bonferroni's 5 % / m. That is one that holds under
    `any`, and one that fails under `all`, or of two under `most`; `fails` is less than 5 % in a part of a claim (`AllOf`).
    """

    def __init__(
        self,
        comparisons: Sequence[Sequence[str]],
        floor: float | None = None,
        ceiling: float | None = None,
        tasks: str = "mean",
        combine: str = "all",
        least: int = LEAST,
        agree: Mapping[str, int] | None = None,
        better: bool = False,
        only: Sequence[str] = (),
    ) -> None:
        self.comparisons = [[Operand.of(text) for text in texts] for texts in comparisons]
        self.region, self.tasks, self.combine = Region.of(floor, ceiling), tasks, combine
        self.least, self.agree, self.better, self.only = least, dict(agree or {}), better, tuple(only)
        if any(len(cells) not in (2, 4) or len({cell.table for cell in cells}) > 1 for cells in self.comparisons):
            raise UserError("a comparison names two or four cells of one table")
        if tasks not in ("mean", "each") or combine not in HOW:
            raise UserError(f"tasks is mean or each and combine one of {', '.join(HOW)}, not {tasks} and {combine}")

    def rows(self) -> dict[str, set[str]]:
        return rows_by_table(itertools.chain(*self.comparisons))

    @property
    def rule(self) -> str:
        names = "; ".join(_expression([f"`{cell.name}`" for cell in cells]) for cells in self.comparisons)
        over = "mean over the tasks" if self.tasks == "mean" else "on each task"
        over += f" of {', '.join(self.only)}" if self.only else ""
        several = {"all": "every comparison", "any": "one comparison", "most": "more than half of the comparisons"}[self.combine]
        also = "".join(f", and {'' if sign > 0 else '−'}{metric} too" for metric, sign in self.agree.items())
        better = f"; second verdict, better: above 0{also}" if self.better else ""
        needs = f"at least {self.least} seeds, {INPUTS} test inputs, searched rates and settled cells"
        where = f"{self.region.words} points of the score{also}"
        return f"{names}, {over}: {where}; {several} must hold, with {needs}{better}"

    def read(self, evidence: Evidence) -> list[Reading]:
        planned = []
        for cells in self.comparisons:
            for mine in grouped(evidence.cells(cells[0].table), backbone_name):
                tasks = [task for task in dict.fromkeys(cell.task for cell in mine) if not self.only or task in self.only]
                groups = [[task] for task in tasks] if self.tasks == "each" or not tasks else [tasks]
                for sized, group in itertools.product(expanded(cells, sizes_of(mine)), groups):
                    planned.append([[_place(mine, cell, task, evidence) for cell in sized] for task in group])
        share = 1 / (len(planned) or 1)
        one_fails = self.combine == "all" or (self.combine == "most" and len(planned) <= 2)
        levels = Levels(LEVEL * (share if self.combine == "any" else 1), self.fails * (share if one_fails else 1))
        return [self._reading(places, evidence, levels) for places in planned]

    def _reading(self, places: Sequence[Sequence[Place]], evidence: Evidence, levels: Levels) -> Reading:
        """`places`: the cells of each task. If some of the tasks were not run, the value covers the others, without a verdict."""
        told = _notes(places)
        whole = [cells for cells in places if all(place.runs for place in cells)]
        part = 0 < len(whole) < len(places)
        places = whole if part else places
        runs = [run for cells in places for place in cells for run in place.runs.values()]
        tasks = [task_label(cells[0].cell) for cells in places]
        facts: dict[str, Any] = {
            "what": _expression([place.label for place in places[0]]),
            "unit": f"{score_label(places[0][0].cell)}, {tasks[0]}" if len(tasks) == 1 else f"mean of {', '.join(tasks)}",
            "signed": True,
            "notes": told,
            "sources": tuple(dict.fromkeys(evidence.source(run.signature) for run in runs)),
            "generated": is_generated([run.record for run in runs]),
        }
        if not whole:
            return Reading(verdict=NOT_RUN, better=NOT_RUN if self.better else "", **facts)
        for cells in places:
            check_same_origin([run.record for place in cells for run in place.runs.values()])
        seeds = _shared_seeds(places)
        if not seeds:
            return Reading(verdict=INCONCLUSIVE, better=INCONCLUSIVE if self.better else "", **facts)
        found = [_value(places, seeds, levels)]
        notes = list(facts.pop("notes"))
        for metric, sign in self.agree.items():
            if metric in _scores_of(places[0]):
                other = _value(places, seeds, levels, metric)
                found.append(other.turned(sign))
                alike = found[-1].verdict(self.region, self.least)
                notes.append(f"{metric} {signed(other.value)} [{bound(other.low)}, {bound(other.high)}]: {alike}")
        if levels.holds < LEVEL:
            notes.append(f"interval and Δ at {100 * levels.holds:.2g} %, since one of several comparisons is enough")
        wanting = _wanting(places, seeds)

        def verdict_on(region: Region) -> str:
            return INCONCLUSIVE if wanting or part else combined([one.verdict(region, self.least) for one in found], "agree")

        ours = found[0]
        alone = judge(self.region, ours.low, ours.high, len(seeds), ours.spread.each, self.least)
        if alone == REFUTED and ours.verdict(self.region, self.least) != REFUTED:
            notes.append(f"outside at {100 * levels.holds:g} %, but not at the corrected level of {100 * levels.fails:.2g} %")
        verdict = verdict_on(self.region)
        if verdict == INCONCLUSIVE and not wanting and not part:
            ahead = outlook(self.region, [one.spread for one in found], levels.holds, levels.fails, self.least)
            notes += [ahead] if ahead else []
        return Reading(verdict=verdict, value=ours.value, low=ours.low, high=ours.high, n=len(seeds),
                       better=verdict_on(BETTER) if self.better else "", detectable=ours.detectable,
                       notes=(*notes, *wanting), **facts)  # fmt: skip


@dataclass(frozen=True)
class Levels:
    """The significance levels at which one comparison may show that a claim holds, and that it fails."""

    holds: float
    fails: float


@dataclass(frozen=True)
class Value:
    """A difference in points, its interval [low, high] at `Levels.holds` and its interval `against` at `Levels.fails`.

    detectable: the least true difference that would have shown at `Levels.holds`.
    """

    value: float
    low: float
    high: float
    against: tuple[float, float]
    spread: Spread
    detectable: float

    def turned(self, sign: int) -> Value:
        """The value times `sign`: with -1 a positive difference in a metric of which lower is better means better."""
        low, high = sorted((sign * self.low, sign * self.high))
        first, last = sorted(sign * end for end in self.against)
        spread = replace(self.spread, each=[sign * one for one in self.spread.each])
        return Value(sign * self.value, low, high, (first, last), spread, self.detectable)

    def verdict(self, region: Region, least: int) -> str:
        ends, each = {REPLICATED: (self.low, self.high), REFUTED: self.against}, self.spread.each
        found = [said for said, (low, high) in ends.items() if judge(region, low, high, len(each), each, least) == said]
        return found[0] if found else INCONCLUSIVE


def _value(places: Sequence[Sequence[Place]], seeds: Sequence[int], levels: Levels, metric: str | None = None) -> Value:
    """The mean over the tasks of the difference in their own scores, or in `metric`."""
    drawn = [_drawn(cells, seeds, at, metric) for at, cells in enumerate(places)]
    value = 100 * float(np.mean([one.difference for one in drawn]))
    holds, fails = (100 * np.mean([one.at(level) for one in drawn], axis=0) for level in (levels.holds, levels.fails))
    low, high = interval(holds, levels.holds)
    each = [100 * float(np.mean([_of_seed(cells, seed, metric) for cells in places])) for seed in seeds]
    least = detectable(standard_error(holds), levels.holds)
    by_inputs = 100 * np.mean([one.each for one in drawn], axis=0)
    return Value(value, low, high, interval(fails, levels.fails), Spread.of(each, by_inputs), least)


def _scores_of(cells: Sequence[Place]) -> set[str]:
    runs = [run for place in cells for run in place.runs.values()]
    return {metric for run in runs for metric in run.record["measured"].get("scores") or {}}


def _wanting(places: Sequence[Sequence[Place]], seeds: Sequence[int]) -> list[str]:
    """What keeps these cells from a verdict: too few test inputs, a learning rate in doubt, or a training that was too short."""
    found = []
    for cells in places:
        keys = next((inputs(place.runs[seed]) for place in cells for seed in seeds if place.runs[seed].trained), None) or ()
        if len(keys) < INPUTS:
            found.append(f"{task_label(cells[0].cell)}: {len(keys)} test inputs; a verdict needs {INPUTS}")
        for place in cells:
            name = f"{place.label} on {task_label(place.cell)}"
            found += [f"{name}: {doubt}"] if (doubt := place.cell.rate_doubt) else []
            found += [early] if (early := unsettled(name, [run.record for run in place.runs.values()])) else []
    return list(dict.fromkeys(found))


def swept(cell: Cell) -> tuple[str, Any]:
    """(the name of the axis that a cell's row is swept over, such as `rank`, and its value); ("", None) if it is not swept."""
    return next(((axis.removeprefix("row."), value) for axis, value in cell.axes.items() if axis.startswith("row.")), ("", None))


def _size(cell: Cell) -> Any:
    return swept(cell)[1]


def sizes_of(declared: Sequence[Cell]) -> list[int]:
    sizes = dict.fromkeys(map(_size, declared))
    return [int(size) for size in sizes if size is not None] if len(sizes) > 1 else []


def _place(declared: Sequence[Cell], operand: Operand, task: str, evidence: Evidence) -> Place:
    fitting = [cell for cell in declared if (cell.row.name, cell.task) == (operand.row, task)]
    fitting = [cell for cell in fitting if operand.size in (None, str(_size(cell)))]
    # A row without a size is the same run in every column; of a row with sizes the operand must name one.
    if operand.size is None and len({cell.signature for cell in fitting if cell.seed == fitting[0].seed}) > 1:
        named = f"{operand.table}/{operand.row}"
        raise UserError(f"{named} is several cells; name one of them, such as {named}@max")
    first = fitting[0]
    label = first.row.label if operand.size is None else f"{first.row.label}, {swept(first)[0]} {operand.size}"
    return Place(first, label, evidence.runs(by_place(fitting)[0]))


def _shared_seeds(places: Sequence[Sequence[Place]]) -> list[int]:
    """The seeds that every cell of every task has, and whose runs answered the same inputs within a task, or diverged.

    None if all of them diverged on some task.
    """
    shared = sorted(set.intersection(*({*place.runs} for cells in places for place in cells)))
    seeds = [seed for seed in shared if all(same_inputs([place.runs[seed] for place in cells]) for cells in places)]
    answered = all(any(place.runs[seed].trained for place in cells for seed in seeds) for cells in places)
    return seeds if answered else []


def _drawn(cells: Sequence[Place], seeds: Sequence[int], at: int, metric: str | None) -> Draws:
    """The resamples of one task. Both halves of four cells draw the same ones, by the same seed `at`."""
    metric = metric or cells[0].cell.score
    pairs = zip(cells[::2], cells[1::2], strict=True)
    first, *second = (resampled([side.runs[seed] for seed in seeds for side in pair], metric, at) for pair in pairs)
    return first.less(second[0]) if second else first


def _of_seed(cells: Sequence[Place], seed: int, metric: str | None) -> float:
    metric = metric or cells[0].cell.score
    scores = [np.nan if (value := score(place.runs[seed], metric)) is None else value for place in cells]
    return sum(sign * score for sign, score in zip(SIGNS, scores, strict=False))


def _notes(places: Sequence[Sequence[Place]]) -> tuple[str, ...]:
    """Trained values of each cell, without the head of a method that has others; the missing runs; and the collapsed and diverged
    runs, which count with their scores.
    """
    sizes = []
    for place in places[0]:
        trained = [run.record["measured"]["parameters"] for run in place.runs.values()]
        counts = {found["method"] or found["head"] for found in trained}
        sizes += [f"{place.label}: {'–'.join(f'{count:,}' for count in sorted(counts))} trained values"] if counts else []
    lost = []
    for cells in places:
        for place in cells:
            where = f"{place.label} on {task_label(place.cell)}"
            if not place.runs:
                lost.append(f"{where}: no run")
            counted = Counter(str(run.record["status"]) for run in place.runs.values() if not run.finished)
            lost += [f"{where}: {n} of {len(place.runs)} {status}" for status, n in sorted(counted.items())]
    return (*sizes, *lost)


def _expression(names: Sequence[str]) -> str:
    halves = [f"{a} − {b}" for a, b in zip(names[::2], names[1::2], strict=True)]
    return halves[0] if len(halves) == 1 else " − ".join(f"({half})" for half in halves)

"""Differences between cells of the tables: two rows, two sizes of a row, or a difference of two such differences."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from lora_repro.errors import UserError
from lora_repro.planning.cells import Cell
from lora_repro.report.claims.base import ClaimTest, Evidence, Operand, expanded, rows_by_table
from lora_repro.report.claims.reading import Doubt, Reading, difference_in_words, epochs_in_words
from lora_repro.report.claims.settled import doubts
from lora_repro.report.columns import score_label, task_label
from lora_repro.report.numbers import score
from lora_repro.report.table import bound, signed
from lora_repro.results import Run, backbone_name, by_place, grouped
from lora_repro.stats import spread
from lora_repro.stats.bootstrap import SIGNS, Draws, InputVariance, interval, standard_error
from lora_repro.stats.comparable import check_same_origin, inputs, is_generated, resampled, same_inputs
from lora_repro.stats.intervals import LEVEL, Levels, detectable
from lora_repro.stats.spread import Error
from lora_repro.stats.verdict import (
    HOW,
    INCONCLUSIVE,
    LEAST,
    NOT_RUN,
    REFUTED,
    REPLICATED,
    Region,
    inside,
    judge,
    outlook,
    plain,
)

INPUTS = 200  # the fewest test inputs for a verdict
BETTER = Region(floor=0.0)
LOWER_IS_BETTER = ("slot_error_rate", "ter")


@dataclass(frozen=True)
class Place:
    """An operand on one task: its runs by seed, one of its cells, and its display name."""

    cell: Cell
    label: str
    runs: dict[int, Run]

    @property
    def name(self) -> str:
        return f"{self.label} on {task_label(self.cell)}"


class Compare(ClaimTest):
    """The value a − b of each comparison [a, b] (or (a − b) − (c − d) of [a, b, c, d]) lies in the region.

    Scores in per cent (BLEU, or each task's own), over the seeds that all cells share, with the tables' paired bootstrap over
    inputs and seeds. A verdict also takes 200 test inputs, learning rates that were searched or prescribed, and cells that have
    stopped rising (`settled`).

    tasks: `mean` over the table's tasks (each resampled separately), or `each` on its own. only: the tasks to read; empty: all.
    least: the fewest seeds for a verdict. secondary: further metrics to show beside, which enter no verdict. better: whether to
    give a second verdict, on whether the value is above 0. breaks: whether a value below the floor says only that a combination
    broke the training, so the claim is open and not refuted. rate_of: a cell whose learning rate the others must have.

    Where one of m comparisons alone can decide the claim, its level is Bonferroni's 5 % / m. That is one that holds under
    `any`, and one that fails under `all` (Holm's first step), or of two under `most`; `fails` is less than 5 % in a part of a
    claim (`AllOf`). Of several looks at growing evidence each has its own share (`levels.pocock`).
    """

    counts_looks = True

    def __init__(
        self,
        comparisons: Sequence[Sequence[str]],
        floor: float | None = None,
        ceiling: float | None = None,
        tasks: str = "mean",
        combine: str = "all",
        least: int = LEAST,
        secondary: Sequence[str] = (),
        better: bool = False,
        only: Sequence[str] = (),
        breaks: bool = False,
        rate_of: str | None = None,
    ) -> None:
        self.comparisons = [[Operand.of(text) for text in texts] for texts in comparisons]
        self.region, self.tasks, self.combine = Region.of(floor, ceiling), tasks, combine
        self.least, self.secondary, self.better, self.only = least, tuple(secondary), better, tuple(only)
        self.breaks, self.rate_of = breaks, Operand.of(rate_of) if rate_of else None
        if any(len(cells) not in (2, 4) or len({cell.table for cell in cells}) > 1 for cells in self.comparisons):
            raise UserError("a comparison names two or four cells of one table")
        if tasks not in ("mean", "each") or combine not in HOW:
            raise UserError(f"tasks is mean or each and combine one of {', '.join(HOW)}, not {tasks} and {combine}")

    def rows(self) -> dict[str, set[str]]:
        return rows_by_table([*itertools.chain(*self.comparisons), *filter(None, [self.rate_of])])

    @property
    def rule(self) -> str:
        names = "; ".join(_expression([f"`{cell.name}`" for cell in cells]) for cells in self.comparisons)
        over = "mean over the tasks" if self.tasks == "mean" else "on each task"
        over += f" of {', '.join(self.only)}" if self.only else ""
        several = {"all": "every comparison", "any": "one comparison", "most": "more than half of the comparisons"}[self.combine]
        metrics = f"; beside it, not judged: {', '.join(self.secondary)}" if self.secondary else ""
        better = "; second verdict, better: above 0" if self.better else ""
        breaks = f"; below {plain(self.region.floor)} it breaks the training, which decides nothing" if self.breaks else ""
        rate = f", at the rate of `{self.rate_of.name}`" if self.rate_of else ""
        needs = f"at least {self.least} seeds, {INPUTS} test inputs, searched rates and settled cells"
        rule = f"the 95 % interval lies {self.region.words} points of the score"
        return f"{names}{rate}, {over}: {rule}; {several} must hold, with {needs}{better}{breaks}{metrics}"

    def read(self, evidence: Evidence) -> list[Reading]:
        comparisons = []
        for cells in self.comparisons:
            for backbone_cells in grouped(evidence.cells(cells[0].table), backbone_name):
                tasks = list(dict.fromkeys(cell.task for cell in backbone_cells if not self.only or cell.task in self.only))
                groups = [[task] for task in tasks] if self.tasks == "each" or not tasks else [tasks]
                for operands, group in itertools.product(expanded(cells, sizes_of(backbone_cells)), groups):
                    comparisons.append([[_place(backbone_cells, cell, task, evidence) for cell in operands] for task in group])
        share = 1 / (len(comparisons) or 1)
        one_fails = self.combine == "all" or (self.combine == "most" and len(comparisons) <= 2)
        levels = Levels(LEVEL * (share if self.combine == "any" else 1), self.fails * (share if one_fails else 1))
        levels = levels.at_each_look(self.looks.get(evidence.profile, 1))
        return [self._reading(places, evidence, levels) for places in comparisons]

    def _reading(self, places: Sequence[Sequence[Place]], evidence: Evidence, levels: Levels) -> Reading:
        """`places`: the cells of each task. If some of the tasks were not run, the value covers the others, without a verdict."""
        notes = _notes(places)
        complete = [cells for cells in places if all(place.runs for place in cells)]
        part = 0 < len(complete) < len(places)
        places = complete if part else places
        runs = [run for cells in places for place in cells for run in place.runs.values()]
        tasks = [task_label(cells[0].cell) for cells in places]
        facts: dict[str, Any] = {
            "what": _expression([place.label for place in places[0]]),
            "unit": f"{score_label(places[0][0].cell)}, {tasks[0]}" if len(tasks) == 1 else f"mean of {', '.join(tasks)}",
            "signed": True,
            "sources": tuple(dict.fromkeys(evidence.source(run.signature) for run in runs)),
            "generated": is_generated([run.record for run in runs]),
            "region": replace(self.region, unit=" points"),
        }
        if not complete:
            return Reading(verdict=NOT_RUN, better=NOT_RUN if self.better else "", notes=notes, **facts)
        for cells in places:
            check_same_origin([run.record for place in cells for run in place.runs.values()])
        seeds = _shared_seeds(places)
        if not seeds:
            return Reading(verdict=INCONCLUSIVE, better=INCONCLUSIVE if self.better else "", notes=notes, **facts)
        wanting = [*_wanting(places, seeds), *self._other_rates(places, evidence)]
        wanting += [Doubt("not run on every task", "")] if part else []
        ours = _value(places, seeds, levels)
        verdict, ahead = self._verdict(self.region, ours, wanting), self._ahead(ours, wanting, levels)
        says = difference_in_words([place.label for place in places[0]], ours.value, ours.low, ours.high)
        return Reading(
            verdict=verdict, value=ours.value, low=ours.low, high=ours.high, n=len(seeds), detectable=ours.detectable,
            better=self._verdict(BETTER, ours, wanting) if self.better else "", inside=inside(self.region, ours.each),
            says=f"{says} ({facts['unit']}), {epochs_in_words([run.record for run in runs])}",
            reason=Doubt.reasons(wanting) or self._undecided(verdict, ours, len(seeds)),
            notes=(*notes, *self._beside(places, seeds, levels, ours), *ahead, *(doubt.note for doubt in wanting if doubt.note)),
            **facts,
        )  # fmt: skip

    def _verdict(self, region: Region, ours: Value, wanting: Sequence[Doubt]) -> str:
        if wanting or (self.breaks and ours.value < region.floor):
            return INCONCLUSIVE
        return ours.verdict(region, self.least)

    def _beside(self, places: Sequence[Sequence[Place]], seeds: Sequence[int], levels: Levels, ours: Value) -> list[str]:
        """Notes on what is shown beside the value: secondary metrics, levels other than 5 %, and a combination that breaks."""
        notes = [ours.error.text] if ours.error.text else []
        for metric in self.secondary:
            if metric in _scores_of(places[0]):
                other = _value(places, seeds, levels, metric)
                which = ", lower is better" if metric in LOWER_IS_BETTER else ""
                notes.append(f"{metric}{which}: {signed(other.value)} [{bound(other.low)}, {bound(other.high)}], not judged")
        if levels.holds < LEVEL:
            notes.append(f"interval and Δ at {100 * levels.holds:.2g} %")
        verdict = judge(self.region, ours.low, ours.high, len(seeds), self.least)
        if verdict == REFUTED and ours.verdict(self.region, self.least) != REFUTED:
            notes.append(f"outside at {100 * levels.holds:.2g} %, but not at the corrected level of {100 * levels.fails:.2g} %")
        if self._broken(ours):
            notes.append("breaks: so far below that the combination cost the training, which says nothing of whether it helps")
        return notes

    def _broken(self, ours: Value) -> bool:
        """Whether the value says no more than that a combination broke the training."""
        return self.breaks and ours.value < self.region.floor

    def _undecided(self, verdict: str, ours: Value, n: int) -> str:
        """Why there is no verdict on a comparison that nothing is wanting for; empty if there is one."""
        if verdict != INCONCLUSIVE:
            return ""
        if self._broken(ours):
            return "breaks the training"
        return f"{n} of {self.least} seeds" if n < self.least else "within its interval of a bound"

    def _ahead(self, ours: Value, wanting: Sequence[Doubt], levels: Levels) -> list[str]:
        """What more seeds would decide, of a comparison that nothing else keeps from a verdict."""
        if wanting or self._broken(ours) or self._verdict(self.region, ours, wanting) != INCONCLUSIVE:
            return []
        level = levels.holds if self.region.holds(ours.value) else levels.fails
        text = outlook(self.region, ours.value, len(ours.each), ours.error, ours.inputs, level, self.least)
        return [text] if text else []

    def _other_rates(self, places: Sequence[Sequence[Place]], evidence: Evidence) -> list[Doubt]:
        """The cells whose learning rate is not that of `rate_of` on the same task and backbone."""
        doubts: list[Doubt] = []
        if self.rate_of is None:
            return doubts
        for cells in places:
            backbone = backbone_name(cells[0].cell)
            candidates = [cell for cell in evidence.cells(self.rate_of.table) if backbone_name(cell) == backbone]
            other = _place(candidates, self.rate_of, cells[0].cell.task, evidence)
            target = _rate(other.cell)
            note = f"the test asks for {target:g}, that of {other.label}: no such run"
            doubts += [Doubt("not run at the rate that the test asks for", f"{place.name}: rate {_rate(place.cell):g}; {note}")
                      for place in cells if _rate(place.cell) != target]  # fmt: skip
        return doubts


@dataclass(frozen=True)
class Value:
    """A difference in points, its interval [low, high] at `Levels.holds` and its interval `against` at `Levels.fails`.

    each: the difference of each seed. error: over seeds. inputs: the variance that the draw of test inputs causes. detectable:
    the least true difference that would have shown at `Levels.holds`.
    """

    value: float
    low: float
    high: float
    against: tuple[float, float]
    each: Sequence[float]
    error: Error
    inputs: InputVariance
    detectable: float

    def verdict(self, region: Region, least: int) -> str:
        ends = {REPLICATED: (self.low, self.high), REFUTED: self.against}
        verdicts = [
            verdict for verdict, (low, high) in ends.items() if judge(region, low, high, len(self.each), least) == verdict
        ]
        return verdicts[0] if verdicts else INCONCLUSIVE


def _value(places: Sequence[Sequence[Place]], seeds: Sequence[int], levels: Levels, metric: str | None = None) -> Value:
    """The mean over the tasks of the difference in their own scores, or in `metric`."""
    draws = [_drawn(cells, seeds, at, metric) for at, cells in enumerate(places)]
    value = 100 * float(np.mean([draw.difference for draw in draws]))
    holds, fails = (100 * np.mean([draw.at(level) for draw in draws], axis=0) for level in levels)
    low, high = interval(holds, levels.holds)
    by_seed = [100 * float(np.mean([_of_seed(cells, seed, metric) for cells in places])) for seed in seeds]
    by_inputs = InputVariance.of(100 * np.mean([draw.each for draw in draws], axis=0))
    over_seeds = spread.mean([draw.error for draw in draws]).times(100)
    return Value(value, low, high, interval(fails, levels.fails), by_seed, over_seeds, by_inputs,
                 detectable(standard_error(holds), levels.holds))  # fmt: skip


def _rate(cell: Cell) -> float:
    return float(cell.asked["train"]["lr"])


def _scores_of(cells: Sequence[Place]) -> set[str]:
    runs = [run for place in cells for run in place.runs.values()]
    return {metric for run in runs for metric in run.record["measured"].get("scores") or {}}


def _wanting(places: Sequence[Sequence[Place]], seeds: Sequence[int]) -> list[Doubt]:
    """What keeps these cells from a verdict: too few test inputs, a learning rate in doubt, or a training that was too short."""
    reasons = []
    for cells in places:
        keys = next((inputs(place.runs[seed]) for place in cells for seed in seeds if place.runs[seed].trained), None) or ()
        if len(keys) < INPUTS:
            note = f"{task_label(cells[0].cell)}: {len(keys)} test inputs; a verdict needs {INPUTS}"
            reasons.append(Doubt("too few test inputs", note))
        for place in cells:
            reasons += doubts(place.name, place.cell, [run.record for run in place.runs.values()])
    return list(dict.fromkeys(reasons))


def swept(cell: Cell) -> tuple[str, Any]:
    """(the name, such as `rank` or `epochs`, of what a cell's row is swept over, and its value); ("", None) without a sweep."""
    axes = [(axis.split(".")[1], value) for axis, value in cell.axes.items() if axis.startswith(("row.", "train."))]
    return axes[0] if axes else ("", None)


def _size(cell: Cell) -> Any:
    return swept(cell)[1]


def sizes_of(cells: Sequence[Cell]) -> list[int]:
    sizes = dict.fromkeys(map(_size, cells))
    return [int(size) for size in sizes if size is not None] if len(sizes) > 1 else []


def _place(cells: Sequence[Cell], operand: Operand, task: str, evidence: Evidence) -> Place:
    fitting = [cell for cell in cells if (cell.row.name, cell.task) == (operand.row, task)]
    fitting = [cell for cell in fitting if operand.size in (None, str(_size(cell)))]
    # A row without a size is the same run in every column; of a row with sizes the operand must name one.
    if operand.size is None and len({cell.signature for cell in fitting if cell.seed == fitting[0].seed}) > 1:
        name = f"{operand.table}/{operand.row}"
        raise UserError(f"{name} is several cells; name one of them, such as {name}@max")
    first = fitting[0]
    label = first.row.label if operand.size is None else f"{first.row.label}, {swept(first)[0]} {operand.size}"
    return Place(first, label, evidence.runs(by_place(fitting)[0]))


def _shared_seeds(places: Sequence[Sequence[Place]]) -> list[int]:
    """The seeds that every cell of every task has, and whose runs answered the same inputs within a task, or diverged.

    None if all of them diverged on some task.
    """
    candidates = sorted(set.intersection(*({*place.runs} for cells in places for place in cells)))
    seeds = [seed for seed in candidates if all(same_inputs([place.runs[seed] for place in cells]) for cells in places)]
    any_finished = all(any(place.runs[seed].trained for place in cells for seed in seeds) for cells in places)
    return seeds if any_finished else []


def _drawn(cells: Sequence[Place], seeds: Sequence[int], draw_seed: int, metric: str | None) -> Draws:
    """The resamples of one task, drawn by `draw_seed`."""
    return resampled([[place.runs[seed] for seed in seeds] for place in cells], metric or cells[0].cell.score, draw_seed)


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
        parameters = [run.record["measured"]["parameters"] for run in place.runs.values()]
        counts = {counts_of_run["method"] or counts_of_run["head"] for counts_of_run in parameters}
        sizes += [f"{place.label}: {'–'.join(f'{count:,}' for count in sorted(counts))} trained values"] if counts else []
    failures = []
    for cells in places:
        for place in cells:
            if not place.runs:
                failures.append(f"{place.name}: no run")
            statuses = Counter(str(run.record["status"]) for run in place.runs.values() if not run.finished)
            failures += [f"{place.name}: {n} of {len(place.runs)} {status}" for status, n in sorted(statuses.items())]
    return (*sizes, *failures)


def _expression(names: Sequence[str]) -> str:
    halves = [f"{a} − {b}" for a, b in zip(names[::2], names[1::2], strict=True)]
    return halves[0] if len(halves) == 1 else " − ".join(f"({half})" for half in halves)

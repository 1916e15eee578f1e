"""The test on choosing the epoch by the rows that are reported: how much it inflates a score, by halves of the held-out rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from lora_repro.report.claims.base import ClaimTest, Operand, rows_by_table
from lora_repro.report.claims.evidence import Evidence
from lora_repro.report.claims.reading import Doubt, Reading
from lora_repro.report.claims.settled import doubts
from lora_repro.report.columns import task_label
from lora_repro.results import Run, by_place
from lora_repro.stats.comparable import is_generated
from lora_repro.stats.intervals import student
from lora_repro.stats.verdict import INCONCLUSIVE, LEAST, Region, inside, judge

EVALUATIONS = 10  # the fewest of a run to read: among two or three the last is nearly always the best
Look = tuple[float, float]  # one evaluation: the scores of either half of the held-out rows


def inflation(looks: Sequence[Look]) -> float:
    """By how much the half that chose an evaluation scores higher there than the other half, averaged over both directions.

    With s_A(t), s_B(t) the scores of the halves at evaluation t, and t_A the best evaluation of A (the last of equal ones):
    ½ [s_A(t_A) − s_B(t_A) + s_B(t_B) − s_A(t_B)]. The difference in difficulty between the halves cancels. It is never negative,
    since s_A(t_A) >= s_A(t_B) and s_B(t_B) >= s_B(t_A), so a test needs a floor above 0.
    """

    def chosen(half: int) -> int:
        return max(range(len(looks)), key=lambda at: (looks[at][half], at))

    by_a, by_b = chosen(0), chosen(1)
    return (looks[by_a][0] - looks[by_a][1] + looks[by_b][1] - looks[by_b][0]) / 2


def half_scores(run: Run) -> list[Look]:
    """The evaluations in which both halves have a score; none for a run that diverged or whose older record lacks them."""
    halves: Sequence[Any] = run.record["measured"].get("dev_halves") or () if run.trained else ()
    return [(float(even), float(odd)) for _, even, odd in halves if even is not None and odd is not None]


class EpochChoice(ClaimTest):
    """The mean `inflation` of each seed in points, over the rows and tasks whose runs have at least 10 evaluations, lies
    above `floor`.

    Of the rows and tasks with at least 3 seeds, those seeds count that all of them have: each seed's mean is of the same cells.
    """

    def __init__(self, rows: Sequence[str], floor: float) -> None:
        self.cells, self.region = [Operand.of(row) for row in rows], Region(floor=floor)

    def rows(self) -> dict[str, set[str]]:
        return rows_by_table(self.cells)

    @property
    def rule(self) -> str:
        names = ", ".join(f"`{cell.name}`" for cell in self.cells)
        what = "one half of the held-out rows chooses the epoch; its score there minus the other half's, averaged over both ways"
        cells = f"the rows and tasks with at least {LEAST} seeds of {EVALUATIONS} evaluations or more"
        mean = f"the 95 % interval of the mean over {cells}, over the seeds that they share"
        return f"{names}: {what}: {mean}, lies {self.region.words} points; with searched rates and settled cells"

    def read(self, evidence: Evidence) -> list[Reading]:
        places: list[dict[int, Run]] = []
        for table in self.rows():
            declared = evidence.cells(table)
            for row in sorted(self.rows()[table]):
                for here in by_place([cell for cell in declared if cell.row.name == row]):
                    by_seed = {seed: run for seed, run in evidence.runs(here).items() if len(half_scores(run)) >= EVALUATIONS}
                    places += [by_seed] if by_seed else []
        counted = [of_cell for of_cell in places if len(of_cell) >= LEAST]
        seeds = sorted(set.intersection(*({*of_cell} for of_cell in counted))) if counted else []
        if not seeds:
            return []
        values = [float(np.mean([100 * inflation(half_scores(of_cell[seed])) for of_cell in counted])) for seed in seeds]
        mean, low, high = student(values)
        runs = [of_cell[seed] for of_cell in counted for seed in seeds]
        tasks = {task_label(run.cell): len(half_scores(run)) for run in runs}
        rows = list(dict.fromkeys(run.cell.row.label for run in runs))
        fewer = [next(iter(of_cell.values())).cell for of_cell in places if of_cell not in counted]
        left_out = [f"{cell.row.label} on {task_label(cell)}: left out, fewer than {LEAST} seeds" for cell in fewer]
        wanting = list(dict.fromkeys(doubt for of_cell in counted for doubt in _doubts(list(of_cell.values()))))
        notes = (f"{len(runs)} runs of {', '.join(rows)}", *(f"{task}: {looks} evaluations" for task, looks in tasks.items()),
                 *left_out, *(one.note for one in wanting))  # fmt: skip
        sources = tuple(dict.fromkeys(evidence.source(run.signature) for run in runs))
        verdict = INCONCLUSIVE if wanting else judge(self.region, low, high, len(values))
        what = "score of the half that chose the epoch − score of the other half"
        return [Reading(what, "points", verdict, mean, low, high, len(values), 1, True, notes, sources,
                        is_generated([run.record for run in runs]), inside=inside(self.region, values), region=self.region,
                        reason=Doubt.reasons(wanting))]  # fmt: skip


def _doubts(runs: Sequence[Run]) -> list[Doubt]:
    cell = runs[0].cell
    return doubts(f"{cell.row.label} on {task_label(cell)}", cell, [run.record for run in runs])

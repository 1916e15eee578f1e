"""The test on choosing the epoch by the rows that are reported: how much it inflates a score, by halves of the held-out rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lora_repro.report.claims.base import ClaimTest, Operand, rows_by_table
from lora_repro.report.claims.evidence import Evidence
from lora_repro.report.claims.reading import INCONCLUSIVE, Reading, Region, judge, student
from lora_repro.report.columns import task_label
from lora_repro.report.statistics import is_generated
from lora_repro.results import Run, by_place

Look = tuple[float, float]  # one evaluation: the scores of either half of the held-out rows


def inflation(looks: Sequence[Look]) -> float:
    """By how much the half that chose an evaluation scores higher there than the other half, averaged over both directions.

    With s_A(t), s_B(t) the scores of the halves at evaluation t, and t_A the best evaluation of A (the last of equal ones):
    ½ [s_A(t_A) − s_B(t_A) + s_B(t_B) − s_A(t_B)]. The difference in difficulty between the halves cancels.
    """

    def chosen(half: int) -> int:
        return max(range(len(looks)), key=lambda at: (looks[at][half], at))

    by_a, by_b = chosen(0), chosen(1)
    return (looks[by_a][0] - looks[by_a][1] + looks[by_b][1] - looks[by_b][0]) / 2


def half_scores(run: Run) -> list[Look]:
    """The evaluations in which both halves have a score; none for a run that diverged or whose older record lacks them."""
    found: Sequence[Any] = run.record["measured"].get("dev_halves") or () if run.trained else ()
    return [(float(even), float(odd)) for _, even, odd in found if even is not None and odd is not None]


class EpochChoice(ClaimTest):
    """The mean `inflation` of each seed, over the rows and places whose runs have several evaluations, lies above 0."""

    def __init__(self, rows: Sequence[str]) -> None:
        self.cells, self.region = [Operand.of(row) for row in rows], Region(floor=0.0)

    def rows(self) -> dict[str, set[str]]:
        return rows_by_table(self.cells)

    @property
    def rule(self) -> str:
        names = ", ".join(f"`{cell.name}`" for cell in self.cells)
        what = "one half of the held-out rows chooses the epoch; its score there minus the other half's, averaged over both ways"
        mean = "each seed's mean over rows and tasks, and the 95 % interval over seeds"
        return f"{names}: {what}: {mean}, lie {self.region.words}; with searched rates"

    def read(self, evidence: Evidence) -> list[Reading]:
        by_seed: dict[int, list[float]] = {}
        runs, tasks = [], {}
        wanting: dict[str, None] = {}
        for table in self.rows():
            declared = evidence.cells(table)
            for row in sorted(self.rows()[table]):
                for here in by_place([cell for cell in declared if cell.row.name == row]):
                    task = task_label(here[0])
                    for seed, run in evidence.runs(here).items():
                        if len(looks := half_scores(run)) > 1:
                            by_seed.setdefault(seed, []).append(100 * inflation(looks))
                            runs.append(run)
                            tasks[task] = len(looks)
                            if doubt := run.cell.rate_doubt:
                                wanting[f"{run.cell.row.label} on {task}: {doubt}"] = None
        if not runs:
            return []
        values = [float(sum(found) / len(found)) for _, found in sorted(by_seed.items())]
        mean, low, high = student(values)
        notes = (f"{len(runs)} runs", *(f"{task}: {looks} evaluations" for task, looks in tasks.items()), *wanting)
        sources = tuple(dict.fromkeys(evidence.source(run.signature) for run in runs))
        verdict = INCONCLUSIVE if wanting else judge(self.region, low, high, len(values), values)
        what = "score of the half that chose the epoch − score of the other half"
        return [Reading(what, "points", verdict, mean, low, high, len(values), 1, True, notes, sources,
                        is_generated([run.record for run in runs]))]  # fmt: skip

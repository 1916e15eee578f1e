"""What is chosen on held-out rows: claims on the best learning rates, from the published trials, and on choosing the epoch."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.special import stdtrit

from lora_repro.errors import UserError
from lora_repro.planning.cells import Cell
from lora_repro.report.claims.base import ClaimTest, Evidence, Operand, expanded, rows_by_table
from lora_repro.report.claims.compare import sizes_of, swept
from lora_repro.report.claims.reading import Doubt, Reading
from lora_repro.report.claims.settled import doubts, unsettled
from lora_repro.report.columns import task_label
from lora_repro.results import Run, backbone_name, by_place, grouped
from lora_repro.stats.comparable import is_generated
from lora_repro.stats.intervals import student
from lora_repro.stats.verdict import INCONCLUSIVE, LEAST, Region, inside, judge

STEP = 3.0  # the factor between neighbours on the grid of a search
GRID = math.log(STEP) / math.sqrt(6)  # standard deviation of log(a / b) where the best rates lie anywhere within half a step


class RateQuotient(ClaimTest):
    """Best rate of a over that of b, for each comparison [a, b] on each task of its table, from searches on a grid of factor 3.

    A quotient counts only if both searches are bracketed, that is, the best trial has a worse one on either side, and both best
    trials learnt something: among rates at chance noise alone chooses. alpha: of LoRA's rows, those with another alpha are left
    out, since under Adam alpha and the rate of B trade one for one. There is no verdict while runs at these rates still rise
    (`settled`): the best rate depends on the length.

    A setting is a comparison on a task; with several sizes its value is their geometric mean, since they share a rate. The
    reading is the geometric mean over the n settings. Its interval is Student's over their logarithms, whose standard deviation
    counts as no less than ln 3 / sqrt(6), the grid's own: quotients that are alike may only be the same step of the grid.
    """

    def __init__(
        self, comparisons: Sequence[Sequence[str]], floor: float | None = None, ceiling: float | None = None,
        alpha: float | None = None,
    ) -> None:  # fmt: skip
        self.comparisons = [[Operand.of(text) for text in texts] for texts in comparisons]
        self.region, self.alpha = Region.of(floor, ceiling), alpha
        if any(len(cells) != 2 or cells[0].table != cells[1].table for cells in self.comparisons):
            raise UserError("a comparison of rates names two cells of one table")

    def rows(self) -> dict[str, set[str]]:
        return rows_by_table(itertools.chain(*self.comparisons))

    @property
    def rule(self) -> str:
        names = "; ".join(" / ".join(f"`{cell.name}`" for cell in cells) for cells in self.comparisons)
        alpha_text = f", at α = {self.alpha:g}" if self.alpha else ""
        settings = f"at least {LEAST} settings with both searches bracketed and above chance, and settled cells"
        mean = f"the 95 % interval of the geometric mean over {settings}"
        grid = f"it allows for the grid of factor {STEP:g}"
        return f"quotient of the best searched rates, {names}, on each task{alpha_text}: {mean}, lies {self.region.words}; {grid}"

    def read(self, evidence: Evidence) -> list[Reading]:
        settings: list[list[float]] = []
        notes: list[str] = []
        wanting: list[Doubt] = []
        sources: list[str] = []
        for operands in self.comparisons:
            for group in grouped(evidence.cells(operands[0].table), lambda cell: (backbone_name(cell), cell.task)):
                quotients = []
                for pair in expanded(operands, sizes_of(group)):
                    searches = [_search(group, operand) for operand in pair]
                    value, note = self._quotient(group, pair, [search for _, search in searches])
                    notes += [note] if note else []
                    if value is not None:
                        quotients.append(value)
                        sources += [f"{evidence.profile}/trials/{name}.json" for name, _ in searches]
                        wanting += [early for operand in pair if (early := _unsettled(group, operand, evidence))]
                settings += [quotients] if quotients else []
        if not settings:
            return [Reading("best rate / best rate", "ratio", INCONCLUSIVE, notes=tuple(notes))] if notes else []
        logs = [float(np.mean(np.log(quotients))) for quotients in settings]
        value, low, high = map(math.exp, with_grid(logs))
        wanting = list(dict.fromkeys(wanting))
        verdict = INCONCLUSIVE if wanting else judge(self.region, low, high, len(logs))
        return [Reading("best rate / best rate (n: settings)", "ratio", verdict, value, low, high, len(logs),
                        notes=(*notes, *(doubt.note for doubt in wanting)), sources=tuple(dict.fromkeys(sources)),
                        inside=inside(self.region, [math.exp(log) for log in logs], "settings"), region=self.region,
                        reason=Doubt.reasons(wanting))]  # fmt: skip

    def _quotient(
        self, group: Sequence[Cell], pair: Sequence[Operand], searches: Sequence[dict[str, Any] | None]
    ) -> tuple[float | None, str]:
        """(best rate of a over that of b, or None; a note, if both were searched)."""
        name = f"{' / '.join(operand.name for operand in pair)} on {task_label(group[0])}"
        bracketed_searches = [search for search in searches if search and not search["edge"]]
        if len(bracketed_searches) < 2:
            return None, ""
        if not all(search.get("learnt", True) for search in bracketed_searches):
            return None, f"left out, no rate of a search above chance: {name}"
        alphas = {cell.asked["method"]["alpha"] for operand in pair for cell in _of(group, operand)
                  if "alpha" in (cell.asked.get("method") or {})}  # fmt: skip
        if self.alpha and alphas - {self.alpha}:
            return None, f"left out, α = {', '.join(f'{alpha:g}' for alpha in sorted(alphas))}: {name}"
        quotient = float(bracketed_searches[0]["chosen"]) / float(bracketed_searches[1]["chosen"])
        return quotient, f"{name}: {quotient:.3g}"


def with_grid(logs: Sequence[float]) -> tuple[float, float, float]:
    """(mean, low, high) of logarithms of quotients: Student's interval, with the grid's standard deviation at least."""
    n, mean = len(logs), float(np.mean(logs))
    if n < 2:
        return mean, math.nan, math.nan
    reach = float(stdtrit(n - 1, 0.975)) * max(float(np.std(logs, ddof=1)), GRID) / math.sqrt(n)
    return mean, mean - reach, mean + reach


def _of(cells: Sequence[Cell], operand: Operand) -> list[Cell]:
    return [cell for cell in cells if cell.row.name == operand.row and operand.size in (None, str(swept(cell)[1]))]


def _unsettled(cells: Sequence[Cell], operand: Operand, evidence: Evidence) -> Doubt | None:
    """Why the rate of a cell is not that of a training which was long enough; None if it is, or if no run used it."""
    records = [run.record for run in evidence.runs(_of(cells, operand)).values()]
    return unsettled(f"{operand.name} on {task_label(cells[0])}", records)


def _search(cells: Sequence[Cell], operand: Operand) -> tuple[str, dict[str, Any] | None]:
    """(name of the setting, its search or None). All seeds of a cell share one search."""
    operand_cells = _of(cells, operand)
    return (operand_cells[0].setting, operand_cells[0].search) if operand_cells else ("", None)


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
        text = "one half of the held-out rows chooses the epoch; its score there minus the other half's, averaged over both ways"
        cells = f"the rows and tasks with at least {LEAST} seeds of {EVALUATIONS} evaluations or more"
        mean = f"the 95 % interval of the mean over {cells}, over the seeds that they share"
        return f"{names}: {text}: {mean}, lies {self.region.words} points; with searched rates and settled cells"

    def read(self, evidence: Evidence) -> list[Reading]:
        places: list[dict[int, Run]] = []
        for table in self.rows():
            cells = evidence.cells(table)
            for row in sorted(self.rows()[table]):
                for group in by_place([cell for cell in cells if cell.row.name == row]):
                    by_seed = {seed: run for seed, run in evidence.runs(group).items() if len(half_scores(run)) >= EVALUATIONS}
                    places += [by_seed] if by_seed else []
        eligible_places = [of_cell for of_cell in places if len(of_cell) >= LEAST]
        seeds = sorted(set.intersection(*({*of_cell} for of_cell in eligible_places))) if eligible_places else []
        if not seeds:
            return []
        values = [float(np.mean([100 * inflation(half_scores(of_cell[seed])) for of_cell in eligible_places])) for seed in seeds]
        mean, low, high = student(values)
        runs = [of_cell[seed] for of_cell in eligible_places for seed in seeds]
        tasks = {task_label(run.cell): len(half_scores(run)) for run in runs}
        rows = list(dict.fromkeys(run.cell.row.label for run in runs))
        fewer = [next(iter(of_cell.values())).cell for of_cell in places if of_cell not in eligible_places]
        left_out = [f"{cell.row.label} on {task_label(cell)}: left out, fewer than {LEAST} seeds" for cell in fewer]
        wanting = list(dict.fromkeys(doubt for of_cell in eligible_places for doubt in _doubts(list(of_cell.values()))))
        notes = (f"{len(runs)} runs of {', '.join(rows)}", *(f"{task}: {looks} evaluations" for task, looks in tasks.items()),
                 *left_out, *(doubt.note for doubt in wanting))  # fmt: skip
        sources = tuple(dict.fromkeys(evidence.source(run.signature) for run in runs))
        verdict = INCONCLUSIVE if wanting else judge(self.region, low, high, len(values))
        quantity = "score of the half that chose the epoch − score of the other half"
        return [Reading(quantity, "points", verdict, mean, low, high, len(values), 1, True, notes, sources,
                        is_generated([run.record for run in runs]), inside=inside(self.region, values), region=self.region,
                        reason=Doubt.reasons(wanting))]  # fmt: skip


def _doubts(runs: Sequence[Run]) -> list[Doubt]:
    cell = runs[0].cell
    return doubts(f"{cell.row.label} on {task_label(cell)}", cell, [run.record for run in runs])

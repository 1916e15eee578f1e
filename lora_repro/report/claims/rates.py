"""Claims on learning rates, from the published trials: the best rate of one cell over that of another."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

from lora_repro.cells import Cell
from lora_repro.config import rates
from lora_repro.errors import UserError
from lora_repro.report.claims.base import ClaimTest, Operand, expanded, rows_by_table
from lora_repro.report.claims.compare import sizes_of, swept
from lora_repro.report.claims.evidence import Evidence
from lora_repro.report.claims.reading import INCONCLUSIVE, LEAST, Reading, Region, judge, student
from lora_repro.report.claims.settled import unsettled
from lora_repro.report.columns import task_label
from lora_repro.results import backbone_name, grouped


class RateQuotient(ClaimTest):
    """Best rate of a over that of b, for each comparison [a, b] on each task of its table, from searches on a grid of factor 3.

    A setting counts only if both searches are bracketed, that is, the best trial has a worse one on either side, and both best
    trials learnt something: among rates at chance noise alone chooses. There is no verdict while runs at these rates still rise
    (`settled`): the best rate depends on the length. The value is the geometric mean over the n settings; its
    interval is Student's over their logarithms. That holds the scatter between settings alone: the grid's own error, up to a
    factor of √3 in each rate, comes on top.
    """

    def __init__(self, comparisons: Sequence[Sequence[str]], floor: float | None = None, ceiling: float | None = None) -> None:
        self.comparisons = [[Operand.of(text) for text in texts] for texts in comparisons]
        self.region = Region.of(floor, ceiling)
        if any(len(cells) != 2 or cells[0].table != cells[1].table for cells in self.comparisons):
            raise UserError("a comparison of rates names two cells of one table")

    def rows(self) -> dict[str, set[str]]:
        return rows_by_table(itertools.chain(*self.comparisons))

    @property
    def rule(self) -> str:
        names = "; ".join(" / ".join(f"`{cell.name}`" for cell in cells) for cells in self.comparisons)
        settings = f"at least {LEAST} settings with both searches bracketed and above chance, and settled cells"
        mean = f"the 95 % interval of the geometric mean over {settings}"
        grid = "it leaves out the grid's error, up to a factor of √3 in each rate"
        return f"quotient of the best searched rates, {names}, on each task: {mean} lies {self.region.words}; {grid}"

    def read(self, evidence: Evidence) -> list[Reading]:
        quotients: list[tuple[str, float]] = []
        left_out: list[str] = []
        wanting: list[str] = []
        sources: list[str] = []
        for operands in self.comparisons:
            for mine in grouped(evidence.cells(operands[0].table), lambda cell: (backbone_name(cell), cell.task)):
                for a, b in expanded(operands, sizes_of(mine)):
                    found = [_search(mine, operand) for operand in (a, b)]
                    bracketed = [one for _, one in found if one and not one["edge"]]
                    name = f"{a.name} / {b.name} on {task_label(mine[0])}"
                    if len(bracketed) == 2 and not all(one.get("learnt", True) for one in bracketed):
                        left_out.append(f"left out, no rate of a search above chance: {name}")
                    elif len(bracketed) == 2:
                        chosen = [float(one["chosen"]) for one in bracketed]
                        quotients.append((name, chosen[0] / chosen[1]))
                        sources += [f"{evidence.profile}/trials/{name}.json" for name, _ in found]
                        wanting += [early for operand in (a, b) if (early := _unsettled(mine, operand, evidence))]
        if not quotients:
            return []
        n = len(quotients)
        value, low, high = map(math.exp, student([math.log(quotient) for _, quotient in quotients]))
        notes = (*(f"{name}: {quotient:.3g}" for name, quotient in quotients), *left_out, *dict.fromkeys(wanting))
        verdict = INCONCLUSIVE if wanting else judge(self.region, low, high, n)
        return [Reading("best rate / best rate (n: settings)", "ratio", verdict, value, low, high, n,
                        notes=notes, sources=tuple(dict.fromkeys(sources)))]  # fmt: skip


def _of(declared: Sequence[Cell], operand: Operand) -> list[Cell]:
    return [cell for cell in declared if cell.row.name == operand.row and operand.size in (None, str(swept(cell)[1]))]


def _unsettled(declared: Sequence[Cell], operand: Operand, evidence: Evidence) -> str:
    """Why the rate of a cell is not that of a training which was long enough; empty if it is, or if no run used it."""
    records = [run.record for run in evidence.runs(_of(declared, operand)).values()]
    return unsettled(f"{operand.name} on {task_label(declared[0])}", records)


def _search(declared: Sequence[Cell], operand: Operand) -> tuple[str, dict[str, Any] | None]:
    """(name of the setting, its search or None). All seeds of a cell share one search."""
    found = _of(declared, operand)
    return (rates.setting_signature(found[0].asked), found[0].search) if found else ("", None)

"""The test on forgetting: the rise of a model's loss on general text, beside its loss on the task."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from lora_repro.errors import UserError
from lora_repro.report.claims.base import ClaimTest, Operand, rows_by_table
from lora_repro.report.claims.evidence import Evidence
from lora_repro.report.claims.reading import Doubt, Reading
from lora_repro.report.claims.settled import doubts
from lora_repro.report.columns import task_label
from lora_repro.report.numbers import general_loss_rise
from lora_repro.results import Run, backbone_name, grouped
from lora_repro.stats.comparable import check_same_origin, is_generated
from lora_repro.stats.intervals import detectable_by, student
from lora_repro.stats.verdict import INCONCLUSIVE, LEAST, NOT_RUN, Region, inside, judge

Value = Callable[[dict[str, Any]], float | None]


def held_out(measured: dict[str, Any]) -> float | None:
    """The task's held-out loss, in nats per token."""
    return None if measured.get("dev_loss") is None else float(measured["dev_loss"])


PARTS: tuple[tuple[str, Value, Region], ...] = (
    ("rise of the loss on general text", general_loss_rise, Region(ceiling=0.0)),
    ("held-out loss of the task", held_out, Region(floor=0.0)),
)


class ForgetsLess(ClaimTest):
    """`row` forgets less than `other` (a smaller rise of the loss on general text) and learns less (a larger held-out loss).

    The value is the mean over seeds of `row` − `other` at the same seed; its interval is Student's over the seeds.
    """

    def __init__(self, row: str, other: str) -> None:
        self.cells = [Operand.of(row), Operand.of(other)]
        if self.cells[0].table != self.cells[1].table:
            raise UserError("what forgets less names two rows of one table")

    def rows(self) -> dict[str, set[str]]:
        return rows_by_table(self.cells)

    @property
    def rule(self) -> str:
        names = " − ".join(f"`{cell.name}`" for cell in self.cells)
        parts = " and ".join(f"{region.words} for the {what}" for what, _, region in PARTS)
        return f"{names} of the same seed: the 95 % interval of the mean over seeds lies {parts}; with at " \
               f"least {LEAST} seeds, searched rates and settled cells"  # fmt: skip

    def read(self, evidence: Evidence) -> list[Reading]:
        places = grouped(evidence.cells(self.cells[0].table), lambda cell: (backbone_name(cell), cell.task))
        readings = []
        for here in places:
            sides = [[cell for cell in here if cell.row.name == operand.row] for operand in self.cells]
            runs = [evidence.runs(side) for side in sides]
            names = " − ".join(side[0].row.label for side in sides)
            task = task_label(here[0])
            wanting = []
            for side, mine in zip(sides, runs, strict=True):
                wanting += doubts(f"{side[0].row.label} on {task}", side[0], [run.record for run in mine.values()])
            for what, value, region in PARTS:
                readings.append(self._reading(f"{names}, {what}", task, runs, value, region, wanting, evidence))
        return readings

    def _reading(
        self, what: str, task: str, sides: Sequence[dict[int, Run]], value: Value, region: Region, wanting: Sequence[Doubt],
        evidence: Evidence,
    ) -> Reading:  # fmt: skip
        seeds = sorted(sides[0].keys() & sides[1].keys())
        pairs = [[side[seed] for side in sides] for seed in seeds]
        lost = sum(any(run.record["status"] == "diverged" for run in pair) for pair in pairs)
        # A diverged run's losses, if any, are from before it diverged; leaving its seed out would bias the mean: no verdict.
        diverged = f"{lost} of {len(pairs)} seeds diverged"
        wanting = [*wanting, *([Doubt(diverged, diverged)] if lost else [])]
        notes = tuple(one.note for one in wanting)
        read = [(pair, [value(run.record["measured"]) if run.trained else None for run in pair]) for pair in pairs]
        kept = [(pair, a - b) for pair, (a, b) in read if a is not None and b is not None]
        if not kept:
            verdict = INCONCLUSIVE if lost else NOT_RUN
            return Reading(what, f"nats per token, {task}", verdict, notes=(*notes, "not measured or not run"))
        runs = [run for pair, _ in kept for run in pair]
        check_same_origin([run.record for run in runs])
        values = [difference for _, difference in kept]
        mean, low, high = student(values)
        verdict = INCONCLUSIVE if wanting else judge(region, low, high, len(values))
        sources = tuple(evidence.source(run.signature) for run in runs)
        return Reading(what, f"nats per token, {task}", verdict, mean, low, high, len(values), 3, True, notes, sources,
                       is_generated([run.record for run in runs]), detectable=detectable_by(low, high),
                       inside=inside(region, values), region=region, reason=Doubt.reasons(wanting))  # fmt: skip

"""What training overwrites: the claims of later work on the loss of general text, and on intruder dimensions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from lora_repro.analysis.probed_run import NAMES, ProbedRun, probed_runs
from lora_repro.errors import UserError
from lora_repro.report.claims.base import ClaimTest, Evidence, Operand, rows_by_table
from lora_repro.report.claims.reading import Doubt, Reading
from lora_repro.report.claims.settled import doubts
from lora_repro.report.columns import task_label
from lora_repro.report.numbers import general_loss_rise
from lora_repro.report.subjects.probed import Probing, of_values, region_rule
from lora_repro.results import Run, backbone_name, grouped, runs
from lora_repro.stats.comparable import check_same_origin, is_generated
from lora_repro.stats.intervals import detectable_by, student
from lora_repro.stats.verdict import BESIDE, INCONCLUSIVE, LEAST, NOT_RUN, Region, inside, judge

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


def _update_norm(run: ProbedRun, kind: str) -> float:
    """‖ΔW‖_F at the end of training, mean over the layers."""
    norms = np.asarray(run.arrays[f"{kind}.norm"], np.float64)
    return float(np.mean(norms[-1] if norms.ndim == 2 else norms))


class Intruders(Probing):
    """analysis.spectra.intruders of LoRA at each rank up to `most`, minus that of full fine-tuning with the same seed and layer.

    Larger ranks are shown but not judged. full_below: what full fine-tuning's own count must lie below.
    """

    table = "delta_w"

    def __init__(
        self, kinds: Sequence[str], most: int, full_below: float, floor: float | None = None, ceiling: float | None = None
    ) -> None:
        super().__init__(kinds, floor, ceiling)
        self.most, self.full_region = most, Region(ceiling=full_below)

    def rows(self) -> dict[str, set[str]]:
        return {self.table: {"lora", "full"}}

    @property
    def rule(self) -> str:
        what = "how many of the top 10 left singular vectors of a tuned matrix have no cosine of 0.5 with any of the base's"
        pair = f"LoRA of rank {self.most} at most − full fine-tuning of the same seed (larger ranks are shown, not judged)"
        return f"{what}: {pair}, {region_rule(self.region)}; and full fine-tuning's own count lies {self.full_region.words}"

    def read(self, evidence: Evidence) -> list[Reading]:
        every = probed_runs(runs(evidence.cells(self.table), evidence.store))
        every = [run for run in every if f"{self.kinds[0]}.intruders" in run.arrays]  # older records lack the count
        full = {run.seed: run for run in every if run.row == "full"}
        ranks = sorted({int(rank) for cell in evidence.cells(self.table) if (rank := cell.asked["method"].get("rank"))})
        readings = []
        for kind in self.kinds:
            own = [((run,), np.asarray(run.arrays[f"{kind}.intruders"], np.float64)) for run in full.values()]
            what = f"intruders, {NAMES[kind]}, full"
            readings += of_values(what, "of 10", own, self.full_region, evidence) or [Reading(what, "of 10", NOT_RUN)]
            for rank in ranks:
                pairs = [(run, full[run.seed]) for run in every if run.rank == rank and run.seed in full]
                counts = [[np.asarray(run.arrays[f"{kind}.intruders"], np.float64) for run in pair] for pair in pairs]
                values = [(pair, ours - theirs) for pair, (ours, theirs) in zip(pairs, counts, strict=True)]
                means = [float(np.mean(side)) for side in zip(*counts, strict=True)]
                notes = [f"per matrix: LoRA {means[0]:.2f}, full {means[1]:.2f}"] if means else []
                sizes = [float(np.mean([_update_norm(run, kind) for run in side])) for side in zip(*pairs, strict=True)]
                notes += ["‖ΔW‖: LoRA {:.1f}, full {:.1f}".format(*sizes)] if sizes else []
                what = f"intruders, {NAMES[kind]}, r = {rank} − full"
                read = of_values(what, "of 10", values, self.region, evidence, notes=notes, versus=True)
                read = read or [Reading(what, "of 10", NOT_RUN)]
                readings += read if rank <= self.most else [replace(one, verdict=BESIDE) for one in read]
        return readings

"""What training overwrites: the claims of later work on the loss of general text, and on intruder dimensions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from lora_repro.analysis.probed_run import NAMES, ProbedRun, at_scale, gap_at, probed_runs, scale_at
from lora_repro.analysis.spectra import Array
from lora_repro.errors import UserError
from lora_repro.report.claims.base import ClaimTest, Evidence, Operand, rows_by_table
from lora_repro.report.claims.reading import Doubt, Reading
from lora_repro.report.claims.settled import doubts
from lora_repro.report.columns import task_label
from lora_repro.report.numbers import general_loss_rise
from lora_repro.report.subjects.partial import asked_for_parts
from lora_repro.report.subjects.probed import Probing, declared_ranks, of_values, region_rule
from lora_repro.results import Run, backbone_name, grouped, runs
from lora_repro.stats.comparable import check_same_origin, is_generated
from lora_repro.stats.intervals import detectable_by, student
from lora_repro.stats.verdict import BESIDE, INCONCLUSIVE, LEAST, NOT_RUN, Region, inside, judge

Value = Callable[[dict[str, Any]], float | None]


def held_out(measurements: dict[str, Any]) -> float | None:
    """The task's held-out loss, in nats per token."""
    return None if measurements.get("dev_loss") is None else float(measurements["dev_loss"])


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
        for cells in places:
            sides = [[cell for cell in cells if cell.row.name == operand.row] for operand in self.cells]
            runs = [evidence.runs(side) for side in sides]
            names = " − ".join(side[0].row.label for side in sides)
            task = task_label(cells[0])
            wanting = []
            for side, side_runs in zip(sides, runs, strict=True):
                wanting += doubts(f"{side[0].row.label} on {task}", side[0], [run.record for run in side_runs.values()])
            for what, value, region in PARTS:
                readings.append(self._reading(f"{names}, {what}", task, runs, value, region, wanting, evidence))
        return readings

    def _reading(
        self, quantity: str, task: str, sides: Sequence[dict[int, Run]], value: Value, region: Region, wanting: Sequence[Doubt],
        evidence: Evidence,
    ) -> Reading:  # fmt: skip
        seeds = sorted(sides[0].keys() & sides[1].keys())
        pairs = [[side[seed] for side in sides] for seed in seeds]
        divergences = sum(any(run.record["status"] == "diverged" for run in pair) for pair in pairs)
        # A diverged run's losses, if any, are from before it diverged; leaving its seed out would bias the mean: no verdict.
        reason = f"{divergences} of {len(pairs)} seeds diverged"
        wanting = [*wanting, *([Doubt(reason, reason)] if divergences else [])]
        notes = tuple(doubt.note for doubt in wanting)
        losses = [(pair, [value(run.record["measured"]) if run.trained else None for run in pair]) for pair in pairs]
        differences = [(pair, a - b) for pair, (a, b) in losses if a is not None and b is not None]
        if not differences:
            verdict = INCONCLUSIVE if divergences else NOT_RUN
            return Reading(quantity, f"nats per token, {task}", verdict, notes=(*notes, "not measured or not run"))
        runs = [run for pair, _ in differences for run in pair]
        check_same_origin([run.record for run in runs])
        values = [difference for _, difference in differences]
        mean, low, high = student(values)
        verdict = INCONCLUSIVE if wanting else judge(region, low, high, len(values))
        sources = tuple(evidence.source(run.signature) for run in runs)
        return Reading(quantity, f"nats per token, {task}", verdict, mean, low, high, len(values), 3, True, notes, sources,
                       is_generated([run.record for run in runs]), detectable=detectable_by(low, high),
                       inside=inside(region, values), region=region, reason=Doubt.reasons(wanting))  # fmt: skip


Pair = tuple[ProbedRun, ProbedRun]


def equal_loss(pair: Pair) -> tuple[float, list[float]]:
    """(the larger of the held-out losses of two trainings, the lambda at which each has it): the better one is scaled down."""
    loss = max(float(at_scale(run, "scales.dev_loss", 1.0)) for run in pair)
    return loss, [scale_at(run, loss) for run in pair]


FINE = 0.25  # of the update: losses bend over lambda, so a line between measured lambda farther apart gives no verdict


class AtEqualLoss(Probing):
    """LoRA minus full fine-tuning of the same seed, where both have the same held-out loss, at each rank that was asked."""

    table = "delta_w"

    def rows(self) -> dict[str, set[str]]:
        return {self.table: {"lora", "full"}}

    def asked(self, evidence: Evidence) -> tuple[list[int], list[ProbedRun]]:
        """The ranks that are asked for their losses with λ times their update, and all such runs."""
        cells = asked_for_parts(evidence.cells(self.table))
        return declared_ranks(cells), probed_runs(runs(cells, evidence.store))

    def compared(
        self, pairs: Sequence[Pair], array: str, quantity: str, unit: str, digits: int, evidence: Evidence
    ) -> list[Reading]:
        """The reading of the differences of `array` over the pairs, with both sides' means in its notes."""
        values, sides, gap = [], [], 0.0
        for pair in pairs:
            loss, scales = equal_loss(pair)
            ours, theirs = (at_scale(run, array, scale) for run, scale in zip(pair, scales, strict=True))
            values.append((pair, np.atleast_1d(ours - theirs)))
            sides.append((loss, *scales, float(np.mean(ours)), float(np.mean(theirs))))
            gap = max(gap, *(gap_at(run, scale) for run, scale in zip(pair, scales, strict=True)))
        notes = []
        if sides:
            loss, *scales, ours, theirs = np.mean(sides, axis=0)
            notes = [f"LoRA {ours:.{digits}f}, full {theirs:.{digits}f}", f"held-out loss {loss:.3f}",
                     "λ: LoRA {:.2f}, full {:.2f}".format(*scales)]  # fmt: skip
        reason = f"λ lies between measured ones {gap:g} apart"
        notes += [reason] if gap > FINE else []
        readings = of_values(quantity, unit, values, self.region, evidence, notes=notes, versus=True)
        if gap > FINE:
            readings = [replace(reading, verdict=INCONCLUSIVE, reason=reason) for reading in readings]
        return readings or [Reading(quantity, unit, NOT_RUN)]


def pairs_of(every: Sequence[ProbedRun], rank: int) -> list[Pair]:
    """LoRA of a rank and full fine-tuning, seed by seed."""
    full = {run.seed: run for run in every if run.row == "full"}
    return [(run, full[run.seed]) for run in every if run.rank == rank and run.seed in full]


EQUAL = (
    "where both have the same held-out loss, the larger of the two trainings', at the smallest λ at which λΔW has it "
    f"(linear between measured λ, at most {FINE:g} apart for a verdict)"
)


class ForgetsAtEqualLoss(AtEqualLoss):
    """The loss on general text at an equal held-out loss.

    The verdict is about that loss, which both reach; so it is not kept back where a training still rises.
    """

    def __init__(self, floor: float | None = None, ceiling: float | None = None) -> None:
        super().__init__([], floor, ceiling)

    @property
    def rule(self) -> str:
        return f"the loss on general text of LoRA − full fine-tuning of the same seed, at each rank that was asked, {EQUAL}: " \
               f"{region_rule(self.region, layers=False)}"  # fmt: skip

    def read(self, evidence: Evidence) -> list[Reading]:
        ranks, every = self.asked(evidence)
        what, unit, readings = "rise of the loss on general text at equal held-out loss", "nats per token", []
        for rank in ranks:
            pairs = pairs_of(every, rank)
            readings += self.compared(pairs, "scales.general_loss", f"{what}, r = {rank} − full", unit, 3, evidence)
        return readings or [Reading(what, unit, NOT_RUN)]


class Intruders(AtEqualLoss):
    """analysis.spectra.intruders of LoRA at each rank up to `most`, minus full fine-tuning's, at an equal held-out loss.

    Larger ranks, and all ranks as trained, are shown but not judged. full_below: what full fine-tuning's own count, as trained,
    must lie below.
    """

    def __init__(
        self, kinds: Sequence[str], most: int, full_below: float, floor: float | None = None, ceiling: float | None = None
    ) -> None:
        super().__init__(kinds, floor, ceiling)
        self.most, self.full_region = most, Region(ceiling=full_below)

    @property
    def rule(self) -> str:
        text = "how many of the top 10 left singular vectors of a tuned matrix have no cosine of 0.5 with any of the base's"
        pair = f"LoRA of rank {self.most} at most − full fine-tuning of the same seed (others, and as trained: shown, not judged)"
        return f"{text}: {pair}, {EQUAL}: {region_rule(self.region)}; and full fine-tuning's own count as trained lies " \
               f"{self.full_region.words}"  # fmt: skip

    def read(self, evidence: Evidence) -> list[Reading]:
        readings = []
        ranks, asked_runs = self.asked(evidence)
        cells = evidence.cells(self.table)
        every = [run for run in probed_runs(runs(cells, evidence.store)) if f"{self.kinds[0]}.intruders" in run.arrays]
        for kind in self.kinds:
            name = NAMES[kind]
            counts = [((run,), _as_trained(run, kind)) for run in every if run.row == "full"]
            label = f"intruders, {name}, full"
            readings += of_values(label, "of 10", counts, self.full_region, evidence) or [Reading(label, "of 10", NOT_RUN)]
            if not ranks:
                readings.append(Reading(f"intruders at equal held-out loss, {name}", "of 10", NOT_RUN))
            for rank in ranks:
                label = f"intruders at equal held-out loss, {name}, r = {rank} − full"
                of_rank = self.compared(pairs_of(asked_runs, rank), f"{kind}.intruders_scaled", label, "of 10", 2, evidence)
                readings += of_rank if rank <= self.most else [replace(reading, verdict=BESIDE) for reading in of_rank]
            for rank in declared_ranks(cells):
                values = [(pair, _as_trained(pair[0], kind) - _as_trained(pair[1], kind)) for pair in pairs_of(every, rank)]
                of_rank = of_values(f"intruders as trained, {name}, r = {rank} − full", "of 10", values, self.region, evidence,
                                    versus=True)  # fmt: skip
                readings += [replace(reading, verdict=BESIDE) for reading in of_rank]
        return readings


def _as_trained(run: ProbedRun, kind: str) -> Array:
    return np.asarray(run.arrays[f"{kind}.intruders"], np.float64)

"""Tests on what a method costs: memory from training records and measurements, steps and forward passes from measurements."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from lora_repro.costs.measures import BUSY, PLAIN
from lora_repro.errors import UserError
from lora_repro.report.claims.base import ClaimTest
from lora_repro.report.claims.evidence import Evidence, Record
from lora_repro.report.claims.reading import Reading
from lora_repro.report.table import bound
from lora_repro.results import by_place
from lora_repro.stats.comparable import is_generated
from lora_repro.stats.verdict import INCONCLUSIVE, Region, inside, judge

PEAK = "peak memory of the process"
BATCHES = ("all", "least", "least − most")
SPAN = 16  # times the smallest batch: the least largest one for a verdict on both; the paper has 1 and 32
MODELS = 2  # the fewest models for a verdict on measured memory, which has no seeds
AT = dict(zip(BATCHES, ("all batch sizes", "smallest batch", "smallest batch − largest batch"), strict=True))


class TrainingMemory(ClaimTest):
    """Ratio of one row's peak memory to another's, for each task and seed of `tables` that both trained on the same device.

    The peak includes the interpreter and what earlier runs in the same process left.
    """

    def __init__(
        self, tables: Sequence[str], row: str, other: str, floor: float | None = None, ceiling: float | None = None
    ) -> None:
        self.tables, self.row, self.other = list(tables), row, other
        self.region = Region.of(floor, ceiling)

    def rows(self) -> dict[str, set[str]]:
        return {table: {self.row, self.other} for table in self.tables}

    @property
    def rule(self) -> str:
        names = " and ".join(f"`{table}`" for table in self.tables)
        return (f"{PEAK}, `{self.row}` / `{self.other}`, for each task and seed of {names} where both ran on the same device: "
                f"the middle 95 % of the quotients lie {self.region.words}")  # fmt: skip

    def read(self, evidence: Evidence) -> list[Reading]:
        return [reading for table in self.tables for reading in self._of_table(table, evidence)]

    def _of_table(self, table: str, evidence: Evidence) -> list[Reading]:
        quotients, seeds, records = [], set(), []
        for here in by_place(evidence.cells(table)):
            sides = [evidence.runs([cell for cell in here if cell.row.name == name]) for name in (self.row, self.other)]
            for seed in sorted(sides[0].keys() & sides[1].keys()):
                pair = [side[seed].record for side in sides]
                how = {(str(run["where"]["device"]), run["where"].get("batching", "padded")) for run in pair}
                same = len(how) == 1  # a packed step takes less than a padded one, whatever the method
                if same and all(side[seed].trained for side in sides):
                    quotients.append(pair[0]["measured"]["peak_memory_mb"] / pair[1]["measured"]["peak_memory_mb"])
                    seeds.add(seed)
                    records += pair
        if not quotients:
            return []
        low, high = (float(end) for end in np.percentile(quotients, [2.5, 97.5]))
        verdict = judge(self.region, low, high, len(seeds))
        trained = [_range(records[side::2]) for side in (0, 1)]
        devices = sorted({str(run["where"]["device"]) for run in records})
        counts = f"trained values: {trained[0]} and {trained[1]}"
        notes = (f"{len(quotients)} pairs of runs on {' and '.join(devices)}", counts)
        sources = tuple(evidence.source(str(run["signature"])) for run in records)
        return [Reading(f"{self.row} / {self.other}, table {table}", PEAK, verdict, float(np.median(quotients)),
                        low, high, len(seeds), 2, notes=notes, sources=sources, generated=is_generated(records),
                        inside=inside(self.region, quotients, "pairs"), region=self.region)]  # fmt: skip


def _range(records: Sequence[Record]) -> str:
    counts = [int(run["measured"]["parameters"]["method"] + run["measured"]["parameters"]["head"]) for run in records]
    return "–".join(f"{count:,}" for count in sorted({min(counts), max(counts)}))


class MeasuredMemory(ClaimTest):
    """Ratio of two rows' peak memory in training, each measured in a fresh process, over the models of one measurement.

    There is one process per row and model: n counts the models, and the range over them says nothing of repeatability.
    """

    def __init__(self, row: str, other: str, floor: float | None = None, ceiling: float | None = None) -> None:
        self.row, self.other, self.region = row, other, Region.of(floor, ceiling)

    @property
    def rule(self) -> str:
        return (f"peak memory of training steps, each measured in a fresh process, `{self.row}` / `{self.other}`: the quotient "
                f"of every model lies {self.region.words}, with at least {MODELS} models")  # fmt: skip

    def read(self, evidence: Evidence) -> list[Reading]:
        readings = []
        for path, measured in evidence.measures("latency").items():
            peaks = {(entry["backbone"], entry["row"]): float(entry["peak_mib"]) for entry in measured["memory"]}
            models = [b for b in dict.fromkeys(b for b, _ in peaks) if {(b, self.row), (b, self.other)} <= peaks.keys()]
            each = [peaks[b, self.row] / peaks[b, self.other] for b in models]
            if each:
                notes = (str(measured["where"]["device"]), *(str(measured["backbones"][b]) for b in models))
                verdict = judge(self.region, min(each), max(each), len(each), MODELS)
                numbers = (float(np.median(each)), min(each), max(each), len(each), 2)
                what = f"{self.row} / {self.other}, measured"
                readings.append(Reading(what, "peak memory of training", verdict, *numbers, notes=notes, sources=(path,),
                                     region=self.region))  # fmt: skip
        return readings


class MeasuredStep(ClaimTest):
    """Ratio of a row's training-step time to full fine-tuning's, interleaved in one process, per backbone and device.

    The value is the median over rounds of the ratio of the two times of a round; its interval is a bootstrap over the rounds.
    """

    def __init__(self, row: str, floor: float | None = None, ceiling: float | None = None) -> None:
        self.row, self.region = row, Region.of(floor, ceiling)

    @property
    def rule(self) -> str:
        return (f"time of a training step, `{self.row}` / `full`, measured in interleaved rounds: the 95 % interval over rounds "
                f"lies {self.region.words}")  # fmt: skip

    def read(self, evidence: Evidence) -> list[Reading]:
        readings = []
        for path, measured in evidence.measures("latency").items():
            for entry in measured.get("steps", ()):
                if entry["row"] == self.row:
                    value, low, high = (1 + entry["slowdown"][key] / 100 for key in ("median", "low", "high"))
                    n, model = entry["slowdown"]["n"], measured["backbones"][entry["backbone"]]
                    verdict = judge(self.region, low, high, n)
                    notes = (str(measured["where"]["device"]), *_busy(measured))
                    what = f"{self.row} / full, {model}"
                    readings.append(Reading(what, "time of a training step", verdict, value, low, high, n, 2, notes=notes,
                                         sources=(path,), region=self.region))  # fmt: skip
        return readings


def _busy(measured: Record) -> list[str]:
    load = measured["where"]["load_before"]
    return [f"the machine was busy (load {load})"] if load > BUSY else []


class Slowdown(ClaimTest):
    """Per cent by which a forward pass is slower than the plain model's, per backbone and device.

    A cell (batch x length) has the median over rounds of the ratio of the two times of a round. The value is the mean over cells
    and `rows`. Its interval is a bootstrap over the rounds of each cell, which its rows share.

    batches: `all`; `least`, the smallest batch; or `least − most`, the slow-down at the smallest batch minus that at the largest.
    """

    resamples = 2000

    def __init__(
        self, rows: Sequence[str], batches: str = "all", floor: float | None = None, ceiling: float | None = None
    ) -> None:
        self.methods, self.batches, self.region = list(rows), batches, Region.of(floor, ceiling)
        if batches not in BATCHES:
            raise UserError(f"batches is one of {'; '.join(BATCHES)}, not {batches}")

    @property
    def rule(self) -> str:
        of = {"all": "over all batch sizes", "least": "at the smallest batch"}
        where = of.get(self.batches, "at the smallest batch minus that at the largest")
        spans = f", where the largest is at least {SPAN} times the smallest" if self.batches == BATCHES[2] else ""
        return (f"slow-down of {', '.join(self.methods)} relative to the plain model (%), mean over lengths, {where}: the 95 % "
                f"interval over rounds lies {self.region.words}{spans}")  # fmt: skip

    def read(self, evidence: Evidence) -> list[Reading]:
        readings = []
        for path, measured in evidence.measures("latency").items():
            for backbone in dict.fromkeys(entry["backbone"] for entry in measured["latency"]):
                entries = [entry for entry in measured["latency"] if entry["backbone"] == backbone]
                if reading := self._of_backbone(entries, path, measured):
                    readings.append(reading)
        return readings

    def _of_backbone(self, entries: Sequence[Record], path: str, measured: Record) -> Reading | None:
        sizes = sorted({entry["batch"] for entry in entries})
        chosen = [entry for entry in entries if entry["row"] in self.methods]
        if not chosen or (self.batches == BATCHES[2] and len(sizes) < 2):
            return None
        plain = {(e["batch"], e["length"]): e["ms"] for e in entries if e["row"] == PLAIN}
        drawn = {(e["row"], e["batch"], e["length"]): self._cell(e, plain) for e in chosen}
        value, draws = self._pooled(drawn, sizes)
        each = self._single({key: point for key, (point, _) in drawn.items()}, sizes)
        low, high = (float(end) for end in np.percentile(draws, [2.5, 97.5]))
        n = min(len(entry["ms"]) for entry in chosen)
        ends = [bound(end, 1, True) for end in (min(each), max(each))]
        notes = [str(measured["where"]["device"]), f"its {len(each)} cells lie from {ends[0]} to {ends[1]}", *_busy(measured)]
        missing = sorted(set(self.methods) - {entry["row"] for entry in chosen})
        if missing:
            notes.append(f"not measured: {', '.join(missing)}")
        narrow = self.batches == BATCHES[2] and sizes[-1] < SPAN * sizes[0]
        if narrow:
            notes.append(f"batches of {sizes[0]} and {sizes[-1]}; a verdict needs {SPAN} times as many rows in the largest")
        verdict = INCONCLUSIVE if missing or narrow else judge(self.region, low, high, n)
        name = measured["backbones"][chosen[0]["backbone"]]
        return Reading(f"slow-down, {', '.join(self.methods)}, {AT[self.batches]}, {name}", "%", verdict, value, low, high,
                       n, 1, True, tuple(notes), (path,), inside=inside(self.region, each, "cells"), region=self.region,
                       reason="no large batch was measured" if narrow else "")  # fmt: skip

    def _cell(self, entry: Record, plain: dict[tuple[int, int], Any]) -> tuple[float, Any]:
        """(slow-down in per cent, its resamples) of one cell.

        All rows of a cell were timed in the same rounds against the same plain model, so their resamples draw the same rounds.
        """
        ratios = np.asarray(entry["ms"], float) / np.asarray(plain[entry["batch"], entry["length"]], float)
        draw = np.random.default_rng([entry["batch"], entry["length"]])
        chosen = draw.integers(len(ratios), size=(self.resamples, len(ratios)))
        return 100 * (float(np.median(ratios)) - 1), 100 * (np.median(ratios[chosen], axis=1) - 1)

    def _single(self, points: dict[tuple[str, int, int], float], sizes: Sequence[int]) -> list[float]:
        """The value of every cell; for `least − most`, the difference of the two batches for every row and length."""
        small, large = sizes[0], sizes[-1]
        if self.batches == "least − most":
            return [point - points[row, large, length] for (row, batch, length), point in points.items() if batch == small]
        return [point for (_, batch, _), point in points.items() if self.batches == "all" or batch == small]

    def _pooled(self, drawn: dict[tuple[str, int, int], tuple[float, Any]], sizes: Sequence[int]) -> tuple[float, Any]:
        def mean(batches: Sequence[int]) -> tuple[float, Any]:
            cells = [resamples for (_, batch, _), resamples in drawn.items() if batch in batches]
            return float(np.mean([point for point, _ in cells])), np.mean([draws for _, draws in cells], axis=0)

        if self.batches == "all":
            return mean(sizes)
        point, draws = mean(sizes[:1])
        if self.batches == "least":
            return point, draws
        other, more = mean(sizes[-1:])
        return point - other, draws - more

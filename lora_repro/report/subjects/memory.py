"""Memory, checkpoints and training steps: tables of what was measured beside arithmetic and the paper's GPT-3, and the claims.

The claims on sizes alone need no run: the value of a formula beside the printed value.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lora_repro.costs.arithmetic import Limit, limit
from lora_repro.costs.measures import FULL
from lora_repro.report.claims.base import ClaimTest, Evidence, Record
from lora_repro.report.claims.reading import Reading
from lora_repro.report.subjects.latency import busy, command, millions, paper_numbers
from lora_repro.report.table import EMPTY, Number, Origin, Reproduce, Source, Table, format_count
from lora_repro.results import by_place
from lora_repro.stats.comparable import is_generated
from lora_repro.stats.verdict import ARITHMETIC, Region, inside, judge

MIB, MB, GB = 2**20, 1e6, 1e9
MODELS = 2  # the fewest models for a verdict on measured memory, which has no seeds
PEAK = "peak memory of the process"
Entry = dict[str, Any]


def step_text(step: Entry | None) -> str:
    """`0.70 [0.68, 0.73]`: a training step's time over that of full fine-tuning."""
    if step is None or step["slowdown"] is None:
        return EMPTY
    value, low, high = (1 + step["slowdown"][key] / 100 for key in ("median", "low", "high"))
    return Number(f"{value:.2f} [{low:.2f}, {high:.2f}]", value, n=step["slowdown"]["n"], low=low, high=high, equal=1)


def memory_tables(measurements: Mapping[str, dict[str, Any]]) -> list[Table]:
    """One table per backbone, and one for the model of `arithmetic`. measurements: source -> measurement, the main one first."""
    first = next(iter(measurements.values()))
    tables = []
    for backbone in dict.fromkeys(entry["backbone"] for entry in first["memory"]):
        lines: list[tuple[str, ...]] = []
        for row in dict.fromkeys(entry["row"] for entry in first["memory"] if entry["backbone"] == backbone):
            shown = True
            for source, measurement in measurements.items():
                own, steps = (
                    {e["row"]: e for e in measurement.get(key, ()) if e["backbone"] == backbone} for key in ("memory", "steps")
                )
                if row in own:
                    lines.append(_line(own[row], own.get(FULL), steps.get(row), source, shown))
                    shown = False
        tables.append(Table(_facts(first, backbone), HEADER, "ll" + "r" * (len(HEADER) - 2), tuple(lines), NOTES))
    return [*tables, *arithmetic_tables(first["arithmetic"])]


ARITHMETIC_HEADER = (
    "Method", "Source", "Trained", "Training memory, GB", "without gradients", "Checkpoint, MB", "Tokens/s per V100",
)  # fmt: skip
HEADER = (
    "Method", "Source", "Trained", "Weights, MB", "(4 P)", "Optimizer state, MB", "(8 T)",
    "Gradients, MB", "File, MB", "(4 T)", "Activations, MB", "Above the model, MB", "(12 T)",
    "Peak, MB", "(4 P + 12 T)", "Peak / full FT", "Step, ms", "Step / full FT [95 %]",
)  # fmt: skip
NOTES = (
    "In brackets: the bytes by arithmetic, in float32, with T trained values and P values of the model including the method. "
    "4 T: gradients, or the file. 8 T: AdamW's two moments. 12 T: gradients and moments. A value in NF4 (QLoRA) takes 4.127 "
    "bits. MB: 10^6 bytes.",
    "Gradients: after a backward pass. Activations: what a forward pass keeps for the backward pass, without the weights.",
    "Above the model: peak of a training step minus the memory of the loaded model. What exceeds 12 T is activations and "
    "buffers, which the arithmetic leaves out. On a CPU the peak includes Python and its libraries.",
    "Step: forward, backward and AdamW. All methods take turns in one process, one step each per round. Shown are the median "
    "time, and the median of step / full fine-tuning's step in the same round, with a percentile bootstrap over rounds. Lower "
    "is better.",
)


def _facts(first: dict[str, Any], backbone: str) -> tuple[str, ...]:
    bench = first["asked"]["bench"]
    return (
        f"Memory and checkpoint of training, profile {first['profile']}",
        f"Backbone: {first['backbones'][backbone]}",
        f"{bench['train_steps']} steps of AdamW on {bench['train_batch']} × {bench['train_length']} random tokens",
        "Float32, one process per method",
        f"Device: {first['where']['device']}",
        Reproduce(command(first)),
    )


def _line(entry: Entry, full: Entry | None, step: Entry | None, source: str, shown: bool) -> tuple[str, ...]:
    floor = limit(entry["total"], entry["parameters"], quantised=entry.get("quantised", 0))
    peak = entry["peak_mib"] * MIB / MB
    weights, gradients, activations = (  # None: an older measurement lacks it
        entry[key] / MB if key in entry else None for key in ("weights_bytes", "gradient_bytes", "activation_bytes")
    )
    share = EMPTY if full is None else _number(entry["peak_mib"] / full["peak_mib"], ".2f", n=1)
    return (
        entry["label"] if shown else "",
        Source(source),
        millions(entry["parameters"]),
        *_pair(weights, floor.weights / MB, 0),
        *_pair(entry["state_bytes"] / MB, floor.state / MB),
        _one(gradients),
        *_pair(entry["file_bytes"] / MB, floor.checkpoint / MB),
        _one(activations),
        *_pair(float((entry["peak_mib"] - entry["loaded_mib"]) * MIB / MB), floor.above_model / MB, 0),
        *_pair(peak, floor.training / MB, 0),
        share,
        EMPTY if step is None else _number(statistics.median(step["ms"]), ".0f", n=len(step["ms"])),
        step_text(step),
    )


def _pair(value: float | None, least: float, digits: int = 2) -> tuple[str, str]:
    return _one(value, digits), Number(f"({least:.{digits}f})", least)


def _one(value: float | None, digits: int = 2) -> str:
    return EMPTY if value is None else _number(value, f".{digits}f", n=1)


def _number(value: float, form: str, n: int | None = None) -> Number:
    """n: the number of measurements; None for values from arithmetic or from the paper."""
    return Number(f"{value:{form}}", value, n=n)


def arithmetic_tables(entries: Sequence[Entry]) -> list[Table]:
    """A model too large for any machine here: the values from arithmetic beside those that the paper prints."""
    if not entries:
        return []
    paper_rows = paper_numbers()
    lines: list[tuple[str, ...]] = []
    floors: dict[str, Limit] = {}
    for entry in entries:
        floor = floors[entry["row"]] = limit(entry["total"], entry["parameters"], entry["width"])
        label = "Full fine-tuning" if entry["row"] == FULL else "LoRA"
        lines.append((label, Source("arithmetic"), millions(entry["parameters"]), _number(floor.training / GB, ",.0f"),
                      _number((floor.weights + floor.state) / GB, ",.0f"), _number(floor.checkpoint / MB, ",.1f"),
                      EMPTY))  # fmt: skip
        paper = paper_rows[entry["row"]]["gpt3_175b"]
        lines.append(("", Source("paper", Origin.PAPER), EMPTY, format_count(paper["memory_gb"]), EMPTY,
                      format_count(paper["checkpoint_mb"]), _number(paper["tokens_s"], "")))  # fmt: skip
    model = entries[0]
    notes = [
        f"Arithmetic: {model['width']} bytes per value for weights, gradients and AdamW's two moments; no activations. The "
        "paper does not say what its memory figures include.",
    ]
    if floors.keys() >= {FULL, "lora"}:
        ratio = floors[FULL].checkpoint / floors["lora"].checkpoint
        notes.append(f"LoRA's checkpoint is {ratio:,.0f} times smaller by arithmetic; the paper says roughly 10,000 times.")
    facts = (
        f"Memory and checkpoint of {model['label']}, {model['total'] / 1e9:.1f} billion parameters",
        "LoRA: r = 4 on query and value",
    )
    return [Table(facts, ARITHMETIC_HEADER, "llrrrrr", tuple(lines), tuple(notes))]


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
        for group in by_place(evidence.cells(table)):
            sides = [evidence.runs([cell for cell in group if cell.row.name == name]) for name in (self.row, self.other)]
            for seed in sorted(sides[0].keys() & sides[1].keys()):
                pair = [side[seed].record for side in sides]
                conditions = {(str(run["where"]["device"]), run["where"].get("batching", "padded")) for run in pair}
                same = len(conditions) == 1  # a packed step takes less than a padded one, whatever the method
                if same and all(side[seed].trained for side in sides):
                    quotients.append(pair[0]["measured"]["peak_memory_mb"] / pair[1]["measured"]["peak_memory_mb"])
                    seeds.add(seed)
                    records += pair
        if not quotients:
            return []
        low, high = (float(end) for end in np.percentile(quotients, [2.5, 97.5]))
        verdict = judge(self.region, low, high, len(seeds))
        ranges = [_range(records[side::2]) for side in (0, 1)]
        devices = sorted({str(run["where"]["device"]) for run in records})
        counts = f"trained values: {ranges[0]} and {ranges[1]}"
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
        for path, measurement in evidence.measures("latency").items():
            peaks = {(entry["backbone"], entry["row"]): float(entry["peak_mib"]) for entry in measurement["memory"]}
            models = [b for b in dict.fromkeys(b for b, _ in peaks) if {(b, self.row), (b, self.other)} <= peaks.keys()]
            ratios = [peaks[b, self.row] / peaks[b, self.other] for b in models]
            if ratios:
                notes = (str(measurement["where"]["device"]), *(str(measurement["backbones"][b]) for b in models))
                verdict = judge(self.region, min(ratios), max(ratios), len(ratios), MODELS)
                numbers = (float(np.median(ratios)), min(ratios), max(ratios), len(ratios), 2)
                quantity = f"{self.row} / {self.other}, measured"
                readings.append(Reading(quantity, "peak memory of training", verdict, *numbers, notes=notes, sources=(path,),
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
        for path, measurement in evidence.measures("latency").items():
            for entry in measurement.get("steps", ()):
                if entry["row"] == self.row:
                    value, low, high = (1 + entry["slowdown"][key] / 100 for key in ("median", "low", "high"))
                    n, model = entry["slowdown"]["n"], measurement["backbones"][entry["backbone"]]
                    verdict = judge(self.region, low, high, n)
                    notes = (str(measurement["where"]["device"]), *busy(measurement))
                    quantity = f"{self.row} / full, {model}"
                    readings.append(Reading(quantity, "time of a training step", verdict, value, low, high, n, 2, notes=notes,
                                         sources=(path,), region=self.region))  # fmt: skip
        return readings


def decoder_parameters(layers: int, width: int, vocabulary: int, positions: int) -> int:
    """L (12 d^2 + 13 d) + (V + P) d + 2 d: all parameters of a GPT-2-shaped decoder whose head is tied to its embedding."""
    return layers * (12 * width**2 + 13 * width) + (vocabulary + positions) * width + 2 * width


def lora_parameters(layers: int, width: int, rank: int, matrices: int) -> int:
    """L m r (d + d): the parameters of A and B on m square matrices of every layer."""
    return layers * matrices * rank * 2 * width


class MatrixSaving(ClaimTest):
    """1 − 2 r d / d^2 = 1 − 2 r / d in per cent, to `digits`: the share of a d x d matrix that B (d, r) and A (r, d) save.

    The paper prints no such number: `expected` is what the claim states.
    """

    anywhere = True

    def __init__(self, rank: int, width: int, expected: float, digits: int) -> None:
        self.rank, self.width, self.expected, self.digits = rank, width, expected, digits

    @property
    def rule(self) -> str:
        formula = f"1 − 2r/d at r = {self.rank}, d = {self.width:,}, in per cent"
        return f"{formula}; agrees if it rounds to {self.expected:.{self.digits}f}"

    def read(self, evidence: Evidence) -> list[Reading]:
        value = 100 * (1 - 2 * self.rank / self.width)
        agrees = f"{value:.{self.digits}f}" == f"{self.expected:.{self.digits}f}"
        note = f"{value:.4f} %: {'rounds' if agrees else 'does not round'} to the expected {self.expected:.{self.digits}f} %"
        return [Reading(f"1 − 2·{self.rank}/{self.width}", "%", ARITHMETIC, value, digits=self.digits, notes=(note,))]


class CheckpointRatio(ClaimTest):
    """All parameters of a model over LoRA's: how many times a checkpoint shrinks, at any number of bytes per parameter."""

    anywhere = True

    def __init__(
        self, layers: int, width: int, vocabulary: int, positions: int, rank: int, matrices: int, printed: float, within: float
    ) -> None:
        self.total = decoder_parameters(layers, width, vocabulary, positions)
        self.trained = lora_parameters(layers, width, rank, matrices)
        self.shape = f"{layers} layers, d = {width:,}, r = {rank} on {matrices} matrices a layer"
        self.printed, self.within = printed, within

    @property
    def rule(self) -> str:
        return (f"all values / LoRA's values, by formula, at {self.shape}; agrees if within {100 * self.within:g} % of the "
                f"printed {self.printed:,.0f}, a round number")  # fmt: skip

    def read(self, evidence: Evidence) -> list[Reading]:
        ratio = self.total / self.trained
        agrees = abs(ratio / self.printed - 1) <= self.within
        note = f"{self.total:,} / {self.trained:,} values: {'agrees' if agrees else 'does not agree'} with {self.printed:,.0f}"
        return [Reading("full checkpoint / LoRA's", "times", ARITHMETIC, ratio, digits=0, notes=(note,))]

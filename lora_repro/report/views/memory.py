"""Memory and checkpoints as tables: measured beside the bytes that arithmetic gives, and the paper's GPT-3."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from lora_repro.costs.arithmetic import Limit, limit
from lora_repro.costs.measures import FULL
from lora_repro.report.table import EMPTY, Number, Table, format_count
from lora_repro.report.views.latency import millions, paper_numbers, reproduce

MIB, MB, GB = 2**20, 1e6, 1e9
Entry = dict[str, Any]


def above_mb(entry: Entry) -> float:
    """Measured megabytes that training adds to the loaded model."""
    return float((entry["peak_mib"] - entry["loaded_mib"]) * MIB / MB)


def step_text(step: Entry | None) -> str:
    """`0.70 [0.68, 0.73]`: a training step's time over that of full fine-tuning."""
    if step is None or step["slowdown"] is None:
        return EMPTY
    value, low, high = (1 + step["slowdown"][key] / 100 for key in ("median", "low", "high"))
    return Number(f"{value:.2f} [{low:.2f}, {high:.2f}]", value, n=step["slowdown"]["n"], low=low, high=high)


def memory_tables(measured: Mapping[str, dict[str, Any]]) -> list[Table]:
    """One table per backbone, and one for the model of `arithmetic`. `measured`: source -> measurement, the main one first."""
    first = next(iter(measured.values()))
    tables = []
    for backbone in dict.fromkeys(entry["backbone"] for entry in first["memory"]):
        lines: list[tuple[str, ...]] = []
        for row in dict.fromkeys(entry["row"] for entry in first["memory"] if entry["backbone"] == backbone):
            shown = True
            for source, one in measured.items():
                own, steps = (
                    {e["row"]: e for e in one.get(key, ()) if e["backbone"] == backbone} for key in ("memory", "steps")
                )
                if row in own:
                    lines.append(_line(own[row], own.get(FULL), steps.get(row), source, shown))
                    shown = False
        tables.append(Table(_facts(first, backbone), HEADER, "ll" + "r" * (len(HEADER) - 2), tuple(lines), NOTES))
    return [*tables, *arithmetic_tables(first["arithmetic"])]


ARITHMETIC = (
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
        reproduce(first),
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
        source,
        millions(entry["parameters"]),
        *_pair(weights, floor.weights / MB, 0),
        *_pair(entry["state_bytes"] / MB, floor.state / MB),
        _one(gradients),
        *_pair(entry["file_bytes"] / MB, floor.checkpoint / MB),
        _one(activations),
        *_pair(above_mb(entry), floor.above_model / MB, 0),
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
    printed = paper_numbers()
    lines: list[tuple[str, ...]] = []
    floors: dict[str, Limit] = {}
    for entry in entries:
        floor = floors[entry["row"]] = limit(entry["total"], entry["parameters"], entry["width"])
        label = "Full fine-tuning" if entry["row"] == FULL else "LoRA"
        lines.append((label, "arithmetic", millions(entry["parameters"]), _number(floor.training / GB, ",.0f"),
                      _number((floor.weights + floor.state) / GB, ",.0f"), _number(floor.checkpoint / MB, ",.1f"),
                      EMPTY))  # fmt: skip
        paper = printed[entry["row"]]["gpt3_175b"]
        lines.append(("", "paper", EMPTY, format_count(paper["memory_gb"]), EMPTY, format_count(paper["checkpoint_mb"]),
                      _number(paper["tokens_s"], "")))  # fmt: skip
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
    return [Table(facts, ARITHMETIC, "llrrrrr", tuple(lines), tuple(notes))]

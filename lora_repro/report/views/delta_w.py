"""Table 7 of the paper with a figure: how much of W lies in the directions of its update, from probed runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lora_repro.analysis.probed_run import (
    NAMES,
    ProbedRun,
    directions,
    groups_of,
    random_factors,
    update_factors,
)
from lora_repro.config.paper_values import check_columns
from lora_repro.planning.cells import Cell
from lora_repro.report.exhibit import Exhibit, ReportRequest
from lora_repro.report.numbers import summarise
from lora_repro.report.scores import rows_of
from lora_repro.report.table import EMPTY, Number, Table, format_count
from lora_repro.report.views import probed
from lora_repro.results import Store

PRINTED = r"layer_48\.\d+\.(r|update|weight|random|weight_norm|update_norm|amplification)"  # what it shows of conf/paper


@dataclass(frozen=True)
class UpdateNorms:
    """The norms of updates and of W in their directions: tables in the paper's form, and curves over layers and training."""

    title: str

    def exhibits(self, ask: ReportRequest, stores: Sequence[Store]) -> list[Exhibit]:
        check_columns(ask.name, PRINTED, ("gpt3_175b",))
        return probed.exhibits(ask, stores, self.title, lambda runs, facts: tables(runs, facts, ask.cells), figures)


def tables(runs: Sequence[ProbedRun], facts: tuple[str, ...], declared: Sequence[Cell] = ()) -> list[Table]:
    """One table per kind of matrix: the middle layer's norms as in Table 7, and the median amplification over all layers."""
    tables = []
    for kind in runs[0].kinds if runs else []:
        rows = []
        for group in groups_of(runs):
            rows += [_line(group, kind, r) for r in directions(group[0])]
        if kind == "query":
            papers = [row.paper.get("gpt3_175b") or {} for row in rows_of(declared)]
            rows += [_quoted(values) for paper in papers for values in paper.get("layer_48", [])]
        layer = runs[0].middle
        header = (
            "Run", "r", "‖UᵀWV‖, U V of ΔW", "‖UᵀWV‖, U V of W", "‖UᵀWV‖, random U V", "‖W‖", "‖ΔW‖",
            "‖ΔW‖/‖UᵀWV‖", "without α/r", "with random U V", "median over layers", "median, random U V", "n",
        )  # fmt: skip
        title = f"{facts[0]}: {NAMES[kind]}, layer {layer + 1} of {runs[0].n_layers}"
        tables.append(Table((title, *facts[1:]), header, "l" + "r" * 12, tuple(rows), NOTES, keys=2))
    return tables


NOTES = (
    "Frobenius norms. U, V: the top r singular directions of ΔW or of W, or random directions. ΔW is the effective update, with "
    "α/r; the paper does not say whether its ΔW is.",
    "‖ΔW‖/‖UᵀWV‖ with U, V of ΔW is the amplification factor. It scales with α/r, so it is shown with and without. Full "
    "fine-tuning has no α/r, and its top r directions hold only a part of its ΔW.",
    "Random U V: one draw per layer, the same for all runs. Its factor is that of an update of the same norm in random "
    "directions (the paper's is computed from its rounded entries). A smaller factor with U, V of ΔW, as in the paper, means "
    "that the update overlaps W more than random directions do.",
    "Mean ± sample sd over n seeds. † n = 1: no spread, supports no verdict.",
)


def _quoted(values: dict[str, float]) -> tuple[str, ...]:
    """A line of the paper's Table 7, from the values of its row in conf/."""
    norms = [_norm(values[key]) for key in ("update", "weight", "random", "weight_norm", "update_norm")]
    random = values["update_norm"] / values["random"]
    amplification = Number(str(values["amplification"]), values["amplification"])
    return ("paper, GPT-3, layer 48", format_count(values["r"]), *norms, amplification, EMPTY, Number(f"{random:.0f}", random),
            EMPTY, EMPTY, EMPTY)  # fmt: skip


def _norm(value: float) -> Number:
    return Number(f"{value:.2f}", value)


def _line(group: Sequence[ProbedRun], kind: str, r: int) -> tuple[str, ...]:
    layer = group[0].middle

    def over_seeds(values: Sequence[float]) -> str:
        return summarise(values).text(2) if np.isfinite(values).all() else EMPTY

    def last(name: str) -> list[float]:
        return [float(run.arrays[f"{kind}.{name}"][-1][layer]) for run in group]

    of_weight = (f"weight_top_{r}", f"weight_random_{r}", "weight_norm")
    constants = [_norm(float(group[0].arrays[f"{kind}.{name}"][layer])) for name in of_weight]
    amplified = [float(update_factors(run, kind, r)[layer]) for run in group]
    random = [random_factors(run, kind, r) for run in group]
    medians = [float(np.median(update_factors(run, kind, r))) for run in group]
    without = over_seeds([value / (run.scaling or 1) for value, run in zip(amplified, group, strict=True)])
    return (
        group[0].label,
        format_count(r),
        over_seeds(last(f"inside_{r}")),
        *constants,
        over_seeds(last("norm")),
        over_seeds(amplified),
        without if group[0].scaling else EMPTY,
        over_seeds([float(draw[layer]) for draw in random]),
        over_seeds(medians),
        over_seeds([float(np.median(draw)) for draw in random]),
        format_count(len(group)),
    )


def figures(runs: Sequence[ProbedRun], title: str, stem: Path) -> list[Path]:
    """`stem`.svg and .png: amplification by layer and over the training."""
    from lora_repro.report.figures import (
        amplification,  # lazy: matplotlib is slow to import
    )

    return amplification.figures(runs, title, stem)

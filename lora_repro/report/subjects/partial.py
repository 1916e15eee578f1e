"""What a part of an update gains and costs: lambda times every ΔW, or the top k directions of every ΔW, after training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from lora_repro.analysis.probed_run import ProbedRun, gain_kept, groups_of, losses_of_parts, probed_runs
from lora_repro.analysis.spectra import Array
from lora_repro.planning.cells import Cell
from lora_repro.report.claims.base import ClaimTest, Evidence
from lora_repro.report.claims.reading import Reading
from lora_repro.report.figures.curves import Curve, CurvePoint, Plot, save
from lora_repro.report.numbers import summarise
from lora_repro.report.subjects.probed import declared_ranks, of_values, region_rule
from lora_repro.report.table import EMPTY, Table, format_count
from lora_repro.results import runs
from lora_repro.stats.verdict import NOT_RUN, Region

WORDS = {"scales": "λ = {}", "top": "top {}"}
NOTES = (
    "λ: the model with λ times everything that training changed. Top k: with the k leading singular directions of every changed "
    "matrix of its layers; what else full fine-tuning changed (embeddings, biases, LayerNorms) stays as trained.",
    "Kept of the gain: held-out loss at λ = 0 minus that of the part, over that at λ = 0 minus that at λ = 1.",
)


def tables(runs: Sequence[ProbedRun], facts: tuple[str, ...]) -> list[Table]:
    """The share of the gain that each part keeps, and the rise of the loss on general text with it; none without such parts."""
    groups = groups_of([run for run in runs if len(gain_kept(run, "scales"))])
    if not groups:
        return []
    parts = [(name, part) for name in WORDS for part in sorted({float(item) for group in groups for item in _asked(group, name)})]
    header = ("Run", *(WORDS[name].format(f"{part:g}") for name, part in parts), "n")
    quantities = {"held-out gain kept, %": (_kept, 1), "rise of the loss on general text, nats per token": (_rise, 3)}
    tables = []
    for title, (values, digits) in quantities.items():
        rows = []
        for group in groups:
            by_part = {
                (name, float(part)): column
                for name in WORDS
                for part, column in zip(_asked(group, name), np.array([values(run, name) for run in group]).T, strict=True)
            }
            columns = [by_part.get(part, np.array([np.nan])) for part in parts]
            means = [summarise(list(column)).text(digits) if np.isfinite(column).all() else EMPTY for column in columns]
            rows.append((group[0].label, *means, format_count(len(group))))
        tables.append(Table((f"{facts[0]}: {title}", *facts[1:]), header, "l" + "r" * (len(header) - 1), tuple(rows), NOTES))
    return tables


def _asked(group: Sequence[ProbedRun], name: str) -> Sequence[float]:
    """The parts `name` (scales or top) for which a group of runs was asked."""
    return list(group[0].arrays.get(name, ()))


def asked_for_parts(cells: Sequence[Cell]) -> list[Cell]:
    """The cells whose trained model is asked again with a part of its update, with λ = 0 and 1 among them."""
    return [cell for cell in cells if {0.0, 1.0} <= {float(scale) for scale in (cell.asked.get("probe") or {}).get("scales", ())}]


def _kept(run: ProbedRun, name: str) -> Array:
    return 100 * gain_kept(run, name)


def _rise(run: ProbedRun, name: str) -> Array:
    """(parts,): the loss on general text with each part minus that of the untouched backbone; NaN if it was not measured."""
    before = run.record["measured"].get("general_loss", {}).get("before", np.nan)
    losses = run.arrays.get(f"{name}.general_loss")
    return np.full(len(losses_of_parts(run, name)), np.nan) if losses is None else np.asarray(losses, np.float64) - before


def figures(runs: Sequence[ProbedRun], caption: str, stem: Path) -> list[Path]:
    """Draw `stem`.svg and .png: the rise of the loss on general text against the held-out loss, λ by λ; and the gain by k."""
    groups = groups_of([run for run in runs if len(gain_kept(run, "scales"))])
    if not groups:
        return []
    front, gains = [], []
    for group in groups:
        losses = np.mean([losses_of_parts(run, "scales") for run in group], axis=0)
        front.append(_curve(group[0].label, losses, [_rise(run, "scales") for run in group]))
        if _asked(group, "top"):
            gains.append(_curve(group[0].label, group[0].arrays["top"], [_kept(run, "top") for run in group]))
    panels = [Plot("λ times every update, λ from 0 (right) to 1 (left)", "held-out loss of the task, nats per token",
                   "rise of the loss on general text", tuple(front), scale="linear")]  # fmt: skip
    ticks = tuple((float(k), f"{k:g}") for k in _asked(groups[0], "top"))
    if gains:
        panels.append(Plot("the top k directions of every update", "k", "gain in held-out loss kept, %", tuple(gains), ticks))
    return save(panels, stem, columns=2, title=_statement(groups), caption=caption)


def _curve(name: str, x: Array, values: Sequence[Array]) -> Curve:
    """The curve over x of values (seeds, len(x)), as mean ± sd, where every seed has one."""
    columns = zip(x, np.array(values).T, strict=True)
    points = [(float(at), summarise(list(column))) for at, column in columns if np.isfinite(column).all()]
    return Curve(name, tuple(CurvePoint(at, mean.mean, mean.sd) for at, mean in points))


def _statement(groups: Sequence[Sequence[ProbedRun]]) -> str:
    """The figure's title: what the top direction keeps at each rank from 4 on."""
    tops = [(_asked(group, "top"), group) for group in groups if (group[0].rank or 0) >= 4]
    shares = [np.mean([_kept(run, "top")[top.index(1)] for run in group]) for top, group in tops if 1 in top]
    if not shares:
        return "What a part of every update gains, and what it costs on general text"
    return f"The top direction of every ΔW alone keeps {min(shares):.0f} to {max(shares):.0f} % of LoRA's gain in held-out loss"


class TopDirection(ClaimTest):
    """The share of LoRA's gain in held-out loss that the top direction of every ΔW keeps.

    The share is `gain_kept`, read at each rank from `least` on whose runs were asked. Full fine-tuning's own stands in the notes.
    The lone direction of r = 1 is all of it.
    """

    table = "delta_w"

    def __init__(self, least: int, floor: float | None = None, ceiling: float | None = None) -> None:
        self.least, self.region = least, Region.of(floor, ceiling)

    def rows(self) -> dict[str, set[str]]:
        return {self.table: {"lora", "full"}}

    @property
    def rule(self) -> str:
        share = "(L₀ − L of the top direction of every ΔW) / (L₀ − L of the trained model), L: held-out loss, L₀: the backbone's"
        return f"{share}, at each rank from {self.least} on that was asked: {region_rule(self.region, layers=False)}"

    def read(self, evidence: Evidence) -> list[Reading]:
        cells = [cell for cell in asked_for_parts(evidence.cells(self.table)) if 1 in cell.asked["probe"]["top"]]
        every = probed_runs(runs(cells, evidence.store))
        shares = [float(gain_kept(run, "top")[list(run.arrays["top"]).index(1)]) for run in every]
        full = [share for run, share in zip(every, shares, strict=True) if run.row == "full"]
        notes = [f"of full fine-tuning: {np.mean(full):.2f}"] if full else []
        quantity, unit, readings = "gain kept by the top direction", "of the gain", []
        for rank in [rank for rank in declared_ranks(cells) if rank >= self.least]:
            values = [((run,), np.array([share])) for run, share in zip(every, shares, strict=True) if run.rank == rank]
            of_rank = of_values(f"{quantity}, r = {rank}", unit, values, self.region, evidence, notes=notes)
            readings += of_rank or [Reading(f"{quantity}, r = {rank}", unit, NOT_RUN)]
        return readings or [Reading(quantity, unit, NOT_RUN)]

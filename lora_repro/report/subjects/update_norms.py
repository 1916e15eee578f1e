"""Norms of updates and of W in their directions (Table 7 of the paper), from probed runs: tables, a figure, and the claims."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lora_repro import results
from lora_repro.analysis.overlaps import rank_pairs
from lora_repro.analysis.probed_run import (
    NAMES,
    ProbedRun,
    directions,
    groups_of,
    probed_runs,
    random_factors,
    update_factors,
)
from lora_repro.analysis.spectra import Array
from lora_repro.config.paper_values import check_columns
from lora_repro.errors import UserError
from lora_repro.planning.cells import Cell
from lora_repro.report.claims.base import Evidence
from lora_repro.report.claims.reading import Reading
from lora_repro.report.exhibit import Exhibit, ReportRequest
from lora_repro.report.figures.curves import Curve, CurvePoint, Plot, save
from lora_repro.report.numbers import summarise
from lora_repro.report.scores import rows_of
from lora_repro.report.subjects import partial, probed
from lora_repro.report.subjects.probed import Probing, declared_ranks, of_values, region_rule
from lora_repro.report.table import EMPTY, Number, Table, format_count
from lora_repro.results import Store
from lora_repro.stats.verdict import CONTRADICTED, NOT_RUN, REFUTED, plain

PRINTED = r"layer_48\.\d+\.(r|update|weight|random|weight_norm|update_norm|amplification)"  # what it shows of conf/paper
PAPER = "The paper (GPT-3 175B, layer 48): 21.5 at r = 4, around 2 at r = 64."
WORDS = {"norm": "‖ΔW‖", "inside": "‖UᵀWV‖ of ΔW", "weight_random": "‖UᵀWV‖ expected of random directions"}
RANKS = {"each": "at each rank", "smallest": "at the smallest rank",
         "smallest/largest": "at the smallest rank / at the largest"}  # fmt: skip


@dataclass(frozen=True)
class UpdateNorms:
    """The norms of updates and of W in their directions: tables in the paper's form, and curves over layers and training."""

    title: str

    def exhibits(self, ask: ReportRequest, stores: Sequence[Store]) -> list[Exhibit]:
        check_columns(ask.name, PRINTED, ("gpt3_175b",))
        return probed.exhibits(ask, stores, self.title, lambda runs, facts: tables(runs, facts, ask.cells), all_figures)


def all_figures(runs: Sequence[ProbedRun], caption: str, stem: Path) -> list[Path]:
    """`figures`, and that of the updates' parts as `stem`_parts."""
    return [*figures(runs, caption, stem), *partial.figures(runs, caption, stem.with_name(f"{stem.name}_parts"))]


def tables(runs: Sequence[ProbedRun], facts: tuple[str, ...], cells: Sequence[Cell] = ()) -> list[Table]:
    """One table per kind of matrix: the middle layer's norms as in Table 7, and the median amplification over all layers.

    Then those of the updates' parts, if the runs were asked for them.
    """
    tables = []
    for kind in runs[0].kinds if runs else []:
        rows = []
        for group in groups_of(runs):
            rows += [_line(group, kind, r) for r in directions(group[0])]
        if kind == "query":
            papers = [row.paper.get("gpt3_175b") or {} for row in rows_of(cells)]
            rows += [_quoted(values) for paper in papers for values in paper.get("layer_48", [])]
        layer = runs[0].middle
        header = (
            "Run", "r", "‖UᵀWV‖, U V of ΔW", "‖UᵀWV‖, U V of W", "‖UᵀWV‖, random U V", "‖W‖", "‖ΔW‖",
            "‖ΔW‖/‖UᵀWV‖", "without α/r", "with random U V", "median over layers", "median, random U V", "n",
        )  # fmt: skip
        title = f"{facts[0]}: {NAMES[kind]}, layer {layer + 1} of {runs[0].n_layers}"
        tables.append(Table((title, *facts[1:]), header, "l" + "r" * 12, tuple(rows), NOTES, keys=2))
    return tables + partial.tables(runs, facts)


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
    factors = [float(update_factors(run, kind, r)[layer]) for run in group]
    random = [random_factors(run, kind, r) for run in group]
    medians = [float(np.median(update_factors(run, kind, r))) for run in group]
    without = over_seeds([value / (run.scaling or 1) for value, run in zip(factors, group, strict=True)])
    return (
        group[0].label,
        format_count(r),
        over_seeds(last(f"inside_{r}")),
        *constants,
        over_seeds(last("norm")),
        over_seeds(factors),
        without if group[0].scaling else EMPTY,
        over_seeds([float(draw[layer]) for draw in random]),
        over_seeds(medians),
        over_seeds([float(np.median(draw)) for draw in random]),
        format_count(len(group)),
    )


def figures(runs: Sequence[ProbedRun], caption: str, stem: Path) -> list[Path]:
    """Draw `stem`.svg and .png: for each kind of matrix the amplification by layer, and its median over layers during training.

    Dashed: the null of `random_factors`. caption: whose runs these are.
    """
    runs = [run for run in runs if directions(run)]  # at some ranks the probe counts intruders only
    if not runs:
        return []
    panels = []
    for kind in runs[0].kinds:
        curves: list[list[Curve]] = [[], [], [], []]
        by_layer, by_step, random_layer, random_step = curves
        for group in groups_of(runs):
            for r in directions(group[0]):
                name = group[0].label if group[0].rank else f"{group[0].label}, top {r}"
                steps = group[0].arrays["steps"]
                for of, layer_curves, step_curves in (
                    (update_factors, by_layer, by_step),
                    (random_factors, random_layer, random_step),
                ):
                    layers = np.array([of(run, kind, r) for run in group])  # (seeds, L)
                    layer_curves.append(_curve(name, np.arange(1, layers.shape[1] + 1), layers))
                    medians = np.array([[np.median(of(run, kind, r, t)) for t in range(len(steps))] for run in group])
                    step_curves.append(_curve(name, steps, medians))
        ylabel = "amplification ‖ΔW‖ / ‖UᵀWV‖ (log scale)"
        ends = ("by layer, at the end", "layer", by_layer, random_layer)
        for name, xlabel, lines, random in (ends, ("median over layers", "training step", by_step, random_step)):
            matrix = f"{NAMES[kind]}, {name}"
            panels.append(Plot(matrix, xlabel, ylabel, tuple(lines), references=tuple(random),
                                      scale="linear", log_y=True))  # fmt: skip
    caption = f"{caption} Dashed: an update of the same norm in random directions. {PAPER}"
    return save(panels, stem, columns=2, title=_statement(runs), caption=caption)


def _statement(runs: Sequence[ProbedRun]) -> str:
    """The figure's title: the median over layers for the first rank and matrix at the end of training, mean over seeds."""
    group, kind = groups_of(runs)[0], runs[0].kinds[0]
    r = directions(group[0])[0]
    ours, random = (np.mean([np.median(factors(run, kind, r)) for run in group]) for factors in (update_factors, random_factors))
    return (
        f"‖Δ{NAMES[kind]}‖ of {group[0].label} is {ours:.1f} times the norm of {NAMES[kind]} in the update's top {r} directions, "
        f"and {random:.1f} times its norm in random directions"
    )


def _curve(name: str, x: np.ndarray, values: np.ndarray) -> Curve:
    """The curve of values (seeds, len(x)) as mean ± sd."""
    sd = values.std(axis=0, ddof=1) if len(values) > 1 else [None] * len(x)
    spots = [
        CurvePoint(float(at), float(mean), None if spread is None else float(spread))
        for at, mean, spread in zip(x, values.mean(axis=0), sd, strict=True)
        if np.isfinite(mean)
    ]
    return Curve(name, tuple(spots))


class NormRatio(Probing):
    """Ratio of two of the probe's norms in every layer at the end of training.

    of, to: `norm` ||D||_F; `inside` ||U^T W V||_F in D's top directions; `weight_random`, the same in random directions. There
    are as many directions as the run's rank; ranks at which the probe did not measure them are left out. For r random directions
    the expected square is proportional to r². So the probe's draw of most directions R, times r/R, stands for any r: of 64 in
    576 it scatters by 1 % over draws, a draw of 4 by 17 %, which an interval over seeds would not show.
    ranks: `smallest`; `each`; or `smallest/largest`, the ratio at the smallest rank over that at the largest, at the same seed.
    forms: `scaled`, D with alpha / rank; or `both`, with and without it, which must agree.

    norm/inside is the amplification factor. Its notes give norm/weight_random: that of an update of the same norm in random
    directions. weight_random/inside is the factor relative to that of random directions, in which ‖ΔW‖ cancels.

    printed: the source's own value. If it lies outside the region too, a claim that is not replicated is `CONTRADICTED`.
    """

    table = "delta_w"

    def __init__(
        self, kinds: Sequence[str], of: str, to: str, ranks: str = "each", forms: str = "scaled",
        floor: float | None = None, ceiling: float | None = None, printed: float | None = None,
    ) -> None:  # fmt: skip
        super().__init__(kinds, floor, ceiling)
        self.of, self.to, self.ranks, self.printed = of, to, ranks, printed
        self.forms = {"scaled": ("",), "both": ("", ", without α/r")}.get(forms, ())
        self.combine = "agree" if forms == "both" else "all"
        if {of, to} - WORDS.keys() or ranks not in RANKS or not self.forms:
            raise UserError(f"of and to are among {', '.join(WORDS)}; ranks is {', '.join(RANKS)}; forms scaled or both")

    @property
    def rule(self) -> str:
        forms = " with and without α/r" if len(self.forms) > 1 else ""
        clause = "" if self.printed is None else f"; by the source's own numbers it is {plain(self.printed)}"
        return f"{WORDS[self.of]}{forms} / {WORDS[self.to]}, {RANKS[self.ranks]}: {region_rule(self.region)}{clause}"

    def verdict(self, readings: Sequence[Reading]) -> str:
        verdict = super().verdict(readings)
        fails = self.printed is not None and not self.region.holds(self.printed)
        return CONTRADICTED if verdict == REFUTED and fails else verdict

    def read(self, evidence: Evidence) -> list[Reading]:
        probes = [run for run in evidence.probed(self.table) if directions(run)]
        readings = self.absent(evidence, probes, self.ranks, f"{WORDS[self.of]} / {WORDS[self.to]}", "ratio", bases=True)
        groups = [] if readings and self.ranks != "each" else self._groups(probes)
        for form, kind, (name, runs) in itertools.product(self.forms, self.kinds, groups):
            values = [(group, self._value(group, kind, self.to, not form)) for group in runs]
            notes = []
            if (self.of, self.to) == ("norm", "inside") and runs:
                null = np.median(np.concatenate([self._value(group, kind, "weight_random", not form) for group in runs]))
                notes.append(f"random directions: {null:.2f}")
            quantity = f"{WORDS[self.of]} / {WORDS[self.to]}{form}, {NAMES[kind]}, {name}"
            readings += of_values(quantity, "ratio", values, self.region, evidence, notes=notes)
        return readings

    def _groups(self, runs: Sequence[ProbedRun]) -> list[tuple[str, Sequence[Sequence[ProbedRun]]]]:
        """(name, single runs or pairs of runs) for each reading."""
        if self.ranks == "smallest/largest":
            return [("smallest / largest rank", rank_pairs(runs, same_seed=True))]
        ranks = sorted({run.rank for run in runs if run.rank})[: 1 if self.ranks == "smallest" else None]
        return [(f"r = {rank}", [(run,) for run in runs if run.rank == rank]) for rank in ranks]

    def _value(self, group: Sequence[ProbedRun], kind: str, to: str, scaled: bool) -> Array:
        """(L,): the ratio in a run; for a pair, that of the first run over that of the second."""
        first, *other = (self._norm(run, kind, self.of, scaled) / self._norm(run, kind, to, scaled) for run in group)
        return np.asarray(first / other[0]) if other else first

    def _norm(self, run: ProbedRun, kind: str, name: str, scaled: bool) -> Array:
        """(L,): a norm at the last observed step, or one that training does not change."""
        if name == "weight_random":
            start = f"{kind}.{name}_"
            most = max(int(stem.removeprefix(start)) for stem in run.arrays if stem.startswith(start))
            return np.asarray(run.arrays[f"{start}{most}"], np.float64) * (run.rank or most) / most
        array = run.arrays[f"{kind}.{name}" if name == "norm" else f"{kind}.{name}_{run.rank}"]
        last = np.asarray(array[-1] if array.ndim == 2 else array, np.float64)
        return last / run.scaling if name == "norm" and not scaled and run.scaling else last


class StableRank(Probing):
    """||D||_F² / ||D||_2² over r: which part of the r directions LoRA's update D uses, at each rank from `least` on.

    The stable rank is the number of equal directions that would have the squared norm at this largest singular value: 1 if one
    direction holds all of it, r if r share it. It does not change with alpha / rank. Full fine-tuning's own stands in the notes.
    """

    table = "delta_w"

    def __init__(self, kinds: Sequence[str], least: int, floor: float | None = None, ceiling: float | None = None) -> None:
        super().__init__(kinds, floor, ceiling)
        self.least = least

    def rows(self) -> dict[str, set[str]]:
        return {self.table: {"lora", "full"}}

    @property
    def rule(self) -> str:
        quantity = "stable rank ‖ΔW‖²_F / ‖ΔW‖²₂ over r, at each rank from"
        return f"{quantity} {self.least} on: {region_rule(self.region)}"

    def read(self, evidence: Evidence) -> list[Reading]:
        every = probed_runs(results.runs(evidence.cells(self.table), evidence.store))
        every = [run for run in every if f"{self.kinds[0]}.spectrum" in run.arrays]
        ranks = [rank for rank in declared_ranks(evidence.cells(self.table)) if rank >= self.least]
        readings = []
        for kind, rank in itertools.product(self.kinds, ranks):
            values = [((run,), stable_rank(run, kind) / rank) for run in every if run.rank == rank]
            notes = [f"stable rank: {np.mean([rank * layers for _, layers in values]):.2f}"] if values else []
            if full := [stable_rank(run, kind) for run in every if run.row == "full"]:
                notes.append(f"of full fine-tuning: {np.mean(full):.2f}")
            quantity = f"stable rank / r, {NAMES[kind]}, r = {rank}"
            of_rank = of_values(quantity, "of r", values, self.region, evidence, notes=notes)
            readings += of_rank or [Reading(quantity, "of r", NOT_RUN)]
        return readings


def stable_rank(run: ProbedRun, kind: str) -> Array:
    """(L,): ||D||_F² / ||D||_2² of the final update in every layer; NaN where nothing was updated."""
    norm = np.asarray(run.arrays[f"{kind}.norm"], np.float64)[-1]
    largest = np.asarray(run.arrays[f"{kind}.spectrum"], np.float64)[:, 0]
    return np.asarray(np.square(np.divide(norm, largest, out=np.full_like(norm, np.nan), where=largest > 0)))

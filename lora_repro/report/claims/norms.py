"""Tests on norms: how large updates are, in how many directions, and how much of W lies in these (Table 7 of the paper)."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from lora_repro import results
from lora_repro.analysis.overlaps import rank_pairs
from lora_repro.analysis.probed_run import NAMES, ProbedRun, directions
from lora_repro.analysis.spectra import Array
from lora_repro.errors import UserError
from lora_repro.report.claims.evidence import Evidence
from lora_repro.report.claims.probing import Probing, of_values, region_rule
from lora_repro.report.claims.reading import Reading
from lora_repro.report.views.probed import probed_runs
from lora_repro.stats.verdict import CONTRADICTED, NOT_RUN, REFUTED, plain

WORDS = {"norm": "‖ΔW‖", "inside": "‖UᵀWV‖ of ΔW", "weight_random": "‖UᵀWV‖ expected of random directions"}
RANKS = {"each": "at each rank", "smallest": "at the smallest rank",
         "smallest/largest": "at the smallest rank / at the largest"}  # fmt: skip


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
        printed = "" if self.printed is None else f"; by the source's own numbers it is {plain(self.printed)}"
        return f"{WORDS[self.of]}{forms} / {WORDS[self.to]}, {RANKS[self.ranks]}: {region_rule(self.region)}{printed}"

    def verdict(self, readings: Sequence[Reading]) -> str:
        verdict = super().verdict(readings)
        fails = self.printed is not None and not self.region.holds(self.printed)
        return CONTRADICTED if verdict == REFUTED and fails else verdict

    def read(self, evidence: Evidence) -> list[Reading]:
        measured = [run for run in evidence.probed(self.table) if directions(run)]
        readings = self.absent(evidence, measured, self.ranks, f"{WORDS[self.of]} / {WORDS[self.to]}", "ratio", bases=True)
        groups = [] if readings and self.ranks != "each" else self._groups(measured)
        for form, kind, (name, runs) in itertools.product(self.forms, self.kinds, groups):
            values = [(group, self._value(group, kind, self.to, not form)) for group in runs]
            notes = []
            if (self.of, self.to) == ("norm", "inside") and runs:
                null = np.median(np.concatenate([self._value(group, kind, "weight_random", not form) for group in runs]))
                notes.append(f"random directions: {null:.2f}")
            what = f"{WORDS[self.of]} / {WORDS[self.to]}{form}, {NAMES[kind]}, {name}"
            readings += of_values(what, "ratio", values, self.region, evidence, notes=notes)
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
        what = "stable rank ‖ΔW‖²_F / ‖ΔW‖²₂ over r, at each rank from"
        return f"{what} {self.least} on: {region_rule(self.region)}"

    def read(self, evidence: Evidence) -> list[Reading]:
        every = probed_runs(results.runs(evidence.cells(self.table), evidence.store))
        every = [run for run in every if f"{self.kinds[0]}.spectrum" in run.arrays]
        sizes = {int(rank) for cell in evidence.cells(self.table) if (rank := cell.asked["method"].get("rank"))}
        found = []
        for kind, rank in itertools.product(self.kinds, sorted(size for size in sizes if size >= self.least)):
            values = [((run,), stable_rank(run, kind) / rank) for run in every if run.rank == rank]
            notes = [f"stable rank: {np.mean([rank * layers for _, layers in values]):.2f}"] if values else []
            if full := [stable_rank(run, kind) for run in every if run.row == "full"]:
                notes.append(f"of full fine-tuning: {np.mean(full):.2f}")
            what = f"stable rank / r, {NAMES[kind]}, r = {rank}"
            read = of_values(what, "of r", values, self.region, evidence, notes=notes)
            found += read or [Reading(what, "of r", NOT_RUN)]
        return found


def stable_rank(run: ProbedRun, kind: str) -> Array:
    """(L,): ||D||_F² / ||D||_2² of the final update in every layer; NaN where nothing was updated."""
    norm = np.asarray(run.arrays[f"{kind}.norm"], np.float64)[-1]
    largest = np.asarray(run.arrays[f"{kind}.spectrum"], np.float64)[:, 0]
    return np.asarray(np.square(np.divide(norm, largest, out=np.full_like(norm, np.nan), where=largest > 0)))

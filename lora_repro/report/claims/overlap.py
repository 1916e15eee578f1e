"""Tests on directions: which ones are shared by the updates of two ranks, by those of two seeds, and by an update and W?"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from lora_repro.analysis.overlaps import Pair, rank_pairs, seed_pairs, with_weight
from lora_repro.analysis.probed_run import NAMES, ProbedRun
from lora_repro.analysis.spectra import Array, chance, similarity
from lora_repro.errors import UserError
from lora_repro.report.claims.evidence import Evidence
from lora_repro.report.claims.probing import Probing, of_values, region_rule
from lora_repro.report.claims.reading import Reading

Pairs = Sequence[tuple[str, Sequence[Pair]]]
WORDS = {"ranks": "ranks, of different seeds", "seeds": "seeds", "seeds of each rank": "seeds, at each rank with two seeds"}

OF = {"ranks": "smallest/largest", "seeds": "largest", "seeds of each rank": "each"}  # the ranks that are read


class Overlap(Probing):
    """phi of directions first..last of A between two ranks or between two seeds, minus a baseline.

    between: `ranks`, the smallest and the largest, of different seeds; `seeds`, of the largest rank; or `seeds of each rank`.
    less: `nothing`; `chance`, k/d for k directions in d dimensions; or another kind, whose phi in the same layer is subtracted.
    """

    def __init__(
        self, kinds: Sequence[str], between: str, first: int = 1, last: int = 1, less: str = "nothing",
        floor: float | None = None, ceiling: float | None = None,
    ) -> None:  # fmt: skip
        super().__init__(kinds, floor, ceiling)
        self.between, self.first, self.last, self.less = between, first, last, less
        if between not in WORDS or not 1 <= first <= last or less not in ("nothing", "chance", *NAMES):
            raise UserError(f"between is {' or '.join(WORDS)}, less nothing, chance or a kind, and 1 <= first <= last")

    @property
    def _directions(self) -> str:
        return f"direction {self.first}" if self.first == self.last else f"directions {self.first}–{self.last}"

    @property
    def rule(self) -> str:
        off = {"nothing": "", "chance": " minus the chance level"}.get(self.less, f" minus φ of {NAMES.get(self.less)}")
        names = ", ".join(NAMES[kind] for kind in self.kinds)
        return (f"φ of singular {self._directions} of A between {WORDS[self.between]}, {names}{off}: "
                f"{region_rule(self.region)}")  # fmt: skip

    def read(self, evidence: Evidence) -> list[Reading]:
        off = "" if self.less == "nothing" else f" − {NAMES.get(self.less, self.less)}"
        runs = evidence.probed(self.table)
        what = f"φ of {self._directions} between {WORDS[self.between].partition(',')[0]}{off}"
        readings = self.absent(evidence, runs, OF[self.between], what, "φ")
        for between, pairs in [] if readings and self.between != "seeds of each rank" else self._pairs(runs):
            for kind in self.kinds:
                values = [(pair, np.array([self._value(pair, kind, layer) for layer in pair[0].kept_layers])) for pair in pairs]
                what = f"φ of {self._directions} between {between}, {NAMES[kind]}{off}"
                readings += of_values(what, "φ", values, self.region, evidence)
        return readings

    def _pairs(self, runs: Sequence[ProbedRun]) -> Pairs:
        """(between what, the pairs) for each reading of a kind of matrix."""
        if self.between == "ranks":
            return [("ranks", rank_pairs(runs))]
        if self.between == "seeds":
            return [("seeds", seed_pairs(runs))]
        ranks = sorted({run.rank for run in runs if run.rank})
        return [(f"seeds, r = {rank}", seed_pairs([run for run in runs if run.rank == rank])) for rank in ranks]

    def _value(self, pair: Pair, kind: str, layer: int) -> float:
        value = self._phi(pair, kind, layer)
        if self.less == "chance":
            one, other = (self._part(run.basis(kind, layer)) for run in pair)
            return value - float(chance(one.shape[1], other.shape[1], one.shape[0])[-1, -1])
        return value if self.less == "nothing" else value - self._phi(pair, self.less, layer)

    def _phi(self, pair: Pair, kind: str, layer: int) -> float:
        one, other = (self._part(run.basis(kind, layer)) for run in pair)
        return float(similarity(one, other)[-1, -1]) if one.shape[1] and other.shape[1] else math.nan

    def _part(self, basis: Array) -> Array:
        return basis[:, self.first - 1 : self.last]


class WithWeight(Probing):
    """phi of the `top` directions of A and the top `share` of W's d directions (Figure 8), minus the chance level max(i, j)/d."""

    def __init__(
        self, kinds: Sequence[str], share: float, top: int, floor: float | None = None, ceiling: float | None = None
    ) -> None:
        super().__init__(kinds, floor, ceiling)
        self.share, self.top = share, top

    @property
    def rule(self) -> str:
        which = f"the top {self.top} directions of A and the top {100 * self.share:g} % of W's"
        return f"φ of {which}, at every rank, minus the chance level: {region_rule(self.region)}"

    def read(self, evidence: Evidence) -> list[Reading]:
        runs = evidence.probed(self.table)
        label = f"φ of the top {self.top} of A and {100 * self.share:g} % of W − chance"
        readings = self.absent(evidence, runs, "each", label, "φ")
        for kind in self.kinds:
            both = [((run,), np.array([self._values(run, kind, layer) for layer in run.kept_layers])) for run in runs]
            values = [(group, layers[:, 0] - layers[:, 1]) for group, layers in both]
            means = np.mean([layers.mean(axis=0) for _, layers in both], axis=0) if both else ()
            notes = ["φ {:.2f}, chance {:.2f}".format(*means)] if both else []
            what = f"φ of the top {self.top} of A and {100 * self.share:g} % of W, {NAMES[kind]} − chance"
            readings += of_values(what, "φ", values, self.region, evidence, notes=notes)
        return readings

    def _values(self, run: ProbedRun, kind: str, layer: int) -> tuple[float, float]:
        """(phi, its chance level for two random subspaces of these sizes)."""
        index, grid = with_weight(run, kind, layer)
        d = run.basis(kind, layer).shape[0]
        row, j = int(np.argmin(np.abs(index - self.share * d))), min(self.top, grid.shape[1])
        return float(grid[row, j - 1]), max(int(index[row]), j) / d

"""Tests on the arrays of probed runs: which directions updates share, and how large they are against W.

A value a matrix, layer and run; the reading is their median, its interval the middle 95 % of them, n the seeds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from lora_repro.analysis import Array, chance, similarity
from lora_repro.claims.base import ClaimTest
from lora_repro.claims.evidence import Evidence, generated
from lora_repro.claims.reading import Reading, Region, judge
from lora_repro.errors import UserError
from lora_repro.overlaps import with_weight
from lora_repro.stores import one_origin
from lora_repro.updates import Probed

NAMES = {"query": "W_q", "key": "W_k", "value": "W_v", "output": "W_o"}
SPREAD = "the middle 95 % of all layers and runs"
Pair = tuple[Probed, Probed]


def of_values(
    what: str, unit: str, values: Iterable[float], runs: Sequence[Probed], region: Region, evidence: Evidence, digits: int = 2
) -> list[Reading]:
    """The reading of values over layers and runs; none without a finite value. n counts the seeds of `runs`."""
    found = [float(value) for value in values]
    kept = [value for value in found if math.isfinite(value)]
    if not kept:
        return []
    one_origin([run.record for run in runs])
    low, high = (float(end) for end in np.percentile(kept, [2.5, 97.5]))
    n = len({run.seed for run in runs})
    notes = [f"{len(kept)} values over layers and runs"]
    if len(kept) < len(found):
        notes.append(f"{len(found) - len(kept)} layers have fewer directions and are left out")
    keys = dict.fromkeys(str(run.record["signature"]) for run in runs)
    files = [path for key in keys for path in (evidence.source(key), f"{evidence.profile}/updates/{key}.safetensors")]
    verdict = judge(region, low, high, n)
    return [Reading(what, unit, verdict, float(np.median(kept)), low, high, n, digits, notes=tuple(notes), sources=tuple(files),
                    generated=generated([run.record for run in runs]))]  # fmt: skip


def ends(runs: Sequence[Probed]) -> tuple[list[Probed], list[Probed]]:
    """The runs of the smallest and of the largest rank (the same ones where there is one rank)."""
    ranks = sorted({run.rank for run in runs if run.rank})
    small, large = ([run for run in runs if run.rank == rank] for rank in (ranks[0], ranks[-1])) if ranks else ([], [])
    return small, large


def rank_pairs(runs: Sequence[Probed]) -> list[Pair]:
    """(smallest rank, largest rank) of each seed that has both."""
    small, large = ends(runs)
    if not small or small[0].rank == large[0].rank:
        return []
    return [(one, other) for one in small for other in large if one.seed == other.seed]


def seed_pairs(runs: Sequence[Probed]) -> list[Pair]:
    """Every two seeds of the largest rank."""
    _, large = ends(runs)
    return [(one, other) for place, one in enumerate(large) for other in large[place + 1 :]]


PAIRS: dict[str, Callable[[Sequence[Probed]], list[Pair]]] = {"ranks": rank_pairs, "seeds": seed_pairs}


class Probing(ClaimTest):
    """A test on the probed LoRA runs of `table`, for the `kinds` of matrices."""

    def __init__(
        self, kinds: Sequence[str], floor: float | None = None, ceiling: float | None = None, table: str = "subspace"
    ) -> None:
        self.kinds, self.region, self.table = list(kinds), Region.of(floor, ceiling), table
        if unknown := set(kinds) - NAMES.keys():
            raise UserError(f"no kind of matrix {sorted(unknown)[0]!r}; choose from {', '.join(NAMES)}")

    def rows(self) -> dict[str, set[str]]:
        return {self.table: {"lora"}}


class Overlap(Probing):
    """phi of directions first..last of A between two ranks (one seed) or two seeds (the largest rank), less a baseline.

    less: `nothing`; `chance`, k/d of k directions in d dimensions; or another kind, whose phi in that layer is taken off.
    """

    def __init__(
        self, kinds: Sequence[str], between: str, first: int = 1, last: int = 1, less: str = "nothing",
        floor: float | None = None, ceiling: float | None = None, table: str = "subspace",
    ) -> None:  # fmt: skip
        super().__init__(kinds, floor, ceiling, table)
        self.between, self.first, self.last, self.less = between, first, last, less
        if between not in PAIRS or not 1 <= first <= last or less not in ("nothing", "chance", *NAMES):
            raise UserError(f"between is {' or '.join(PAIRS)}, less nothing, chance or a kind, and 1 <= first <= last")

    @property
    def rule(self) -> str:
        off = {"nothing": "", "chance": " less the chance level"}.get(self.less, f" less that of {NAMES.get(self.less)}")
        names = ", ".join(NAMES[kind] for kind in self.kinds)
        return (f"φ of singular directions {self.first} to {self.last} of A between {self.between}, {names}{off}: {SPREAD} lies "
                f"{self.region.words}")  # fmt: skip

    def read(self, evidence: Evidence) -> list[Reading]:
        pairs = PAIRS[self.between](evidence.probed(self.table))
        runs = [run for pair in pairs for run in pair]
        off = "" if self.less == "nothing" else f" − {NAMES.get(self.less, self.less)}"
        found = []
        for kind in self.kinds:
            values = [self._value(pair, kind, layer) for pair in pairs for layer in pair[0].kept_layers]
            what = f"φ of directions {self.first}–{self.last} between {self.between}, {NAMES[kind]}{off}"
            found += of_values(what, "φ", values, runs, self.region, evidence)
        return found

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
    """phi of the `top` directions of A and the top `share` of W's d directions (Figure 8); chance gives `share`."""

    def __init__(
        self, kinds: Sequence[str], share: float, top: int,
        floor: float | None = None, ceiling: float | None = None, table: str = "subspace",
    ) -> None:  # fmt: skip
        super().__init__(kinds, floor, ceiling, table)
        self.share, self.top = share, top

    @property
    def rule(self) -> str:
        return (f"φ of the top {self.top} directions of A and the top {100 * self.share:g} % of W's, every rank (chance: "
                f"{self.share:g}): {SPREAD} lies {self.region.words}")  # fmt: skip

    def read(self, evidence: Evidence) -> list[Reading]:
        runs = evidence.probed(self.table)
        found = []
        for kind in self.kinds:
            values = [self._value(run, kind, layer) for run in runs for layer in run.kept_layers]
            what = f"φ of the top {self.top} of A and {100 * self.share:g} % of W, {NAMES[kind]}"
            found += of_values(what, "φ", values, runs, self.region, evidence)
        return found

    def _value(self, run: Probed, kind: str, layer: int) -> float:
        index, grid = with_weight(run, kind, layer)
        place = int(np.argmin(np.abs(index - self.share * run.basis(kind, layer).shape[0])))
        return float(grid[place, min(self.top, grid.shape[1]) - 1])


class NormRatio(Probing):
    """Quotient of two of the probe's norms in every layer at the end of training, alpha / rank included.

    of, to: `norm` ||D||_F, `inside` ||U^T W V||_F in D's top directions, `weight_random` in random ones, as many as the
    run's rank. ranks: `smallest`, `each`, or `smallest/largest`: the quotient at the one over that at the other.
    """

    def __init__(
        self, kinds: Sequence[str], of: str, to: str, ranks: str = "each",
        floor: float | None = None, ceiling: float | None = None, table: str = "delta_w",
    ) -> None:  # fmt: skip
        super().__init__(kinds, floor, ceiling, table)
        self.of, self.to, self.ranks = of, to, ranks
        if {of, to} - WORDS.keys() or ranks not in ("each", "smallest", "smallest/largest"):
            raise UserError(f"of and to are among {', '.join(WORDS)}; ranks is each, smallest or smallest/largest")

    @property
    def rule(self) -> str:
        at = {"each": "at each rank", "smallest": "at the smallest rank", "smallest/largest": "at the smallest rank over that at "
              "the largest"}[self.ranks]  # fmt: skip
        return f"{WORDS[self.of]} / {WORDS[self.to]}, {at}: {SPREAD} lies {self.region.words}"

    def read(self, evidence: Evidence) -> list[Reading]:
        runs = evidence.probed(self.table)
        pairs = rank_pairs(runs)
        found = []
        for kind in self.kinds:
            if self.ranks == "smallest/largest":
                groups = [("smallest over largest rank", [run for pair in pairs for run in pair])]
                values = [[np.asarray(self._quotient(a, kind) / self._quotient(b, kind)) for a, b in pairs]]
            else:
                ranks = sorted({run.rank for run in runs if run.rank})[: 1 if self.ranks == "smallest" else None]
                groups = [(f"r = {rank}", [run for run in runs if run.rank == rank]) for rank in ranks]
                values = [[self._quotient(run, kind) for run in group] for _, group in groups]
            for (name, group), layers in zip(groups, values, strict=True):
                what = f"{WORDS[self.of]} / {WORDS[self.to]}, {NAMES[kind]}, {name}"
                found += of_values(what, "ratio", np.ravel(layers), group, self.region, evidence, 1)
        return found

    def _quotient(self, run: Probed, kind: str) -> Array:
        return np.asarray(self._norm(run, kind, self.of) / self._norm(run, kind, self.to))

    def _norm(self, run: Probed, kind: str, name: str) -> Array:
        """(L,): the last observed step of a norm that training changes, or a constant one."""
        array = run.arrays[f"{kind}.{name}" if name == "norm" else f"{kind}.{name}_{run.rank}"]
        return np.asarray(array[-1] if array.ndim == 2 else array, np.float64)


WORDS = {"norm": "‖ΔW‖", "inside": "‖UᵀWV‖ of ΔW", "weight_random": "‖UᵀWV‖ of random directions"}

"""Tests on norms: how large updates are, and how much of W lies in their directions (Table 7)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from lora_repro.analysis import Array
from lora_repro.claims.evidence import Evidence
from lora_repro.claims.probing import NAMES, SPREAD, Probing, of_values, rank_pairs
from lora_repro.claims.reading import Reading
from lora_repro.errors import UserError
from lora_repro.updates import Probed

WORDS = {"norm": "‖ΔW‖", "inside": "‖UᵀWV‖ of ΔW", "weight_random": "‖UᵀWV‖ of random directions"}


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
        found = []
        for kind in self.kinds:
            for name, group, layers in self._groups(runs, kind):
                what = f"{WORDS[self.of]} / {WORDS[self.to]}, {NAMES[kind]}, {name}"
                found += of_values(what, "ratio", np.ravel(layers), group, self.region, evidence, 1)
        return found

    def _groups(self, runs: Sequence[Probed], kind: str) -> Iterator[tuple[str, list[Probed], list[Array]]]:
        """(name, runs, their quotients (L,)) of each reading."""
        if self.ranks == "smallest/largest":
            pairs = rank_pairs(runs)
            quotients: list[Array] = [self._quotient(a, kind) / self._quotient(b, kind) for a, b in pairs]
            yield "smallest over largest rank", [run for pair in pairs for run in pair], quotients
            return
        ranks = sorted({run.rank for run in runs if run.rank})[: 1 if self.ranks == "smallest" else None]
        for rank in ranks:
            group = [run for run in runs if run.rank == rank]
            yield f"r = {rank}", group, [self._quotient(run, kind) for run in group]

    def _quotient(self, run: Probed, kind: str) -> Array:
        return np.asarray(self._norm(run, kind, self.of) / self._norm(run, kind, self.to))

    def _norm(self, run: Probed, kind: str, name: str) -> Array:
        """(L,): the last observed step of a norm that training changes, or a constant one."""
        array = run.arrays[f"{kind}.{name}" if name == "norm" else f"{kind}.{name}_{run.rank}"]
        return np.asarray(array[-1] if array.ndim == 2 else array, np.float64)

"""What tests on the arrays of probed runs share: pairs of runs, and the reading of values over layers and runs.

A value a matrix, layer and run; the reading is their median, its interval the middle 95 % of them, n the seeds.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np

from lora_repro.claims.base import ClaimTest
from lora_repro.claims.evidence import Evidence, generated
from lora_repro.claims.reading import Reading, Region, judge
from lora_repro.errors import UserError
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

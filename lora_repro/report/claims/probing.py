"""What tests on the arrays of probed runs share: the reading of values over layers and runs, or pairs of runs.

A value a matrix, layer and run (or pair); the reading is their median, its interval the middle 95 % of them, n the runs or
pairs that have no seed in common.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lora_repro.analysis.overlaps import independent
from lora_repro.analysis.spectra import Array
from lora_repro.analysis.updates import NAMES, Probed
from lora_repro.errors import UserError
from lora_repro.report.claims.base import ClaimTest
from lora_repro.report.claims.evidence import Evidence
from lora_repro.report.claims.reading import Reading, Region, judge
from lora_repro.report.statistics import generated, one_origin

SPREAD = "the middle 95 % of all layers and runs"


def of_values(
    what: str, unit: str, values: Sequence[tuple[Sequence[Probed], Array]], region: Region, evidence: Evidence,
    digits: int = 2, notes: Sequence[str] = (),
) -> list[Reading]:  # fmt: skip
    """The reading of (run or pair of runs, its values over the layers); none without a finite value.

    The single values that the judge sees are each run's or pair's medians.
    """
    found = [np.asarray(layers, np.float64) for _, layers in values]
    finite = [layers[np.isfinite(layers)] for layers in found]
    kept = np.concatenate(finite) if finite else np.zeros(0)
    if not len(kept):
        return []
    runs = [run for group, _ in values for run in group]
    one_origin([run.record for run in runs])
    low, high = (float(end) for end in np.percentile(kept, [2.5, 97.5]))
    n = independent([group for group, _ in values])
    told = [f"{len(kept)} values over layers and {'pairs of runs' if len(values[0][0]) > 1 else 'runs'}", *notes]
    if lost := sum(map(len, found)) - len(kept):
        told.append(f"{lost} layers have fewer directions and are left out")
    keys = dict.fromkeys(str(run.record["signature"]) for run in runs)
    files = [path for key in keys for path in (evidence.source(key), f"{evidence.profile}/updates/{key}.safetensors")]
    verdict = judge(region, low, high, n, [float(np.median(layers)) for layers in finite if len(layers)])
    return [Reading(what, unit, verdict, float(np.median(kept)), low, high, n, digits, notes=tuple(told), sources=tuple(files),
                    generated=generated([run.record for run in runs]))]  # fmt: skip


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

"""The test on intruder dimensions: singular vectors of a tuned matrix that its base does not have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from lora_repro.analysis.probed_run import NAMES, ProbedRun
from lora_repro.report.claims.evidence import Evidence
from lora_repro.report.claims.probing import Probing, of_values, region_rule
from lora_repro.report.claims.reading import Reading
from lora_repro.report.views.probed import probed_runs
from lora_repro.results import runs
from lora_repro.stats.verdict import BESIDE, NOT_RUN, Region


def update_norm(run: ProbedRun, kind: str) -> float:
    """‖ΔW‖_F at the end of training, mean over the layers."""
    norms = np.asarray(run.arrays[f"{kind}.norm"], np.float64)
    return float(np.mean(norms[-1] if norms.ndim == 2 else norms))


class Intruders(Probing):
    """analysis.spectra.intruders of LoRA at each rank up to `most`, minus that of full fine-tuning with the same seed and layer.

    Larger ranks are shown but not judged. full_below: what full fine-tuning's own count must lie below.
    """

    table = "delta_w"

    def __init__(
        self, kinds: Sequence[str], most: int, full_below: float, floor: float | None = None, ceiling: float | None = None
    ) -> None:
        super().__init__(kinds, floor, ceiling)
        self.most, self.full_region = most, Region(ceiling=full_below)

    def rows(self) -> dict[str, set[str]]:
        return {self.table: {"lora", "full"}}

    @property
    def rule(self) -> str:
        what = "how many of the top 10 left singular vectors of a tuned matrix have no cosine of 0.5 with any of the base's"
        pair = f"LoRA of rank {self.most} at most − full fine-tuning of the same seed (larger ranks are shown, not judged)"
        return f"{what}: {pair}, {region_rule(self.region)}; and full fine-tuning's own count lies {self.full_region.words}"

    def read(self, evidence: Evidence) -> list[Reading]:
        every = probed_runs(runs(evidence.cells(self.table), evidence.store))
        every = [run for run in every if f"{self.kinds[0]}.intruders" in run.arrays]  # older records lack the count
        full = {run.seed: run for run in every if run.row == "full"}
        ranks = sorted({int(rank) for cell in evidence.cells(self.table) if (rank := cell.asked["method"].get("rank"))})
        readings = []
        for kind in self.kinds:
            own = [((run,), np.asarray(run.arrays[f"{kind}.intruders"], np.float64)) for run in full.values()]
            what = f"intruders, {NAMES[kind]}, full"
            readings += of_values(what, "of 10", own, self.full_region, evidence) or [Reading(what, "of 10", NOT_RUN)]
            for rank in ranks:
                pairs = [(run, full[run.seed]) for run in every if run.rank == rank and run.seed in full]
                counts = [[np.asarray(run.arrays[f"{kind}.intruders"], np.float64) for run in pair] for pair in pairs]
                values = [(pair, ours - theirs) for pair, (ours, theirs) in zip(pairs, counts, strict=True)]
                means = [float(np.mean(side)) for side in zip(*counts, strict=True)]
                notes = [f"per matrix: LoRA {means[0]:.2f}, full {means[1]:.2f}"] if means else []
                sizes = [float(np.mean([update_norm(run, kind) for run in side])) for side in zip(*pairs, strict=True)]
                notes += ["‖ΔW‖: LoRA {:.1f}, full {:.1f}".format(*sizes)] if sizes else []
                what = f"intruders, {NAMES[kind]}, r = {rank} − full"
                read = of_values(what, "of 10", values, self.region, evidence, notes=notes, versus=True)
                read = read or [Reading(what, "of 10", NOT_RUN)]
                readings += read if rank <= self.most else [replace(one, verdict=BESIDE) for one in read]
        return readings

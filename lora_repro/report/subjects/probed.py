"""What all exhibits and claims on probed runs share: an exhibit per store, and a reading from the values of runs or of pairs.

- The value of a run or pair is the mean over its layers; the reading is the mean over runs or pairs.
- Its interval is Student's over the k seeds with the jackknife error, which leaves out each seed in turn: pairs share seeds.
- n counts seeds.
- The spread over layers, if there are several, is given in the notes: it says how layers differ, not how certain the mean is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import ClassVar

import numpy as np
from scipy.special import stdtrit

from lora_repro.analysis.probed_run import NAMES, ProbedRun, probed_runs
from lora_repro.analysis.spectra import Array
from lora_repro.errors import UserError
from lora_repro.planning.cells import Cell
from lora_repro.report.captions import Caption
from lora_repro.report.claims.base import ClaimTest, Evidence
from lora_repro.report.claims.reading import Reading
from lora_repro.report.exhibit import Exhibit, ReportRequest
from lora_repro.report.table import Table
from lora_repro.results import Store, runs
from lora_repro.stats.comparable import check_same_origin, is_generated
from lora_repro.stats.intervals import detectable_by
from lora_repro.stats.verdict import INCONCLUSIVE, LEAST, NOT_RUN, Region, inside, judge


def exhibits(
    ask: ReportRequest,
    stores: Sequence[Store],
    title: str,
    tables: Callable[[Sequence[ProbedRun], tuple[str, ...]], list[Table]],
    draw: Callable[[Sequence[ProbedRun], str, Path], list[Path]],
) -> list[Exhibit]:
    """One exhibit per store with probed runs. Raises UserError if its runs saw different data or weights."""
    exhibits = []
    for store in stores:
        if not (probes := probed_runs(runs(ask.cells, store))):
            continue
        records = [run.record for run in probes]
        check_same_origin(records)
        seeds = [len({run.seed for run in probes if run.label == label}) for label in dict.fromkeys(run.label for run in probes)]
        cell = ask.cells[0]
        caption = Caption.of(title, ask.profile, cell, records, seeds, ask.command(cell))
        below = replace(caption, backbones=(caption.backbone,)).below_figure
        summary, heading = f"{len(probes)} probed runs", f"== {store.source}" if len(stores) > 1 else ""
        all_tables = tuple(tables(probes, caption.facts()))
        exhibits.append(Exhibit(ask.name, title, all_tables, summary, partial(draw, probes, below), heading=heading))
    return exhibits


def region_rule(region: Region, layers: bool = True) -> str:
    """Where the value of such a test must lie, in words, and what a verdict needs. layers: whether it is a mean over layers."""
    needs = f"at least {LEAST} seeds and searched rates"
    mean = " of the mean over layers" if layers else ""
    return f"the 95 % interval over seeds{mean} lies {region.words}; with {needs}"


def declared_ranks(cells: Sequence[Cell]) -> list[int]:
    """The ranks that a table's cells declare, in order, whether they were run or not."""
    return sorted({int(rank) for cell in cells if (rank := cell.asked["method"].get("rank"))})


def of_values(
    what: str, unit: str, values: Sequence[tuple[Sequence[ProbedRun], Array]], region: Region, evidence: Evidence,
    notes: Sequence[str] = (), versus: bool = False,
) -> list[Reading]:  # fmt: skip
    """The reading of `values`, each (run or pair of runs, its values over the layers); empty without a finite value.

    The single values behind it are the means over the layers of each run or pair. There is no verdict at a learning rate that was
    not searched. versus: whether the values are differences between methods.
    """
    by_group = [(group, layers[np.isfinite(layers)]) for group, arrays in values if len(layers := np.asarray(arrays, np.float64))]
    means = [(group, float(layers.mean())) for group, layers in by_group if len(layers)]
    if not means:
        return []
    runs = [run for group, _ in values for run in group]
    check_same_origin([run.record for run in runs])
    every = np.concatenate([layers for _, layers in by_group])
    value, low, high, n = over_seeds(means)
    spread = np.percentile(every, [2.5, 50, 97.5])
    limits = " to ".join(f"{end:.2f}" for end in spread[[0, 2]])
    of_layers = [f"layers: median {spread[1]:.2f}, middle 95 % {limits}".replace("-", "−")]
    all_notes = [*(of_layers if len(every) > len(means) else []), *notes]
    if omissions := sum(len(arrays) for _, arrays in values) - len(every):
        all_notes.append(f"{omissions} layers have fewer directions and are left out")
    keys = dict.fromkeys(str(run.record["signature"]) for run in runs)
    files = [path for key in keys for path in (evidence.source(key), f"{evidence.profile}/updates/{key}.safetensors")]
    wanting = [f"{label}: rate not searched" for label in dict.fromkeys(run.label for run in runs if run.unsearched)]
    verdict = INCONCLUSIVE if wanting else judge(region, low, high, n)
    least = detectable_by(low, high) if versus else None
    return [Reading(what, unit, verdict, value, low, high, n, 2, notes=(*all_notes, *wanting), sources=tuple(files),
                    generated=is_generated([run.record for run in runs]), detectable=least,
                    inside=inside(region, [mean for _, mean in means], "values"), region=region,
                    reason="rate not searched" if wanting else "" if n >= LEAST else f"{n} of {LEAST} seeds")]  # fmt: skip


def over_seeds(means: Sequence[tuple[Sequence[ProbedRun], float]]) -> tuple[float, float, float, int]:
    """(mean, low, high, k): the mean of all runs or pairs and its 95 % interval over their k seeds; NaN if k seeds give none.

    Jackknife: error² = (k - 1)/k sum_s (m_s - m̄)², m_s the mean without seed s. For single runs it is the usual standard error.
    """
    seeds = sorted({run.seed for group, _ in means for run in group})
    value, k = float(np.mean([mean for _, mean in means])), len(seeds)
    without = [[mean for group, mean in means if seed not in {run.seed for run in group}] for seed in seeds]
    if k < 2 or not all(without):
        return value, float("nan"), float("nan"), k
    replicates = np.array([np.mean(others) for others in without])
    error = float(np.sqrt((k - 1) / k * ((replicates - replicates.mean()) ** 2).sum()))
    reach = float(stdtrit(k - 1, 0.975)) * error
    return value, value - reach, value + reach, k


class Probing(ClaimTest):
    """A test on the probed LoRA runs of `table`, for the `kinds` of matrices."""

    table: ClassVar[str] = "subspace"

    def __init__(self, kinds: Sequence[str], floor: float | None = None, ceiling: float | None = None) -> None:
        self.kinds, self.region = list(kinds), Region.of(floor, ceiling)
        if unknown := set(kinds) - NAMES.keys():
            raise UserError(f"no kind of matrix {sorted(unknown)[0]!r}; choose from {', '.join(NAMES)}")

    def rows(self) -> dict[str, set[str]]:
        return {self.table: {"lora"}}

    def absent(
        self, evidence: Evidence, runs: Sequence[ProbedRun], which: str, quantity: str, unit: str, bases: bool = False
    ) -> list[Reading]:
        """A reading `not run` for each rank that the test reads and that has no run: no other rank may stand in for it.

        which: `each` rank that the profile declares, its `smallest`, its `largest`, or `smallest/largest`. bases: only ranks in
        whose directions the probe measures W.
        """
        configs = [cell.asked for cell in evidence.cells(self.table)]
        sizes = [(config["method"].get("rank"), (config.get("probe") or {}).get("directions", ())) for config in configs]
        ranks = sorted({int(rank) for rank, directions in sizes if rank and (not bases or rank in directions)})
        ends = {"smallest": ranks[:1], "largest": ranks[-1:]}
        selection = ranks if which == "each" else [rank for end in which.split("/") for rank in ends[end]]
        missing = [rank for rank in dict.fromkeys(selection) if rank not in {run.rank for run in runs}]
        return [Reading(f"{quantity}, r = {rank}", unit, NOT_RUN) for rank in missing]

"""The probed runs of an experiment, and what all experiments on them share in what they show."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

from safetensors.numpy import load_file

from lora_repro.analysis.probed_run import ProbedRun, scaling_of
from lora_repro.report.captions import caption_facts
from lora_repro.report.exhibit import Exhibit, ReportRequest
from lora_repro.report.table import REPRODUCE, Table
from lora_repro.results import Run, Store, runs
from lora_repro.stats.comparable import check_same_origin


def probed_runs(runs: Sequence[Run]) -> list[ProbedRun]:
    """The trained runs that left arrays, each once, sorted by row, rank and seed."""
    made: dict[str, ProbedRun] = {}
    for run in runs:
        if not run.trained or not run.updates.is_file():
            continue
        method = run.cell.asked["method"]
        rank = method.get("rank")
        label = run.cell.row.label if rank is None else f"{run.cell.row.label}, r = {rank}"
        scaling = scaling_of(method) if rank and "alpha" in method else None
        cell, arrays = run.cell, _arrays(run.updates, run.updates.stat().st_mtime_ns)
        made[run.signature] = ProbedRun(cell.row.name, label, cell.seed, rank, scaling, run.record, arrays, cell.unsearched)
    return sorted(made.values(), key=lambda run: (run.rank is None, run.row, run.rank or 0, run.seed))


@cache
def _arrays(path: Path, written: int) -> dict[str, Any]:
    """The arrays of one file as of its modification time `written`; experiments on the same runs share the cached arrays."""
    return load_file(path)


def exhibits(
    ask: ReportRequest,
    stores: Sequence[Store],
    title: str,
    tables: Callable[[Sequence[ProbedRun], tuple[str, ...]], list[Table]],
    draw: Callable[[Sequence[ProbedRun], str, Path], list[Path]],
) -> list[Exhibit]:
    """One exhibit per store with probed runs. Raises UserError if its runs saw different data or weights."""
    made = []
    for store in stores:
        if not (probed := probed_runs(runs(ask.cells, store))):
            continue
        records = [run.record for run in probed]
        check_same_origin(records)
        seeds = [len({run.seed for run in probed if run.label == label}) for label in dict.fromkeys(run.label for run in probed)]
        cell = ask.cells[0]
        facts = (*caption_facts(title, ask.profile, cell, records, seeds), REPRODUCE + ask.command(cell))
        above = f"{facts[0]}. {facts[1].partition(' (')[0]}\n{facts[2]}. {facts[3]}"  # a figure's title
        said, heading = f"{len(probed)} probed runs", f"== {store.source}" if len(stores) > 1 else ""
        made.append(Exhibit(ask.name, tuple(tables(probed, facts)), said, partial(draw, probed, above), heading=heading))
    return made

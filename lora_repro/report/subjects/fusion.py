"""How much of each task's adapter a fusion uses: one map per target task, sources by layers, from what the runs recorded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from lora_repro.report.captions import Caption, data_of_tasks
from lora_repro.report.columns import task_label
from lora_repro.report.exhibit import Exhibit, ReportRequest
from lora_repro.report.figures import heatmap
from lora_repro.report.numbers import summarise
from lora_repro.report.pivot import Pivot
from lora_repro.report.table import Table, format_count
from lora_repro.results import Run, Store, grouped, runs
from lora_repro.stats.comparable import is_generated

NOTE = (
    "The share of each source's adapter in the attention of the fusion: the softmax weight, mean over all positions of the test "
    "inputs and over layers, ± sample sd over n seeds. An equal share is 1 / number of sources."
)


@dataclass(frozen=True)
class Fusion:
    """The scores of a pivot, and beside them how its fused rows distribute their attention over the adapters."""

    pivot: Pivot

    def exhibits(self, ask: ReportRequest, stores: Sequence[Store]) -> list[Exhibit]:
        exhibits = self.pivot.exhibits(ask, stores)
        for store in stores:
            fusion_runs = [run for run in runs(ask.cells, store) if "fusion" in run.record["measured"]]
            finished_runs = [run for run in fusion_runs if run.finished]
            if not finished_runs:
                continue
            groups = grouped(finished_runs, lambda run: run.cell.task)
            counts = [len(group) for group in groups]
            cell, records = finished_runs[0].cell, [run.record for run in finished_runs]
            caption = Caption.of(f"{self.pivot.title}: shares", ask.profile, cell, records, counts, ask.command(cell))
            caption = replace(caption, data=data_of_tasks([run.cell for run in finished_runs], records))
            heading, summary = f"== {store.source}" if len(stores) > 1 else "", f"the shares of {len(finished_runs)} runs"
            left_out = Counter(task_label(run.cell) for run in fusion_runs if not run.finished)
            tables = (table(groups, caption.facts(), left_out),)
            stem, plotter = f"{ask.name}_shares", partial(draw, groups, caption)
            exhibits.append(Exhibit(stem, caption.title, tables, summary, plotter, heading=heading))
        return exhibits


def shares(group: Sequence[Run]) -> tuple[list[str], np.ndarray[tuple[int, ...], np.dtype[np.float64]]]:
    """(the sources, their shares as (seeds, layers, sources))."""
    sources = list(group[0].record["measured"]["fusion"])
    values = [[run.record["measured"]["fusion"][source] for source in sources] for run in group]
    return sources, np.asarray(values, np.float64).transpose(0, 2, 1)


def table(groups: Sequence[Sequence[Run]], facts: tuple[str, ...], left_out: Mapping[str, int]) -> Table:
    """One line per target task: the mean share of every source, and its spread over seeds. `left_out`: task -> failed runs."""
    sources = shares(groups[0])[0]
    rows = []
    for group in groups:
        by_source = shares(group)[1].mean(axis=1).T  # (sources, seeds)
        means = [summarise(seeds).text(3) for seeds in by_source.tolist()]
        rows.append((task_label(group[0].cell), *means, format_count(len(group))))
    notes = [NOTE]
    if left_out:
        failures = ", ".join(f"{task} (n = {n})" for task, n in left_out.items())
        notes.append(f"Left out, as collapsed or diverged: {failures}.")
    if is_generated([run.record for group in groups for run in group]):
        notes.append("The data are generated: compare these shares with each other only.")
    return Table(facts, ("Target", *sources, "n"), "l" + "r" * (len(sources) + 1), tuple(rows), tuple(notes))


def draw(groups: Sequence[Sequence[Run]], caption: Caption, stem: Path) -> list[Path]:
    """Draw `stem`.svg and .png: one map per target task, four in a row."""
    maps = []
    for group in groups:
        sources, values = shares(group)
        title = f"{task_label(group[0].cell)} (n = {len(group)})"
        names = tuple(sources)
        mean = values.mean(axis=0)  # (layers, sources)
        maps.append(heatmap.Heatmap(title, mean, "adapter of", "layer", (0, len(names) - 1), (1, len(mean)), names))
    rows = [maps[start : start + 4] for start in range(0, len(maps), 4)]
    sources = shares(groups[0])[0]
    own_shares = []
    for group in groups:
        name, means = group[0].cell.task, dict(zip(sources, shares(group)[1].mean(axis=(0, 1)).tolist(), strict=True))
        own_shares += [f"{means[name]:.2f} on {task_label(group[0].cell)}"] if name in means else []
    title = f"A fusion's share for its own task's adapter: {', '.join(own_shares)}; an equal share is {1 / len(sources):.2f}"
    return heatmap.save(rows, title, "mean share", stem, None, caption.below_figure)

"""Which rows are still learning: each row's training and dev loss by training step."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path

from lora_repro.report.figures.curves import Curve, CurvePoint, Plot, save
from lora_repro.report.figures.style import LORA, in_sentence
from lora_repro.results import Run, grouped, place

READ = (
    "Training loss: with dropout and label smoothing, averaged over up to 20 parts of the steps. Dev loss: without either. Both "
    "are means over the seeds whose records have them."
)


def figures(runs: Sequence[Run], title: str, caption: str, stem: Path) -> list[Path]:
    """Two panels per backbone, training and dev loss, from the records that hold losses.

    title: the table's. caption: whose numbers these are.
    """
    groups = grouped([run for run in runs if run.record["measured"].get("train_losses")], lambda run: place(run.cell))
    plots = [plot for group in groups for plot in _plots(group) if plot.curves]
    if not plots:
        return []
    return save(plots, stem, title=statement(title, plots[0].curves), caption=f"{caption} {READ}")


def statement(title: str, trained: Sequence[Curve]) -> str:
    """The row whose training loss falls most from the third quarter of its steps to the last, with LoRA's beside it."""
    losses = {curve.label: [(int(spot.x or 0), spot.y) for spot in curve.spots] for curve in trained}
    ends = {label: _quarters(parts) for label, parts in losses.items() if len(parts) > 1 and parts[-1][0] > 2}
    if not ends:
        return f"{title}: training and dev loss by step"
    most = max(ends, key=lambda label: ends[label][0] - ends[label][1])
    others = [curve.label for curve in trained if curve.method == LORA and curve.label in ends and curve.label != most]
    other = "".join(f"{name} from {ends[name][0]:.3f} to {ends[name][1]:.3f}" for name in others[:1])
    goes = "falls most," if len(ends) > 1 else "goes"
    said = f"{title}: from the third to the last quarter of the steps, the training loss of {in_sentence(most)} {goes} from "
    return said + f"{ends[most][0]:.3f} to {ends[most][1]:.3f}" + (f" ({other})" if other else "")


def _quarters(losses: Sequence[tuple[int, float]]) -> tuple[float, float]:
    """(mean over the third quarter of the steps, of which there are 3 or more, mean over the last).

    losses: (last step, mean loss) of each part of them.
    """
    before = (0, *(step for step, _ in losses))
    each = [loss for first, (last, loss) in zip(before, losses, strict=False) for _ in range(last - first)]
    half, last = len(each) // 2, len(each) * 3 // 4
    return statistics.fmean(each[half:last]), statistics.fmean(each[last:])


def _plots(group: Sequence[Run]) -> tuple[Plot, Plot]:
    dev, trained, absent = [], [], []
    for runs in grouped(group, lambda run: run.cell.row.name):
        row, method = runs[0].cell.row, str(runs[0].cell.asked["method"]["name"])
        looks, curve = (_mean(runs, key) for key in ("dev_losses", "train_losses"))
        if not looks or not curve:
            absent.append(f"{row.label} (diverged)")
            continue
        dev.append(Curve(row.label, looks, row.name, method))
        trained.append(Curve(row.label, tuple(CurvePoint(spot.x, spot.y, None) for spot in curve), row.name, method))
    title, unit = str(group[0].record["where"]["backbone"]["label"]), "loss (nats per token)"
    steps = sorted({int(spot.x or 0) for curve in dev for spot in curve.spots})
    if len(steps) < 2:
        dev = []  # losses at the last step alone are no curve; the records have them
    ticks = tuple((float(step), f"{step:,}") for step in steps if len(steps) <= 6)
    return (
        Plot(f"{title}: training loss", "training step", unit, tuple(trained), scale="linear", absent=tuple(absent),
             spreadless=True),
        Plot(f"{title}: dev loss", "training step", unit, tuple(dev), ticks, scale="linear"),
    )  # fmt: skip


def _mean(runs: Sequence[Run], key: str) -> tuple[CurvePoint, ...]:
    """The mean losses of a row ± sd over its seeds, at the steps that all seeds have."""
    losses = [{step: float(loss) for step, loss in run.record["measured"].get(key) or ()} for run in runs]
    spots = []
    for step in sorted(set.intersection(*map(set, losses))):
        values = [own[step] for own in losses]
        spots.append(CurvePoint(step, statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None))
    return tuple(spots)

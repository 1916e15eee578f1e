"""A score over a swept amount (training rows, rank, trained parameters), or losses over training: one line per method."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lora_repro.report.figures.style import (
    GREY,
    LORA,
    SINGLE,
    MethodStyle,
    add_note,
    add_title_caption,
    assign_styles,
    blank,
    in_sentence,
    to_mathtext,
    wrapped,
    write,
)
from lora_repro.results import Run, grouped, place

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BROKEN = ("--", "-.", ":")  # line styles of horizontal lines, in turn
WIDE, HIGH = 4.7, 3.3  # inches of a panel, whose text can be read on a phone
LOSSES_READ = (
    "Training loss: with dropout and label smoothing, averaged over up to 20 parts of the steps. Dev loss: without either. Both "
    "are means over the seeds whose records have them."
)


@dataclass(frozen=True)
class CurvePoint:
    """One cell: x the swept amount (None: the row has none, and is a horizontal line), y its mean, sd None for one seed.

    mark: a remark written beside it: `1 of 2 collapsed`.
    """

    x: float | None
    y: float
    sd: float | None
    mark: str = ""


@dataclass(frozen=True)
class Curve:
    """A row's cells in the order of x. Curves of one `family` (empty: the label) share colour and marker.

    method: the method whose colour and marker it has, unless other curves of the figure have the same method.
    """

    label: str
    spots: tuple[CurvePoint, ...]
    family: str = ""
    method: str = ""

    @property
    def look(self) -> str:
        return self.family or self.label


@dataclass(frozen=True)
class Plot:
    """One panel: its title, axis labels and curves; `ticks`: (x, text) of the swept values, if they are few.

    absent: cells without a value to draw, and why. quoted: the curves are the paper's, with the spread that it prints.
    """

    title: str
    xlabel: str
    ylabel: str
    curves: tuple[Curve, ...]
    ticks: tuple[tuple[float, str], ...] = ()
    references: tuple[Curve, ...] = field(default=(), kw_only=True)  # dashed, in the colours of the `curves` with their labels
    scale: str = "log"  # of x: log, linear, or places (rows without an order; points are not joined)
    log_y: bool = False
    absent: tuple[str, ...] = ()
    quoted: bool = False
    spreadless: bool = False  # no point shows its spread, so none is drawn hollow as a single seed
    bottom: float | None = None  # where the y axis begins; None: below the lowest point


def save(plots: Sequence[Plot], stem: Path, columns: int = 1, title: str = "", caption: str = "") -> list[Path]:
    """Draw the panels, `columns` in a row, into `stem`.svg and `stem`.png; returns the two paths."""
    return write(_figure, stem, plots, columns, title, caption)


def _figure(plots: Sequence[Plot], columns: int, title: str, caption: str = "") -> Figure:
    width = min(columns, len(plots))
    height = -(-len(plots) // width)
    figure = blank(WIDE * width, HIGH * height)
    styles = assign_styles({curve.look: curve.method for plot in plots for curve in plot.curves})
    across = [curve.label for plot in plots for curve in plot.curves if any(spot.x is None for spot in curve.spots)]
    broken = {label: number for number, label in enumerate(dict.fromkeys(across))}  # one line style a label, in all panels
    axes = list(figure.subplots(height, width, squeeze=False).flat)
    for axis, plot in zip(axes, plots, strict=False):
        _draw(axis, plot, styles, broken)
    for axis in axes[len(plots) :]:
        axis.set_axis_off()
    handles = {h.get_label(): h for axis in axes for h in axis.get_legend_handles_labels()[0]}
    inches = 0.075 * max(map(len, handles), default=0) + 0.7  # of the widest legend entry: 8-point text, the line sample
    columns = max(1, min(len(handles), int(WIDE * width / inches)))
    figure.legend(handles=list(handles.values()), loc="lower center", ncols=columns, frameon=False, fontsize=8)
    add_title_caption(figure, title, caption)
    return figure


def _draw(axis: Axes, plot: Plot, styles: dict[str, MethodStyle], broken: dict[str, int]) -> None:
    from matplotlib.ticker import NullLocator

    axis.set_title(to_mathtext(wrapped(plot.title, WIDE - 0.9, size=9)), fontsize=9)
    axis.set(xlabel=plot.xlabel, ylabel=plot.ylabel)
    axis.set_xscale("log" if plot.scale == "log" else "linear")
    axis.set_yscale("log" if plot.log_y else "linear")
    axis.grid(axis="y", color="#e6e6e6", linewidth=0.6, zorder=0)
    for curve in plot.references:
        points = [(spot.x, spot.y) for spot in curve.spots if spot.x is not None]
        axis.plot(*zip(*points, strict=True), color=styles[curve.look].colour, linestyle="--", linewidth=1, zorder=2)
    if plot.ticks:
        axis.set_xticks([x for x, _ in plot.ticks], [text for _, text in plot.ticks])
        axis.xaxis.set_minor_locator(NullLocator())
    for curve in plot.curves:
        colour, marker = styles[curve.look]
        style: Any = {"color": colour, "marker": marker, "markersize": 5}
        for spot in curve.spots:
            if spot.x is None:
                _across(axis, spot, to_mathtext(curve.label), colour, broken[curve.label])
        _placed(axis, [spot for spot in curve.spots if spot.x is not None], to_mathtext(curve.label), style, plot)
    if plot.bottom is not None:
        axis.set_ylim(plot.bottom, plot.bottom + 1.05 * (axis.get_ylim()[1] - plot.bottom))
    add_note(axis, _note(plot))


def _across(axis: Axes, spot: CurvePoint, label: str, colour: str, number: int) -> None:
    """A horizontal line over the whole range, in the style of its number. Its bar is right of the frame, clear of the points."""
    axis.axhline(spot.y, color=colour, linewidth=1.2, linestyle=BROKEN[number % len(BROKEN)], zorder=2, label=label)
    if spot.sd:
        placement: Any = {"transform": axis.get_yaxis_transform(), "clip_on": False}
        axis.errorbar(1.015 + 0.018 * number, spot.y, yerr=spot.sd, color=colour, capsize=2, linewidth=1, **placement)


def _placed(axis: Axes, spots: Sequence[CurvePoint], label: str, style: dict[str, Any], plot: Plot) -> None:
    """The points at their x, joined unless the scale is `places`; hollow for a single seed."""
    if not spots:
        return
    style = {**style, **({"linestyle": "none"} if plot.scale == "places" else {"linewidth": 1.2})}
    single_seeds = all(spot.sd is None for spot in spots)
    axis.errorbar(
        [spot.x or 0.0 for spot in spots],
        [spot.y for spot in spots],
        yerr=None if single_seeds else [spot.sd or 0.0 for spot in spots],
        markerfacecolor="white" if single_seeds and not plot.quoted and not plot.spreadless else style["color"],
        capsize=3,
        label=label,
        zorder=3,
        **style,
    )
    for spot in spots:
        if spot.sd is None and not single_seeds and not plot.quoted:  # only this cell lost a seed, or lacks one
            axis.plot(spot.x or 0.0, spot.y, markerfacecolor="white", zorder=4, **style)
        if spot.mark:
            xs = [spot.x for other in plot.curves for spot in other.spots if spot.x is not None]
            side = "left" if spot.x == min(xs, default=0) else "right" if spot.x == max(xs, default=0) else "center"
            offset = {"left": (6, -3), "center": (0, 6), "right": (-6, -3)}[side]  # within the axes, off their numbers
            position: Any = {"xy": (spot.x or 0.0, spot.y), "xytext": offset, "textcoords": "offset points", "ha": side}
            axis.annotate(spot.mark, fontsize=7, color=GREY, zorder=5, **position)


def _note(plot: Plot) -> str:
    """The note below a panel: how to read its points and bars, and which cells are not drawn."""
    spots = [spot for curve in plot.curves for spot in curve.spots]
    if plot.quoted:
        return "as printed in the paper, bars ± sd where it prints one"
    remarks = ["mean over seeds, bars ± sd"] if any(spot.sd is not None for spot in spots) else []
    if any(spot.x is None and spot.sd for spot in spots):
        remarks[0] += " (at the right for a broken line)"
    if any(spot.sd is None for spot in spots if spot.x is not None) and not plot.spreadless:
        remarks.append(f"hollow: {SINGLE}")
    if plot.absent:
        remarks.append(f"not drawn: {', '.join(plot.absent)}")
    return to_mathtext(wrapped("; ".join(remarks), WIDE - 0.4, size=7))


def learning(runs: Sequence[Run], title: str, caption: str, stem: Path) -> list[Path]:
    """Two panels per backbone, training and dev loss, from the records that hold losses.

    title: the table's. caption: whose numbers these are.
    """
    groups = grouped([run for run in runs if run.record["measured"].get("train_losses")], lambda run: place(run.cell))
    plots = [plot for group in groups for plot in _losses(group) if plot.curves]
    if not plots:
        return []
    return save(plots, stem, title=learning_statement(title, plots[0].curves), caption=f"{caption} {LOSSES_READ}")


def learning_statement(title: str, curves: Sequence[Curve]) -> str:
    """The row whose training loss falls most from the third quarter of its steps to the last, with LoRA's beside it."""
    losses = {curve.label: [(int(spot.x or 0), spot.y) for spot in curve.spots] for curve in curves}
    ends = {label: _quarters(parts) for label, parts in losses.items() if len(parts) > 1 and parts[-1][0] > 2}
    if not ends:
        return f"{title}: training and dev loss by step"
    most = max(ends, key=lambda label: ends[label][0] - ends[label][1])
    others = [curve.label for curve in curves if curve.method == LORA and curve.label in ends and curve.label != most]
    other = "".join(f"{name} from {ends[name][0]:.3f} to {ends[name][1]:.3f}" for name in others[:1])
    goes = "falls most," if len(ends) > 1 else "goes"
    opening = f"{title}: from the third to the last quarter of the steps, the training loss of {in_sentence(most)} {goes} from "
    return opening + f"{ends[most][0]:.3f} to {ends[most][1]:.3f}" + (f" ({other})" if other else "")


def _quarters(losses: Sequence[tuple[int, float]]) -> tuple[float, float]:
    """(mean over the third quarter of the steps, of which there are 3 or more, mean over the last).

    losses: (last step, mean loss) of each part of them.
    """
    before = (0, *(step for step, _ in losses))
    per_step = [loss for first, (last, loss) in zip(before, losses, strict=False) for _ in range(last - first)]
    half, last = len(per_step) // 2, len(per_step) * 3 // 4
    return statistics.fmean(per_step[half:last]), statistics.fmean(per_step[last:])


def _losses(group: Sequence[Run]) -> tuple[Plot, Plot]:
    dev, train, absent = [], [], []
    for runs in grouped(group, lambda run: run.cell.row.name):
        row, method = runs[0].cell.row, str(runs[0].cell.asked["method"]["name"])
        looks, curve = (_mean_losses(runs, key) for key in ("dev_losses", "train_losses"))
        if not looks or not curve:
            absent.append(f"{row.label} (diverged)")
            continue
        dev.append(Curve(row.label, looks, row.name, method))
        train.append(Curve(row.label, tuple(CurvePoint(spot.x, spot.y, None) for spot in curve), row.name, method))
    title, unit = str(group[0].record["where"]["backbone"]["label"]), "loss (nats per token)"
    steps = sorted({int(spot.x or 0) for curve in dev for spot in curve.spots})
    if len(steps) < 2:
        dev = []  # losses at the last step alone are no curve; the records have them
    ticks = tuple((float(step), f"{step:,}") for step in steps if len(steps) <= 6)
    return (
        Plot(f"{title}: training loss", "training step", unit, tuple(train), scale="linear", absent=tuple(absent),
             spreadless=True),
        Plot(f"{title}: dev loss", "training step", unit, tuple(dev), ticks, scale="linear"),
    )  # fmt: skip


def _mean_losses(runs: Sequence[Run], key: str) -> tuple[CurvePoint, ...]:
    """The mean losses of a row ± sd over its seeds, at the steps that all seeds have."""
    losses = [{step: float(loss) for step, loss in run.record["measured"].get(key) or ()} for run in runs]
    spots = []
    for step in sorted(set.intersection(*map(set, losses))):
        values = [seed_losses[step] for seed_losses in losses]
        spots.append(CurvePoint(step, statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None))
    return tuple(spots)

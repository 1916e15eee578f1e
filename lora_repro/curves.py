"""A score over a swept amount (training rows, rank, trained parameters): a line a method, bars ± sd, styled as figure.py."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from lora_repro.figure import GREY, SINGLE, STYLE

# Okabe and Ito's eight, safe for colour-blind eyes, yellow left out; markers tell the lines apart without colour.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">")


@dataclass(frozen=True)
class Spot:
    """One cell: x the swept amount (None: the row has none, drawn across), y its mean, sd None for one seed."""

    x: float | None
    y: float
    sd: float | None


@dataclass(frozen=True)
class Curve:
    """A row's cells in the order of x."""

    label: str
    spots: tuple[Spot, ...]


@dataclass(frozen=True)
class Plot:
    """One panel: title, what x is, what y is, its curves; `ticks`: (x, text) where the swept values are few."""

    title: str
    xlabel: str
    ylabel: str
    curves: tuple[Curve, ...]
    ticks: tuple[tuple[float, str], ...] = ()
    scale: str = "log"  # of x: log, linear, or places: an order without meaning, points not joined
    log_y: bool = False


def save(plots: Sequence[Plot], stem: Path, columns: int = 0, title: str = "") -> list[Path]:
    """Draw the panels, `columns` in a row (0: all), into `stem`.svg and `stem`.png; returns the two paths."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE)
        width = min(columns or len(plots), len(plots))
        height = -(-len(plots) // width)
        figure = Figure(figsize=(6.4 * width, 4.3 * height + 0.5), layout="constrained")
        FigureCanvasAgg(figure)
        labels = list(dict.fromkeys(curve.label for plot in plots for curve in plot.curves))
        axes = list(figure.subplots(height, width, squeeze=False).flat)
        for axis, plot in zip(axes, plots, strict=False):
            _draw(axis, plot, labels)
        handles = {h.get_label(): h for axis in axes for h in axis.get_legend_handles_labels()[0]}
        figure.legend(handles=list(handles.values()), loc="outside lower center", ncols=3, frameon=False, fontsize=8)
        if title:
            figure.suptitle(title, fontsize=9)
        stem.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(stem.with_suffix(".svg"), metadata={"Date": None, "Creator": None})
        figure.savefig(stem.with_suffix(".png"), metadata={"Software": None})
    return [stem.with_suffix(".svg"), stem.with_suffix(".png")]


def _draw(axis: Axes, plot: Plot, labels: Sequence[str]) -> None:
    axis.set(title=plot.title, xlabel=plot.xlabel, ylabel=plot.ylabel)
    axis.set_xscale("log" if plot.scale == "log" else "linear")
    axis.set_yscale("log" if plot.log_y else "linear")
    axis.grid(axis="y", color="#e6e6e6", linewidth=0.6, zorder=0)
    if plot.ticks:
        axis.set_xticks([x for x, _ in plot.ticks], [text for _, text in plot.ticks])
        axis.xaxis.set_minor_locator(NullLocator())
    single = False
    for curve in plot.curves:
        index = labels.index(curve.label)
        colour = COLOURS[index % len(COLOURS)]
        across = [spot for spot in curve.spots if spot.x is None]
        for spot in across:
            axis.axhline(spot.y, color=colour, linewidth=1, linestyle="--", zorder=1, label=f"{curve.label} (across)")
            if spot.sd:
                axis.axhspan(spot.y - spot.sd, spot.y + spot.sd, color=colour, alpha=0.08, linewidth=0, zorder=0)
        placed = [spot for spot in curve.spots if spot.x is not None]
        single = single or any(spot.sd is None for spot in placed)
        if placed:
            style: Any = {"color": colour, "marker": MARKERS[index % len(MARKERS)], "markersize": 5}
            style |= {"linestyle": "none"} if plot.scale == "places" else {"linewidth": 1.2}
            one = all(spot.sd is None for spot in placed)
            axis.errorbar(
                [spot.x or 0.0 for spot in placed],
                [spot.y for spot in placed],
                yerr=None if one else [spot.sd or 0.0 for spot in placed],
                markerfacecolor="white" if one else colour,
                capsize=3,
                label=curve.label,
                zorder=3,
                **style,
            )
            for spot in placed:
                if spot.sd is None and not one:  # a seed was lost, or is missing, in this cell alone
                    axis.plot(spot.x or 0.0, spot.y, markerfacecolor="white", zorder=4, **style)
    note = f"hollow: {SINGLE}" if single else "mean over seeds, bars and bands ± sd"
    axis.annotate(note, (1, 0), (-2, 4), "axes fraction", textcoords="offset points", ha="right", fontsize=7, color=GREY)

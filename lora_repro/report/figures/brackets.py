"""Values known only to lie between two bounds, over an amount: a bar from bound to bound, an arrow where one bound is missing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lora_repro.report.figures.style import (
    add_note,
    add_title_caption,
    assign_styles,
    blank,
    to_mathtext,
    write,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDE, HIGH = 4.7, 3.3  # inches of a panel, as in curves.py
APART = 0.025  # what lies between two rows' bars of one x, as a share of the panel's width
NOTE = "bar: the value lies in it; arrow: it lies beyond every value that was run"


@dataclass(frozen=True)
class Bracket:
    """x: the amount. The value is larger than `low` and at most `high`; None: no such bound is known, at most one of the two."""

    x: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class BracketRow:
    """One row's brackets; method: as in `curves.Curve`."""

    label: str
    brackets: tuple[Bracket, ...]
    method: str = ""


@dataclass(frozen=True)
class BracketPanel:
    """Both axes are logarithmic; `ticks`: (x, text). The y axis is marked at the bounds."""

    title: str
    xlabel: str
    ylabel: str
    rows: tuple[BracketRow, ...]
    ticks: tuple[tuple[float, str], ...]

    @property
    def bounds(self) -> list[float]:
        ends = {end for row in self.rows for bracket in row.brackets for end in (bracket.low, bracket.high)}
        return sorted(end for end in ends if end is not None)


def save(panels: Sequence[BracketPanel], stem: Path, title: str = "", caption: str = "") -> list[Path]:
    """Draw the panels one below the other into `stem`.svg and `stem`.png; returns the two paths."""
    return write(_figure, stem, panels, title, caption)


def _figure(panels: Sequence[BracketPanel], title: str, caption: str) -> Figure:
    figure = blank(WIDE, HIGH * len(panels))
    looks = assign_styles({row.label: row.method for panel in panels for row in panel.rows})
    axes = figure.subplots(len(panels), 1, squeeze=False)[:, 0]
    for axis, panel in zip(axes, panels, strict=True):
        _draw(axis, panel, {label: look.colour for label, look in looks.items()})
    handles = {handle.get_label(): handle for axis in axes for handle in axis.get_legend_handles_labels()[0]}
    figure.legend(handles=list(handles.values()), loc="lower center", ncols=2, frameon=False, fontsize=8)
    add_title_caption(figure, title, caption)
    return figure


def _draw(axis: Axes, panel: BracketPanel, colours: dict[str, str]) -> None:
    from matplotlib.ticker import NullLocator

    axis.set_title(to_mathtext(panel.title), fontsize=9)
    axis.set(xlabel=panel.xlabel, ylabel=panel.ylabel, xscale="log", yscale="log")
    xs = [bracket.x for row in panel.rows for bracket in row.brackets]
    axis.set_xlim(min(xs) / 1.3, max(xs) * 1.3)
    axis.set_ylim(panel.bounds[0] / 3, panel.bounds[-1] * 3)  # also the room of an arrow
    axis.set_xticks([x for x, _ in panel.ticks], [text for _, text in panel.ticks])
    axis.set_yticks(panel.bounds, [f"{bound:,.0f}" for bound in panel.bounds])
    axis.grid(axis="y", color="#e6e6e6", linewidth=0.6, zorder=0)
    for scale in (axis.xaxis, axis.yaxis):
        scale.set_minor_locator(NullLocator())
    for index, row in enumerate(panel.rows):
        aside = (max(xs) / min(xs) * 1.3**2) ** (APART * (index - (len(panel.rows) - 1) / 2))
        for number, bracket in enumerate(row.brackets):
            _bar(axis, bracket, bracket.x * aside, colours[row.label], to_mathtext(row.label) if number == 0 else "")
    add_note(axis, NOTE)


def _bar(axis: Axes, bracket: Bracket, x: float, colour: str, label: str) -> None:
    """A thick line between the bounds, or an arrow from the only one."""
    style: Any = {"color": colour, "linewidth": 5, "solid_capstyle": "butt", "zorder": 3, "label": label or None}
    if bracket.low is not None and bracket.high is not None:
        axis.plot([x, x], [bracket.low, bracket.high], **style)
        return
    start = bracket.low if bracket.low is not None else bracket.high
    assert start is not None
    axis.plot([], [], **style)
    tip = start * 2.2 if bracket.high is None else start / 2.2
    look: Any = {"arrowstyle": "-|>", "color": colour, "linewidth": 2, "shrinkA": 0, "shrinkB": 0, "mutation_scale": 12}
    axis.annotate("", xy=(x, tip), xytext=(x, start), arrowprops=look, zorder=3)

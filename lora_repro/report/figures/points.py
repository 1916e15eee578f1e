"""A score against trainable parameters: a point a method, each with its label."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Annotation, Text
from matplotlib.transforms import Bbox

from lora_repro.report.figures.style import GREY, SINGLE, blank, write

COLOUR, QUOTED = "#1f4e79", "#b5651d"
# Where a label may go, in points from its marker: the first place that overlaps nothing is taken.
PLACES = [
    (dx * reach, dy * reach)
    for reach in (7, 14, 22, 32, 44, 58)
    for dx, dy in ((1, 0), (-1, 0), (1, 0.7), (-1, 0.7), (1, -0.7), (-1, -0.7), (0, 1), (0, -1))
]


@dataclass(frozen=True)
class Point:
    """A method: x trained parameters (0: a horizontal line), y score, sd None for one seed or not stated."""

    label: str
    x: float
    y: float
    sd: float | None
    single: bool = False
    quoted: bool = False


@dataclass(frozen=True)
class Panel:
    """One backbone's points with the title that says profile, backbone, data and n."""

    title: str
    points: tuple[Point, ...]


def save(panels: Sequence[Panel], ylabel: str, stem: Path) -> list[Path]:
    """Draw the panels side by side into `stem`.svg and `stem`.png; returns the two paths."""
    return write(lambda: _figure(panels, ylabel), stem)


def _figure(panels: Sequence[Panel], ylabel: str) -> Figure:
    figure = blank(7.2 * len(panels), 4.6)
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for axis, panel in zip(axes, panels, strict=True):
        _draw(axis, panel, ylabel)
    figure.draw_without_rendering()  # fixes the layout, so that labels can be measured
    figure.set_layout_engine("none")
    for axis, panel in zip(axes, panels, strict=True):
        _label(axis, panel)
    return figure


def _draw(axis: Axes, panel: Panel, ylabel: str) -> None:
    axis.set(title=panel.title, xlabel="trainable parameters (method + head, log scale)", ylabel=ylabel)
    axis.set_xscale("log")
    axis.grid(axis="y", color="#e6e6e6", linewidth=0.6, zorder=0)
    drawn = [point for point in panel.points if point.x > 0]
    names = {}
    for point in drawn:
        colour = QUOTED if point.quoted else COLOUR
        style: Any = {"marker": "s" if point.quoted else "o", "color": colour, "markersize": 5}
        style["markerfacecolor"] = "white" if point.single else colour
        axis.errorbar(point.x, point.y, yerr=point.sd, capsize=3, linewidth=1, zorder=3, **style)
        meaning = "paper" if point.quoted else SINGLE if point.single else "mean over seeds, bar: ± sd"
        names[meaning] = axis.plot([], [], linestyle="none", label=meaning, **style)[0]
    for point in panel.points:
        if point.x <= 0:
            axis.axhline(point.y, color=GREY, linewidth=1, linestyle="--", zorder=1)
    if drawn:
        axis.set_xlim(min(point.x for point in drawn) / 2.5, max(point.x for point in drawn) * 4)
        axis.set_ylim(*_limits(panel))
        below: Any = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.14), "ncols": 3}
        axis.legend(handles=[names[key] for key in sorted(names)], frameon=False, fontsize=8, **below)


def _limits(panel: Panel) -> tuple[float, float]:
    """The methods' range, widened to lines near it: a far one (an untuned model) would squeeze the rest."""
    ends = [end for p in panel.points if p.x > 0 for end in (p.y - (p.sd or 0), p.y + (p.sd or 0))]
    low, high = min(ends), max(ends)
    span = max(high - low, 1.0)
    near = [p.y for p in panel.points if p.x <= 0 and low - span < p.y < high + span]
    low, high = min([low, *near]), max([high, *near])
    return low - 0.15 * (high - low) - 0.5, high + 0.15 * (high - low) + 0.5


def _label(axis: Axes, panel: Panel) -> None:
    drawn = [point for point in panel.points if point.x > 0]
    centres = [axis.transData.transform((point.x, point.y)) for point in drawn]
    taken = [Bbox.from_extents(x - 6, y - 6, x + 6, y + 6) for x, y in centres]
    taken += _label_lines(axis, [point for point in panel.points if point.x <= 0])
    arrow = {"arrowstyle": "-", "color": "#aaaaaa", "linewidth": 0.6, "shrinkB": 3}
    for point in drawn:
        at: Any = {"xy": (point.x, point.y), "xytext": (0, 0), "textcoords": "offset points"}
        taken.append(_place(axis, axis.annotate(point.label, fontsize=8, arrowprops=arrow, **at), taken))


def _label_lines(axis: Axes, points: Sequence[Point]) -> list[Bbox]:
    """Name the horizontal lines at the right edge, those out of range in words; returns the room they take."""
    taken, far = [], []
    low, high = axis.get_ylim()
    style: Any = {"textcoords": "offset points", "ha": "right", "fontsize": 8, "color": GREY}
    for point in points:
        name = f"{point.label} {point.y:.1f}"
        if not low < point.y < high:
            far.append(f"{name} ({'below' if point.y < low else 'above'} this range)")
            continue
        y = axis.transData.transform((1, point.y))[1]
        taken.append(Bbox.from_extents(axis.bbox.x0, y - 2, axis.bbox.x1, y + 2))
        at = ("axes fraction", "data")
        taken.append(_extent(axis, axis.annotate(name, (1, point.y), xytext=(-2, 3), xycoords=at, **style)))
    if far:
        corner = axis.annotate("; ".join(far), (1, 0), xytext=(-2, 4), xycoords="axes fraction", **style)
        taken.append(_extent(axis, corner))
    return taken


def _place(axis: Axes, text: Annotation, taken: list[Bbox]) -> Bbox:
    """Move `text` to the first free place; where there is none, the last one tried stands."""
    box = Bbox.null()
    for dx, dy in PLACES:
        text.set_position((dx, dy))
        text.set_horizontalalignment("left" if dx > 0 else "right" if dx < 0 else "center")
        text.set_verticalalignment("bottom" if dy > 0 else "top" if dy < 0 else "center")
        box = _extent(axis, text).padded(1)
        inside = axis.bbox.containsx(box.x0) and axis.bbox.containsx(box.x1)
        inside = inside and axis.bbox.containsy(box.y0) and axis.bbox.containsy(box.y1)
        if inside and not any(box.overlaps(other) for other in taken):
            break
    return box


def _extent(axis: Axes, text: Annotation) -> Bbox:
    """The words' box in pixels; Annotation's own would take in the arrow back to the marker."""
    text.update_positions(axis.figure.canvas.get_renderer())  # type: ignore[attr-defined]
    return Text.get_window_extent(text)

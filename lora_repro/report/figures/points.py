"""A score against trained parameters: one labelled point per method."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from math import hypot
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lora_repro.report.figures.style import (
    GREY,
    LORA,
    SINGLE,
    add_title_caption,
    blank,
    freeze_layout,
    style_of,
    to_mathtext,
    wrapped,
    write,
)
from lora_repro.report.table import signed

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.text import Annotation
    from matplotlib.transforms import Bbox

WIDE, HIGH = 4.9, 3.8  # inches of a panel
# Places to try for a label: its distances from the marker in points, and the widths of its lines in inches.
REACHES, WIDTHS = (7, 14, 22, 32, 44, 58), (2.4, 1.1, 0.75)
SIDES = (
    (1, 0), (-1, 0), (1, 0.7), (-1, 0.7), (1, -0.7), (-1, -0.7), (0, 1), (0, -1), (0.4, 1), (-0.4, 1), (0.4, -1), (-0.4, -1),
)  # fmt: skip
APART = 6  # pixels between two labels on one line, which would be read as one
NEAR = 8  # pixels: marks as near as this to each other are one to the eye
LEADER = {"arrowstyle": "-", "color": "#aaaaaa", "linewidth": 0.6, "shrinkB": 3}


@dataclass(frozen=True)
class Point:
    """A method: x trained parameters (0: a horizontal line), y score; its bar is ± sd or reaches to `ends`, if it has either.

    method: decides the colour. quoted: the paper's; it is not labelled if a point of ours has the same label.
    """

    label: str
    x: float
    y: float
    sd: float | None
    method: str = ""
    single: bool = False
    quoted: bool = False
    ends: tuple[float, float] | None = None

    @property
    def span(self) -> tuple[float, float]:
        return self.ends or (self.y - (self.sd or 0), self.y + (self.sd or 0))


@dataclass(frozen=True)
class Panel:
    """One backbone's points. many, one: the legend entries of points over several seeds and of single seeds.

    floor: points below this y do not stretch the axis; those below the axis are arrows at its foot. joined: whether a line joins
    our point and the paper's of one label. scale: of x, log or linear. front: whether a line joins `undominated` points.
    """

    title: str
    points: tuple[Point, ...]
    xlabel: str = "trainable parameters (method + head, log scale)"
    many: str = "ours: mean over seeds, bar: ± sd"
    one: str = f"ours: {SINGLE}"
    floor: float | None = None
    joined: bool = False
    scale: str = "log"
    front: bool = False


def undominated(points: Sequence[Point]) -> list[Point]:
    """The points than which no other has as small an x and as large a y, and one of them better; by x. Lines (x = 0) are none."""
    candidates = [point for point in points if point.x > 0]
    front = [
        candidate
        for candidate in candidates
        if not any(o.x <= candidate.x and o.y >= candidate.y and (o.x, o.y) != (candidate.x, candidate.y) for o in candidates)
    ]
    return sorted(front, key=lambda point: point.x)


def save(
    panels: Sequence[Panel], ylabel: str, stem: Path, title: str = "", caption: str = "", width: float = WIDE
) -> list[Path]:
    """Draw the panels, `width` inches wide, one below the other into `stem`.svg and `stem`.png; returns the two paths."""
    return write(_figure, stem, panels, ylabel, title, caption, width)


def _figure(panels: Sequence[Panel], ylabel: str, title: str, caption: str, width: float = WIDE) -> Figure:
    figure = blank(width, HIGH * len(panels))
    axes = figure.subplots(len(panels), 1, squeeze=False)[:, 0]
    for axis, panel in zip(axes, panels, strict=True):
        _draw(axis, panel, ylabel)
    add_title_caption(figure, title, caption)
    freeze_layout(figure)  # labels can be measured from here on
    for axis, panel in zip(axes, panels, strict=True):
        _label(axis, panel)
    return figure


def _draw(axis: Axes, panel: Panel, ylabel: str) -> None:
    axis.set_title(to_mathtext(wrapped(panel.title, _width(axis) - 0.9, size=9)), fontsize=9)
    axis.set(xlabel=panel.xlabel, ylabel=ylabel)
    axis.set_xscale(panel.scale)
    axis.grid(axis="y", color="#e6e6e6", linewidth=0.6, zorder=0)
    points = [point for point in panel.points if point.x > 0]
    if points:
        least, most = min(point.x for point in points), max(point.x for point in points)
        room = 0.3 * (most - least) or 0.1 * most  # for labels
        axis.set_xlim(*((least / 2.5, most * 4) if panel.scale == "log" else (least - room, most + 1.5 * room)))
        axis.set_ylim(*_limits(panel))
    names = {}
    for point in points:
        style, bar = _style(point), _bar(point)
        below = _is_below(axis, panel, point)
        y = axis.get_ylim()[0] if below else point.y
        style |= {"marker": "v", "clip_on": False} if below else {}
        axis.errorbar(point.x, y, yerr=None if below else bar, capsize=3, linewidth=1, zorder=3, **style)
        if panel.floor is not None and point.span[0] < axis.get_ylim()[0] < point.y:  # its bar goes on below the frame
            axis.plot(point.x, axis.get_ylim()[0], color=style["color"], marker="v", markersize=4, clip_on=False, zorder=3)
        kind = "the paper" if point.quoted else panel.one if point.single else panel.many
        legend_style = {**style, "color": GREY, "marker": "s" if point.quoted else "o", "markersize": 5, "clip_on": True}
        legend_style["markerfacecolor"] = "white" if point.quoted or point.single else GREY
        names[kind] = axis.plot([], [], linestyle="none", label=kind, **legend_style)[0]
    if panel.front:
        best = undominated(panel.points)
        xs, ys = [point.x for point in best], [point.y for point in best]
        axis.plot(xs, ys, color=GREY, linewidth=0.8, alpha=0.6, zorder=2)
    for point in panel.points:
        pair = [other for other in points if panel.joined and point.quoted and not other.quoted and other.label == point.label]
        for other in pair:
            colour = style_of(point.method).colour
            axis.plot([point.x, other.x], [point.y, other.y], color=colour, linewidth=0.7, linestyle=":", zorder=2)
        if point.x <= 0:
            axis.axhline(point.y, color=GREY, linewidth=1, linestyle="--", zorder=1)
    if points:
        below_axis: Any = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.14), "ncols": 1 + (max(map(len, names)) < 40)}
        axis.legend(handles=[names[key] for key in sorted(names)], frameon=False, fontsize=8, **below_axis)


def _width(axis: Axes) -> float:
    """Of the axis's figure, in inches."""
    return float(axis.figure.get_size_inches()[0])  # type: ignore[union-attr]


def _is_below(axis: Axes, panel: Panel, point: Point) -> bool:
    """Whether a point lies below the axis, which may reach below the panel's `floor` for the bars of other points."""
    return panel.floor is not None and point.y < float(axis.get_ylim()[0])


def _style(point: Point) -> dict[str, Any]:
    """The method's colour. The paper's points are hollow squares, ours discs, hollow for one seed; LoRA's are larger."""
    colour = style_of(point.method).colour
    size = (6 if point.quoted else 5) + 3 * (point.method == LORA)
    style: dict[str, Any] = {"marker": "s" if point.quoted else "o", "color": colour, "markersize": size}
    return {**style, "markerfacecolor": "white" if point.quoted or point.single else colour}


def _bar(point: Point) -> Any:
    low, high = point.span
    return None if low == high else [[point.y - low], [high - point.y]]


def _limits(panel: Panel) -> tuple[float, float]:
    """The range of the methods, widened to nearby lines. A distant line (an untuned model) would squeeze the rest."""
    floor = -float("inf") if panel.floor is None else panel.floor
    ends = [end for p in panel.points if p.x > 0 and p.y >= floor for end in p.span] or [0.0]
    low, high = min(ends), max(ends)
    span = max(high - low, 1.0)
    near = [p.y for p in panel.points if p.x <= 0 and low - span < p.y < high + span]
    low, high = min([low, *near]), max([high, *near])
    return low - 0.15 * (high - low) - 0.5, high + 0.15 * (high - low) + 0.5


def _label(axis: Axes, panel: Panel) -> None:
    points = [point for point in panel.points if point.x > 0]
    low = [point for point in points if _is_below(axis, panel, point)]
    centres = [axis.transData.transform((p.x, axis.get_ylim()[0] if p in low else p.y)) for p in points]
    boxes = [_rectangle(x - 6, y - 6, x + 6, y + 6) for x, y in centres]
    boxes += [_bar_box(axis, point) for point in points if _bar(point)]
    boxes += _label_lines(axis, [point for point in panel.points if point.x <= 0])
    marks = [(float(x), float(y)) for x, y in centres]
    ours = {point.label for point in points if not point.quoted}
    above: dict[float, float] = {}  # x of a mark -> middle of the label of the mark above it
    if low:
        labels = "; ".join(f"{p.label}{' (the paper)' if p.quoted else ''} {signed(p.y, plus=False)}" for p in low)
        paper = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1}
        foot: Any = {"textcoords": "offset points", "fontsize": 8, "color": GREY, "va": "bottom", "bbox": paper}
        note = wrapped(f"▼ below this range: {labels}", _width(axis) - 1.6, size=8)
        boxes.append(_extent(axis, axis.annotate(to_mathtext(note), (0, 0), xytext=(3, 9), xycoords="axes fraction", **foot)))
    for point in sorted(points, key=lambda point: -point.y):  # labels of marks with one x keep the order of the marks
        if point in low or (point.quoted and point.label in ours):
            continue
        position: Any = {"xy": (point.x, point.y), "xytext": (0, 0), "textcoords": "offset points"}
        words = list(dict.fromkeys(to_mathtext(wrapped(point.label, inches, size=8)) for inches in WIDTHS))
        bold: Any = {"fontsize": 9, "weight": "bold", "color": style_of(LORA).colour}
        font: Any = bold if point.method == LORA else {"fontsize": 8}
        box = _place(axis, axis.annotate(words[0], **font, **position), words, boxes, marks, above.get(point.x, float("inf")))
        boxes.append(_rectangle(box.x0 - APART, box.y0, box.x1 + APART, box.y1))
        above[point.x] = (box.y0 + box.y1) / 2


def _bar_box(axis: Axes, point: Point) -> Bbox:
    (x, low), (_, high) = (axis.transData.transform((point.x, end)) for end in point.span)
    return _rectangle(x - 2, low, x + 2, high)


def _label_lines(axis: Axes, points: Sequence[Point]) -> list[Bbox]:
    """Label the horizontal lines at the right edge, and list those out of range; returns the boxes that this takes."""
    boxes, far = [], []
    low, high = axis.get_ylim()
    style: Any = {"textcoords": "offset points", "ha": "right", "fontsize": 8, "color": GREY}
    for point in points:
        name = f"{point.label} {point.y:.1f}"
        if not low < point.y < high:
            far.append(f"{name} ({'below' if point.y < low else 'above'} this range)")
            continue
        y = axis.transData.transform((1, point.y))[1]
        boxes.append(_rectangle(axis.bbox.x0, y - 2, axis.bbox.x1, y + 2))
        axes_coordinates = ("axes fraction", "data")
        boxes.append(_extent(axis, axis.annotate(name, (1, point.y), xytext=(-2, 3), xycoords=axes_coordinates, **style)))
    if far:
        corner = axis.annotate("; ".join(far), (1, 0), xytext=(-2, 4), xycoords="axes fraction", **style)
        boxes.append(_extent(axis, corner))
    return boxes


def _place(
    axis: Axes, text: Annotation, words: Sequence[str], obstacles: list[Bbox], marks: Sequence[tuple[float, float]], below: float
) -> Bbox:
    """Move `text` to the first place inside the frame that overlaps nothing and is read as its own mark's; returns its box.

    It is not if another of the `marks` lies about as near to it, or if its middle is not under `below`. If there is no such
    place, it is the one that reaches least beyond the frame, of these one with the fewest overlaps, and so on.
    words: the text with its possible line breaks; at each distance all of them are tried on every side.
    """
    costs: list[tuple[float, int, int, int]] = []
    anchor = axis.transData.transform(text.xy)
    others = [mark for mark in marks if hypot(*(mark - anchor)) > NEAR]
    frame, ways = axis.bbox, list(product(REACHES, words, SIDES))

    def is_mistaken(box: Bbox, reach: float) -> bool:
        nearest = min((_distance(box, other) for other in others), default=float("inf"))
        return nearest < (NEAR if reach > REACHES[0] else _distance(box, anchor) + NEAR)  # farther out a line leads to it

    sizes = {word: _moved(axis, text, 0, word, (1, 1)).size for word in words}  # measured once: drawing text is slow
    for number, way in enumerate(ways):
        box = _box(anchor, way[0] * axis.figure.dpi / 72, sizes[way[1]], way[2])
        beyond = (frame.x0 - box.x0, box.x1 - frame.x1, frame.y0 - box.y0, box.y1 - frame.y1)
        misread = ((box.y0 + box.y1) / 2 > below) + is_mistaken(box, way[0])
        costs.append((max(0.0, *beyond), sum(bool(box.overlaps(other)) for other in obstacles), misread, number))
        if costs[-1][:3] == (0.0, 0, 0):
            break
    way = ways[min(costs)[-1]]
    box = _moved(axis, text, *way)
    if way[0] > REACHES[0]:
        _lead(axis, text, box)
    return box


def _distance(box: Bbox, mark: Any) -> float:
    """Pixels from a mark to the nearest point of a box."""
    x, y = mark
    return hypot(min(max(x, box.x0), box.x1) - x, min(max(y, box.y0), box.y1) - y)


def _lead(axis: Axes, text: Annotation, box: Bbox) -> None:
    """Draw a thin line from the mark of `text` to the nearest point of its box."""
    x, y = (float(end) for end in axis.transData.transform(text.xy))
    away = (min(max(x, box.x0), box.x1) - x, min(max(y, box.y0), box.y1) - y)
    points = tuple(72 * pixels / axis.figure.dpi for pixels in away)
    axis.annotate("", text.xy, xytext=points, textcoords="offset points", arrowprops=LEADER)


def _box(mark: Any, reach: float, size: Any, side: tuple[float, float]) -> Bbox:
    """The box of a text of `size` pixels at one side of its mark, `reach` pixels from it: where `_moved` puts it."""
    starts = [at + way * reach - extent * (0 if way > 0 else 1 if way < 0 else 0.5)
              for at, way, extent in zip(mark, side, size, strict=True)]  # fmt: skip
    return _rectangle(*starts, *(start + long for start, long in zip(starts, size, strict=True)))


def _moved(axis: Axes, text: Annotation, reach: float, words: str, side: tuple[float, float]) -> Bbox:
    """Move `text` with these words to one side of its marker, at distance `reach`; returns its box."""
    dx, dy = side
    text.set_text(words)
    text.set_position((dx * reach, dy * reach))
    text.set_horizontalalignment("left" if dx > 0 else "right" if dx < 0 else "center")
    text.set_verticalalignment("bottom" if dy > 0 else "top" if dy < 0 else "center")
    return _extent(axis, text).padded(1)


def _extent(axis: Axes, text: Annotation) -> Bbox:
    """The text's box in pixels; that of Annotation would include the arrow back to the marker."""
    from matplotlib.text import Text

    text.update_positions(axis.figure.canvas.get_renderer())  # type: ignore[attr-defined]
    return Text.get_window_extent(text)


def _rectangle(left: float, low: float, right: float, high: float) -> Bbox:
    """In pixels. The import is here, as in `style`: matplotlib is slow to load, and only drawing needs it."""
    from matplotlib.transforms import Bbox

    return Bbox.from_extents(left, low, right, high)

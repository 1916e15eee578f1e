"""Grids of heat maps on one colour scale."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lora_repro.analysis.spectra import Array
from lora_repro.report.figures.style import add_title_caption, blank, to_mathtext, write

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

SIDE = 1.55  # inches of a panel
COLOURS = "viridis"  # even in lightness, safe for colour-blind eyes, readable in grey


@dataclass(frozen=True)
class Heatmap:
    """One panel: values (rows, columns), row 0 at the top. `x`, `y`: axis values of its first and last column, and row.

    names: tick labels of the columns, if these are not numbers.
    """

    title: str
    values: Array
    xlabel: str
    ylabel: str
    x: tuple[float, float]
    y: tuple[float, float]
    names: tuple[str, ...] = ()


def save(
    rows: Sequence[Sequence[Heatmap]], title: str, scale: str, stem: Path, top: float | None = None, caption: str = ""
) -> list[Path]:
    """Draw the panels (one list per row) with one colour bar labelled `scale`, from 0 to the largest value.

    top: where the paper's colours end, which the label tells; None if it has no such figure.
    """
    return write(_figure, stem, rows, title, scale, top, caption)


def _figure(rows: Sequence[Sequence[Heatmap]], title: str, scale: str, top: float | None, caption: str = "") -> Figure:
    height, width = len(rows), max(len(row) for row in rows)
    highest = max(float(np.nanmax(panel.values)) for row in rows for panel in row)
    limit = min(highest, top or highest)
    suffix = "" if top is None or limit == top else f"\n(the paper's colours: 0 to {top:g})"
    figure = blank(max(SIDE * width + 1.0, 4.4), SIDE * height)
    axes = figure.subplots(height, width, squeeze=False)
    image = None
    for line, row in zip(axes, rows, strict=True):
        for index, axis in enumerate(line):
            if index >= len(row):
                axis.set_axis_off()
                continue
            image = _panel(axis, row[index], limit, first=index == 0)
    assert image is not None
    beyond = "max" if highest > limit * 1.0001 else "neither"
    figure.colorbar(image, ax=axes.ravel().tolist(), label=to_mathtext(scale) + suffix, shrink=0.8, extend=beyond)
    add_title_caption(figure, title, caption)
    return figure


def _panel(axis: Axes, panel: Heatmap, limit: float, first: bool) -> AxesImage:
    (left, right), (top, last) = panel.x, panel.y
    down, across = np.shape(panel.values)
    dx, dy = (right - left) / max(1, across - 1) / 2 or 0.5, (last - top) / max(1, down - 1) / 2 or 0.5
    extent = (left - dx, right + dx, last + dy, top - dy)
    image = axis.imshow(
        panel.values, aspect="auto", cmap=COLOURS, vmin=0, vmax=limit, interpolation="nearest", extent=extent
    )
    axis.set_title(to_mathtext(panel.title), fontsize=8)
    axis.set_xlabel(to_mathtext(panel.xlabel), fontsize=8)
    if first:
        # A short label is upright: a single i turned sideways looks like a dot.
        upright: dict[str, Any] = {"rotation": 0, "labelpad": 8} if len(panel.ylabel) < 3 else {}
        axis.set_ylabel(to_mathtext(panel.ylabel), fontsize=8, **upright)
    axis.tick_params(labelsize=7)
    axis.spines[:].set_visible(False)
    if panel.names:
        axis.set_xticks(range(len(panel.names)), panel.names, rotation=90)
    else:
        axis.set_xticks(sorted({left, round((left + right) / 2), right}))
    axis.set_yticks(sorted({top, round((top + last) / 2), last}))
    return image

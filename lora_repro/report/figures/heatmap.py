"""Grids of heat maps on one colour scale."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from lora_repro.analysis.spectra import Array
from lora_repro.report.figures.style import blank, write

COLOURS = "viridis"  # even in lightness, safe for colour-blind eyes, readable in grey


@dataclass(frozen=True)
class Map:
    """One panel: values (rows, columns); row 0 is at the top. `y`, `x`: what its first and last index are called, (low, high).

    names: what each column is called, where that is no number.
    """

    title: str
    values: Array
    xlabel: str
    ylabel: str
    x: tuple[float, float]
    y: tuple[float, float]
    names: tuple[str, ...] = ()


def save(rows: Sequence[Sequence[Map]], title: str, scale: str, stem: Path, top: float | None = None) -> list[Path]:
    """Draw the panels, a list a row, with one colour bar called `scale` from 0 to `top` (null: the largest value)."""
    return write(lambda: _figure(rows, title, scale, top), stem)


def _figure(rows: Sequence[Sequence[Map]], title: str, scale: str, top: float | None) -> Figure:
    height, width = len(rows), max(len(row) for row in rows)
    highest = max(float(np.nanmax(panel.values)) for row in rows for panel in row)
    limit = top or highest
    side = 2.3 if width <= 4 else 1.65  # inches of a panel: a wide figure is shown smaller
    figure = blank(side * width + 1.2, side * height + 1.1)
    axes = figure.subplots(height, width, squeeze=False)
    image = None
    for line, row in zip(axes, rows, strict=True):
        for place, axis in enumerate(line):
            if place >= len(row):
                axis.set_axis_off()
                continue
            panel = row[place]
            (left, right), (first, last) = panel.x, panel.y
            across, down = np.shape(panel.values)[1], np.shape(panel.values)[0]
            dx, dy = (right - left) / max(1, across - 1) / 2 or 0.5, (last - first) / max(1, down - 1) / 2 or 0.5
            image = axis.imshow(
                panel.values,
                aspect="auto",
                cmap=COLOURS,
                vmin=0,
                vmax=limit,
                interpolation="nearest",
                extent=(left - dx, right + dx, last + dy, first - dy),
            )
            axis.set_title(panel.title, fontsize=8)
            axis.set_xlabel(panel.xlabel, fontsize=8)
            axis.set_ylabel(panel.ylabel, fontsize=8)
            axis.tick_params(labelsize=7)
            axis.spines[:].set_visible(False)
            if panel.names:
                axis.set_xticks(range(len(panel.names)), panel.names, rotation=90)
            else:
                axis.set_xticks(sorted({left, round((left + right) / 2), right}))
            axis.set_yticks(sorted({first, round((first + last) / 2), last}))
    inches = side * width + 1.2
    figure.suptitle("\n".join(textwrap.fill(line, int(11 * inches)) for line in title.splitlines()), fontsize=9)
    assert image is not None
    beyond = "max" if highest > limit * 1.0001 else "neither"
    figure.colorbar(image, ax=axes.ravel().tolist(), label=scale, shrink=0.8, extend=beyond)
    return figure

"""One style for every figure, and one way to write it.

Nothing that changes with the day or the machine is written: the SVG's ids are salted, dates and software names left out,
and text is drawn as outlines of matplotlib's own DejaVu Sans.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

STYLE: Any = {  # Any: matplotlib types the keys as one long Literal
    "svg.hashsalt": "lora_repro",
    "svg.fonttype": "path",
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 9,
    "figure.dpi": 100,
    "savefig.dpi": 150,
    "path.simplify": False,
}
GREY = "#666666"
SINGLE = "one seed, no spread: supports no verdict"


def blank(width: float, height: float) -> Figure:
    """An empty figure of so many inches; its canvas can measure text."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)  # becomes figure.canvas
    return figure


def write(draw: Callable[[], Figure], stem: Path) -> list[Path]:
    """Draw in the house's style, whatever the reader's matplotlibrc says, into `stem`.svg and `stem`.png; returns the paths."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE)
        figure = draw()
        stem.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(stem.with_suffix(".svg"), metadata={"Date": None, "Creator": None})
        figure.savefig(stem.with_suffix(".png"), metadata={"Software": None})
    return [stem.with_suffix(".svg"), stem.with_suffix(".png")]

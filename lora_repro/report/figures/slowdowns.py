"""Slow-downs as heat maps over batch size and length, one panel per method, on one colour scale (as the paper's Figure 5)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from lora_repro.report.figures.style import add_title_caption, blank, write
from lora_repro.report.table import signed
from lora_repro.report.views.latency import Entry, holds_zero, interval

# Blue is faster, white equal, red slower: distinguishable with any colour vision, and every cell has its number.
MAP = "RdBu_r"
ACROSS, WIDEST = 4, 12.0  # panels side by side, inches
STRONGEST = 15.0  # per cent at the ends of the scale; if it reached a prefix's 40, the paper's few per cent would be pale
SCALE = "slow-down against the plain model (%)"
READ = "median [95 % interval] over n = {} rounds; = : the interval contains 0"


def save(measured: dict[str, Any], stem: Path) -> list[Path]:
    """Draw one measurement into `stem`.svg and `stem`.png; returns the paths. Drawing it again gives the same bytes."""
    entries = [entry for entry in measured["latency"] if entry["slowdown"] is not None]
    return write(lambda: _draw(measured, entries), stem, ("slowdowns", measured)) if entries else []


def _draw(measured: dict[str, Any], entries: Sequence[Entry]) -> Figure:
    backbones = list(dict.fromkeys(entry["backbone"] for entry in entries))
    methods = list(dict.fromkeys(entry["row"] for entry in entries))
    cells = [len({entry[key] for entry in entries}) for key in ("batch", "length")]
    width, height = max(2.3, 1.0 * cells[0]), max(1.7, 0.62 * cells[1] + 0.75)
    across = max(1, min(ACROSS, len(methods), int(WIDEST // width)))
    lines = -(-len(methods) // across)
    most = max(abs(entry["slowdown"]["median"]) for entry in entries)
    reach = min(most, STRONGEST) or 1.0
    scale = Normalize(-reach, reach)
    figure = blank(width * across + 1.1, len(backbones) * (height * lines + 0.3))
    parts = figure.subfigures(len(backbones), 1, squeeze=False)[:, 0]
    for part, backbone in zip(parts, backbones, strict=True):
        own = [entry for entry in entries if entry["backbone"] == backbone]
        part.suptitle(measured["backbones"][backbone], fontsize=9)
        axes = part.subplots(lines, across, squeeze=False)
        for axis in axes.flat[len(methods) :]:
            axis.set_axis_off()
        for index, (axis, row) in enumerate(zip(axes.flat, methods, strict=False)):
            _panel(axis, [entry for entry in own if entry["row"] == row], scale)
            axis.set_ylabel("length (tokens)" if index % across == 0 else "")
            axis.set_xlabel("batch size (sequences)" if index >= len(methods) - across else "")
        beyond = "both" if most > reach else "neither"
        bar = part.colorbar(ScalarMappable(scale, MAP), ax=list(axes.flat), label=SCALE, shrink=0.9, extend=beyond)
        bar.outline.set_visible(False)
    where = f"Profile {measured['profile']}, {measured['where']['device']}, float32, random tokens"
    add_title_caption(figure, _statement(entries), f"{where}; {READ.format(measured['asked']['bench']['rounds'])}.")
    return figure


def _statement(entries: Sequence[Entry]) -> str:
    """The figure's title: the largest slow-down of merged LoRA, of any adapter and of any method, as far as measured."""

    def widest(some: Sequence[Entry]) -> str:
        one = max(some, key=lambda entry: entry["slowdown"]["median"])
        return f"{one['label']} up to {signed(one['slowdown']['median'])} %"

    chosen = [[e for e in entries if word in e["label"].lower()] for word in ("merged", "adapter", "")]
    chosen[0] = [entry for entry in chosen[0] if "not merged" not in entry["label"]]
    return f"Slow-down of a forward pass: {', '.join(dict.fromkeys(widest(some) for some in chosen if some))}"


def _panel(axis: Axes, entries: Sequence[Entry], scale: Normalize) -> None:
    """The panel of one method on one backbone; a cell that was not measured stays grey."""
    batches, lengths = (sorted({entry[key] for entry in entries}) for key in ("batch", "length"))
    grid = np.full((len(lengths), len(batches)), np.nan)
    axis.set_facecolor("#dddddd")
    for entry in entries:
        y, x, slow = lengths.index(entry["length"]), batches.index(entry["batch"]), entry["slowdown"]
        grid[y, x] = slow["median"]
        dark = abs(slow["median"]) > 0.6 * float(scale.vmax or 1)
        text = f"{signed(slow['median'])}{' =' if holds_zero(entry) else ''}\n{interval(entry)}"
        axis.text(x, y, text, ha="center", va="center", fontsize=7, color="white" if dark else "black")
    axis.imshow(grid, cmap=MAP, norm=scale, aspect="auto", origin="lower")
    axis.set_xticks(range(len(batches)), [str(batch) for batch in batches])
    axis.set_yticks(range(len(lengths)), [str(length) for length in lengths])
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)
    axis.set_title(entries[0]["label"] if entries else "")

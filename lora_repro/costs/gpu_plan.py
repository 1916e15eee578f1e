"""A plan for a card that is not at hand: GPU-hours and gigabytes per row of the table, over all its seeds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lora_repro.planning.cells import varying_axes

if TYPE_CHECKING:
    from lora_repro.costs.plan import Line

HEADER = ["row", "task", "backbone", "runs", "trained", "tokens a run", "FLOPs", "GPU-hours", "memory GB", "kept GB"]
SIDES = "<<<>>>>>>>"


def rows(made: Sequence[Line]) -> list[list[str]]:
    """A header, then one line per row, task and backbone, as text cells. Recorded runs cost nothing and are left out."""
    told = [axis for axis in varying_axes([line.cell for line in made]) if axis != "backbone"]  # it has a column of its own
    groups: dict[tuple[str, str, str], list[Line]] = {}
    for line in made:
        if line.state != "yes":
            backbone = str(line.cell.asked["backbone"]["name"])
            groups.setdefault((line.cell.titled(told), line.cell.task, backbone), []).append(line)
    return [HEADER, *([*key, *_figures(group)] for key, group in groups.items())]


def _figures(group: Sequence[Line]) -> list[str]:
    one = group[0].forecast
    mark = "" if one.lengths == "counted" else "*"
    hours = sum(line.seconds for line in group) / 3600
    memory, kept = max(line.forecast.memory for line in group), sum(line.forecast.kept for line in group)
    flops = sum(line.forecast.flops for line in group)
    numbers = (figure(hours), figure(memory / 1e9), figure(kept / 1e9))
    return [str(len(group)), f"{one.trained:,}", f"{one.tokens:,}{mark}", f"{flops:.2g}", *numbers]


def figure(value: float) -> str:
    """Two digits that mean something below ten, whole numbers above: `0.027`, `0.43`, `3.1`, `120`."""
    return f"{value:.0f}" if value >= 10 else f"{value:.1f}" if value >= 1 else f"{value:.2g}"

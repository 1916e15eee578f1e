"""A table's footnotes on its learning rates: not searched, best at an edge of the grid, or searched on shorter trainings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lora_repro.planning.cells import Cell
from lora_repro.records import rates
from lora_repro.report.columns import place_label

CHANCE = "No learning rate tried rose above a constant prediction's score on held-out rows, so the one chosen is best by noise"


def remarks(cells: Sequence[Cell]) -> list[str]:
    """The footnotes on the learning rates of the cells shown, apart from prescribed rates.

    They name the cells whose rate was not searched, whose best rate lies at an edge of the grid, whose rates all stayed at
    chance, and whose rate was searched on shorter trainings; then what each length chose where there were several.
    """
    by_setting = {rates.setting_signature(cell.asked): cell for cell in reversed(cells) if cell.guess}
    shown = list(by_setting.values())[::-1]
    searched = [(cell, search) for cell in shown if (search := cell.search)]
    lists = [
        ("Learning rate not searched but a first guess", [cell for cell in shown if cell.unsearched]),
        ("The best learning rate lies at an edge of those tried", [cell for cell, search in searched if search["edge"]]),
        (CHANCE, [cell for cell, search in searched if not search.get("learnt", True)]),
        ("Learning rate searched on shorter training runs", [cell for cell, search in searched if search["length"] < 1]),
    ]
    said = [f"{text}: {_names(wanted, shown)}." for text, wanted in lists if wanted]
    both = [f"{cell.row.label} ({place_label(cell)}): {chosen}" for cell, search in searched if (chosen := _by_length(search))]
    return said + ([f"Learning rate chosen at each training length searched: {'; '.join(both)}."] if both else [])


def _by_length(search: Mapping[str, Any]) -> str:
    """`0.006 at a third of the length, 0.002 at the full length`; empty for a setting that was searched at one length."""
    chosen = {float(one["length"]): one["chosen"] for one in search.get("searches", ())}  # per length, the one with most seeds
    if len(chosen) < 2:
        return ""
    return ", ".join(f"{rate:.3g} at {_part(length)}" for length, rate in sorted(chosen.items()))


def _part(length: float) -> str:
    """A fraction of a training's length, in words."""
    parts = {1: "the full length", 1 / 2: "half of the length", 1 / 3: "a third of the length", 1 / 4: "a quarter of the length"}
    near = min(parts, key=lambda part: abs(part - length))
    return parts[near] if abs(near - length) < 0.001 else f"{100 * length:.3g} % of the length"


def _names(wanted: Sequence[Cell], shown: Sequence[Cell]) -> str:
    """`every row`, or the labels of the wanted rows, each with its tasks and places if only some of them are wanted."""
    if len(wanted) == len(shown):
        return "every row"
    parts = []
    for label in dict.fromkeys(cell.row.label for cell in wanted):
        mine = [cell for cell in wanted if cell.row.label == label]
        everywhere = len(mine) == sum(cell.row.label == label for cell in shown)
        parts.append(label if everywhere else f"{label} ({', '.join(place_label(cell) for cell in mine)})")
    return "; ".join(parts)

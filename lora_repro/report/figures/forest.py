"""A forest plot of the claims of a profile: our value with its interval, where it must lie for the claim to hold, the source's.

Claims with one unit share a panel and its axis. A claim without a number of ours is counted below the panels.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from lora_repro.report.claims.ledger import Ledger
from lora_repro.report.claims.reading import Reading, deciding
from lora_repro.report.figures.style import GREY, add_title_caption, blank, to_mathtext, wrapped, write
from lora_repro.stats.verdict import BESIDE, CONTRADICTED, INCONCLUSIVE, REFUTED, REPLICATED, Region

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDE, LABEL, LINE, ABOVE = 8.2, 3.3, 0.17, 0.75  # inches: the figure, its labels, a line of a label, a panel's title and axis
GREEN, RED, ORANGE, BAND = "#009e73", "#b3261e", "#b26a00", "#dcefe6"
COLOURS = {REPLICATED: GREEN, REFUTED: RED, CONTRADICTED: RED}
HELD, FAILED = (REPLICATED,), (REFUTED, CONTRADICTED)
READ = (
    "Discs: ours with its 95 % interval, green where the claim is replicated, red where it is not, hollow where there is no "
    "verdict. Shaded: where the value must lie. Squares: the source's own number, where it prints one. Of several comparisons "
    "the one that decides. An arrow: the value or its interval goes on."
)
# Unit of a reading -> the panel's title and x axis, whether it is logarithmic, its range if the data do not give it.
POINTS, TIMES, OTHER = "points of the score", "times", "other units"
PANELS: dict[str, tuple[str, str, tuple[float, float] | None]] = {
    POINTS: ("Differences between scores", "points of the score", (-20.0, 20.0)),
    TIMES: ("Quotients", "times (log scale)", None),
    "φ": ("Overlap of directions", "φ, or its difference from chance", None),
    "%": ("Slow-down of a forward pass", "%", None),
    OTHER: ("Other units", "as named", None),
}


@dataclass(frozen=True)
class Row:
    """One claim: its statement, the reading that decides it, where that must lie, the source's number, its verdict."""

    label: str
    reading: Reading
    region: Region
    printed: float | None
    verdict: str

    @property
    def panel(self) -> str:
        unit = self.reading.unit
        if self.region.unit or unit == "points":
            return POINTS
        if unit in PANELS:
            return unit
        return OTHER if unit.startswith(("of ", "nats", "% of")) else TIMES


def rows(ledger: Ledger, profile: str) -> list[Row]:
    """The claims of which the profile has a number and a region, in the ledger's order."""
    claims = []
    for claim, outcomes in ledger.entries:
        outcome = outcomes[profile]
        readings = [reading for reading in outcome.readings if reading.verdict != BESIDE]
        reading = deciding(outcome.verdict, readings) if readings else None
        if reading is not None and reading.value is not None and reading.region is not None:
            unit = f" ({reading.unit})" if reading.unit.startswith(("of ", "nats", "% of")) else ""
            source_value = claim.printed if reading is readings[0] else None
            claims.append(Row(claim.statement.rstrip(".") + unit, reading, reading.region, source_value, outcome.verdict))
    return claims


def statement(ledger: Ledger, profile: str) -> str:
    """The figure's title: how many claims hold, fail and are open."""
    counts = Counter(outcomes[profile].verdict for _, outcomes in ledger.entries)
    passes, failures = (sum(counts[verdict] for verdict in kind) for kind in (HELD, FAILED))
    rest = sum(counts.values()) - passes - failures - counts[INCONCLUSIVE]
    return (
        f"Of {sum(counts.values())} claims {passes} hold at {profile}, {failures} fail, {counts[INCONCLUSIVE]} are open; {rest} "
        "follow from arithmetic or tests, or were not run"
    )


def save(ledger: Ledger, profile: str, stem: Path) -> list[Path]:
    """Draw `stem`.svg and .png; returns their paths, none if no claim of the profile has a number."""
    claims = rows(ledger, profile)
    if not claims:
        return []
    absent = len(ledger.entries) - len(claims)
    caption = f"{ledger.scales[profile]}. {READ} {absent} claims have no number here and are not drawn."
    title = statement(ledger, profile)
    return write(_figure, stem, claims, title, caption)


def _figure(claims: Sequence[Row], title: str, caption: str) -> Figure:
    groups = [(name, rows) for name in PANELS if (rows := [row for row in claims if row.panel == name])]
    labels = {name: [to_mathtext(wrapped(row.label, LABEL - 0.1, size=7.5)) for row in rows] for name, rows in groups}
    heights = [ABOVE + sum(_lines(label) * LINE + 0.06 for label in labels[name]) for name, _ in groups]
    figure = blank(WIDE, sum(heights))
    cast(Any, figure.get_layout_engine()).set(w_pad=0.3)  # text is up to a tenth wider in an SVG than it was measured
    axes = figure.subplots(len(groups), 1, squeeze=False, gridspec_kw={"height_ratios": heights})[:, 0]
    for axis, (name, rows) in zip(axes, groups, strict=True):
        _panel(axis, name, rows, labels[name])
    add_title_caption(figure, title, caption)
    return figure


def _lines(label: str) -> int:
    return label.count("\n") + 1


def _panel(axis: Axes, name: str, rows: Sequence[Row], labels: Sequence[str]) -> None:
    title, unit, span = PANELS[name]
    axis.set_title(title, fontsize=9, loc="left", fontweight="bold")
    axis.set_xlabel(unit, fontsize=8)
    if name == TIMES:
        axis.set_xscale("log")
    low, high = span or _range(rows, name == TIMES)
    axis.set_xlim(low, high)
    places, top = [], 0.0
    for label in labels:
        tall = _lines(label) * LINE + 0.06
        places.append((top + tall / 2, tall))
        top += tall
    axis.set_ylim(top, 0)
    axis.set_yticks([place for place, _ in places], labels, fontsize=7.5)
    axis.tick_params(axis="y", length=0)
    axis.tick_params(axis="x", labelsize=8)
    axis.spines["left"].set_visible(False)
    axis.axvline(1 if name == TIMES else 0, color="#999999", linewidth=0.8, zorder=1)
    if name == TIMES:
        ticks = [tick for tick in (0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 20) if low <= tick <= high]
        axis.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axis.set_xticks([], minor=True)
    for (place, tall), row in zip(places, rows, strict=True):
        _draw(axis, row, place, tall, low, high)


def _range(rows: Sequence[Row], log: bool) -> tuple[float, float]:
    """From the least to the largest of everything drawn, with a margin."""
    ends = [end for row in rows for end in (row.reading.value, row.reading.low, row.reading.high, row.printed, row.region.floor,
                                            row.region.ceiling) if end is not None and math.isfinite(end)]  # fmt: skip
    if log:
        ends = [end for end in ends if end > 0]
        return max(min(*ends, 1.0) / 1.3, 0.04), max(*ends, 1.0) * 1.3
    room = 0.06 * (max(*ends, 0.0) - min(*ends, 0.0)) or 1.0
    return min(*ends, 0.0) - room, max(*ends, 0.0) + room


def _draw(axis: Axes, row: Row, place: float, tall: float, low: float, high: float) -> None:
    left, right = (min(max(end, low), high) for end in (row.region.floor, row.region.ceiling))
    axis.barh(place, right - left, tall * 0.86, left, color=BAND, zorder=0)
    colour = COLOURS.get(row.verdict, ORANGE)
    look: dict[str, Any] = {"color": colour, "zorder": 3, "clip_on": False}
    value = min(max(row.reading.value or 0.0, low), high)
    ends = [value if end is None else end for end in (row.reading.low, row.reading.high)]
    axis.plot([min(max(end, low), high) for end in ends], [place, place], linewidth=1.4, **look)
    for end, limit, mark in ((ends[0], low, "<"), (ends[1], high, ">")):
        if (end < limit) if mark == "<" else (end > limit):
            axis.plot(limit, place, marker=mark, markersize=5, **look)
    fill = colour if row.verdict in COLOURS else "white"
    axis.plot(value, place, marker="o", markersize=6, markerfacecolor=fill, markeredgewidth=1.3, **look)
    if row.printed is not None:
        source_value = min(max(row.printed, low), high)
        square: dict[str, Any] = {"color": GREY, "markerfacecolor": "none", "markeredgewidth": 1.2, "clip_on": False}
        axis.plot(source_value, place, marker="s", markersize=8, zorder=4, **square)

"""A table as HTML. A cell that is markup stays as it is, other text is escaped; columns sort by the numbers of their cells.

Below a mean of few seeds each seed is a dot, below a difference its interval is a line: all cells of a column have one scale.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from markupsafe import Markup, escape

from lora_repro.report.table import EMPTY, Number

if TYPE_CHECKING:
    from lora_repro.report.table import Table

MISSING = ("", EMPTY)
FEW = 12  # the most seeds that are shown as dots
WIDTH, HEIGHT, RADIUS = 40, 8, 2.0  # of a strip and its dots, in CSS pixels
FRAME = Markup(
    '<div class="scroll" role="region" tabindex="0" aria-labelledby="{id}">\n<table class="sortable">\n'
    '<caption><span id="{id}">{caption}</span></caption>\n<thead><tr>{header}</tr></thead>\n<tbody>\n{rows}</tbody>\n'
    "</table>\n</div>\n"
)
STRIP = (
    '<svg class="strip" role="img" aria-label="{label}" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
    'fill="currentColor" stroke="currentColor">{marks}</svg>'
)
DOT = '<circle cx="{:.1f}" cy="{}" r="{}" stroke="none"/>'
LINE = '<path d="M{:.1f} {}H{:.1f}"/>'
EQUAL = '<path class="equal" d="M{:.1f} 0V{}"/>'


class Theirs(str):
    """The title of a column with others' values beside ours. of: the title of that column of ours."""

    of: str

    def __new__(cls, title: str, of: str) -> Theirs:
        made = super().__new__(cls, title)
        made.of = of
        return made


def code(text: object) -> Markup:
    """`text`, escaped, in a code element."""
    return Markup("<code>{}</code>").format(text)


def html(table: Table, id: str = "table") -> Markup:
    """The table below its title (the first fact), whose element has this `id`."""
    rows = [list(row) for row in table.rows]
    again = [False] * len(rows)
    for i, row in enumerate(rows[1:], start=1):
        # The table has a label on the first of its lines only; sorted, or on a narrow screen, every line needs it.
        if not row[0]:
            row[0], again[i] = rows[i - 1][0], True
    columns = [strips([row[i] for row in rows]) for i in range(len(table.header))]
    body = []
    for i, row in enumerate(rows):
        first = _cell("th", row[0], columns[0][i], ' scope="row"', {"n": table.sides[0] == "r", "again": again[i]})
        rest = [
            # On a screen narrower than the table each value is shown on a line with its column's name, from `data-of`.
            _cell("td", cell, columns[j][i], f' data-of="{escape(title)}"', {"n": side == "r"})
            for j, (title, side, cell) in enumerate(zip(table.header[1:], table.sides[1:], row[1:], strict=True), start=1)
        ]
        body.append(f"<tr>{first}{''.join(rest)}</tr>\n")
    header = Markup().join(map(_title, table.header, table.sides))
    return FRAME.format(id=id, caption=table.facts[0] or "Table", header=header, rows=Markup("".join(body)))


def _cell(tag: str, cell: str, strip: str, about: str, facts: dict[str, bool]) -> str:
    """The element of a cell. strip, about: HTML. facts: its classes, and whether it has them."""
    number = cell if isinstance(cell, Number) else None
    facts = facts | {"long": number is not None and number.low is not None, "none": cell in MISSING}
    names = [name for name, is_so in facts.items() if is_so]
    named = f' class="{" ".join(names)}"' if names else ""
    sorted_by = "" if number is None else f' data-n="{number.value:.10g}"'
    shown = escape(cell).replace("] =", "]\u00a0=").replace("Δ ", "Δ\u00a0")
    said = escape(number.badge) if number else ""
    badge = f' <span class="badge {said.replace(" ", "-")}">{said}</span>' if said else ""
    return f"<{tag}{about}{named}{sorted_by}>{shown}{badge}{strip}</{tag}>"


def _title(title: str, side: str) -> Markup:
    """A column's head. What reads a table aloud says whose column one of others' values stands beside."""
    whose = Markup(' aria-label="{}, {}"').format(title.of, title) if isinstance(title, Theirs) else Markup()
    right = Markup(' class="n"') if side == "r" else Markup()
    shown = escape(title)
    for sign in "↑↓%":
        shown = shown.replace(f" {sign}", f"\u00a0{sign}")
    return Markup('<th scope="col"{}{}>{}</th>').format(right, whose, shown)


def strips(cells: Sequence[str]) -> list[str]:
    """For each cell of a column the picture of its seeds or its interval, as HTML; empty for a cell that has neither."""
    numbers = [cell if isinstance(cell, Number) and (_dotted(cell) or cell.low is not None) else None for cell in cells]
    ends = [value for one in numbers if one for value in (*one.seeds, one.low, one.high, one.equal) if value is not None]
    low, high = min(ends, default=0.0), max(ends, default=0.0)

    def place(value: float) -> float:
        inside = (value - low) / (high - low) if high > low else 0.5
        return RADIUS + inside * (WIDTH - 2 * RADIUS)

    def strip(one: Number) -> str:
        middle = HEIGHT // 2
        if _dotted(one):
            label = f"{len(one.seeds)} values: {', '.join(map(_said, one.seeds))}"
            marks = [DOT.format(place(value), middle, RADIUS) for value in one.seeds]
        else:
            ends = [value for value in (one.low, one.high) if value is not None]
            label = f"{_said(one.value)}, interval {' to '.join(map(_said, ends))}"
            equal = [] if one.equal is None else [EQUAL.format(place(one.equal), HEIGHT)]
            line = LINE.format(place(ends[0]), middle, place(ends[-1]))
            marks = [*equal, line, DOT.format(place(one.value), middle, RADIUS)]
        return STRIP.format(label=label, width=WIDTH, height=HEIGHT, marks="".join(marks))

    return [strip(one) if one else "" for one in numbers]


def _dotted(number: Number) -> bool:
    return 1 < len(number.seeds) <= FEW


def _said(value: float) -> str:
    return f"{value:.4g}".replace("-", "−")

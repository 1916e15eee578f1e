"""A table as HTML. A cell that is markup stays as it is, other text is escaped; columns sort by the numbers of their cells.

Below a mean of few seeds each seed is a dot, below a difference its interval is a line: all cells of a column have one scale. In
a table of several sources ours and the paper's values stand side by side, without what says nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from markupsafe import Markup, escape

from lora_repro.report.table import EMPTY, Count, Number, Origin, Remark, Source, Table
from lora_repro.results import PUBLISHED

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
PAPER = "paper"  # the title of a column of quoted values
Row = tuple[str, ...]


class Theirs(str):
    """The title of a column with others' values beside ours. of: the title of that column of ours."""

    of: str

    def __new__(cls, title: str, of: str) -> Theirs:
        heading = super().__new__(cls, title)
        heading.of = of
        return heading


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
            # On a screen narrower than the table the paper's value is shown below ours, from `data-theirs`; on a still narrower
            # one each value on a line with its column's name, from `data-of`.
            _cell("td", cell, columns[j][i], f' data-of="{escape(title)}"{_paired(table.header, row, j)}',
                  {"n": side == "r", "theirs": _is_paired(table.header, j)})
            for j, (title, side, cell) in enumerate(zip(table.header[1:], table.sides[1:], row[1:], strict=True), start=1)
        ]  # fmt: skip
        body.append(f"<tr>{first}{''.join(rest)}</tr>\n")
    header = Markup().join(
        _title(title, {"n": side == "r", "theirs": _is_paired(table.header, i)})
        for i, (title, side) in enumerate(zip(table.header, table.sides, strict=True))
    )
    return FRAME.format(id=id, caption=table.facts[0] or "Table", header=header, rows=Markup("".join(body)))


def _is_paired(header: Sequence[str], i: int) -> bool:
    """Whether column `i` has others' values of the column before it."""
    title = header[i]
    return isinstance(title, Theirs) and title.of == header[i - 1]


def _paired(header: Sequence[str], row: Sequence[str], i: int) -> str:
    """The attribute with others' value beside the cell in column `i`, as HTML; empty if there is none."""
    has = i + 1 < len(row) and _is_paired(header, i + 1) and row[i + 1] not in MISSING
    return f' data-theirs="{escape(row[i + 1])}"' if has else ""


def _classes(facts: dict[str, bool]) -> str:
    """The attribute with the names of `facts` that are so, as HTML."""
    names = [name for name, is_so in facts.items() if is_so]
    return f' class="{" ".join(names)}"' if names else ""


def _cell(tag: str, cell: str, strip: str, about: str, facts: dict[str, bool]) -> str:
    """The element of a cell. strip, about: HTML. facts: its classes, and whether it has them."""
    number = cell if isinstance(cell, Number) else None
    classes = _classes(facts | {"long": number is not None and number.low is not None, "none": cell in MISSING})
    sorted_by = "" if number is None else f' data-n="{number.value:.10g}"'
    text = escape(cell).replace("] =", "]\u00a0=").replace("Δ ", "Δ\u00a0")
    label = escape(number.badge) if number else ""
    badge = f' <span class="badge {label.replace(" ", "-")}">{label}</span>' if label else ""
    return f"<{tag}{about}{classes}{sorted_by}>{text}{badge}{strip}</{tag}>"


def _title(title: str, facts: dict[str, bool]) -> Markup:
    """A column's head. What reads a table aloud says whose column one of others' values stands beside."""
    whose = Markup(' aria-label="{}, {}"').format(title.of, title) if isinstance(title, Theirs) else Markup()
    text = escape(title)
    for sign in "↑↓%":
        text = text.replace(f" {sign}", f"\u00a0{sign}")
    return Markup('<th scope="col"{}{}>{}</th>').format(Markup(_classes(facts)), whose, text)


def strips(cells: Sequence[str]) -> list[str]:
    """For each cell of a column the picture of its seeds or its interval, as HTML; empty for a cell that has neither."""
    numbers = [cell if isinstance(cell, Number) and (_dotted(cell) or cell.low is not None) else None for cell in cells]
    values = [value for number in numbers if number for value in (*number.seeds, number.low, number.high, number.equal)]
    ends = [value for value in values if value is not None]
    low, high = min(ends, default=0.0), max(ends, default=0.0)

    def place(value: float) -> float:
        inside = (value - low) / (high - low) if high > low else 0.5
        return RADIUS + inside * (WIDTH - 2 * RADIUS)

    def strip(number: Number) -> str:
        middle = HEIGHT // 2
        if _dotted(number):
            label = f"{len(number.seeds)} values: {', '.join(map(_said, number.seeds))}"
            marks = [DOT.format(place(value), middle, RADIUS) for value in number.seeds]
        else:
            ends = [value for value in (number.low, number.high) if value is not None]
            label = f"{_said(number.value)}, interval {' to '.join(map(_said, ends))}"
            equal = [] if number.equal is None else [EQUAL.format(place(number.equal), HEIGHT)]
            line = LINE.format(place(ends[0]), middle, place(ends[-1]))
            marks = [*equal, line, DOT.format(place(number.value), middle, RADIUS)]
        return STRIP.format(label=label, width=WIDTH, height=HEIGHT, marks="".join(marks))

    return [strip(number) if number else "" for number in numbers]


def _dotted(number: Number) -> bool:
    return 1 < len(number.seeds) <= FEW


def _said(value: float) -> str:
    return f"{value:.4g}".replace("-", "−")


@dataclass(frozen=True)
class Line:
    """A line of the page: a row of ours, what is quoted beside it, or both."""

    label: str
    ours: Row | None
    quoted: Row | None


def unrun(table: Table) -> bool:
    """Whether a table that compares sources has no value of ours."""
    ours = [row for row in table.rows if _source(row).origin is Origin.OURS]
    return _place(table) is not None and not any(map(_measured, ours))


def beside(table: Table) -> tuple[Table, list[str]]:
    """A table with sources as the page shows it, and the labels of the rows that were not run; any other table as it is.

    A row of ours and the paper's have one line, with a column for each where both have values; what else is quoted keeps a line.
    What is said of a line, and which source the paper's values are from, is small below its label. A row that was not run has no
    line unless something is quoted of it. Columns that say nothing are left out.
    """
    if _place(table) is None:
        return table, []
    lines, missing_rows = _lines(table)
    header, sides, columns = [table.header[0]], table.sides[:1], [[_label(line) for line in lines]]
    for i in range(1, len(table.header)):
        cells = [row[i] for row in table.rows]
        if any(isinstance(cell, Source | Remark) for cell in cells):
            continue
        ours = ["" if line.ours is None else line.ours[i] for line in lines]
        theirs = ["" if line.quoted is None else line.quoted[i] for line in lines]
        kept = any(cell not in (*MISSING, "0") for cell in ours)
        if kept:
            header.append(table.header[i])
            columns.append(ours)
            sides += table.sides[i]
        if not any(isinstance(cell, Count) for cell in cells) and any(cell not in MISSING for cell in theirs):
            header.append(Theirs(PAPER, table.header[i]) if kept else f"{table.header[i]}, {PAPER}")
            columns.append(theirs)
            sides += table.sides[i]
    return replace(table, header=tuple(header), sides=sides, rows=tuple(zip(*columns, strict=True))), missing_rows


def _lines(table: Table) -> tuple[list[Line], list[str]]:
    """The lines of the page, and the labels of the rows that were not run."""
    groups: dict[str, list[Row]] = {}
    label = ""
    for row in table.rows:
        label = row[0] or label
        groups.setdefault(label, []).append(row)
    lines: list[Line] = []
    missing_rows = []
    for label, rows in groups.items():
        ours = [row for row in rows if _source(row).origin is Origin.OURS and _measured(row)]
        quotes = [row for row in rows if _source(row).origin is not Origin.OURS]
        if len(ours) + len(quotes) < len(rows):
            missing_rows.append(label)
        papers = [row for row in quotes if _source(row).origin is Origin.PAPER]
        pairs: list[tuple[Row | None, Row | None]] = [(row, None) for row in ours]
        if len(ours) == 1 and papers:
            pairs = [(ours[0], papers[0])]
        pairs += [(None, row) for row in quotes if (ours[0] if ours else None, row) not in pairs]
        lines += [Line(label, *pair) for pair in pairs]
    return lines, missing_rows


def _label(line: Line) -> str:
    """The label, and small below it what is said of the line and whose the values beside ours are."""
    notes = []
    for row in filter(None, (line.ours, line.quoted)):
        source, remarks = _source(row), [cell for cell in row if isinstance(cell, Remark) and cell]
        counts = [f"n = {cell}" for cell in row if isinstance(cell, Count)] if source.origin is not Origin.OURS else []
        name = [] if source == PUBLISHED else [", ".join([source, *counts])]
        notes.append(": ".join([*name, *remarks]))
    small = [Markup("<small>{}</small>").format(text) for text in notes if text]
    return Markup("{}{}").format(line.label, Markup().join(small)) if small else line.label


def _source(row: Row) -> Source:
    return next((cell for cell in row if isinstance(cell, Source)), Source(""))


def _place(table: Table) -> int | None:
    """The column that says whose values a line has; None if there is none."""
    return next((i for row in table.rows for i, cell in enumerate(row) if isinstance(cell, Source)), None)


def _measured(row: Row) -> bool:
    return any(isinstance(cell, Number) for cell in row)

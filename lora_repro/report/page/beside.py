"""A table of several sources as the page shows it: ours and the paper's values side by side, without what says nothing."""

from __future__ import annotations

from dataclasses import dataclass, replace

from markupsafe import Markup

from lora_repro.report.html import MISSING, Theirs
from lora_repro.report.table import Count, Number, Origin, Remark, Source, Table
from lora_repro.results import PUBLISHED

PAPER = "paper"  # the title of a column of quoted values
Row = tuple[str, ...]


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
    lines, gone = _lines(table)
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
    return replace(table, header=tuple(header), sides=sides, rows=tuple(zip(*columns, strict=True))), gone


def _lines(table: Table) -> tuple[list[Line], list[str]]:
    """The lines of the page, and the labels of the rows that were not run."""
    groups: dict[str, list[Row]] = {}
    label = ""
    for row in table.rows:
        label = row[0] or label
        groups.setdefault(label, []).append(row)
    lines: list[Line] = []
    gone = []
    for label, rows in groups.items():
        ours = [row for row in rows if _source(row).origin is Origin.OURS and _measured(row)]
        quoted = [row for row in rows if _source(row).origin is not Origin.OURS]
        if len(ours) + len(quoted) < len(rows):
            gone.append(label)
        papers = [row for row in quoted if _source(row).origin is Origin.PAPER]
        pairs: list[tuple[Row | None, Row | None]] = [(row, None) for row in ours]
        if len(ours) == 1 and papers:
            pairs = [(ours[0], papers[0])]
        pairs += [(None, row) for row in quoted if (ours[0] if ours else None, row) not in pairs]
        lines += [Line(label, *pair) for pair in pairs]
    return lines, gone


def _label(line: Line) -> str:
    """The label, and small below it what is said of the line and whose the values beside ours are."""
    said = []
    for row in filter(None, (line.ours, line.quoted)):
        source, remarks = _source(row), [cell for cell in row if isinstance(cell, Remark) and cell]
        counts = [f"n = {cell}" for cell in row if isinstance(cell, Count)] if source.origin is not Origin.OURS else []
        name = [] if source == PUBLISHED else [", ".join([source, *counts])]
        said.append(": ".join([*name, *remarks]))
    small = [Markup("<small>{}</small>").format(text) for text in said if text]
    return Markup("{}{}").format(line.label, Markup().join(small)) if small else line.label


def _source(row: Row) -> Source:
    return next((cell for cell in row if isinstance(cell, Source)), Source(""))


def _place(table: Table) -> int | None:
    """The column that says whose values a line has; None if there is none."""
    return next((i for row in table.rows for i, cell in enumerate(row) if isinstance(cell, Source)), None)


def _measured(row: Row) -> bool:
    return any(isinstance(cell, Number) for cell in row)

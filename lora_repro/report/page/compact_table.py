"""A table as the page shows it, without lines and columns that say nothing, which leaves room for the scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from markupsafe import Markup, escape

from lora_repro.report.html import MISSING
from lora_repro.report.table import Table
from lora_repro.results import PUBLISHED

SOURCE, NOTES, OURS = "Source", "Notes", "ours"
ABOUT = ("Method", SOURCE, "n", NOTES)  # columns that hold no measurement


def unrun(table: Table) -> bool:
    """Whether a table that compares sources has no value of ours."""
    return SOURCE in table.header and not any(_measured(table, row) for row in _ours(table))


def _ours(table: Table) -> list[Sequence[str]]:
    place = table.header.index(SOURCE)
    return [row for row in table.rows if _words(row[place]) == PUBLISHED]


def _measured(table: Table, row: Sequence[str]) -> bool:
    return any(_words(cell) not in MISSING for title, cell in zip(table.header, row, strict=True) if _words(title) not in ABOUT)


def _words(cell: str) -> str:
    return cell.striptags() if isinstance(cell, Markup) else cell


def folded(table: Table) -> Table:
    """A table with sources as the page shows it; any other table as it is.

    `published` is renamed ours, and has no line for rows that were not run: a footnote lists these. The paper's values are small
    below ours, in one line where both have the row; what else is quoted keeps a line. Notes are below the source. Columns that
    say nothing are left out.
    """
    if SOURCE not in table.header:
        return table
    place = table.header.index(SOURCE)
    groups: dict[str, list[list[str]]] = {}
    label = ""
    for row in table.rows:
        label = row[0] or label
        groups.setdefault(label, []).append([label, *row[1:]])
    rows: list[list[str]] = []
    gone: list[str] = []
    for label, lines in groups.items():
        ours = [line for line in lines if _words(line[place]) == PUBLISHED and _measured(table, line)]
        if len(ours) < sum(_words(line[place]) == PUBLISHED for line in lines):
            gone.append(_words(label))
        quoted = [line for line in lines if _words(line[place]) != PUBLISHED]
        paper = next((line for line in quoted if _words(line[place]).startswith("paper")), None)
        if len(ours) == 1 and paper:
            ours, quoted = [_beside(table, ours[0], paper, place)], [line for line in quoted if line is not paper]
        rows += [["" if i else label, *line[1:]] for i, line in enumerate([*ours, *quoted])]
    rows = [_noted(table, row, place) for row in rows]
    kept = [i for i, title in enumerate(table.header) if _kept(title, [row[i] for row in rows])]
    notes = [f"Not run here: {', '.join(dict.fromkeys(gone))}."] if gone else []
    return replace(
        table,
        header=tuple(table.header[i] for i in kept),
        sides="".join(table.sides[i] for i in kept),
        rows=tuple(tuple(row[i] for i in kept) for row in rows),
        footnotes=(*table.footnotes, *notes),
    )


def _beside(table: Table, ours: Sequence[str], paper: Sequence[str], place: int) -> list[str]:
    """Our line with the paper's values small in its cells; the paper's notes go to its source."""
    line = []
    for i, (mine, theirs) in enumerate(zip(ours, paper, strict=True)):
        small = theirs if i == place or (i and table.header[i] != NOTES and _words(theirs) not in MISSING) else ""
        if i == place and NOTES in table.header and _words(note := paper[table.header.index(NOTES)]) not in MISSING:
            small = escape(theirs) + ": " + escape(note)
        own = OURS if i == place else mine
        line.append(Markup("{}<small>{}</small>").format(own, small) if small else own)
    return line


def _noted(table: Table, row: list[str], place: int) -> list[str]:
    source = escape(OURS if _words(row[place]) == PUBLISHED else row[place])  # with the paper's below it, it says ours already
    note = row[table.header.index(NOTES)] if NOTES in table.header else ""
    small = Markup("<small>{}</small>").format(note) if _words(note) not in MISSING else ""
    return [*row[:place], source + small, *row[place + 1 :]]


def _kept(title: str, cells: Sequence[str]) -> bool:
    return _words(title) != NOTES and any(_words(cell) not in (*MISSING, "0") for cell in cells)

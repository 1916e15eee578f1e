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
    column = table.header.index(SOURCE)
    return [row for row in table.rows if _words(row[column]) == PUBLISHED]


def _measured(table: Table, row: Sequence[str]) -> bool:
    return any(_words(cell) not in MISSING for title, cell in zip(table.header, row, strict=True) if _words(title) not in ABOUT)


def _words(cell: str) -> str:
    return cell.striptags() if isinstance(cell, Markup) else cell


def folded(table: Table) -> Table:
    """A table with sources as the page shows it; any other table as it is.

    `published` is renamed ours, and has no line for rows that were not run: a footnote lists these. Notes are below the source.
    Columns that say nothing are left out.
    """
    if SOURCE not in table.header:
        return table
    column = table.header.index(SOURCE)
    rows: list[list[str]] = []
    gone: list[str] = []
    label = above = ""
    for row in table.rows:
        label = row[0] or label
        if _words(row[column]) == PUBLISHED and not _measured(table, row):
            gone.append(_words(label))
            continue
        rows.append(["" if above == label else label, *row[1:]])
        above = label
    rows = [_noted(table, row, column) for row in rows]
    kept = [i for i, title in enumerate(table.header) if _kept(title, [row[i] for row in rows])]
    notes = [f"Not run here: {', '.join(dict.fromkeys(gone))}."] if gone else []
    return replace(
        table,
        header=tuple(table.header[i] for i in kept),
        sides="".join(table.sides[i] for i in kept),
        rows=tuple(tuple(row[i] for i in kept) for row in rows),
        footnotes=(*table.footnotes, *notes),
    )


def _noted(table: Table, row: list[str], column: int) -> list[str]:
    source = escape(OURS if _words(row[column]) == PUBLISHED else row[column])
    note = row[table.header.index(NOTES)] if NOTES in table.header else ""
    small = Markup("<small>{}</small>").format(note) if _words(note) not in MISSING else ""
    return [*row[:column], source + small, *row[column + 1 :]]


def _kept(title: str, cells: Sequence[str]) -> bool:
    return _words(title) != NOTES and any(_words(cell) not in (*MISSING, "0") for cell in cells)

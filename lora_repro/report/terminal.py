"""Tables on a terminal, no wider than it is."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Sequence

from lora_repro.report.table import EMPTY, Reproduce, Table

WIDTH = 80  # of a pipe or a file, unless COLUMNS says otherwise
PROSE = 120  # most characters in a line of text
GAP = "  "
INTERVAL = "[95 %]"  # how the title of a column of differences ends
Lines = list[list[str]]


def terminal(tables: Sequence[Table], full_table: str = "", width: int | None = None) -> str:
    """Aligned columns no wider than `width` (default: the terminal; `WIDTH` in a pipe), with the text wrapped.

    A table that does not fit is narrowed in this order:

    1. the first two columns become one, with a label above its sources;
    2. the `minor` columns are left out, and a line names them and the file `full_table` that has them;
    3. the remaining columns continue below, without the lines that have no value there.
    """
    width = width or shutil.get_terminal_size((WIDTH, 24)).columns
    return "\n\n".join(_one(table, full_table, width) for table in tables) + "\n"


def paragraph(text: str) -> str:
    """`text` wrapped to the terminal, or to `WIDTH` in a pipe."""
    return textwrap.fill(text, min(shutil.get_terminal_size((WIDTH, 24)).columns, PROSE), subsequent_indent="  ")


def _one(table: Table, full_table: str, width: int) -> str:
    prose = min(width, PROSE)
    sentences = [fact for fact in table.facts if not isinstance(fact, Reproduce)]
    above = [textwrap.fill(". ".join(sentences) + ".", prose)]
    above += [fact for fact in table.facts if isinstance(fact, Reproduce)]  # a command is not wrapped
    lines: Lines = [list(table.header), *map(list, table.rows)]
    sides, keys, omissions = table.sides, table.keys, []
    if _width(lines) > width and sides.startswith("ll") and any(not row[0] for row in table.rows):
        lines, sides, keys = _nested(lines), sides[1:], 1
    for title in table.minor:
        if _width(lines) > width and title in lines[0]:
            start = lines[0].index(title)
            lines, sides = [row[:start] + row[start + 1 :] for row in lines], sides[:start] + sides[start + 1 :]
            omissions.append(title)
    panels = _panels(lines, sides, keys, width)
    below = [textwrap.fill(note, prose) for note in table.footnotes]
    if omissions:
        full_width = _width([list(table.header), *map(list, table.rows)])
        hint = f"the whole table: {full_table}" if full_table else f"COLUMNS={full_width} shows it"
        below.insert(0, textwrap.fill(f"Left out at {width} columns: {', '.join(omissions)}; {hint}", prose))
    return "\n".join([*above, "", "\n\n".join(panels), "", *below])


def first_panel(table: Table, width: int, least: Sequence[int] = ()) -> tuple[list[str], list[str], list[int]]:
    """(header, rows, widths of the columns) of as many of a table's columns as fit `width`: a label above its sources, then
    values. Differences and `minor` columns are left out. least: the columns' widths in an earlier part of the same table.
    """
    lines: Lines = [list(table.header), *map(list, table.rows)]
    columns = [i for i, title in enumerate(table.header) if title not in table.minor and not title.endswith(INTERVAL)]
    lines = _nested([[row[i] for i in columns] for row in lines])
    sides = "".join(table.sides[i] for i in columns)[1:]
    widths = _widths(lines)
    widths = [max(pair) for pair in zip(widths, least or widths, strict=True)]
    panel = [0]
    while len(panel) < len(widths) and sum(widths[: len(panel) + 1]) + len(GAP) * len(panel) <= width:
        panel.append(len(panel))
    header, rule, *rows = _aligned(lines, sides, widths, panel).split("\n")
    return [header, rule], rows, widths


def _nested(lines: Lines) -> Lines:
    """The lines with the first column's label on a line of its own and the second column's text indented below it."""
    rows = [[f"{lines[0][0]} / {lines[0][1].lower()}", *lines[0][2:]]]
    for first, second, *rest in lines[1:]:
        if first:
            rows.append([first, *[""] * len(rest)])
        rows.append([f"  {second}", *rest])
    return rows


def _panels(lines: Lines, sides: str, keys: int, width: int) -> list[str]:
    """The columns that fit, then the others in panels below; every panel begins with the first `keys` columns."""
    widths = _widths(lines)
    first = sum(widths[:keys]) + len(GAP) * keys
    panels, columns, total = [], list(range(keys)), first
    for column in range(keys, len(widths)):
        if len(columns) > keys and total + widths[column] > width:
            panels.append(columns)
            columns, total = list(range(keys)), first
        columns.append(column)
        total += widths[column] + len(GAP)
    panels.append(columns)
    shown = [lines, *(_with_values(lines, columns) if keys == 1 else lines for columns in panels[1:])]
    return [_aligned(rows, sides, widths, columns) for rows, columns in zip(shown, panels, strict=True)]


def _with_values(lines: Lines, columns: Sequence[int]) -> Lines:
    """The header and the lines that have a value in one of `columns` after the first, each under its label; all if none has."""
    rows, label = [lines[0]], []
    for row in lines[1:]:
        if not any(row[1:]):
            label = [row]
        elif any(row[column] not in ("", EMPTY) for column in columns[1:]):
            rows += [*label, row]
            label = []
    return rows if len(rows) > 1 else lines


def _aligned(lines: Lines, sides: str, widths: Sequence[int], columns: Sequence[int]) -> str:
    def cell(text: str, i: int) -> str:
        return text.rjust(widths[i]) if sides[i] == "r" else text.ljust(widths[i])

    texts = [GAP.join(cell(row[i], i) for i in columns).rstrip() for row in lines]
    return "\n".join([texts[0], "-" * max(map(len, texts)), *texts[1:]])


def _widths(lines: Lines) -> list[int]:
    """The width of each column in characters. A label alone on its line does not count: it may run over the empty cells."""
    full = [row for row in lines if any(row[1:])] or lines
    return [max(len(row[column]) for row in full) for column in range(len(lines[0]))]


def _width(lines: Lines) -> int:
    return sum(_widths(lines)) + len(GAP) * (len(lines[0]) - 1)

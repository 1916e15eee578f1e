"""Lines of a table as terminal text, Markdown and CSV (LaTeX: latex.py), `—` for no value."""

import csv
import io
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from lora_repro.tables.report import Cell, Difference, Line, Metric

EMPTY, SINGLE = "—", "†"
WIDTH = 120  # of the prose around a terminal table
ARROW = {1: "↑", -1: "↓"}


@dataclass(frozen=True)
class Table:
    """One backbone's lines, caption and footnotes; `compared` minus `reference` is the difference column.

    facts: the caption's sentences, experiment and profile, backbone, data, n, then how, last the command.
    """

    profile: str
    backbone: str
    facts: tuple[str, ...]
    lines: tuple[Line, ...]
    footnotes: tuple[str, ...]
    metrics: tuple[Metric, ...]
    compared: Metric
    reference: str
    differences: bool = False  # show every column's difference from the reference instead of the scores
    second: str = ""  # key of the metric that the columns show, where it is not the tasks' own score

    @property
    def caption(self) -> str:
        return ". ".join(self.facts)


def cell_text(cell: Cell | None, digits: int) -> str:
    """`mean ± sd`; `mean†` for a single seed; `mean` where the source states no spread; `—` for no value."""
    if cell is None:
        return EMPTY
    spread = "" if cell.sd is None else f" ± {cell.sd:.{digits}f}"
    mean = f"{cell.mean:.{digits}f}".replace("-", "−")
    return f"{mean}{spread}{SINGLE if cell.n == 1 else ''}"


def header(table: Table) -> list[str]:
    """Column titles; arrows say which direction is better."""
    scores = [f"{metric.label} {ARROW[metric.direction]}" for metric in table.metrics]
    if table.differences:
        return [
            "Method",
            "Source",
            *[f"{metric.label} − {table.reference} [95 %]" for metric in table.metrics],
        ]
    versus = f"{table.compared.label} − {table.reference} [95 %]"
    return ["Method", "Source", "Params: method", "head", *scores, "n", versus, "Notes"]


def alignment(table: Table) -> str:
    """One letter a column: l for words, r for numbers."""
    if table.differences:
        return "ll" + "r" * len(table.metrics)
    return "ll" + "r" * (4 + len(table.metrics)) + "l"


def texts(table: Table) -> list[list[str]]:
    """The cells of every line, as printed. The method's name stands on the first of its lines only."""
    if table.differences:
        return [
            [
                line.label,
                line.source,
                *[_versus(line.differences.get(m.key), m.digits) for m in table.metrics],
            ]
            for line in table.lines
            if line.differences
        ]
    rows, previous = [], ""
    for line in table.lines:
        printed = EMPTY if line.printed_millions is None else f"{line.printed_millions:.2f}M"
        method = printed if line.method_parameters is None else f"{line.method_parameters:,}"
        if line.sizes:
            method = f"{min(line.sizes.values()):,} to {max(line.sizes.values()):,}"
        head = EMPTY if line.head_parameters is None else f"{line.head_parameters:,}"
        scores = [_score(line, m) for m in table.metrics]
        rows.append(
            [
                line.label if line.label != previous else "",
                line.source,
                method,
                head,
                *scores,
                EMPTY if line.n is None else str(line.n),
                _versus(line.difference, table.compared.digits),
                "; ".join(line.notes),
            ]
        )
        previous = line.label
    return rows


def _score(line: Line, metric: Metric) -> str:
    """A cell's mean, or why it has none: `collapsed`, `2 collapsed`."""
    if metric.key not in line.cells and metric.key in line.lost:
        return ", ".join(line.lost[metric.key]).removeprefix("1 ")
    return cell_text(line.cells.get(metric.key), metric.digits)


def _versus(found: Difference | None, digits: int) -> str:
    if found is None:
        return EMPTY
    mean, low, high = (
        f"{value:+.{digits}f}".replace("-", "−") for value in (found.mean, found.low, found.high)
    )
    return f"{mean} [{low}, {high}]{SINGLE if found.n == 1 else ''}"


def terminal(tables: Sequence[Table]) -> str:
    """Aligned columns for a terminal; notes come last, so that a narrow window loses only those."""
    parts = []
    for table in tables:
        rows = [header(table), *texts(table)]
        widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
        sides = alignment(table)
        lines = [
            "  ".join(
                text.rjust(width) if side == "r" else text.ljust(width)
                for text, width, side in zip(row, widths, sides, strict=True)
            ).rstrip()
            for row in rows
        ]
        lines.insert(1, "-" * len(lines[0]))
        above = [
            textwrap.fill(". ".join(table.facts[:-1]) + ".", WIDTH),
            table.facts[-1],
        ]  # a command stays whole
        below = [textwrap.fill(text, WIDTH) for text in table.footnotes]
        parts.append("\n".join([*above, "", *lines, "", *below]))
    return "\n\n".join(parts) + "\n"


def markdown(tables: Sequence[Table]) -> str:
    """GitHub Markdown, one section a backbone."""
    parts = []
    for table in tables:
        rule = ["---:" if side == "r" else "---" for side in alignment(table)]
        rows = [header(table), rule, *[[text.replace("|", "\\|") for text in row] for row in texts(table)]]
        parts.append(
            "\n".join(
                [
                    f"**{table.caption}**",
                    "",
                    *["| " + " | ".join(row) + " |" for row in rows],
                    "",
                    *[f"- {note}" for note in table.footnotes],
                ]
            )
        )
    return "\n\n".join(parts) + "\n"


def comma_separated(tables: Sequence[Table]) -> str:
    """CSV, one line per line of the table, numbers in printed units (six digits), missing values empty.

    No two columns share a name: those of a second metric all carry its key.
    """
    tables = [table for table in tables if not table.differences]  # the scores' lines hold them
    by_column = any(line.differences for table in tables for line in table.lines)
    ends = ("", "_sd", "_difference", "_low", "_high") if by_column else ("", "_sd")
    names = dict.fromkeys(name for table in tables for name in _names(table))
    keys = [f"{name}{end}" for name in names for end in ends]
    out = io.StringIO()
    write = csv.writer(out, lineterminator="\n")
    write.writerow(
        [
            "profile",
            "backbone",
            "row",
            "label",
            "source",
            "method_parameters",
            "head_parameters",
            "printed_parameters_m",
            *keys,
            "n",
            "difference",
            "difference_low",
            "difference_high",
            "difference_n",
            "notes",
        ]
    )
    for table in tables:
        own = _names(table)
        for line in table.lines:
            scores: list[float | None] = []
            for name in names:
                key = own.get(name, "")
                cell, other = line.cells.get(key), line.differences.get(key)
                scores += (cell.mean, cell.sd) if cell else (None, None)
                if by_column:
                    scores += (other.mean, other.low, other.high) if other else (None, None, None)
            versus = line.difference
            write.writerow(
                [
                    table.profile,
                    table.backbone,
                    line.row,
                    line.label,
                    line.source,
                    _plain(line.method_parameters),
                    _plain(line.head_parameters),
                    _plain(line.printed_millions),
                    *map(_plain, scores),
                    _plain(line.n),
                    *(
                        [_plain(value) for value in (versus.mean, versus.low, versus.high, versus.n)]
                        if versus
                        else [""] * 4
                    ),
                    "; ".join(line.notes),
                ]
            )
    return out.getvalue()


def _names(table: Table) -> dict[str, str]:
    """CSV column -> key of a table's columns."""
    keys = [metric.key for metric in table.metrics]
    return {key if key.startswith(table.second) else f"{table.second}_{key}": key for key in keys}


def _plain(value: float | None) -> str:
    if value is None:
        return ""
    return str(value) if isinstance(value, int) else f"{value:.6g}"

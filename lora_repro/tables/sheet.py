"""A table whose cells are words already, as terminal text, Markdown and LaTeX that needs no package."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from lora_repro.tables.latex import escape

WIDTH = 120  # of the prose around a terminal table


@dataclass(frozen=True)
class Sheet:
    """Caption sentences, column titles, one letter a column (l words, r numbers), cells, footnotes."""

    facts: tuple[str, ...]
    header: tuple[str, ...]
    alignment: str
    rows: tuple[tuple[str, ...], ...]
    footnotes: tuple[str, ...] = ()

    @property
    def caption(self) -> str:
        return ". ".join(self.facts)


def terminal(sheets: Sequence[Sheet]) -> str:
    """Aligned columns, the prose wrapped."""
    parts = []
    for sheet in sheets:
        rows = [sheet.header, *sheet.rows]
        widths = [max(len(row[i]) for row in rows) for i in range(len(sheet.header))]
        lines = [
            "  ".join(
                text.rjust(width) if side == "r" else text.ljust(width)
                for text, width, side in zip(row, widths, sheet.alignment, strict=True)
            ).rstrip()
            for row in rows
        ]
        lines.insert(1, "-" * max(map(len, lines)))
        below = [textwrap.fill(text, WIDTH) for text in sheet.footnotes]
        parts.append("\n".join([textwrap.fill(sheet.caption + ".", WIDTH), "", *lines, "", *below]))
    return "\n\n".join(parts) + "\n"


def markdown(sheets: Sequence[Sheet]) -> str:
    """GitHub Markdown."""
    parts = []
    for sheet in sheets:
        rule = ["---:" if side == "r" else "---" for side in sheet.alignment]
        rows = [sheet.header, rule, *[[text.replace("|", "\\|") for text in row] for row in sheet.rows]]
        lines = ["| " + " | ".join(row) + " |" for row in rows]
        parts.append("\n".join([f"**{sheet.caption}**", "", *lines, "", *[f"- {note}" for note in sheet.footnotes]]))
    return "\n\n".join(parts) + "\n"


def latex(sheets: Sequence[Sheet]) -> str:
    """One LaTeX table a sheet; footnotes go into the caption."""
    parts = []
    for sheet in sheets:
        rows = [" & ".join(map(escape, row)) + r" \\" for row in sheet.rows]
        body = [r"\begin{table}", r"\centering\tiny", rf"\caption{{{escape(' '.join([sheet.caption, *sheet.footnotes]))}}}",
                rf"\begin{{tabular}}{{{sheet.alignment}}}", r"\hline", " & ".join(map(escape, sheet.header)) + r" \\",
                r"\hline", *rows, r"\hline", r"\end{tabular}", r"\end{table}"]  # fmt: skip
        parts.append("\n".join(body))
    return "\n\n".join(parts) + "\n"

"""A table as a value: captioned columns of cells that know their numbers. Its forms here: Markdown, LaTeX and CSV.

A cell is its printed text, a str. `Number`, `Source` and `Remark` also know what the text is of, so that no form of a table
reads another one. The forms for screens: terminal.py, html.py.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

EMPTY, SINGLE = "—", "†"  # no value; one seed, no spread
REPRODUCE = "To reproduce: "
LATEX = {character: f"\\{character}" for character in "&%_#${}"} | {
    "±": r"$\pm$",
    "†": r"$^\dagger$",
    "—": "---",
    "–": "--",
    "−": "$-$",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    "×": r"$\times$",
    "≈": r"$\approx$",
    "≤": r"$\leq$",
    "≥": r"$\geq$",
    "‖": r"$\|$",
    "ᵀ": r"$^T$",
    "Δ": r"$\Delta$",
    "α": r"$\alpha$",
    "λ": r"$\lambda$",
    "φ": r"$\phi$",
    "σ": r"$\sigma$",
    "<": "$<$",
    ">": "$>$",
    "|": "$|$",
    "[": "{[}",
    "]": "{]}",
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
}  # brackets are braced: after the \\ of a line LaTeX would read [ as a length; its plain font has other signs at <, > and |


class Number(str):
    """A cell's text with the number behind it: value ± sd over n, interval [low, high]; what it lacks is None.

    seeds: the values that `value` is the mean of. equal: what an interval is of if there is no difference, 0 or, for a ratio, 1.
    badge: what the interval says, in a word or two. The numbers are in printed units, unrounded.
    """

    value: float
    sd: float | None
    n: int | None
    low: float | None
    high: float | None
    seeds: tuple[float, ...]
    equal: float | None
    badge: str

    def __new__(
        cls, text: str, value: float, sd: float | None = None, n: int | None = None, low: float | None = None,
        high: float | None = None, seeds: Sequence[float] = (), equal: float | None = None, badge: str = "",
    ) -> Number:  # fmt: skip
        number = super().__new__(cls, text)
        number.value, number.sd, number.n, number.low, number.high = float(value), sd, n, low, high
        number.seeds, number.equal, number.badge = tuple(seeds), equal, badge
        return number

    def and_more(self, text: str) -> Number:
        """The same number with more text appended."""
        return Number(f"{self}{text}", **vars(self))


class Count(Number):
    """How many seeds a line has."""

    @classmethod
    def of(cls, n: int | None) -> str:
        """The count; — for None."""
        return EMPTY if n is None else cls(str(n), n)


class Origin(Enum):
    """Whose measurement a line is. The line's `Source` says it in words."""

    OURS = "ours"
    PAPER = "paper"
    RERUNS = "reruns by others"


class Source(str):
    """The text of a cell that says whose values its line has."""

    origin: Origin

    def __new__(cls, text: str, origin: Origin = Origin.OURS) -> Source:
        source = super().__new__(cls, text)
        source.origin = origin
        return source


class Remark(str):
    """A cell with what is to be said of its line."""


class Reproduce(str):
    """The sentence of a caption that says how to reproduce the table. line: the command alone."""

    line: str

    def __new__(cls, line: str) -> Reproduce:
        sentence = super().__new__(cls, REPRODUCE + line)
        sentence.line = line
        return sentence


def signed(value: float, digits: int = 1, plus: bool = True) -> str:
    """A number with a typographic minus sign and commas between thousands.

    A positive number has a plus sign if `plus`; one that rounds to zero has no sign.
    """
    text = f"{value:{'+' if plus else ''},.{digits}f}"
    return (text if float(text.replace(",", "")) else text.lstrip("+-")).replace("-", "−")


def bound(value: float, digits: int = 1, plus: bool = True) -> str:
    """An end of an interval, with as many digits, up to 4, as are needed to see on which side of 0 it lies."""
    texts = (signed(value, more, plus) for more in range(digits, 5))
    return next((text for text in texts if text.strip("0.")), signed(value, digits, plus))


def format_count(value: float | None) -> str:
    """A count with commas between thousands; — for None."""
    return EMPTY if value is None else Number(f"{value:,}", value)


@dataclass(frozen=True)
class Table:
    """A captioned table, with footnotes.

    facts: the caption's sentences, of which one may be a `Reproduce`. header: column titles. sides: one letter per column, l for
    words and r for numbers. rows: the cells; a blank first cell repeats the one above. keys: how many leading columns say what a
    line is about. minor: titles of the columns that a narrow terminal leaves out, in this order. numbers: the lines of the CSV,
    each a mapping, if it holds more than the printed cells.
    """

    facts: tuple[str, ...]
    header: tuple[str, ...]
    sides: str
    rows: tuple[tuple[str, ...], ...]
    footnotes: tuple[str, ...] = ()
    minor: tuple[str, ...] = ()
    keys: int = 1
    numbers: tuple[Mapping[str, str], ...] | None = None

    @property
    def caption(self) -> str:
        return ". ".join(self.facts)


def markdown(tables: Sequence[Table]) -> str:
    """GitHub Markdown."""
    parts = []
    for table in tables:
        rule = ["---:" if side == "r" else "---" for side in table.sides]
        rows = [table.header, rule, *[[text.replace("|", "\\|") for text in row] for row in table.rows]]
        lines = ["| " + " | ".join(row) + " |" for row in rows]
        parts.append("\n".join([f"**{table.caption}**", "", *lines, "", *[f"- {note}" for note in table.footnotes]]))
    return "\n\n".join(parts) + "\n"


def latex(tables: Sequence[Table]) -> str:
    """LaTeX that needs no packages; footnotes go into the caption."""
    parts = []
    for table in tables:
        rows = [" & ".join(map(escape, row)) + r" \\" for row in table.rows]
        body = [r"\begin{table}", r"\centering\tiny", rf"\caption{{{escape(' '.join([table.caption, *table.footnotes]))}}}",
                rf"\begin{{tabular}}{{{table.sides}}}", r"\hline", " & ".join(map(escape, table.header)) + r" \\",
                r"\hline", *rows, r"\hline", r"\end{tabular}", r"\end{table}"]  # fmt: skip
        parts.append("\n".join(body))
    return "\n\n".join(parts) + "\n"


def escape(text: str) -> str:
    """`text` with LaTeX's special characters escaped and our symbols as commands."""
    return "".join(LATEX.get(character, character) for character in text)


def comma_separated(tables: Sequence[Table]) -> str:
    """CSV: the `numbers` of the tables under one header; if no table has any, the printed cells after each table's title."""
    out = io.StringIO()
    if any(table.numbers is not None for table in tables):
        lines = [line for table in tables for line in table.numbers or ()]
        write = csv.DictWriter(out, _merged([list(line) for line in lines]), restval="", lineterminator="\n")
        write.writeheader()
        write.writerows(lines)
        return out.getvalue()
    plain = csv.writer(out, lineterminator="\n")
    for table in tables:
        plain.writerow(["table", *table.header])
        plain.writerows([table.facts[0], *row] for row in table.rows)
    return out.getvalue()


def save_tables(tables: Sequence[Table], stem: Path) -> list[Path]:
    """Write `stem`.md and .csv, and the folder if it is missing; returns both."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    paths = [stem.with_suffix(".md"), stem.with_suffix(".csv")]
    for path, text in zip(paths, (markdown(tables), comma_separated(tables)), strict=True):
        path.write_text(text, encoding="utf-8", newline="\n")
    return paths


def _merged(headers: Sequence[Sequence[str]]) -> list[str]:
    """Every name once; the names with which all headers end come last."""
    headers = list(dict.fromkeys(map(tuple, headers)))
    last: list[str] = []
    for names in zip(*map(reversed, headers), strict=False):
        if len(set(names)) > 1:
            break
        last.insert(0, names[0])
    return [*dict.fromkeys(name for header in headers for name in header if name not in last), *last]

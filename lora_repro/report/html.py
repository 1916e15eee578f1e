"""A table as HTML. A cell that is markup stays as it is, other text is escaped; columns sort by the numbers in their cells."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from markupsafe import Markup, escape

if TYPE_CHECKING:
    from lora_repro.report.table import Table

MISSING = ("", "—")

# A number, bracketed or not, optionally followed by a factor, a spread, its n or chance level, "ms", an interval, a mark and Δ.
# "1 collapsed" does not match.
NUMBER = re.compile(
    r"\(?([+−-]?\d[\d,]*(?:\.\d+)?(?:[eE][+-]?\d+)?)\s?([kMB%]?)(?: ± [\d.,]+)?(?: \([\d.]+\))?(?: ms)?"
    r"(?: ?\[[^\]]*\])?\s?[†‡*=]*(?:, Δ [\d.,]+)?\)?"
)
FACTOR = {"": 1.0, "%": 1.0, "k": 1e3, "M": 1e6, "B": 1e9}
FRAME = Markup(
    '<div class="scroll" role="region" tabindex="0" aria-labelledby="{id}">\n<table class="sortable">\n'
    '<caption><span id="{id}">{caption}</span></caption>\n<thead><tr>{header}</tr></thead>\n<tbody>\n{rows}</tbody>\n'
    "</table>\n</div>\n"
)


def code(text: object) -> Markup:
    """`text`, escaped, in a code element."""
    return Markup("<code>{}</code>").format(text)


def number(text: str) -> float | None:
    """The number that a printed cell begins with: `−0.3`, `74.7 ± 0.4†`, `354.92M`, `+3.5 [+0.8, +6.3]`; else None."""
    match = NUMBER.fullmatch(text.strip())
    if not match:
        return None
    digits, factor = match.groups()
    return float(digits.replace(",", "").replace("−", "-")) * FACTOR[factor]


@dataclass(frozen=True)
class _Field:
    """A cell's markup, its text, whether it repeats the cell above (blank in the printed table), and its number if it has one."""

    shown: Markup
    words: str
    repeats: bool
    number: float | None

    @classmethod
    def of(cls, text: str, repeats: bool = False) -> _Field:
        value = text.partition("<small>")[0] or text  # what is small stands beside the value
        words = Markup(value).striptags() if isinstance(text, Markup) else text
        return cls(escape(text).replace("] =", "]\u00a0=").replace("Δ ", "Δ\u00a0"), words, repeats, number(words))

    def markup(self, title: Markup, numeric: bool, first: bool) -> Markup:
        facts = {"n": numeric, "long": "[" in self.words, "none": self.words in MISSING, "again": self.repeats}
        names = [name for name, is_so in facts.items() if is_so]
        named = Markup(' class="{}"').format(" ".join(names)) if names else Markup()
        sorted_by = "" if self.number is None else Markup(' data-n="{}"').format(f"{self.number:.10g}")
        # On a screen narrower than the table each value is shown on a line with its column's name, from `data-of`.
        tag, scope = Markup("th"), Markup(' scope="row"')
        if not first:
            tag, scope = Markup("td"), Markup(' data-of="{}"').format(title.striptags())
        return Markup("<{0}{1}{2}{3}>{4}</{0}>").format(tag, scope, named, sorted_by, self.shown)


def html(table: Table, id: str = "table") -> Markup:
    """The table below its title (the first fact), whose element has this `id`."""
    fields: list[list[_Field]] = []
    for row in table.rows:
        # The table has a label on the first of its lines only; sorted, or on a narrow screen, every line needs it.
        again = bool(fields) and not row[0]
        first = fields[-1][0].shown if again else row[0]
        fields.append([_Field.of(first, again), *map(_Field.of, row[1:])])
    numeric = [_numeric([line[index] for line in fields]) for index in range(len(table.header))]
    titles = [
        Markup('<th scope="col"{}>{}</th>').format(Markup(' class="n"') if right else "", _unbroken(escape(title)))
        for title, right in zip(table.header, numeric, strict=True)
    ]
    names = [escape(title) for title in table.header]
    rows = [
        Markup("<tr>{}</tr>\n").format(Markup().join(one.markup(names[i], numeric[i], not i) for i, one in enumerate(line)))
        for line in fields
    ]
    return FRAME.format(
        id=id, caption=table.facts[0] or "Table", header=Markup().join(titles), rows=Markup().join(rows)
    )


def _numeric(column: list[_Field]) -> bool:
    """Whether a column counts as numeric: more of its non-empty cells are numbers than words."""
    said = [field for field in column if field.words not in MISSING]
    return 2 * sum(field.number is not None for field in said) > len(said)


def _unbroken(title: Markup) -> Markup:
    """`title` with a no-break space before an arrow or a per cent sign."""
    for sign in "↑↓%":
        title = title.replace(f" {sign}", f"\u00a0{sign}")
    return title

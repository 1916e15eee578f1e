"""The results of one backbone as printed tables, as the lines of a CSV, and in words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from lora_repro.report.captions import Caption
from lora_repro.report.columns import Column
from lora_repro.report.numbers import Difference, text_of
from lora_repro.report.scores import Result
from lora_repro.report.table import EMPTY, Count, Number, Remark, Source, Table, bound, format_count
from lora_repro.results import OWN
from lora_repro.stats.intervals import LEVEL

MORE = "n: the smallest number of seeds in any column of the row. (n) after a value: its own number of seeds, where that differs."


@dataclass(frozen=True)
class Scores:
    """One table's results with its caption and footnotes.

    reference: the short name of the row `reference_row`, from which differences are taken. compared: the column whose difference
    is shown beside the scores. each_compared: whether every column has a difference. score: what the columns show, as a figure
    names it.
    """

    title: str
    reference: str
    profile: str
    backbone: str
    caption: Caption
    results: tuple[Result, ...]
    footnotes: tuple[str, ...]
    columns: tuple[Column, ...]
    compared: Column
    each_compared: bool
    score: str
    reference_row: str = ""

    def without_empty_rows(self) -> Scores:
        """Only the rows with a measured or printed value: the table of a single task, beside the whole table with all rows."""
        rows = {result.row for result in self.results if result.cells}
        return replace(self, results=tuple(result for result in self.results if result.row in rows))

    def table(self) -> Table:
        """The scores as a printed table. A row's label is on the first of its lines only."""
        versus = f"{self.compared.metric.label} − {self.reference} [95 %]"
        titles = [column.metric.title for column in self.columns]
        rows, previous = [], ""
        for result in self.results:
            rows.append(
                (
                    result.label if result.label != previous else "",
                    Source(result.source, result.origin),
                    _trained(result),
                    format_count(result.head_parameters),
                    *(_score(result, column) for column in self.columns),
                    Count.of(result.n),
                    _difference(result, self.compared),
                    Remark("; ".join(result.notes)),
                )
            )
            previous = result.label
        header = ("Method", "Source", "Params: method", "Params: head", *titles, "n", versus, "Notes")
        sides = "ll" + "r" * (4 + len(titles)) + "l"
        more = any(_more(result, column) for result in self.results for column in self.columns)
        footnotes = (*self.footnotes, MORE) if more else self.footnotes
        minor = ("Notes", "Params: head", "Params: method", "n")
        return Table(self.caption.facts(), header, sides, tuple(rows), footnotes, minor, keys=2)

    def differences(self) -> Table | None:
        """Every column's difference from the reference; None if there is only one column or no difference."""
        results = [result for result in self.results if result.differences]
        if len(self.columns) < 2 or not results or not self.each_compared:
            return None
        metrics = [column.metric for column in self.columns]
        header = ("Method", "Source", *(f"{metric.label} − {self.reference} [95 %]" for metric in metrics))
        rows = [
            (result.label, Source(result.source, result.origin), *(_difference(result, column) for column in self.columns))
            for result in results
        ]
        facts = self.caption.facts(f"differences from {self.reference}")
        return Table(facts, header, "ll" + "r" * len(metrics), tuple(rows), numbers=(), keys=2)

    def numbers(self, by_column: bool) -> list[dict[str, str]]:
        """The lines of the CSV: printed units, six digits, missing values empty. `by_column`: with a difference for every column.

        Column names are unique, since the columns of a further metric begin with its key.
        """
        lines = []
        for result in self.results:
            line: dict[str, object] = {
                "profile": self.profile,
                "backbone": self.backbone,
                "row": result.row,
                "label": result.label,
                "source": result.source,
                "method_parameters": result.method_parameters,
                "head_parameters": result.head_parameters,
                "printed_parameters_m": result.printed_millions,
            }
            for key in (column.key for column in self.columns):
                cell, versus = result.cells.get(key), result.differences.get(key)
                line |= {key: cell and cell.mean, f"{key}_sd": cell and cell.sd}
                if by_column:
                    line |= {f"{key}_difference": versus and versus.mean, f"{key}_low": versus and versus.low,
                             f"{key}_high": versus and versus.high, f"{key}_p": versus and versus.p,
                             f"{key}_detectable": versus and versus.detectable}  # fmt: skip
            versus = result.differences.get(self.compared.key)
            line |= {"n": result.n, "difference": versus and versus.mean, "difference_low": versus and versus.low,
                     "difference_high": versus and versus.high, "difference_n": versus and versus.n,
                     "difference_p": versus and versus.p, "detectable": versus and versus.detectable,
                     "notes": "; ".join(result.notes)}  # fmt: skip
            lines.append({key: _plain(value) for key, value in line.items()})
        return lines


def tables_of(scores: Sequence[Scores]) -> list[Table]:
    """The score tables and, where there are several columns, a table of each column's difference from the reference."""
    by_column = any(part.each_compared and result.differences for part in scores for result in part.results)
    tables: list[Table] = []
    waiting: list[Table] = []  # differences, which follow the scores of further metrics
    for part in scores:
        if part.each_compared:
            tables, waiting = [*tables, *waiting], [table] if (table := part.differences()) else []
        tables.append(replace(part.table(), numbers=tuple(part.numbers(by_column))))
    return [*tables, *waiting]


def _trained(result: Result) -> str:
    """How many values a row's method trains; the fewest and the most if columns differ in it."""
    if result.sizes:
        least, most = min(result.sizes.values()), max(result.sizes.values())
        return Number(f"{least:,} to {most:,}", least)
    if result.method_parameters is None and result.printed_millions is not None:
        return Number(f"{result.printed_millions:.2f}M", 1e6 * result.printed_millions)
    return format_count(result.method_parameters)


def _difference(result: Result, column: Column) -> str:
    versus = result.differences.get(column.key)
    return EMPTY if versus is None else versus.text(column.metric.digits, column.metric.direction)


def _score(result: Result, column: Column) -> str:
    """A cell's mean, or the reason why it has none: `collapsed`, `2 collapsed`."""
    if column.key not in result.cells and column.key in result.lost:
        return ", ".join(map(str, result.lost[column.key])).removeprefix("1 ")
    text = text_of(result.cells.get(column.key), column.metric.digits)
    return text.and_more(f" ({result.cells[column.key].n})") if _more(result, column) and isinstance(text, Number) else text


def _more(result: Result, column: Column) -> bool:
    """Whether a cell has another number of seeds than the row's n."""
    cell = result.cells.get(column.key)
    return cell is not None and cell.n is not None and not result.quoted and result.n is not None and cell.n != result.n


def _plain(value: object) -> str:
    if value is None or value != value:  # NaN: no resample has a score
        return ""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def in_words(scores: Scores) -> list[str]:
    """What the intervals mean: a line on how to read them, then a sentence for each of this checkout's rows that is compared.

    A row with a single seed is not told: its interval covers the test inputs alone.
    """
    ours = [result for result in scores.results if result.source == OWN]
    reference = next((result for result in ours if result.row == scores.reference_row), None)
    pairs = [(result, result.differences[scores.compared.key]) for result in ours if scores.compared.key in result.differences]
    several = [(result, difference) for result, difference in pairs if difference.n > 1]
    if reference is None or not pairs:
        return []
    if not several:
        return ["One seed cannot rank methods. Give more: seed=0,1,2"]
    metric = scores.compared.metric.label
    unit = " points" if scores.compared.metric.scale == 100 else ""
    counts = sorted({difference.n for _, difference in several})
    seeds = "-".join(str(n) for n in dict.fromkeys((counts[0], counts[-1])))
    opening = f"In words ({metric}; {seeds} seeds; 95 of 100 such intervals hold the true difference on these data):"
    return [opening, *(_sentence(result, difference, reference, unit, scores) for result, difference in several)]


def _sentence(result: Result, difference: Difference, reference: Result, unit: str, scores: Scores) -> str:
    """`LoRA trains 0.33 % as many values as full fine-tuning and scores 2.3 points lower, ...: ...`."""
    digits = scores.compared.metric.digits
    other = _inside(reference.label)
    size = _size(result, reference)
    direction = "higher" if difference.mean > 0 else "lower"
    side = "as much" if not float(f"{difference.mean:.{digits}f}") else f"{abs(difference.mean):.{digits}f}{unit} {direction}"
    ends = f"[{bound(difference.low, digits)}, {bound(difference.high, digits)}]"
    opening = f"{result.label}{f' trains {size} and' if size else ''} scores {side} {ends}: "
    better = difference.mean * scores.compared.metric.direction > 0
    if difference.p < LEVEL and (difference.low > 0 or difference.high < 0):
        return f"{opening}{'better' if better else 'worse'} than {other} here."
    if difference.low > 0 or difference.high < 0:
        return f"{opening}{'better' if better else 'worse'} than {other} if it were the only comparison, open among all of these."
    least = difference.detectable
    would = "" if math.isnan(least) else f"; they would have shown a difference of {least:.{digits}f}"
    return f"{opening}these runs cannot tell it from {other}{would}."


def _size(result: Result, reference: Result) -> str:
    """How much a row trains, beside the reference; empty where that is not known."""
    if result.method_parameters is None or not reference.method_parameters:
        return ""
    if not result.method_parameters:
        return "its new head alone" if result.head_parameters else "nothing"
    share = 100 * result.method_parameters / reference.method_parameters
    return f"{share:.2g} % as many values" if share < 99.5 else f"{result.method_parameters:,} values"


def _inside(label: str) -> str:
    """A row's label inside a sentence: `full fine-tuning`, but `LoRA`."""
    return label[0].lower() + label[1:] if label[1:2].islower() else label


def first_in_words(tables: Sequence[Scores]) -> tuple[str, ...]:
    """`in_words` of an experiment's first table: the others repeat its rows at other places."""
    return tuple(in_words(tables[0])) if tables else ()

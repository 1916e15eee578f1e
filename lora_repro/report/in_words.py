"""What the intervals of a table mean, in words: each of this checkout's rows against the reference row."""

from __future__ import annotations

from collections.abc import Sequence

from lora_repro.report.numbers import Difference
from lora_repro.report.scores import Result
from lora_repro.report.sheet import Scores
from lora_repro.report.table import bound
from lora_repro.results import OWN
from lora_repro.stats.intervals import LEVEL


def sentences(scores: Scores) -> list[str]:
    """A line on how to read the intervals, then a sentence for each of this checkout's rows that is compared; empty without any.

    A row with a single seed is not told: its interval covers the test inputs alone.
    """
    ours = [result for result in scores.results if result.source == OWN]
    reference = next((result for result in ours if result.row == scores.reference_row), None)
    compared = [(result, result.differences[scores.compared.key]) for result in ours if scores.compared.key in result.differences]
    several = [(result, one) for result, one in compared if one.n > 1]
    if reference is None or not compared:
        return []
    if not several:
        return ["One seed cannot rank methods: the intervals above cover the test inputs alone. Give more: seed=0,1,2"]
    what = scores.compared.metric.label
    unit = " points" if scores.compared.metric.scale == 100 else ""
    counts = sorted({one.n for _, one in several})
    seeds = "-".join(str(n) for n in dict.fromkeys((counts[0], counts[-1])))
    opening = f"In words ({what}; {seeds} seeds; 95 of 100 such intervals hold the true difference on these data):"
    return [opening, *(sentence(result, one, reference, unit, scores) for result, one in several)]


def sentence(result: Result, one: Difference, reference: Result, unit: str, scores: Scores) -> str:
    """`LoRA trains 0.33 % as many values as full fine-tuning and scores 2.3 points lower, ...: ...`."""
    digits = scores.compared.metric.digits
    other = _inside(reference.label)
    size = _size(result, reference)
    side = "as much" if not float(f"{one.mean:.{digits}f}") else f"{abs(one.mean):.{digits}f}{unit} {_side(one.mean)}"
    ends = f"[{bound(one.low, digits)}, {bound(one.high, digits)}]"
    said = f"{result.label}{f' trains {size} and' if size else ''} scores {side} {ends}: "
    better = one.mean * scores.compared.metric.direction > 0
    if one.p < LEVEL and (one.low > 0 or one.high < 0):
        return f"{said}{'better' if better else 'worse'} than {other} here."
    if one.low > 0 or one.high < 0:
        return f"{said}{'better' if better else 'worse'} than {other} if it were the only comparison, open among all of these."
    would = "" if one.detectable != one.detectable else f"; they would have shown a difference of {one.detectable:.{digits}f}"
    return f"{said}these runs cannot tell it from {other}{would}."


def _size(result: Result, reference: Result) -> str:
    """How much a row trains, beside the reference; empty where that is not known."""
    if result.method_parameters is None or not reference.method_parameters:
        return ""
    if not result.method_parameters:
        return "its new head alone" if result.head_parameters else "nothing"
    share = 100 * result.method_parameters / reference.method_parameters
    return f"{share:.2g} % as many values" if share < 99.5 else f"{result.method_parameters:,} values"


def _side(value: float) -> str:
    return "higher" if value > 0 else "lower"


def _inside(label: str) -> str:
    """A row's label inside a sentence: `full fine-tuning`, but `LoRA`."""
    return label[0].lower() + label[1:] if label[1:2].islower() else label


def of_tables(tables: Sequence[Scores]) -> tuple[str, ...]:
    """The sentences of an experiment's first table: the others repeat its rows at other places."""
    return tuple(sentences(tables[0])) if tables else ()

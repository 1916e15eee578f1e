"""Our results and the paper's in one figure: a method's difference from the reference against the share of the model it trains.

Scores and parameter counts of different models on different data sets cannot share axes; differences and shares can.
"""

from __future__ import annotations

from collections.abc import Sequence

from lora_repro.report.figures.method_styles import LORA
from lora_repro.report.figures.points import Panel, Point
from lora_repro.report.figures.style import in_sentence
from lora_repro.report.scores import Result
from lora_repro.report.sheet import Scores
from lora_repro.report.table import bound, signed

CAPTION = (
    "Discs: ours, over the seeds that both rows have. {} Squares in the same colours: the paper's, over the same columns. "
    "The models and the data differ: compare only differences and shares."
)
LEAST = 5.0  # points; the axis reaches down to 2.5 times the paper's widest difference, or times this if that is larger


def panel(scores: Scores) -> Panel | None:
    """The panel; None unless both we and the paper have the reference and a method beside it."""
    key = scores.compared.key
    ours = [r for r in scores.results if not r.quoted and key in r.cells and r.method_parameters is not None]
    first = next((r.source for r in ours), "")
    ours = [r for r in ours if r.source == first]
    paper = [r for r in scores.results if r.source.startswith("paper") and key in r.cells and r.printed_millions]
    mine, theirs = (next((r for r in part if r.row == scores.reference_row), None) for part in (ours, paper))
    if mine is None or theirs is None:
        return None
    points = [_ours(scores, result, mine) for result in ours if _trained(result) and result is not mine]
    quoted = [_papers(scores, result, theirs) for result in paper if result is not theirs]
    if not points or not quoted:
        return None
    reach = 2.5 * max(LEAST, *(abs(point.y) for point in quoted))
    title = f"Ours ({scores.facts[1].removeprefix('Backbone: ').partition(' (')[0].partition(',')[0]}) and the {theirs.source}"
    points.append(Point(mine.label, 100.0, 0.0, None, mine.method, single=mine.cells[key].n == 1))
    xlabel = f"trained parameters (% of {in_sentence(mine.label)}'s, log scale)"
    many, one = "ours; bar: 95 % interval", "ours, one seed: supports no verdict; bar: 95 % interval"
    return Panel(title, (*points, *quoted), xlabel, many, one, floor=-reach, joined=True)


def statement(scores: Scores) -> str:
    """The figure's title: LoRA's share of the parameters and its difference, ours and the paper's."""
    shown = panel(scores)
    points = [point for point in shown.points if point.method == LORA] if shown else []
    papers = {point.label: point for point in points if point.quoted}
    ours = next((point for point in points if not point.quoted and point.label in papers), None)
    metric = scores.compared.metric
    if ours is None:
        return f"{scores.title}: {metric.label} against {scores.reference}, ours and the paper's"
    paper = papers[ours.label]
    low, high = ours.span
    between = f" [{bound(low)}, {bound(high)}]" if low < high else ""
    return (
        f"{scores.title}: {ours.label} trains {_share(ours.x)} % of the parameters and scores {signed(ours.y)}{between} "
        f"{metric.label} against {scores.reference}; in the paper {_share(paper.x)} % and {signed(paper.y)}"
    )


def _trained(result: Result) -> int:
    return (result.method_parameters or 0) + (result.head_parameters or 0)


def _ours(scores: Scores, result: Result, reference: Result) -> Point:
    key = scores.compared.key
    versus = result.differences.get(key)
    ends = (versus.low, versus.high) if versus else None
    y = versus.mean if versus else result.cells[key].mean - reference.cells[key].mean
    share = 100 * _trained(result) / _trained(reference)
    return Point(result.label, share, y, None, result.method, single=result.cells[key].n == 1, ends=ends)


def _papers(scores: Scores, result: Result, reference: Result) -> Point:
    key = scores.compared.key
    share = 100 * float(result.printed_millions or 0) / float(reference.printed_millions or 1)
    return Point(result.label, share, result.cells[key].mean - reference.cells[key].mean, None, result.method, quoted=True)


def _share(value: float) -> str:
    return f"{value:.2f}" if value >= 0.01 else f"{value:.1g}"


def panels(scores: Sequence[Scores]) -> list[Panel]:
    return [drawn for one in scores if (drawn := panel(one))]

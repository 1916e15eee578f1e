"""What the figures of a table's scores show: points over trained parameters, curves over a swept amount, or places by row.

The paper's values get figures of the same form and colours beside ours, since they are of other models. Scores and parameter
counts of different models on different data sets cannot share axes; differences from the reference and shares of its parameters
can, and do in the figure beside the paper's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from lora_repro.report.columns import ANY, Column
from lora_repro.report.figures.curves import WIDE, Curve, CurvePoint, Plot
from lora_repro.report.figures.points import Panel, Point
from lora_repro.report.figures.style import LORA, in_sentence, to_mathtext, wrapped
from lora_repro.report.scores import Result
from lora_repro.report.sheet import Scores
from lora_repro.report.table import Origin, bound, signed

BESIDE_PAPER = (
    "Discs: ours, over the seeds that both rows have. {} Squares in the same colours: the paper's, over the same columns. "
    "The models and the data differ: compare only differences and shares."
)
LEAST = 5.0  # points; the axis reaches down to 2.5 times the paper's widest difference, or times this if that is larger
OVER = {
    "data.n_train": "training rows (log scale)",
    "parameters": "trainable parameters (method + head, log scale)",
}


def panel(scores: Scores, quoted: bool, title: str = "") -> Panel:
    """Measured points, and with `quoted` the paper's: only on a backbone of the paper's are the two comparable."""
    points, absent = [], []
    for result in scores.results:
        cell = result.cells.get(scores.compared.key)
        notes = result.lost_notes
        label = f"{result.label} ({', '.join(notes)})" if notes else result.label
        if cell is None:
            ran = {scores.compared.key, *result.cells, *result.lost}
            if notes and all(column.key in ran for column in scores.columns):  # else it lacks an average for want of tasks
                absent.append(label)
        elif result.method_parameters is not None:
            x = result.method_parameters + (result.head_parameters or 0)
            # Human texts are scored against one reference fewer: an unmarked line would invite a comparison with the methods.
            label += "" if result.compared or x else " (against other references)"
            points.append(Point(label, x, cell.mean, cell.sd, result.method, single=cell.n == 1))
        elif result.printed_millions is not None and quoted:
            x = round(1e6 * result.printed_millions)
            points.append(Point(result.label, x, cell.mean, cell.sd, result.method, quoted=True))
    lines = [title, f"Not drawn: {', '.join(absent)}" if absent else ""]
    return Panel("\n".join(filter(None, lines)), tuple(points))


def titles(scores: Sequence[Scores]) -> list[str]:
    """Each panel's title: its backbone and its scores, each only if the panels differ in it. The caption has what they share."""
    facts = [(part.caption.backbone, part.caption.scores) for part in scores]
    differing = [part for part in (0, 1) if len({fact[part] for fact in facts}) > 1]
    return [". ".join(fact[part] for part in differing) for fact in facts]


def curve_plot(scores: Scores, over: str, axis: str, title: str = "") -> Plot:
    """Our results over the swept amount or over trained parameters, without the paper's, which are of other models."""
    if over == "row":
        return _by_row(scores, _ours(scores), title)
    amounts = {column.key: float(column.value) for column in scores.columns if isinstance(column.value, int)}
    curves, absent = [], []
    for result in _ours(scores):
        head = result.head_parameters or 0
        spots = []
        for column in scores.columns:
            cell, x = result.cells.get(column.key), amounts.get(column.key)
            if over == "parameters":
                parameters = result.sizes.get(column.key, result.method_parameters)
                x = None if parameters is None else parameters + head
            if cell and result.n is not None and (column.value == ANY or x is not None):
                spots.append(CurvePoint(x, cell.mean, cell.sd, mark(result, column)))
        absent += [text for column in scores.columns for text in _absent([result], column)]
        if spots:
            curves.append(_curve(result, spots, scores))
    ticks = tuple((x, f"{x:,.0f}") for x in amounts.values()) if over != "parameters" else ()
    return Plot(title, _xlabel(over, axis), scores.score, tuple(curves), ticks, absent=tuple(absent))


def _xlabel(over: str, axis: str) -> str:
    return OVER.get(over, f"{axis} (log scale)")


def _curve(result: Result, spots: Sequence[CurvePoint], scores: Scores) -> Curve:
    # The same matrices adapted (lora_q) and fully trained (full_q) share a colour.
    matrices = result.row.removeprefix("lora_").removeprefix("full_")
    both = {f"lora_{matrices}", f"full_{matrices}"} <= {other.row for other in scores.results}
    family = matrices if both else result.row
    return Curve(result.label, tuple(sorted(spots, key=lambda spot: spot.x or 0)), family, result.method)


def printed_plot(scores: Scores, over: str, axis: str) -> Plot | None:
    """All that the paper prints of these rows over the same amount, including sizes not swept here; None if it prints nothing.

    The keys of a row's printed values are those of its columns: `rank_8`, `rows_100`, `size_64`, and `any` without an amount.
    """
    results = [result for result in scores.results if result.origin is Origin.PAPER]
    if not results:
        return None
    if over == "row":
        return _printed_by_row(results)
    first_key = next((column.key for column in scores.columns if isinstance(column.value, int)), "")
    before = first_key.rpartition("_")[0]
    curves, values = [], set()
    for result in results:
        millions = result.printed.get("trained_m") or {}
        spots = []
        for key, value in result.printed.items():
            of, _, amount = key.rpartition("_")
            if key != ANY and not (of == before and amount.isdigit()):
                continue
            x = None if key == ANY else float(amount)
            if over == "parameters":
                x = 1e6 * float(millions[key]) if key in millions else None
                if x is None:
                    continue
            values |= {x} - {None}
            spots.append(CurvePoint(x, float(value), result.printed.get(f"{key}_sd")))
        if spots:
            curves.append(_curve(result, spots, scores))
    ticks = () if over == "parameters" else tuple((x, f"{x:,.0f}") for x in sorted(x for x in values if x is not None))
    xlabel = _xlabel(over, axis).replace("method + head, ", "")
    return Plot("", xlabel, scores.score, tuple(curves), ticks, quoted=True) if curves else None


def printed_plots(pairs: Sequence[tuple[Scores, str]], over: str, axis: str) -> list[Plot]:
    """`printed_plot` of each of these (scores, title), without repetitions: several of our tasks may share the paper's values."""
    plots: list[tuple[Plot, str]] = []
    for scores, title in pairs:
        plot = printed_plot(scores, over, axis)
        if plot and plot not in [before for before, _ in plots]:
            plots.append((plot, title))
    return [replace(plot, title=title if len(plots) > 1 else "") for plot, title in plots]


def statement(scores: Scores, over: str = "", axis: str = "", panel: str = "") -> str:
    """The figure's main finding as a sentence with numbers: LoRA beside the reference, or at its first and last amount.

    panel: the one that these scores belong to, if the figure has several.
    """
    panel_scores = replace(scores, title=f"{scores.title}, {panel}" if panel else scores.title)
    label = scores.score if over else scores.compared.metric.label
    ours = [result for result in _ours(scores) if result.cells]
    lora = next((result for result in ours if result.method == LORA), None)
    if not over:
        return _beside_reference(panel_scores, ours, lora, label)
    if over == "row":
        means = {r.label: r.cells[scores.compared.key].mean for r in ours if scores.compared.key in r.cells}
        if len(means) > 1:
            best, worst = (f(means, key=lambda name: means[name]) for f in (max, min))
            return f"{panel_scores.title}: {best} scores highest, {means[best]:.1f}, and {worst} lowest, {means[worst]:.1f}"
        return f"{scores.title}: {label} by row"
    ends = [c for c in scores.columns if isinstance(c.value, int) and lora and c.key in lora.cells]
    if lora and len(ends) > 1:
        digits = ends[0].metric.digits
        first, last = (f"{lora.cells[c.key].mean:.{digits}f} at {c.metric.label}" for c in (ends[0], ends[-1]))
        has = "scores" if label.startswith("Score") else f"has {label}"
        return f"{panel_scores.title}: {lora.label} {has} {first} and {last}"
    return f"{scores.title}: {label} against {_xlabel(over, axis).partition(' (')[0]}"


def _beside_reference(scores: Scores, ours: Sequence[Result], lora: Result | None, label: str) -> str:
    key = scores.compared.key
    by_row = {r.row: r for r in ours if key in r.cells and r.method_parameters is not None}
    reference = next((r for r in by_row.values() if r.row == scores.reference_row), None)
    best = max((r for r in by_row.values() if r is not reference), key=lambda r: r.cells[key].mean, default=None)
    hero = lora if lora and lora.row in by_row and lora is not reference else best
    if hero is None or reference is None:
        return f"{scores.title}: {label} against trained parameters"
    first, second = (
        f"{in_sentence(r.label)} {r.cells[key].mean:.{scores.compared.metric.digits}f} with {short(r.method_parameters or 0)}"
        for r in (hero, reference)
    )
    return f"{scores.title}, {label}: {first[0].upper()}{first[1:]} trained parameters, {second}"


def short(number: float) -> str:
    """230 k, 134.5 M."""
    for size, name in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if number >= 0.9995 * size:  # rounded to three digits: 999,700 is 1 M
            return f"{number / size:.3g} {name}"
    return f"{number:.0f}"


def provenance(*scores: Scores) -> str:
    """Whose numbers a figure shows: the facts of its tables' captions, each once and without the command."""
    return ". ".join(dict.fromkeys(part.caption.whose[i].rstrip(".") for i in range(4) for part in scores)) + "."


def sources(scores: Sequence[Scores]) -> str:
    """The tables of the paper that the quoted values come from."""
    notes = [note for part in scores for result in part.results if result.origin is Origin.PAPER for note in result.notes]
    tables = dict.fromkeys(note.split(",")[0].split(":")[0] for note in notes)
    return f"Hu et al. 2021 (arXiv:2106.09685), {', '.join(tables)}."


def _ours(scores: Scores) -> list[Result]:
    return [result for result in scores.results if not result.quoted]


def mark(result: Result, column: Column) -> str:
    """`1 of 2 collapsed`: the lost seeds of a cell, which count in its mean if they have a score."""
    failures = result.lost.get(column.key, ())
    cell = result.cells.get(column.key)
    total = (cell.n or 0) if cell else sum(failure.seeds for failure in failures)
    return ", ".join(f"{failure.seeds} of {total} {failure.status}" for failure in failures)


def _absent(results: Sequence[Result], column: Column) -> list[str]:
    """`LoRA at r 4 (2 of 2 collapsed)` for each row that was run here but has no value to draw."""
    failures = [result for result in results if column.key in result.lost and column.key not in result.cells]
    return [f"{result.label} at {column.metric.label} ({mark(result, column)})" for result in failures]


def _by_row(scores: Scores, results: Sequence[Result], title: str) -> Plot:
    """One place on x per row and one colour per column, columns side by side; each row from the first source that has it."""
    by_row = {result.row: result for result in reversed(results)}
    rows = [row for row in dict.fromkeys(result.row for result in scores.results) if row in by_row]
    curves, absent = [], []
    for number, column in enumerate(scores.columns):
        aside = 0.14 * (number - (len(scores.columns) - 1) / 2)
        cells = [(x + aside, by_row[row], by_row[row].cells.get(column.key)) for x, row in enumerate(rows)]
        spots = [CurvePoint(x, cell.mean, cell.sd, mark(result, column)) for x, result, cell in cells if cell]
        absent += _absent([by_row[row] for row in rows], column)
        if spots:
            curves.append(Curve(column.metric.label, tuple(spots)))
    ticks = _ticks([by_row[row].label for row in rows])
    return Plot(title, "adapted matrices", "Score (%)", tuple(curves), ticks, "places", absent=tuple(absent))


def _printed_by_row(results: Sequence[Result]) -> Plot | None:
    """The same for the paper's values, with one colour per task of the paper."""
    keys = [key for result in results for key, value in result.printed.items() if isinstance(value, int | float)]
    tasks = [key for key in dict.fromkeys(keys) if key not in ("params_m", "n") and not key.endswith("_sd")]
    curves = []
    for task in tasks:
        points = [(float(i), r.printed[task], r.printed.get(f"{task}_sd")) for i, r in enumerate(results) if task in r.printed]
        curves.append(Curve(task.upper(), tuple(CurvePoint(x, float(y), sd) for x, y, sd in points)))
    ticks = _ticks([result.label for result in results])
    return Plot("", "adapted matrices", "Score (%)", tuple(curves), ticks, "places", quoted=True) if curves else None


def _ticks(labels: Sequence[str]) -> tuple[tuple[float, str], ...]:
    """Each row's name at its place, wrapped to its share of the width, with the rank on a line of its own: none overlap."""
    share = (WIDE - 0.9) / max(1, len(labels)) - 0.05
    ticks = []
    for x, label in enumerate(labels):
        names, _, rank = label.partition(" (")
        ticks.append((float(x), to_mathtext(wrapped(names, share)) + (f"\n({rank}" if rank else "")))
    return tuple(ticks)


def panel_beside_paper(scores: Scores) -> Panel | None:
    """Our differences from the reference beside the paper's; None unless both have the reference and a method beside it."""
    key = scores.compared.key
    ours = [r for r in scores.results if not r.quoted and key in r.cells and r.method_parameters is not None]
    first = next((r.source for r in ours), "")
    ours = [r for r in ours if r.source == first]
    paper = [r for r in scores.results if r.origin is Origin.PAPER and key in r.cells and r.printed_millions]
    mine, theirs = (next((r for r in part if r.row == scores.reference_row), None) for part in (ours, paper))
    if mine is None or theirs is None:
        return None
    points = [_our_point(scores, result, mine) for result in ours if _trained(result) and result is not mine]
    paper_points = [_paper_point(scores, result, theirs) for result in paper if result is not theirs]
    if not points or not paper_points:
        return None
    reach = 2.5 * max(LEAST, *(abs(point.y) for point in paper_points))
    title = f"Ours ({scores.caption.backbone.partition(',')[0]}) and the {theirs.source}"
    points.append(Point(mine.label, 100.0, 0.0, None, mine.method, single=mine.cells[key].n == 1))
    xlabel = f"trained parameters (% of {in_sentence(mine.label)}'s, log scale)"
    many, single = "ours; bar: 95 % interval", "ours, one seed: supports no verdict; bar: 95 % interval"
    return Panel(title, (*points, *paper_points), xlabel, many, single, floor=-reach, joined=True)


def statement_beside_paper(scores: Scores) -> str:
    """The figure's title: LoRA's share of the parameters and its difference, ours and the paper's."""
    comparison = panel_beside_paper(scores)
    points = [point for point in comparison.points if point.method == LORA] if comparison else []
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


def _our_point(scores: Scores, result: Result, reference: Result) -> Point:
    key = scores.compared.key
    versus = result.differences.get(key)
    ends = (versus.low, versus.high) if versus else None
    y = versus.mean if versus else result.cells[key].mean - reference.cells[key].mean
    share = 100 * _trained(result) / _trained(reference)
    return Point(result.label, share, y, None, result.method, single=result.cells[key].n == 1, ends=ends)


def _paper_point(scores: Scores, result: Result, reference: Result) -> Point:
    key = scores.compared.key
    share = 100 * float(result.printed_millions or 0) / float(reference.printed_millions or 1)
    return Point(result.label, share, result.cells[key].mean - reference.cells[key].mean, None, result.method, quoted=True)


def _share(value: float) -> str:
    return f"{value:.2f}" if value >= 0.01 else f"{value:.1g}"

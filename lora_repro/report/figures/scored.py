"""What the figure of a table's scores shows: points over trained parameters, curves over a swept amount, or places by row."""

import re
from collections.abc import Sequence

from lora_repro.report.columns import ANY, Column
from lora_repro.report.figures.curves import Curve, Plot, Spot
from lora_repro.report.figures.points import Panel, Point
from lora_repro.report.scores import Result
from lora_repro.report.sheet import Scores

COUNTED = re.compile(r"(?:.+: )?\d+ [a-z]+")  # a note on lost seeds: `1 collapsed`, `RTE: 1 diverged`


def panel(scores: Scores, quoted: bool) -> Panel:
    """Measured points; `quoted`, on a backbone of the paper's: also the paper's (elsewhere they would not compare)."""
    points, absent = [], []
    for result in scores.results:
        cell = result.cells.get(scores.compared.key)
        lost = [note for note in result.notes if COUNTED.fullmatch(note)]
        label = f"{result.label} ({', '.join(lost)})" if lost else result.label
        if cell is None:
            absent += [label] if lost else []
        elif result.method_parameters is not None:
            x = result.method_parameters + (result.head_parameters or 0)
            points.append(Point(label, x, cell.mean, cell.sd, single=cell.n == 1))
        elif result.printed_millions is not None and quoted:
            x = round(1e6 * result.printed_millions)
            points.append(Point(result.label, x, cell.mean, cell.sd, quoted=True))
    title = [". ".join(scores.facts[:2]), ". ".join(scores.facts[2:4])]
    title += [f"Not drawn: {', '.join(absent)}"] if absent else []
    return Panel("\n".join(title), tuple(points))


def curve_plot(scores: Scores, over: str, axis: str) -> Plot:
    """Our results only, over the swept amount or over trained parameters; the paper's model is another one."""
    what, backbone, data, n, metrics = scores.facts[:5]
    title = f"{what}. {n}\n{backbone.partition(' (')[0]}\n{data}\n{metrics}"
    if over == "row":
        return _by_row(scores, title)
    amounts = {column.key: float(column.value) for column in scores.columns if isinstance(column.value, int)}
    drawn, absent = [], []
    for result in _ours(scores):
        head = result.head_parameters or 0
        spots = []
        for column in scores.columns:
            cell, x = result.cells.get(column.key), amounts.get(column.key)
            if over == "parameters":
                trained = result.sizes.get(column.key, result.method_parameters)
                x = None if trained is None else trained + head
            if cell and result.n is not None and (column.value == ANY or x is not None):
                spots.append(Spot(x, cell.mean, cell.sd, mark(result, column)))
        absent += [text for column in scores.columns for text in _absent([result], column)]
        if spots:
            # The same matrices adapted (lora_q) and trained in full (full_q) are one colour.
            family = result.row.removeprefix("lora_").removeprefix("full_")
            drawn.append(Curve(result.label, tuple(sorted(spots, key=lambda spot: spot.x or 0)), family))
    xlabel = {
        "data.n_train": "training rows (log scale)",
        "parameters": "trainable parameters (method + head, log scale)",
    }.get(over, f"{axis} (log scale)")
    ticks = tuple((x, f"{x:,.0f}") for x in amounts.values()) if over != "parameters" else ()
    return Plot(title, xlabel, scores.score, tuple(drawn), ticks, absent=tuple(absent))


def _ours(scores: Scores) -> list[Result]:
    return [result for result in scores.results if not result.source.startswith(("paper", "reruns"))]


def mark(result: Result, column: Column) -> str:
    """`1 of 2 collapsed`: seeds that are in the mean as what they are, and in nothing where they have no score."""
    lost = [note.partition(" ")[::2] for note in result.lost.get(column.key, ())]
    cell = result.cells.get(column.key)
    total = (cell.n or 0) if cell else sum(int(count) for count, _ in lost)
    return ", ".join(f"{count} of {total} {why}" for count, why in lost)


def _absent(results: Sequence[Result], column: Column) -> list[str]:
    """`LoRA at r 4 (2 of 2 collapsed)` for each row that was run here and has nothing to show."""
    gone = [result for result in results if column.key in result.lost and column.key not in result.cells]
    return [f"{result.label} at {column.metric.label} ({mark(result, column)})" for result in gone]


def _by_row(scores: Scores, title: str) -> Plot:
    """A row's place on x, a colour a column, columns side by side; the first source that has it."""
    results = {result.row: result for result in reversed(_ours(scores))}
    rows = [row for row in dict.fromkeys(result.row for result in scores.results) if row in results]
    drawn, absent = [], []
    for number, column in enumerate(scores.columns):
        aside = 0.14 * (number - (len(scores.columns) - 1) / 2)
        cells = [(place + aside, results[row], results[row].cells.get(column.key)) for place, row in enumerate(rows)]
        spots = [Spot(place, cell.mean, cell.sd, mark(result, column)) for place, result, cell in cells if cell]
        absent += _absent([results[row] for row in rows], column)
        if spots:
            drawn.append(Curve(column.metric.label, tuple(spots)))
    ticks = tuple((float(place), _wrapped(results[row].label)) for place, row in enumerate(rows))
    return Plot(title, "adapted matrices", "Score (%)", tuple(drawn), ticks, "places", absent=tuple(absent))


def _wrapped(label: str) -> str:
    """At most two matrices a line, the rank on its own: neighbouring ticks must not touch."""
    names, _, rank = label.partition(" (")
    parts = names.split(", ")
    lines = [", ".join(parts[i : i + 2]) for i in range(0, len(parts), 2)]
    return ",\n".join(lines) + (f"\n({rank}" if rank else "")

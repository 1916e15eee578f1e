"""From a table to what its figure shows: points over trained parameters, curves over a swept amount, or places by row."""

import re
from collections.abc import Sequence

from lora_repro.tables import curves, figure
from lora_repro.tables.artefact import Artefact
from lora_repro.tables.columns import ANY
from lora_repro.tables.report import Line, Metric
from lora_repro.tables.table import Table

COUNTED = re.compile(r"(?:.+: )?\d+ [a-z]+")  # a note on lost seeds: `1 collapsed`, `RTE: 1 diverged`


def panel(artefact: Artefact, table: Table) -> figure.Panel:
    """Measured points; on a backbone of the paper's also the paper's (elsewhere they would not compare)."""
    points, absent = [], []
    for line in table.lines:
        cell = line.cells.get(table.compared.key)
        lost = [note for note in line.notes if COUNTED.fullmatch(note)]
        label = f"{line.label} ({', '.join(lost)})" if lost else line.label
        if cell is None:
            absent += [label] if lost else []
        elif line.method_parameters is not None:
            x = line.method_parameters + (line.head_parameters or 0)
            points.append(figure.Point(label, x, cell.mean, cell.sd, single=cell.n == 1))
        elif line.printed_millions is not None and table.backbone in artefact.paper:
            x = round(1e6 * line.printed_millions)
            points.append(figure.Point(line.label, x, cell.mean, cell.sd, quoted=True))
    title = [". ".join(table.facts[:2]), ". ".join(table.facts[2:4])]
    title += [f"Not drawn: {', '.join(absent)}"] if absent else []
    return figure.Panel("\n".join(title), tuple(points))


def curve_plot(artefact: Artefact, table: Table) -> curves.Plot:
    """Our lines only, over the swept amount or over trained parameters; the paper's model is another one."""
    what, backbone, data, n, scores = table.facts[:5]
    title = f"{what}. {n}\n{backbone.partition(' (')[0]}\n{data}\n{scores}"
    if artefact.x == "row":
        return _by_row(table, title)
    columns = [metric for metric in table.metrics if metric.key != ANY]
    amounts = {metric.key: float(metric.key.rpartition("_")[2]) for metric in columns if metric.key[-1].isdigit()}
    drawn, absent = [], []
    for line in _ours(table):
        head = line.head_parameters or 0
        spots = []
        for key, cell in line.cells.items():
            x = amounts.get(key)
            if artefact.x == "parameters":
                trained = line.sizes.get(key, line.method_parameters)
                x = None if trained is None else trained + head
            if line.n is not None and (key == ANY or x is not None):
                spots.append(curves.Spot(x, cell.mean, cell.sd, mark(line, key)))
        absent += [text for metric in table.metrics for text in _absent([line], metric)]
        if spots:
            # The same matrices adapted (lora_q) and trained in full (full_q) are one colour.
            family = line.row.removeprefix("lora_").removeprefix("full_")
            drawn.append(curves.Curve(line.label, tuple(sorted(spots, key=lambda spot: spot.x or 0)), family))
    xlabel = {
        "row.size": f"{artefact.size} (log scale)",
        "data.n_train": "training rows (log scale)",
        "parameters": "trainable parameters (method + head, log scale)",
    }[artefact.x]
    ticks = tuple((x, f"{x:,.0f}") for x in amounts.values()) if artefact.x != "parameters" else ()
    ylabel = next((m.label for m in artefact.metrics[1:] if columns[0].key.startswith(m.key)), artefact.compared.label)
    return curves.Plot(title, xlabel, ylabel, tuple(drawn), ticks, absent=tuple(absent))


def _ours(table: Table) -> list[Line]:
    return [line for line in table.lines if not line.source.startswith(("paper", "reruns"))]


def mark(line: Line, column: str) -> str:
    """`1 of 2 collapsed`: what became of the seeds that are in no mean."""
    lost = [note.partition(" ")[::2] for note in line.lost.get(column, ())]
    cell = line.cells.get(column)
    total = sum(int(count) for count, _ in lost) + ((cell.n or 0) if cell else 0)
    return ", ".join(f"{count} of {total} {why}" for count, why in lost)


def _absent(lines: Sequence[Line], metric: Metric) -> list[str]:
    """`LoRA at r 4 (2 of 2 collapsed)` for each line that was run here and has nothing to show."""
    gone = [line for line in lines if metric.key in line.lost and metric.key not in line.cells]
    return [f"{line.label} at {metric.label} ({mark(line, metric.key)})" for line in gone]


def _by_row(table: Table, title: str) -> curves.Plot:
    """A row's place on x, a colour a column, columns side by side; the first source that has it."""
    lines = {line.row: line for line in reversed(_ours(table))}
    rows = [row for row in dict.fromkeys(line.row for line in table.lines) if row in lines]
    drawn, absent = [], []
    for number, metric in enumerate(table.metrics):
        aside = 0.14 * (number - (len(table.metrics) - 1) / 2)
        cells = [(place + aside, row, lines[row].cells.get(metric.key)) for place, row in enumerate(rows)]
        spots = [curves.Spot(place, cell.mean, cell.sd, mark(lines[row], metric.key)) for place, row, cell in cells if cell]
        absent += _absent([lines[row] for row in rows], metric)
        if spots:
            drawn.append(curves.Curve(metric.label, tuple(spots)))
    ticks = tuple((float(place), _wrapped(lines[row].label)) for place, row in enumerate(rows))
    return curves.Plot(title, "adapted matrices", "Score (%)", tuple(drawn), ticks, "places", absent=tuple(absent))


def _wrapped(label: str) -> str:
    """At most two matrices a line, the rank on its own: neighbouring ticks must not touch."""
    names, _, rank = label.partition(" (")
    parts = names.split(", ")
    lines = [", ".join(parts[i : i + 2]) for i in range(0, len(parts), 2)]
    return ",\n".join(lines) + (f"\n({rank}" if rank else "")

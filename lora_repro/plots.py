"""From a table to what its figure shows: points over trained parameters, curves over a swept amount, or places by row."""

from lora_repro import curves, figure
from lora_repro.artefact import Artefact
from lora_repro.columns import ANY
from lora_repro.table import Table


def panel(artefact: Artefact, table: Table) -> figure.Panel:
    """Measured points; on a backbone of the paper's also the paper's (elsewhere they would not compare)."""
    points = []
    for line in table.lines:
        cell = line.cells.get(artefact.compared.key)
        if cell is None:
            continue
        if line.method_parameters is not None:
            x = line.method_parameters + (line.head_parameters or 0)
            points.append(figure.Point(line.label, x, cell.mean, cell.sd, single=cell.n == 1))
        elif line.printed_millions is not None and table.backbone in artefact.paper:
            x = round(1e6 * line.printed_millions)
            points.append(figure.Point(line.label, x, cell.mean, cell.sd, quoted=True))
    return figure.Panel(". ".join(table.facts[:2]) + "\n" + ". ".join(table.facts[2:4]), tuple(points))


def curve_plot(artefact: Artefact, table: Table) -> curves.Plot:
    """Our lines only, over the swept amount or over trained parameters; the paper's model is another one."""
    title = f"{table.facts[0]}\n{table.facts[1].partition(' (')[0]}. {table.facts[4]}"
    if artefact.x == "row":
        return _by_row(artefact, table, title)
    columns = [metric for metric in table.metrics if metric.key != ANY]
    amounts = {metric.key: float(metric.key.rpartition("_")[2]) for metric in columns if metric.key[-1].isdigit()}
    drawn = []
    for line in table.lines:
        head = line.head_parameters or 0
        spots = []
        for key, cell in line.cells.items():
            x = amounts.get(key)
            if artefact.x == "parameters":
                trained = line.sizes.get(key, line.method_parameters)
                x = None if trained is None else trained + head
            if line.n is not None and (key == ANY or x is not None):
                spots.append(curves.Spot(x, cell.mean, cell.sd))
        if spots and not line.source.startswith(("paper", "reruns")):
            drawn.append(curves.Curve(line.label, tuple(sorted(spots, key=lambda spot: spot.x or 0))))
    xlabel = {
        "row.size": f"{artefact.size} (log scale)",
        "data.n_train": "training rows (log scale)",
        "parameters": "trainable parameters (method + head, log scale)",
    }[artefact.x]
    ticks = tuple((x, f"{x:,.0f}") for x in amounts.values()) if artefact.x != "parameters" else ()
    ylabel = next((m.label for m in artefact.metrics[1:] if columns[0].key.startswith(m.key)), artefact.compared.label)
    return curves.Plot(title, xlabel, ylabel, tuple(drawn), ticks)


def _by_row(artefact: Artefact, table: Table, title: str) -> curves.Plot:
    """A row's place on x, a colour a column; the first source that has it."""
    lines = {line.row: line for line in reversed(table.lines) if not line.source.startswith(("paper", "reruns"))}
    rows = [row for row in dict.fromkeys(line.row for line in table.lines) if row in lines]
    drawn = []
    for metric in table.metrics:
        cells = [(place, lines[row].cells.get(metric.key)) for place, row in enumerate(rows)]
        spots = tuple(curves.Spot(float(place), cell.mean, cell.sd) for place, cell in cells if cell)
        if spots:
            drawn.append(curves.Curve(metric.label, spots))
    ticks = tuple((float(place), _wrapped(lines[row].label)) for place, row in enumerate(rows))
    return curves.Plot(title, "adapted matrices", "Score (%)", tuple(drawn), ticks, "places")


def _wrapped(label: str) -> str:
    """At most two matrices a line, the rank on its own: neighbouring ticks must not touch."""
    names, _, rank = label.partition(" (")
    parts = names.split(", ")
    lines = [", ".join(parts[i : i + 2]) for i in range(0, len(parts), 2)]
    return ",\n".join(lines) + (f"\n({rank}" if rank else "")

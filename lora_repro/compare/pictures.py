"""A comparison's pictures: the score against what it costs, the held-out curves, and the search of each learning rate.

Every title is computed from the numbers drawn, and names no winner. Labels come from methods alone, so no picture holds a text of
the user's data.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from lora_repro.compare.answer import Answer, Row
from lora_repro.records.rates import PRUNED, stopped
from lora_repro.report.figures import curves, points
from lora_repro.report.figures.curves import Curve, CurvePoint, Plot
from lora_repro.report.figures.points import Panel, Point, undominated
from lora_repro.report.figures.style import (
    GREY,
    SINGLE,
    add_title_caption,
    blank,
    style_of,
    to_mathtext,
    write,
)
from lora_repro.report.page.figures import PageFigure, embed_figure
from lora_repro.tasks.own.task import OWN_SCORE

WIDE = 3.9  # inches of a panel: three of them stand side by side on a screen of 1280 pixels, one on a phone
NARROW, LOW = 3.6, 2.4  # of the search of one rate
DECADE = 10.0  # an axis of costs is logarithmic if they differ by more than this
SPREAD = 4.0  # likewise an axis of losses
FEW = 6  # steps that are each marked on their axis
UNITS = (("GB", 1e9), ("MB", 1e6))


@dataclass(frozen=True)
class Cost:
    """What a score is drawn against. value: of a row, None if it was not measured. told: a value inside a sentence."""

    stem: str
    axis: str
    value: Callable[[Row], float | None]
    told: Callable[[float], str]


def trade_offs(answer: Answer) -> list[PageFigure]:
    """The score against trained values, peak memory and time of a training step, as far as they were measured.

    There is none if every training diverged.
    """
    if answer.diverged:
        return []
    largest = max((row.memory_mb or 0.0 for row in answer.row_trained), default=0.0) * 2**20
    unit, size = next((candidate for candidate in UNITS if largest >= candidate[1]), UNITS[-1])

    def memory(row: Row) -> float | None:
        return None if row.memory_mb is None else row.memory_mb * 2**20 / size

    digits = 1 if unit == "GB" else 0
    costs = (
        Cost("trained", "trained values", lambda row: row.trained, "{:,.0f} trained values".format),
        Cost("memory", f"peak memory ({unit})", memory, f"{{:,.{digits}f}} {unit} of memory".format),
        Cost("time", "time of a training step (ms)", lambda row: row.step_ms, "{:,.0f} ms a step".format),
    )
    return [figure for cost in costs if (figure := _trade_off(answer, cost))]


def _trade_off(answer: Answer, cost: Cost) -> PageFigure | None:
    row_costs = {row.name: value for row in answer.row_trained if row.trained and (value := cost.value(row))}
    if not row_costs:
        return None
    markers = [_point(row, row_costs[row.name]) for row in answer.rows if row.name in row_costs]
    lines = [_point(row, 0.0) for row in answer.rows if not row.trained]
    if answer.constant is not None:
        lines.append(Point("commonest answer", 0.0, answer.constant, None))
    missing = [row.label for row in answer.rows if row.trained and row.name not in row_costs]
    scale = "log" if max(row_costs.values()) > DECADE * min(row_costs.values()) else "linear"
    # A run that diverged counts with the worst score, which would squeeze all others.
    means = [row.mean.mean for row in answer.row_trained if all(run.trained for run in row.runs.values())]
    floor = min(means) if means and len(means) < len(answer.row_trained) else None
    panel = Panel("", (*markers, *lines), f"{cost.axis}{', log scale' if scale == 'log' else ''}", "mean over seeds, bar: ± sd",
                  SINGLE, floor, scale=scale, front=True)  # fmt: skip
    notes = ["Joined: the methods that no other one beats in both, by their means alone."]
    notes += [f"Not drawn, since not measured: {plain(', '.join(missing))}."] if missing else []
    title, caption = _finding(plain(answer.metric), undominated(markers), cost), " ".join(notes)
    return _embedded(
        cost.stem, lambda stem: points.save([panel], plain(answer.metric), stem, title, caption, WIDE)
    )


def _point(row: Row, x: float) -> Point:
    return Point(plain(row.label), x, row.mean.mean, row.mean.sd, _method(row), row.mean.n == 1)


def _finding(metric: str, front: Sequence[Point], cost: Cost) -> str:
    """The highest mean with its cost and, if another method costs less, the one that costs least with its score."""
    top, least = front[-1], front[0]
    text = f"{top.label}: {metric} {top.y:.1f} with {cost.told(top.x)}"
    return text if least.x == top.x else f"{text}; {least.label}: {least.y:.1f} with {cost.told(least.x)}"


def learning(answer: Answer, held_out: int) -> list[PageFigure]:
    """The held-out score and the held-out loss by training step, of each method's run with the median test score.

    held_out: how many rows they are measured on.
    """
    figures = []
    for key, what, scale in (
        ("dev_scores", _held_out_score(answer.rows[0]), 100.0),
        ("dev_losses", "loss", 1.0),
    ):
        runs = {row.name: row.median_run.record["measured"].get(key) or () for row in answer.row_trained}
        rows = [row for row in answer.row_trained if _spots(runs[row.name], scale)]
        if not rows:
            continue
        lines = tuple(
            Curve(plain(row.label), _spots(runs[row.name], scale), row.name, _method(row)) for row in rows
        )
        absent = tuple(
            plain(f"{row.label}{'' if row.median_run.trained else ' (diverged)'}")
            for row in answer.row_trained
            if row not in rows
        )
        losses = [spot.y for line in lines for spot in line.spots]
        wide = key == "dev_losses" and min(losses) > 0 and max(losses) > SPREAD * min(losses)
        steps = sorted({float(spot.x or 0) for line in lines for spot in line.spots})
        ticks = tuple((step, f"{step:,.0f}") for step in steps if len(steps) <= FEW)
        plot = Plot("", "training step", f"held-out {plain(what)}", lines, ticks, scale="linear", log_y=wide, absent=absent,
                    spreadless=True)  # fmt: skip
        title = plain(_last_change(answer, runs, what, scale))
        caption = f"On {held_out:,} held-out rows, of each method the seed with the median test score."
        figures.append(_embedded(key, partial(curves.save, [plot], title=title, caption=caption)))
    return figures


def _spots(looks: Sequence[Sequence[float]], scale: float) -> tuple[CurvePoint, ...]:
    return tuple(CurvePoint(step, scale * value, None) for step, value in looks if value is not None)


def _last_change(answer: Answer, runs: Mapping[str, Any], measure: str, scale: float) -> str:
    """How the best row's curve goes from its first evaluation to its last; of a single evaluation its value."""
    method = answer.best if _spots(runs[answer.best.name], scale) else next(
        row for row in answer.row_trained if _spots(runs[row.name], scale)
    )  # fmt: skip
    looks, digits = _spots(runs[method.name], scale), 1 if scale > 1 else 3
    first, last = looks[0], looks[-1]
    if len(looks) == 1:
        return f"{method.label}: held-out {measure} {last.y:.{digits}f} at step {last.x:,.0f}"
    return (
        f"{method.label}: held-out {measure} from {first.y:.{digits}f} at step {first.x:,.0f} "
        f"to {last.y:.{digits}f} at step {last.x:,.0f}"
    )


@dataclass(frozen=True)
class Tried:
    """The last search of a row's rate. rates: rate -> held-out value, the mean over seeds; None: a trial diverged, or was
    given up on the way (`pruned`: some were).

    by: `score`, in per cent, or `loss`. chosen, first: the rate that the runs have, and where the search began.
    """

    row: Row
    by: str
    rates: Mapping[float, float | None]
    chosen: float
    first: float
    edge: str
    stopped: int
    learnt: bool
    pruned: bool = False

    @property
    def distance(self) -> str:
        """How far the chosen rate lies from the first guess: `9 times its first guess`."""
        factor = self.chosen / self.first
        if 0.99 < factor < 1.01:
            return "its first guess"
        return (
            f"{factor:.2g} times its first guess" if factor > 1 else f"1/{1 / factor:.2g} of its first guess"
        )


def tried(row: Row) -> Tried | None:
    """What a row's search found; None if its rate is given or was not searched."""
    first = row.guess.rate if row.guess and row.guess.rate else row.cell.guess
    search = row.cell.search
    if not search or not first or row.rate is None:
        return None
    last = search["searches"][-1]
    by = str(last.get("by", "loss"))
    key, scale = ("dev_score", 100.0) if by == "score" else ("dev_loss", 1.0)
    values: dict[float, list[float | None]] = {}
    for trial in sorted(last["trials"], key=lambda trial: float(trial["lr"])):
        lost = trial.get("dev_loss") is None or trial.get(key) is None
        values.setdefault(float(trial["lr"]), []).append(None if lost else scale * float(trial[key]))
    means = {
        rate: None if None in scores else statistics.fmean(value for value in scores if value is not None)
        for rate, scores in values.items()
    }
    return Tried(
        row, by, means, row.rate, first, last.get("edge") or "", stopped(last), last.get("learnt", True),
        any(trial.get("status") == PRUNED for trial in last["trials"]),
    )  # fmt: skip


def searches(answer: Answer) -> list[PageFigure]:
    """The held-out score or loss of every rate tried, a picture for each method, all on one scale."""
    rate_searches = [search for row in answer.row_trained if (search := tried(row))]
    values = [value for search in rate_searches for value in search.rates.values() if value is not None]
    return [_embedded("rate", partial(write, partial(_search, search, values))) for search in rate_searches]


def _search(search: Tried, values: Sequence[float]) -> Figure:
    """values: of all methods, which decide the scale."""
    figure = blank(NARROW, LOW)
    axis = figure.subplots()
    measure = "loss" if search.by == "loss" else _held_out_score(search.row)
    axis.set(xlabel="learning rate, log scale", ylabel=f"held-out {plain(measure)}", xscale="log")
    axis.grid(axis="y", color="#e6e6e6", linewidth=0.6, zorder=0)
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    if search.by == "loss" and low > 0 and high > SPREAD * low:
        axis.set(yscale="log", ylim=(low / 1.15, high * 1.15))
    else:
        room = 0.12 * (high - low) or 0.05 * abs(high) or 1.0
        axis.set_ylim(low - room, high + room)
    colour = style_of(_method(search.row)).colour
    curve = {rate: value for rate, value in search.rates.items() if value is not None}
    axis.plot([*curve], [*curve.values()], color=colour, marker="o", markersize=4, linewidth=1.2, zorder=3)
    for rate in [rate for rate, value in search.rates.items() if value is None]:
        axis.plot(rate, 0.04, "x", color=colour, transform=axis.get_xaxis_transform(), zorder=3)
    axis.axvline(search.first, color=GREY, linewidth=1, linestyle=":", zorder=1)
    if search.chosen in curve:
        axis.plot(search.chosen, curve[search.chosen], "*", color=colour, markersize=13, zorder=4)
    axis.xaxis.set_major_locator(LogLocator(numticks=6))
    axis.xaxis.set_minor_formatter(NullFormatter())
    title = f"{search.row.label}: rate {search.chosen:.2g}, {search.distance}"
    add_title_caption(figure, to_mathtext(plain(title)), _how(search))
    return figure


def _how(search: Tried) -> str:
    """How to read the picture, where the search began, and what is wrong with it."""
    guess = search.row.guess
    origin = (
        f", full fine-tuning's times {guess.factor:.2g} (median of {guess.searches} published searches)"
        if guess and guess.factor and guess.searches
        else ""
    )
    sentences = [f"Star: chosen. Dotted: first guess {search.first:.2g}{origin}."]
    if None in search.rates.values():
        sentences.append(
            "×: far behind on the way and given up, or diverged." if search.pruned else "×: diverged."
        )
    if search.edge:
        end = "highest" if search.edge == "high" else "lowest" if search.edge == "low" else search.edge
        sentences.append(f"The best rate is the {end} tried: a better one may lie beyond.")
    if not search.learnt:
        sentences.append("No rate did better than one answer to all rows.")
    return " ".join(sentences)


def _held_out_score(row: Row) -> str:
    """The score that a search and a checkpoint go by: the first of the task's that is not the user's own."""
    metrics = row.cell.asked["task"].get("metrics") or ["score"]
    return next((str(metric).replace("_", " ") for metric in metrics if metric != OWN_SCORE), "score")


def _method(row: Row) -> str:
    return str(row.cell.asked["method"]["name"])


def plain(text: str) -> str:
    """`text` with its dollar signs escaped, which would begin mathematics in a picture."""
    return text.replace("$", r"\$")


def _embedded(name: str, draw: Callable[[Path], object]) -> PageFigure:
    """The picture that `draw` writes at a stem."""
    with tempfile.TemporaryDirectory() as folder:
        draw(Path(folder) / name)
        picture = embed_figure(Path(folder) / name)
    return replace(picture, title=picture.title.replace(r"\$", "$"))

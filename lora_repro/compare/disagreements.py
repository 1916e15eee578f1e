"""The test rows on which the best method and its nearest rival differ most, by their place and their scores.

The texts of a row are shown only if the comparison was asked for with --with-texts; else its records do not hold them either.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lora_repro.compare.answer import Answer, Row
from lora_repro.compare.request import Request
from lora_repro.metrics.corpus import METRICS, Floats, columns
from lora_repro.records.record import load_predictions
from lora_repro.report.table import Number, Table
from lora_repro.stats.comparable import same_inputs
from lora_repro.tasks.base import example_key
from lora_repro.tasks.own.data import content

NUMBERS = ("pearson", "spearman")  # scores of numbers
SHOWN = 8
LONGEST = 1000  # letters of a text that are shown
Lines = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Texts:
    """One row's texts. outputs: label -> what the method's run with the median score answered."""

    place: str
    input: str
    expected: tuple[str, ...]
    outputs: Mapping[str, str]


@dataclass(frozen=True)
class Disagreements:
    """said: on how many rows the two differ. table: the rows on which they differ most. texts: of the same rows, if kept."""

    said: str
    table: Table | None
    texts: tuple[Texts, ...]


def disagreements(answer: Answer, request: Request) -> Disagreements | None:
    """Those of the best row and its nearest rival; None if either has no predictions, or they answered other inputs."""
    best = answer.best
    others = answer.rivals or [row for row in answer.row_trained if row is not best]
    if not others:
        return None
    rival = max(others, key=lambda row: row.mean.mean)
    runs = [[run for run in row.runs.values() if run.trained] for row in (best, rival)]
    if not all(runs) or not same_inputs([run for row_runs in runs for run in row_runs]):
        return None
    predictions = [[load_predictions(run.predictions) for run in row_runs] for row_runs in runs]
    measure = _measured(predictions[0][0][0], best.cell.score)
    ours, theirs = (
        np.mean([_scores(lines, best.cell.score) for lines in of_runs], axis=0) for of_runs in predictions
    )
    gap = ours - theirs
    keys = [str(line["key"]) for line in predictions[0][0]]
    places = _places(keys, request)
    differ = [place for place in np.argsort(-np.abs(gap), kind="stable") if abs(gap[place]) > 1e-9]
    summary = (
        f"{measure}, the mean over seeds, differs on {len(differ):,} of {len(gap):,} test rows: {best.label} is better on "
        f"{int((gap > 1e-9).sum()):,}, {rival.label} on {int((gap < -1e-9).sum()):,}."
    )
    top_rows = differ[:SHOWN]
    if not top_rows:
        return Disagreements(summary, None, ())
    lines = tuple(
        (places[i], keys[i], *(Number(f"{value:.1f}", value) for value in (ours[i], theirs[i])))
        for i in top_rows
    )
    title = f"The {len(top_rows)} rows on which they differ most"
    table = Table((title,), ("Row", "Key", best.label, rival.label), "llrr", lines)
    texts = tuple(_texts(i, places[i], (best, rival)) for i in top_rows) if request.with_texts else ()
    return Disagreements(summary, table, tuple(text for text in texts if text))


def _measured(line: Mapping[str, Any], metric: str) -> str:
    """What `_scores` gives of a row."""
    if metric in NUMBERS:
        return "Minus the absolute error"
    return "Accuracy" if "correct" in line else metric[0].upper() + metric[1:].replace("_", " ")


def _scores(lines: Lines, metric: str) -> Floats:
    """One run's score of each test row, in per cent; larger is better.

    Where a corpus score says nothing of one row: whether its class is right, or minus the error of its number.
    """
    if metric in NUMBERS:
        return np.array([-abs(line["predicted"] - line["gold"]) for line in lines], dtype=float)
    if "correct" in lines[0]:
        return np.array([100.0 * line["correct"] for line in lines])
    return np.nan_to_num(100 * METRICS[metric].corpus(columns(lines, metric)))


def _places(keys: Sequence[str], request: Request) -> list[str]:
    """Where each test row stands: `test.csv, line 12`; where one input has several rows, all of them."""
    data = request.data
    split = "test" if "test" in data.sources else "train"
    file, unit = data.names[split], data.unit[split]
    line_numbers: dict[str, list[int]] = {}
    for row in data.parts.test:
        line_numbers.setdefault(example_key(content(row)), []).append(row.place)
    times, offsets, places = Counter(keys), Counter[str](), []
    for key in keys:
        numbers = line_numbers.get(key, [])
        if times[key] == len(numbers):  # each of them is answered on its own
            numbers = numbers[offsets[key] : offsets[key] + 1]
        offsets[key] += 1
        places.append(f"{file}, {unit}{'s' * (len(numbers) > 1)} {', '.join(map(str, numbers))}" if numbers else "")
    return places


def _texts(number: int, place: str, rows: Sequence[Row]) -> Texts | None:
    lines = {
        row.label: load_predictions(row.median_run.predictions)[number]
        for row in rows
        if row.median_run.trained
    }
    example = next((line for line in lines.values() if "input" in line), None)
    if example is None:
        return None
    outputs = {label: _cut(str(line.get("output", ""))) for label, line in lines.items()}
    return Texts(place, _cut(str(example["input"])), tuple(map(_cut, example.get("references", ()))), outputs)


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} …"

"""results/report.json: every published cell and every claim's verdict as numbers; report.schema.json documents the fields.

    {"tables": {<profile>: {<experiment>: {"cells": [...], "sheets": [...]}}}, "claims": [...]}

`make tables` writes the part of the tables and `make claims` that of the claims, from the same objects as their Markdown.
Nothing is computed here: a sheet's numbers are those that its cells carry (`table.Number`).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lora_repro import console
from lora_repro.errors import UserError
from lora_repro.files import write_json
from lora_repro.planning.cells import Cell
from lora_repro.records import manifest
from lora_repro.records.transaction import Change
from lora_repro.report.claims.ledger import Ledger
from lora_repro.report.columns import AVERAGE, Column, rows_alike
from lora_repro.report.exhibit import Declaration, Exhibit, ReportRequest
from lora_repro.report.numbers import Difference
from lora_repro.report.pivot import Pivot
from lora_repro.report.scores import Result
from lora_repro.report.sheet import Scores
from lora_repro.report.table import Number, Table
from lora_repro.results import PUBLISHED, Store, by_place, runs

NAME = "report.json"
Answer = dict[str, Any]


def experiment_entry(declaration: Declaration, ask: ReportRequest, store: Store, exhibits: Sequence[Exhibit]) -> Answer:
    """What one experiment shows: the cells of its `Pivot`, and any other table as printed, with the numbers behind it."""
    pivot = getattr(declaration, "pivot", declaration)
    parts = pivot.parts(ask) if isinstance(pivot, Pivot) else []
    cells = [cell for _, part, part_cells in parts for cell in _cells(part, ask, part_cells, store)]
    others = [exhibit for exhibit in exhibits if exhibit.stem not in [stem for stem, _, _ in parts]]
    sources = list(dict.fromkeys(run.signature for run in runs(ask.cells, store)))
    return {"cells": cells, "sheets": [_sheet(table, sources) for exhibit in others for table in exhibit.tables]}


def _sheet(table: Table, sources: Sequence[str]) -> Answer:
    rows = [[str(cell) for cell in row] for row in table.rows]
    numbers = [[_number(cell) if isinstance(cell, Number) else None for cell in row] for row in table.rows]
    return {"caption": table.caption, "header": [*table.header], "rows": rows, "numbers": numbers, "records": [*sources]}


def _number(cell: Number) -> Answer:
    return {"value": _plain(cell.value), "sd": _plain(cell.sd), "n": cell.n, "low": _plain(cell.low), "high": _plain(cell.high)}


def claim_entries(ledger: Ledger) -> list[Answer]:
    """One entry per claim, with its verdict and readings at every profile."""
    return [
        {
            "id": claim.id,
            "statement": claim.statement,
            "after_the_paper": claim.after,
            "figure": claim.figure,
            "source": claim.source,
            "test": claim.test.rule,
            "profiles": {
                name: {
                    "verdict": outcome.verdict,
                    "sentence": outcome.sentence,
                    "readings": [_reading(asdict(reading)) for reading in outcome.readings],
                }
                for name, outcome in outcomes.items()
            },
        }
        for claim, outcomes in ledger.entries
    ]


def update_report(
    change: Change,
    tables: Mapping[tuple[str, str], Answer | None] | None = None,
    claims: Sequence[Answer] | None = None,
    anew: bool = False,
) -> Answer:
    """Write what was rendered or judged into report.json, leave the rest of the file as it is, and return the whole.

    tables: (profile, experiment) -> answer; None removes the entry of an experiment that no longer shows anything. anew: these
    are all tables, so a file that is not as it was published, as after a merge, is begun anew. Raises UserError as `read` does.
    """
    try:
        report = read(change.folder)
    except UserError as error:
        if not anew:
            raise
        console.warn(f"{error}; its tables are written anew, its claims by make claims")
        report = {"tables": {}, "claims": []}
    for (profile, experiment), answer in (tables or {}).items():
        if answer is None:
            report["tables"].get(profile, {}).pop(experiment, None)
        else:
            report["tables"].setdefault(profile, {})[experiment] = answer
    by_profile = {name: dict(sorted(tables.items())) for name, tables in sorted(report["tables"].items())}
    document = {"tables": by_profile, "claims": report["claims"] if claims is None else list(claims)}
    write_json(change.staged / NAME, document)
    return document


def read(results: Path) -> Answer:
    """The whole file; without tables and claims where none is published. Raises UserError if it is not what was published."""
    text = manifest.read_text(results, NAME)
    try:
        report = {"tables": {}, "claims": []} if text is None else json.loads(text)
        return {"tables": dict(report["tables"]), "claims": list(report["claims"])}
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(f"{results / NAME} cannot be read ({error}); run make render") from None


def source_signatures(report: Answer, profile: str) -> set[str]:
    """The signatures of the runs behind the tables, figures and claims of a profile. report: the whole file, from `read`."""
    entries = [item for answer in report["tables"].get(profile, {}).values() for item in (*answer["cells"], *answer["sheets"])]
    readings = [reading for claim in report["claims"] for reading in claim["profiles"].get(profile, {"readings": []})["readings"]]
    sources = {Path(source).stem for reading in readings for source in reading["sources"]}
    return {name for item in entries for name in item["records"]} | sources


def _cells(pivot: Pivot, ask: ReportRequest, cells: Sequence[Cell], store: Store) -> list[Answer]:
    entries = []
    for group in by_place(cells, pivot.by):
        if not runs(group, store):
            continue  # only the paper's values: not an answer of ours
        alike = rows_alike(group, pivot.by)
        for scores in pivot.scores(ask, group, [store]):
            for result in scores.results:
                row_cells = [cell for cell in group if cell.row.name == result.row]
                for column in scores.columns:
                    if column.key in result.cells:
                        whole_row = column.value == AVERAGE
                        column_cells = [cell for cell in row_cells if whole_row or column.holds(cell, pivot.by, alike)]
                        entries.append(_cell(scores, result, column, column_cells, store))
    return entries


def _cell(scores: Scores, result: Result, column: Column, cells: Sequence[Cell], store: Store) -> Answer:
    """The entry of one cell. cells: the declared cells at this row and column, with any seed."""
    mean, versus = result.cells[column.key], result.differences.get(column.key)
    values = {axis: list(dict.fromkeys(cell.axes[axis] for cell in cells)) for axis in (cells[0].axes if cells else ())}
    ours = runs(cells, store) if result.source == PUBLISHED else []
    return {
        "row": result.row,
        "label": result.label,
        "source": result.source,
        "backbone": scores.backbone,
        "column": column.key,
        "metric": column.metric.label,
        "higher_is_better": column.metric.direction > 0,
        "axes": {axis: many if len(many) > 1 else many[0] for axis, many in values.items()},
        "value": _plain(mean.mean),
        "sd": _plain(mean.sd),
        "n": mean.n,
        "method_parameters": result.sizes.get(column.key, result.method_parameters),
        "difference": None if versus is None else _difference(versus, scores.reference),
        "records": list(dict.fromkeys(run.signature for run in ours)),
    }


def _difference(versus: Difference, reference: str) -> Answer:
    return {
        "from": reference,
        "value": _plain(versus.mean),
        "low": _plain(versus.low),
        "high": _plain(versus.high),
        "n": versus.n,
        "freedom": _plain(versus.over_seeds.freedom),
        "p": _plain(versus.p),
        "detectable": _plain(versus.detectable),
    }


def _reading(reading: Answer) -> Answer:
    keys = ("what", "unit", "verdict", "better", "n", "generated", "inside")
    numbers = {key: _plain(reading[key]) for key in ("value", "low", "high", "detectable")}
    return {**{key: reading[key] for key in keys}, **numbers, "notes": [*reading["notes"]], "sources": [*reading["sources"]]}


def _plain(value: float | None) -> float | None:
    """Rounded to six digits, as in the CSVs: the last digits of a float differ between machines. None if not finite."""
    return None if value is None or not math.isfinite(value) else float(f"{value:.6g}")

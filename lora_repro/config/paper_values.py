"""The numbers that the paper prints, from conf/paper/<table>.csv: a line a row of the table, a column a printed one.

    row,backbone,params_m,bleu,n,source
    lora,gpt2_medium,0.35,70.4 ± 0.1,3,"Table 3, LoRA, authors"      {params_m: 0.35, bleu: 70.4, bleu_sd: 0.1, n: 3, source: ...}

A cell is empty where the paper prints nothing; `a ± b` is a value and its sd. Lines that begin with # are comments. Where the
paper prints a line per rank or size, a row has several lines: `at` says which, and stands for {at} in the titles of columns. A
title with dots is a path: trained_m.size_8 becomes {trained_m: {size_8: ...}}, and the places 0, 1, ... become a list. In a file
with a column `task`, a line holds for its task alone.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lora_repro.config.hydra_errors import did_you_mean
from lora_repro.config.paths import folders
from lora_repro.errors import UserError
from lora_repro.files import once_per_version

NEEDED = ("row", "backbone", "source")
CELL = re.compile(r"(-?\d+(?:\.\d+)?)(?: ± (\d+(?:\.\d+)?))?")
FACTS = ("n", "source", "params_m")  # columns of any table besides those that it shows


@dataclass(frozen=True)
class Line:
    """One line of a file. `values`: the path of each printed value -> its number; `source` -> its text."""

    row: str
    backbone: str
    task: str
    values: dict[str, Any]


def read(path: Path) -> tuple[Line, ...]:
    """The lines of a table's file; none if there is no such file.

    Raises UserError, in one line that names the file and the row, for a line without a row, backbone or source, a cell that is no
    number, and a value that is given twice.
    """
    return _read(path) if path.is_file() else ()


@once_per_version
def _read(path: Path) -> tuple[Line, ...]:
    text = [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip() and not line.startswith("#")]
    reader, lines = csv.DictReader(text), list[Line]()
    titles = reader.fieldnames or ()
    if len({*titles}) != len(titles):
        raise UserError(f"{_shown(path)}: two columns have the same title")
    for cells in reader:
        location = f"{_shown(path)}, {','.join(filter(None, [cells.get('row'), cells.get('backbone'), cells.get('at')]))}"
        line = _line(cells, location)
        for other in lines:
            if (other.row, other.backbone, other.task) == (line.row, line.backbone, line.task):
                alike = {"source"} if line.values["source"] == other.values["source"] else set()
                if twice := sorted((line.values.keys() & other.values.keys()) - alike):
                    raise UserError(f"{location}: {twice[0]} is given twice")
        lines.append(line)
    return tuple(lines)


def _line(cells: dict[str, str], location: str) -> Line:
    if None in cells or None in cells.values() or "" in cells:
        raise UserError(f"{location}: as many cells as titles, please; a cell with a comma stands in quotes")
    columns = [*NEEDED, *({"task"} & {*cells})]
    if missing := [name for name in columns if not cells.get(name)]:
        raise UserError(f"{location}: no {missing[0]}")
    values: dict[str, Any] = {"source": cells["source"]}
    for title, cell in cells.items():
        if title in (*columns, "at") or not cell:
            continue
        if not (match := CELL.fullmatch(cell)):
            raise UserError(f"{location}: {title} must be a number, or a value with its sd as 70.4 ± 0.1, not {cell!r}")
        if "{at}" in title and not cells.get("at"):
            raise UserError(f"{location}: {title} needs a cell in column `at`")
        key = title.replace("{at}", cells.get("at", ""))
        values |= {name: _number(text) for name, text in ((key, match[1]), (f"{key}_sd", match[2])) if text}
    return Line(cells["row"], cells["backbone"], cells.get("task", ""), values)


def _number(text: str) -> int | float:
    return float(text) if "." in text else int(text)


def of_row(path: Path, row: str) -> dict[str, Any]:
    """What a table's file adds to the settings `row` of one row: `paper`, backbone -> values; empty if it prints nothing of it.

    In a file of tasks the values are chosen by the run's task, when the configuration is resolved.
    """
    paper: dict[str, Any] = {}
    by_task: dict[str, Any] = {}
    for line in read(path):
        if line.row == row:
            into = paper.setdefault(line.backbone, {})
            if line.task:
                paper[line.backbone] = f"${{oc.select:row.paper_by_task.{line.backbone}.${{task.name}},{{}}}}"
                into = by_task.setdefault(line.backbone, {}).setdefault(line.task, {})
            for key, value in line.values.items():
                _put(into, key.split("."), value)
    return {name: _listed(values) for name, values in (("paper", paper), ("paper_by_task", by_task)) if values}


def _put(into: dict[str, Any], path: list[str], value: Any) -> None:
    for part in path[:-1]:
        into = into.setdefault(part, {})
    into[path[-1]] = value


def _listed(value: Any) -> Any:
    """The same with a list for each mapping whose keys are 0, 1, ..."""
    if not isinstance(value, dict):
        return value
    values = {key: _listed(item) for key, item in value.items()}
    return [*values.values()] if values and [*values] == [str(n) for n in range(len(values))] else values


def check_rows(path: Path, rows: Sequence[str]) -> None:
    """Raise UserError for a line about a row that the table lacks."""
    if unknown := next((line.row for line in read(path) if line.row not in rows), ""):
        raise UserError(f"{_shown(path)}: table {path.stem} has no row {unknown!r}; {did_you_mean(unknown, rows)}")


def check_columns(table: str, columns: str, backbones: Sequence[str]) -> None:
    """Raise UserError for a printed value that the table does not show, by its column or its backbone.

    columns: a regular expression for the paths of the values that the table shows, without their sd.
    """
    for path in (folder / "paper" / f"{table}.csv" for folder in folders()):
        for line in read(path):
            if line.backbone not in backbones:
                raise UserError(f"{_shown(path)}: no backbone {line.backbone!r}; {did_you_mean(line.backbone, backbones)}")
            for key in line.values:
                if key not in FACTS and not re.fullmatch(columns, key.removesuffix("_sd")):
                    raise UserError(f"{_shown(path)}: table {table} shows no column {key!r}")


def _shown(path: Path) -> str:
    return "/".join(path.parts[-3:])

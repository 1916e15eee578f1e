"""GLUE's TSV files and similar ones (also as xz or JSON lines), or the same rows from the hub.

Quoting is off: the files hold stray quotation marks, and a reader that pairs them merges lines. CoLA has no header, so its
columns are positions. Source of the layouts: the official GLUE archive (gluebenchmark.com).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from lora_repro.errors import UserError
from lora_repro.tasks._files import generated_rows, home, hub_parts, load_json, read_text

Row = tuple[str, str | None, str]  # first sentence, second or None, label


def rows_sha256(rows: Sequence[Row]) -> str:
    """One hash of the rows, independent of the file that they came from."""
    lines = ["\t".join(part or "" for part in row) for row in rows]
    return hashlib.sha256("\n".join(lines).encode("utf-8")).hexdigest()


def find_files(root: str | None, folder: str, files: Mapping[str, str]) -> dict[str, Path]:
    """split -> its file in `root/folder`. Raises UserError if one is missing."""
    place = home(root, folder, f"{folder} of GLUE", "glue") / folder
    if not place.is_dir():
        raise UserError(f"no folder {place}; paths.data must hold {folder}/ with {', '.join(files.values())}")
    paths = {split: place / name for split, name in files.items()}
    if absent := [path for path in paths.values() if not path.exists()]:
        raise UserError(f"no file {absent[0]}; {folder} needs {', '.join(files.values())}")
    return paths


def load_folder(
    root: str | None, folder: str, files: Mapping[str, str], columns: Mapping[str, object], skip_broken: bool = False
) -> tuple[dict[str, list[Row]], dict[str, str]]:
    """(split -> rows, file -> sha256) of `root/folder`. Raises UserError on a missing, empty or misshapen file."""
    rows, hashes = {}, {}
    for split, path in find_files(root, folder, files).items():
        text, sha256 = read_text(path)
        read = parse_lines if path.name.removesuffix(".xz").endswith(".jsonl") else partial(parse, skip_broken=skip_broken)
        rows[split] = read(text, columns, str(path))
        hashes[f"{folder}/{files[split]}"] = sha256
    return rows, hashes


def parse(text: str, columns: Mapping[str, object], path: str, skip_broken: bool = False) -> list[Row]:
    """The rows of one TSV file. `columns`: first, second (or null), label, as header names or as positions without a header.

    `skip_broken`: leave out lines with another number of cells than the header; QQP's files hold rows cut in two.
    """
    lines = [line.removesuffix("\r").split("\t") for line in text.split("\n")]
    lines = [line for line in lines if line != [""]]
    if not lines:
        raise UserError(f"{path} is empty")
    fields = [columns["first"], columns.get("second"), columns["label"]]
    if any(isinstance(column, str) for column in fields):
        head = lines.pop(0)
        if absent := [str(column) for column in fields if column is not None and column not in head]:
            raise UserError(
                f"{path} has no column {absent[0]!r} (its header: {', '.join(head)[:80]!r}); "
                "it must be a TSV file, or JSON lines in a .jsonl file"
            )
        fields = [None if column is None else head.index(str(column)) for column in fields]
        if skip_broken:
            lines = [line for line in lines if len(line) == len(head)]
    rows: list[Row] = []
    for number, line in enumerate(lines, start=1):
        try:
            first, second, label = (None if place is None else line[int(str(place))] for place in fields)
        except IndexError:
            raise UserError(
                f"{path}, row {number} has only {len(line)} columns; was the file saved with quoting?"
            ) from None
        assert first is not None and label is not None
        rows.append((first.strip(), None if second is None else second.strip(), label.strip()))
    if not rows:
        raise UserError(f"{path} has a header and no rows")
    return rows


def parse_lines(text: str, columns: Mapping[str, object], path: str) -> list[Row]:
    """The rows of a file with one JSON object per line, as SuperGLUE's. `columns`: the keys of first, second (or null), label."""
    rows: list[Row] = []
    keys = [columns["first"], columns.get("second"), columns["label"]]
    lines = [line for line in text.split("\n") if line not in ("", "\r")]
    for number, line in enumerate(lines, start=1):
        try:
            record = load_json(line, path, number)
            first, second, label = (None if key is None else _cell(record[key]) for key in keys)
        except (KeyError, TypeError) as error:
            names = ", ".join(str(key) for key in keys if key is not None)
            raise UserError(f"{path}, line {number}: not a JSON object with {names} ({error})") from None
        assert first is not None and label is not None
        rows.append((first, second, label))
    if not rows:
        raise UserError(f"{path} is empty")
    return rows


def _cell(value: object) -> str:
    if value is None or isinstance(value, (list, dict)):
        raise TypeError(f"{json.dumps(value)[:80]} is not text")
    return str(value).strip()


def load_hub(hub: Mapping[str, str], files: Mapping[str, str]) -> dict[str, list[Row]]:
    """split -> rows of GLUE on the hub at its pinned revision. Raises NotAvailable if it cannot be reached."""
    if not hub:
        raise UserError("this task is not on the hub; use task.source=folder")
    splits = {"train": "train", **{split: hub.get(split, "validation") for split in files if split != "train"}}
    parts = hub_parts(hub["id"], hub["revision"], hub["config"], splits.values())
    return {split: _hub_rows(parts[name], hub) for split, name in splits.items()}


def _hub_rows(part: Any, hub: Mapping[str, str]) -> list[Row]:
    """The rows, read column by column since MNLI has 412,000 of them."""
    columns = part[:]
    first, labels = columns[hub["first"]], columns["label"]
    second = columns[hub["second"]] if hub.get("second") else [None] * len(first)
    names = getattr(part.features["label"], "names", None)

    def text(label: Any) -> str:
        if names:
            return hub.get(f"label_{names[label]}", names[label])
        return f"{label:.3f}" if isinstance(label, float) else str(label)  # STS-B: float32 here, up to three digits in its files

    texts = {label: text(label) for label in set(labels)}
    rows = zip(first, second, labels, strict=True)
    return [(one.strip(), None if other is None else other.strip(), texts[label]) for one, other, label in rows]


def load_generated(name: str) -> dict[str, list[Row]]:
    """split -> the rows of a sentence task that we generated, classes equally often. Raises UserError if there is no such task.

    Words that a row of dev or test has together do not occur together in a first sentence of train, except beside a hypernym.
    """
    path = Path(__file__).with_name(f"{name}.jsonl.xz")
    if not path.exists():
        names = sorted(other.name.partition(".")[0] for other in path.parent.glob("*.jsonl.xz"))
        raise UserError(f"no embedded task {name!r}; there are {', '.join(names)}")
    return {split: [(first, second, label) for first, second, label in rows] for split, rows in generated_rows(path).items()}

"""Reading a table of the user's: CSV, TSV, JSON, JSON lines, Parquet, a folder of `datasets`, or a data set of the model hub.

Text files may be compressed (.gz, .bz2, .xz). Nothing is written beside the user's data. What cannot be read is refused with
its line.
"""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import logging
import lzma
import math
import sys
import tempfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from lora_repro.config.file_hashes import HUB, content_hash, stamp
from lora_repro.errors import UserError
from lora_repro.sources import hub

PACKED: dict[str, Callable[[bytes], bytes]] = {".gz": gzip.decompress, ".bz2": bz2.decompress, ".xz": lzma.decompress}
KINDS = (".csv", ".tsv", ".json", ".jsonl", ".ndjson", ".parquet")
# What `datasets` calls a split, for each of ours.
SPLITS = {"train": ("train",), "dev": ("validation", "valid", "dev"), "test": ("test",)}

Cell = str | list[Any] | dict[str, Any]  # a list or an object only as Parquet and JSON have them


@dataclass(frozen=True)
class Table:
    """The rows of one file. name: what messages call it. header: its columns. sha256: of its content.

    places: where each row begins, counted from 1 in `unit`s (`line` of a text file, else `row`).
    """

    name: str
    header: tuple[str, ...]
    rows: tuple[dict[str, Cell], ...]
    places: tuple[int, ...]
    unit: str
    sha256: str

    def at(self, place: int) -> str:
        """`reviews.csv, line 12`."""
        return f"{self.name}, {self.unit} {place}"


def read(source: str, split: str = "train") -> Table:
    """The rows of a file, a folder that `datasets` saved, or `owner/name@COMMIT` on the hub.

    split: which part to take (train, dev or test) of a source that has several. Raises UserError; NotAvailable without the hub.
    """
    digest = content_hash(source)
    path = Path(source).expanduser()
    return _read(source, split, stamp(path) if path.exists() else (), str(digest))


@lru_cache(maxsize=6)  # a run builds its task several times; `version` and `digest` keep a changed file apart
def _read(source: str, split: str, version: object, digest: str) -> Table:
    path = Path(source).expanduser()
    if path.is_dir():
        return _of_dataset(_saved(path, split), path.name, digest)
    if not path.exists():
        return _of_dataset(_on_hub(source, split), source.partition("@")[0], digest)
    kind = (path.with_suffix("").suffix if path.suffix.lower() in PACKED else path.suffix).lower()
    if kind not in KINDS:
        raise UserError(f"{path.name} is of no known kind: name it {', '.join(KINDS)} (text also .gz, .bz2, .xz)")
    if kind == ".parquet":
        return _of_dataset(_parquet(path), path.name, digest)
    text = _text(path)
    entries = _delimited(text, path.name, kind) if kind in (".csv", ".tsv") else _objects(text, path.name, kind)
    if not entries:
        raise UserError(f"{path.name} has no rows: give a file with at least one")
    header = tuple(dict.fromkeys(key for _, row in entries for key in row if key))
    unit = "row" if kind == ".json" and text.lstrip()[:1] == "[" else "line"
    return Table(path.name, header, tuple(row for _, row in entries), tuple(place for place, _ in entries), unit, digest)


def _text(path: Path) -> str:
    """A text file's content. Raises UserError for an empty or damaged one, and with the line of what is not UTF-8 or a NUL."""
    try:
        content = PACKED.get(path.suffix.lower(), bytes)(path.read_bytes())
        text = content.decode("utf-8-sig")
    except (EOFError, zlib.error, gzip.BadGzipFile, lzma.LZMAError, ValueError) as error:
        if not isinstance(error, UnicodeDecodeError):
            raise UserError(f"{path.name} is not a complete {path.suffix} file: copy it again") from None
        line = content.count(b"\n", 0, error.start) + 1
        raise UserError(f"{path.name}, line {line} is not UTF-8: save the file as UTF-8 (iconv -f LATIN1 -t UTF-8)") from None
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or 'damaged'}") from None
    if (place := text.find("\0")) >= 0:
        line = text.count("\n", 0, place) + 1
        raise UserError(f"{path.name}, line {line} holds a NUL: save the file as UTF-8 text (iconv -f UTF-16 -t UTF-8)")
    if not text.strip():
        raise UserError(f"{path.name} is empty: give a file with a row of data")
    return text


def _delimited(text: str, name: str, kind: str) -> list[tuple[int, dict[str, Cell]]]:
    """(line, row) of a CSV or TSV file with a header. In a .csv the cells may also be parted by ; or a tab."""
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))  # of a whole process: texts are longer than csv's usual limit
    first = text.lstrip("\r\n").partition("\n")[0]
    delimiter = "\t" if kind == ".tsv" else max(",;\t", key=first.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    header: list[str] = []
    entries: list[tuple[int, dict[str, Cell]]] = []
    begins = 1
    try:
        for cells in reader:
            if not header:
                header = [cell.strip() for cell in cells]
                if twice := [cell for cell in header if cell and header.count(cell) > 1]:
                    raise UserError(f"{name} has two columns {twice[0]!r}: rename one")
            elif cells:
                if len(cells) != len(header):
                    counts = f"{len(cells)} cells under {len(header)} columns ({', '.join(header)[:60]})"
                    raise UserError(f"{name}, line {begins} has {counts}: put a text with {delimiter!r} in double quotes")
                entries.append((begins, dict(zip(header, cells, strict=True))))
            begins = reader.line_num + 1
    except csv.Error as error:
        raise UserError(f"{name}, line {begins}: {error}; double a quotation mark inside quotes, or use JSON lines") from None
    return entries


def _objects(text: str, name: str, kind: str) -> list[tuple[int, dict[str, Cell]]]:
    """(line, row) of JSON lines, or (row, row) of a JSON list of objects."""
    if kind == ".json" and text.lstrip()[:1] == "[":
        items = enumerate(_parsed(text, name), start=1)
        return [(place, _row(item, f"{name}, row {place}")) for place, item in items]
    lines = [(place, line) for place, line in enumerate(text.split("\n"), start=1) if line.strip()]
    return [(place, _row(_parsed(line, location), location)) for place, line in lines for location in [f"{name}, line {place}"]]


def _parsed(text: str, location: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deep" if isinstance(error, RecursionError) else error
        raise UserError(f"{location} is not JSON ({reason}): correct it, or name the file by what it holds") from None


def _row(value: Any, location: str) -> dict[str, Cell]:
    """A JSON object as a row of cells. Raises UserError for anything else, and for half of a surrogate pair."""
    if not isinstance(value, dict):
        raise UserError(f"{location} is {json.dumps(value)[:40]}, not an object: write {{\"text\": ..., \"label\": ...}}")
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise UserError(f"{location} holds half of a surrogate pair: remove that character") from None
    return {key: _cell(item) for key, item in value.items()}


def _cell(value: Any) -> Cell:
    """A value as the text that a CSV file has for it; lists and objects as they are."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, bytes):
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError:
            raise UserError(f"a cell holds bytes that are not UTF-8 text ({value!r:.40}): write texts") from None
    return value if isinstance(value, str | list | dict) else str(value)


def _parquet(path: Path) -> Any:
    """A Parquet file as a `datasets.Dataset` in memory; its cache is in a temporary folder, and is gone afterwards."""
    from datasets import Dataset, disable_progress_bars  # type: ignore[import-untyped]  # slow to import
    from datasets.exceptions import DatasetsError  # type: ignore[import-untyped]

    disable_progress_bars()
    logging.getLogger("datasets").setLevel(logging.CRITICAL)  # it says what it raises, too
    with tempfile.TemporaryDirectory() as folder:
        try:
            return Dataset.from_parquet(str(path), cache_dir=folder, keep_in_memory=True)
        except (DatasetsError, OSError, ValueError):
            raise UserError(f"{path.name} is not a Parquet file that can be read: write it again, or use JSON lines") from None


def _saved(path: Path, split: str) -> Any:
    """A `datasets.Dataset` from a folder that its `save_to_disk` wrote."""
    from datasets import load_from_disk

    try:
        return _part(load_from_disk(str(path), keep_in_memory=True), split, path.name)
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = str(error).partition("\n")[0][:80]
        raise UserError(f"{path} is no folder that datasets' save_to_disk wrote ({reason}): name a file in it") from None


def _on_hub(source: str, split: str) -> Any:
    """A split of `owner/name:configuration@COMMIT`."""
    from datasets import disable_progress_bars, load_dataset

    match = HUB.fullmatch(source)
    assert match  # `content_hash` has refused anything else
    disable_progress_bars()
    try:
        return _part(load_dataset(match["id"], match["config"], revision=match["revision"]), split, match["id"])
    except UserError:
        raise
    except (OSError, ValueError, RuntimeError) as error:
        code = getattr(getattr(error, "response", None), "status_code", None)
        raise hub.told(error, code, match["id"], match["revision"]) from None


def _part(dataset: Any, split: str, name: str) -> Any:
    if not isinstance(dataset, dict):  # a `Dataset`; a `DatasetDict` is a dict
        return dataset
    part = next((dataset[name] for name in SPLITS[split] if name in dataset), None)
    if part is None:
        raise UserError(f"{name} has no split {' or '.join(SPLITS[split])} (it has {', '.join(dataset)}): save that split alone")
    return part


def _of_dataset(part: Any, name: str, digest: str) -> Table:
    columns = {key: _column(part.features[key], part[key][:]) for key in part.column_names}
    if not len(part):
        raise UserError(f"{name} has no rows: give one with at least one")
    rows: Sequence[tuple[Cell, ...]] = list(zip(*columns.values(), strict=True))
    records = tuple(dict(zip(columns, row, strict=True)) for row in rows)
    return Table(name, tuple(columns), records, tuple(range(1, len(records) + 1)), "row", digest)


def _column(feature: Any, values: Sequence[Any]) -> list[Cell]:
    """The cells of one column, classes by their names."""
    names = getattr(feature, "names", None)
    return [_cell(names[value] if names and value is not None and value >= 0 else value) for value in values]

"""WikiSQL's own files (salesforce/WikiSQL, data.tar.bz2), or the same with column names in place of whole tables.

- <split>.jsonl: {"table_id", "question", "sql": {"sel", "agg", "conds"}} per line.
- <split>.tables.jsonl: {"id", "header", "types", "rows"} per line; or <split>.headers.jsonl with id and header only, and then no
  query can be run.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from lora_repro.errors import UserError
from lora_repro.metrics.sql import Query, Table, from_json
from lora_repro.tasks._files import find, generated_rows, home, load_json, read_text
from lora_repro.tasks.base import SPLITS

Row = tuple[Table, str, Query]  # (table, question, its query)
OFFICIAL_TRAIN = 56355
# Numbers of rows that a split may have. 56,317: rebuilt from jkkummerfeld/text2sql-data, where 38 conditions are lost.
ROWS = {"train": (OFFICIAL_TRAIN, 56317), "dev": (8421,), "test": (15878,)}


def rows_sha256(rows: Sequence[Row]) -> str:
    """sha256 over one JSON list [header, question, select, aggregate, conditions] per row."""
    digest = hashlib.sha256()
    for table, question, query in rows:
        parts = [table.header, question, query.select, query.aggregate, query.conditions]
        digest.update((json.dumps(parts, ensure_ascii=False) + "\n").encode("utf-8"))
    return digest.hexdigest()


def find_files(root: str | None, folder: str) -> dict[str, tuple[Path, Path]]:
    """split -> (file of questions, file of tables or headers). Raises UserError if one is missing."""
    place = home(root, folder, "WikiSQL", "wikisql") / folder
    found = {}
    for split in SPLITS:
        questions = find(place, [f"{split}.jsonl"])
        tables = find(place, [f"{split}.tables.jsonl", f"{split}.headers.jsonl"])
        if questions is None or tables is None:
            lacking = f"{split}.jsonl" if questions is None else f"{split}.tables.jsonl"
            raise UserError(f"no {lacking} (or .xz) in {place}; paths.data must hold {folder}/ with it")
        found[split] = (questions, tables)
    return found


def _lines(path: Path) -> tuple[list[object], str]:
    text, sha256 = read_text(path)
    lines = []
    for number, line in enumerate(text.rstrip("\r\n").split("\n"), start=1):
        lines.append(load_json(line, path, number))
    return lines, sha256


def read_tables(path: Path) -> tuple[dict[str, Table], str]:
    """(table id -> table, the file's sha256). Raises UserError."""
    lines, sha256 = _lines(path)
    tables = {}
    for number, line in enumerate(lines, start=1):
        try:
            assert isinstance(line, dict) and isinstance(line["id"], str)
            header, rows = tuple(line["header"]), line.get("rows")
            assert all(isinstance(name, str) for name in header)
            cells = None if rows is None else tuple(map(tuple, rows))
            if cells is not None and any(len(row) != len(header) for row in cells):
                raise UserError(f"{path}, line {number}: a row and the header have different lengths")
            tables[line["id"]] = Table(header, tuple(line.get("types", ())), cells)
        except (AssertionError, AttributeError, KeyError, TypeError):
            raise UserError(f"{path}, line {number} is not a table: expected id and header") from None
    return tables, sha256


def load_folder(root: str | None, folder: str) -> tuple[dict[str, list[Row]], dict[str, str]]:
    """(split -> rows, file -> sha256); row counts are checked. Raises UserError on anything missing, malformed or truncated."""
    splits: dict[str, list[Row]] = {}
    hashes: dict[str, str] = {}
    for split, (path, tables_path) in find_files(root, folder).items():
        tables, hashes[f"{folder}/{tables_path.name}"] = read_tables(tables_path)
        lines, hashes[f"{folder}/{path.name}"] = _lines(path)
        splits[split] = []
        for number, line in enumerate(lines, start=1):
            try:
                assert isinstance(line, dict)
                table, question = tables[line["table_id"]], line["question"]
                assert isinstance(question, str)
                if any(not name.strip() or " | " in name for name in table.header):
                    raise UserError(f"its table {line['table_id']} has a column without a name, or with ' | ' in it")
                splits[split].append((table, question, from_json(line["sql"], len(table.header))))
            except UserError as error:
                raise UserError(f"{path}, line {number}: {error}") from None
            except (KeyError, TypeError) as error:
                raise UserError(f"{path}, line {number}: no table or field {error}; take the official files") from None
            except AssertionError:
                raise UserError(f"{path}, line {number} is no question with a text: take the official files") from None
        if len(splits[split]) not in ROWS[split]:
            wanted = " or ".join(f"{n:,}" for n in ROWS[split])
            raise UserError(f"WikiSQL {split} has {len(splits[split]):,} rows, expected {wanted}: take the official file")
    return splits, hashes


def load_generated() -> dict[str, list[Row]]:
    """split -> the rows that we generated. Every query has a result, and one kind of table is in dev and test only."""
    splits: dict[str, list[Row]] = {}
    for split, rows in generated_rows(Path(__file__).with_name("generated.jsonl.xz")).items():
        for table, question, query in rows:
            header = tuple(table["header"])
            cells = tuple(map(tuple, table["rows"]))
            row = Table(header, tuple(table["types"]), cells), question, from_json(query, len(header))
            splits.setdefault(split, []).append(row)
    return splits

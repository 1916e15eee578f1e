"""WikiSQL: from a question and a table's column names to SQL (Zhong et al. 2017; LoRA paper, Section 5.5, Table 4).

The paper (Appendix C): "We encode context as x = {table schema, query} and target as y = {SQL}". It does not say in which form.
Here it is a line of column names, a line with the question, and the SQL of `metrics.sql`.

Its own files (salesforce/WikiSQL, data.tar.bz2), or the same with column names in place of whole tables:

- <split>.jsonl: {"table_id", "question", "sql": {"sel", "agg", "conds"}} per line.
- <split>.tables.jsonl: {"id", "header", "types", "rows"} per line; or <split>.headers.jsonl with id and header only, and then no
  query can be run.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from lora_repro.errors import UserError
from lora_repro.metrics import sql
from lora_repro.metrics.sql import Query, Table, from_json
from lora_repro.tasks import _files
from lora_repro.tasks._files import find, generated_rows, home, json_lines_sha256, load_json, read_text
from lora_repro.tasks.base import SPLITS, AbstractTask, Example, Scores, Splits, check_scorable, example_key

BAR = " | "
METRICS = ("logical_form_accuracy", "execution_accuracy")
Row = tuple[Table, str, Query]  # (table, question, its query)
OFFICIAL_TRAIN = 56355
# Numbers of rows that a split may have. 56,317: rebuilt from jkkummerfeld/text2sql-data, where 38 conditions are lost.
ROWS = {"train": (OFFICIAL_TRAIN, 56317), "dev": (8421,), "test": (15878,)}


def rows_sha256(rows: Sequence[Row]) -> str:
    """sha256 over one JSON list [header, question, select, aggregate, conditions] per row."""
    return json_lines_sha256(
        (table.header, question, query.select, query.aggregate, query.conditions) for table, question, query in rows
    )


def find_files(root: str | None, folder: str) -> dict[str, tuple[Path, Path]]:
    """split -> (file of questions, file of tables or headers). Raises UserError if one is missing."""
    place = home(root, folder, "WikiSQL", "wikisql") / folder
    files = {}
    for split in SPLITS:
        questions = find(place, [f"{split}.jsonl"])
        tables = find(place, [f"{split}.tables.jsonl", f"{split}.headers.jsonl"])
        if questions is None or tables is None:
            missing = f"{split}.jsonl" if questions is None else f"{split}.tables.jsonl"
            raise UserError(f"no {missing} (or .xz) in {place}; paths.data must hold {folder}/ with it")
        files[split] = (questions, tables)
    return files


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
            counts = " or ".join(f"{n:,}" for n in ROWS[split])
            raise UserError(f"WikiSQL {split} has {len(splits[split]):,} rows, expected {counts}: take the official file")
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


@dataclass(frozen=True)
class Question(Example):
    """A question with its table, which execution needs; a logical form needs only the column names in `input`."""

    table: sql.Table | None = None


def written(header: Sequence[str], question: str) -> str:
    """The input text: column names separated by ` | `, and the question on the next line."""
    return f"{BAR.join(map(sql.named, header))}\n{' '.join(question.split())}"


def header_of(text: str) -> tuple[str, ...]:
    """The column names of an input text."""
    return tuple(text.partition("\n")[0].split(BAR))


def examples(rows: Sequence[Row], scored: bool) -> list[Example]:
    """One example per row. With `scored` its SQL is the reference, not the target."""
    questions: list[Example] = []
    for table, question, query in rows:
        text, target = written(table.header, question), sql.write(query, table.header)
        references = (target,) if scored else ()
        questions.append(Question(example_key(text), text, "" if scored else target, references, table=table))
    return questions


@dataclass(frozen=True)
class WikiSQL(AbstractTask):
    """WikiSQL, scored by logical form and, if the tables' rows are at hand, by the results of the queries.

    source: "embedded" (generated by us, synthetic) or "folder" (`<paths.data>/<folder>`: <split>.jsonl and
    <split>.tables.jsonl, or <split>.headers.jsonl with column names only; plain or .xz). scored: the split that is scored. The
    paper scores "dev", which then also chooses the epoch; "test" is independent of that choice. metrics: the scores; the first
    is the task's main score in a table. Raises UserError on any other value.
    """

    source: str
    folder: str = "wikisql"
    scored: str = "dev"
    name: str = "wikisql"
    metrics: Sequence[str] = ("logical_form_accuracy", "execution_accuracy")

    attribution: ClassVar[str] = "WikiSQL: Zhong et al. 2017, BSD 3-Clause."
    cut: ClassVar[str] = "the question's first words, never a column name,"

    @property
    def directions(self) -> dict[str, int]:
        return dict.fromkeys(self.metrics, 1)

    def __post_init__(self) -> None:
        if not self.metrics or not {*self.metrics} <= {*METRICS}:
            raise UserError(f"task.metrics={list(self.metrics)}: choose from {', '.join(METRICS)}")
        if self.source not in ("embedded", "folder"):
            raise UserError(f"task.source={self.source}: choose embedded or folder")
        if self.scored not in ("dev", "test"):
            raise UserError(f"task.scored={self.scored}: choose dev (as the paper) or test")

    def caption(self, rows: dict[str, list[Row]]) -> str:
        """What tables print: source, the scored split, lost training rows, and whether queries could be run."""
        if self.source == "embedded":
            return "synthetic questions about generated tables (not WikiSQL)"
        n = len(rows["train"])
        note = "" if n == OFFICIAL_TRAIN else f"; {n:,} of {OFFICIAL_TRAIN:,} training rows"
        at_hand = all(table.rows is not None for table, _, _ in rows[self.scored])
        tables = "" if at_hand else "; the tables' rows are not at hand: no execution accuracy"
        return f"WikiSQL ({self.scored}, from local files{note}{tables})"

    def load(self, folder: str | None) -> Splits:
        """Train, dev, and the scored split as test; one example per row, as in the official evaluation."""
        rows, hashes = (load_generated(), {}) if self.source == "embedded" else load_folder(folder, self.folder)
        hashes |= {f"{self.name}/rows/{split}": rows_sha256(split_rows) for split, split_rows in rows.items()}
        others = _files.others(self.name, rows, hashes) if self.source == "folder" else ()
        parts = (examples(rows["train"], False), examples(rows["dev"], False), examples(rows[self.scored], True))
        return Splits(*parts, _files.marked(self.caption(rows), others), hashes, others)

    def ready(self, folder: str | None) -> None:
        if self.source == "folder":
            find_files(folder, self.folder)

    def ask(self, text: str) -> Example:
        """The example for column names and a question: `Player | No. | Team || Who wears number 42?`."""
        columns, _, question = text.partition("||")
        header = [column.strip() for column in columns.split("|")]
        if not question.strip() or not all(header):
            raise UserError("write a question of WikiSQL as COLUMN | COLUMN || QUESTION")
        prompt = written(header, question)
        return Question(example_key(prompt), prompt, "", table=sql.Table(tuple(header)))

    def remark(self, example: Example, output: str) -> str:
        """Whether the output is a query of this table, and if not why."""
        try:
            sql.read(output, header_of(example.input))
        except UserError as error:
            return f"no query: {error}"
        return "a query of this table"

    def shorter(self, example: Example) -> Iterator[Example]:
        names, _, question = example.input.partition("\n")
        words = question.split(" ")
        return (replace(example, input=f"{names}\n{' '.join(words[n:])}") for n in range(1, len(words)))

    def score(self, outputs: list[str], examples: list[Example]) -> Scores:
        """Shares of outputs with the right logical form, and with the right result (NaN unless every table has its rows).

        Raises UserError when the lengths differ, an example has no SQL or the tables are not those of the questions.
        """
        check_scorable(outputs, examples, "SQL")
        tables = [_table(example) for example in examples]
        if any(table.rows is None for table in tables):
            tables = [sql.Table(table.header) for table in tables]
        per_input = [
            sql.score(output, example.references[0], table)
            for output, example, table in zip(outputs, examples, tables, strict=True)
        ]
        return Scores({metric: _mean(per_input, metric.removesuffix("_accuracy")) for metric in self.directions}, per_input)


def _table(example: Example) -> sql.Table:
    table = example.table if isinstance(example, Question) else None
    return table or sql.Table(header_of(example.input))


def _mean(per_input: Sequence[dict[str, object]], key: str) -> float:
    """The mean of `key`; NaN, not 0, if it was not measured."""
    return sum(int(str(row[key])) for row in per_input) / len(per_input) if key in per_input[0] else math.nan

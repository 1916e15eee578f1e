"""WikiSQL: SQL text to and from logical form, the official rules of scoring, files in miniature, cutting, the real files."""

from __future__ import annotations

import bz2
import json
import lzma
import math
import os
from pathlib import Path

import pytest
from bootstrap_interval import paired_bootstrap
from conftest import refused

from lora_repro.metrics import sql
from lora_repro.metrics.sql import Query, Table
from lora_repro.tasks.base import Example
from lora_repro.tasks.wikisql import task as wikisql_files
from lora_repro.tasks.wikisql.task import WikiSQL, header_of, written

pytestmark = pytest.mark.usefixtures("own_rows")

HEADER = ("Player", "No.", "School/Club  Team", 'Nick"name')
TABLE = Table(
    HEADER, ("text", "real", "text", "text"),
    (("Ash", 3, "Butler CC (KS)", "A"), ("Bo", 7, "Duke", "B"), ("Cy", 12.5, "Duke", "C"), ("Di", None, "Yale", "D")),
)  # fmt: skip


# --- text and logical form


@pytest.mark.parametrize(
    ("query", "text"),
    [
        (Query(0, 0, ()), 'SELECT "Player" FROM table'),
        (Query(1, 5, ((2, 0, "Duke"),)), """SELECT AVG("No.") FROM table WHERE "School/Club Team" = 'Duke'"""),
        (Query(3, 3, ((0, 0, "O'Hara and \"Bo\""), (1, 1, "3.5"))),
         """SELECT COUNT("Nick""name") FROM table WHERE "Player" = 'O''Hara and "Bo"' AND "No." > '3.5'"""),
    ],
)  # fmt: skip
def test_a_query_and_its_text(query: Query, text: str) -> None:
    assert sql.write(query, HEADER) == text
    assert sql.read(text, HEADER) == query


def test_what_a_model_may_write_differently_and_mean_the_same() -> None:
    query = """ select count( "school/club team" )  FROM Table where "NO." < 7 and "player" = 'Bo' ; """
    assert sql.read(query, HEADER) == Query(2, 3, ((1, 2, "7"), (0, 0, "Bo")))
    assert sql.read('SELECT "Player" FROM table WHERE "No." > -1,000.5', HEADER).conditions == ((1, 1, "-1,000.5"),)


@pytest.mark.parametrize(
    "text",
    [
        "", "SELECT", "SELECT Player FROM table", 'SELECT "Age" FROM table', 'SELECT COUNT("Player" FROM table',
        'SELECT "Player" FROM table WHERE', """SELECT "Player" FROM table WHERE "Age" = 'x'""",
        """SELECT "Player" FROM table AND "No." = '3'""", """SELECT "Player" FROM table WHERE "No." = '3' WHERE "No." = '4'""",
        """SELECT "Player" FROM table WHERE "No." = '3""", """SELECT "Player" FROM table WHERE "No." = '3' ORDER BY 1""",
        """SELECT "Player" FROM table WHERE "No." = '3'.""",
        'SELECT "Player" FROM table; DROP TABLE t', """SELECT "Player" FROM table WHERE "No." >= '3'""",
    ],
)  # fmt: skip
def test_what_is_no_query_is_refused(text: str) -> None:
    refused(lambda: sql.read(text, HEADER))


def test_columns_are_found_without_case_and_white_space_and_the_first_counts() -> None:
    """`Query.from_sequence` of the official code."""
    assert sql.read('SELECT "SCHOOL/clubteam" FROM table', HEADER).select == 2
    assert sql.read('SELECT "a" FROM table', ("b", "A", "a")).select == 1


# --- scoring

GOLD = """SELECT COUNT("Player") FROM table WHERE "School/Club Team" = 'Duke' AND "No." > '3'"""


@pytest.mark.parametrize(
    ("output", "logical_form", "execution"),
    [
        (GOLD, 1, 1),
        ("""SELECT COUNT("Player") FROM table WHERE "No." > '3' AND "School/Club Team" = 'DUKE'""", 1, 1),  # a set, case apart
        ("""SELECT COUNT("Player") FROM table WHERE "No." > '3' AND "No." > '3' AND "School/Club Team" = 'Duke'""", 1, 1),
        ("""SELECT COUNT("Player") FROM table WHERE "School/Club Team" = 'Duke' AND "No." > '3.0'""", 0, 1),  # values are strings
        ("""SELECT COUNT("Nick""name") FROM table WHERE "School/Club Team" = 'Duke' AND "No." > '3'""", 0, 1),
        ("""SELECT "Player" FROM table WHERE "School/Club Team" = 'Duke' AND "No." > '3'""", 0, 0),
        ("""SELECT COUNT("Player") FROM table WHERE "School/Club Team" = 'Duke' AND "No." < '3'""", 0, 0),
        ("""SELECT COUNT("Player") FROM table WHERE "School/Club Team" = 'Duke'""", 0, 1),
        ("""SELECT COUNT("Player") FROM table WHERE "No." > 'no number'""", 0, 0),  # cannot be run
        ("two", 0, 0),
    ],
)
def test_logical_form_and_execution_of_one_output(output: str, logical_form: int, execution: int) -> None:
    scores = sql.score(output, GOLD, TABLE)
    assert (scores["logical_form"], scores["execution"]) == (logical_form, execution)
    assert scores["readable"] == (output != "two")
    assert "execution" not in sql.score(output, GOLD, Table(HEADER))


@pytest.mark.parametrize(
    ("query", "result"),
    [
        (Query(0, 0, ()), ["ash", "bo", "cy", "di"]),
        (Query(1, 1, ()), [12.5]),
        (Query(1, 4, ((2, 0, "DUKE"),)), [19.5]),
        (Query(0, 0, ((1, 1, "about 3 or 4"),)), ["bo", "cy"]),  # the first number of a text
        (Query(0, 0, ((1, 1, "about 3 or 40"),)), ["bo", "cy"]),  # and no other
        (Query(0, 0, ((1, 1, "12"), (1, 1, "3"))), ["bo", "cy"]),  # both bound to the last value, 3
        (Query(0, 0, ((1, 0, "1,2.5"),)), ["cy"]),  # commas are thousands
        (Query(1, 2, ((2, 0, "Oxford"),)), [None]),
        (Query(0, 0, ((1, 1, "3"), (1, 2, "12"))), []),  # both bound to the last value, 12: the official engine's fault
    ],
)
def test_what_a_query_finds(query: Query, result: list[object]) -> None:
    assert sql.execute(query, TABLE) == result


def test_a_result_with_other_repetitions_is_another() -> None:
    table = Table(("A", "B"), ("text", "text"), (("v", "x"), ("v", "y"), ("w", "y")))
    gold = """SELECT "A" FROM table WHERE "B" = 'x'"""
    assert sql.score(gold, gold, table)["execution"] == 1
    assert sql.score("""SELECT "A" FROM table WHERE "A" = 'v'""", gold, table)["execution"] == 0  # v, v and not v


def question(text: str = "how many?", gold: str = GOLD) -> Example:
    return Example("k", written(HEADER, text), "", (gold,))


def test_the_task_s_scores_and_what_a_bootstrap_makes_of_them() -> None:
    task = WikiSQL("embedded")
    test = task.load(None).test
    outputs = [example.references[0] for example in test]
    assert task.score(outputs, test).values == {"logical_form_accuracy": 1.0, "execution_accuracy": 1.0}
    worse = list(outputs)
    worse[::5] = [""] * 10
    worse[1::5] = [text.partition(" WHERE")[0] for text in outputs[1::5]]  # can be read and is wrong, but may find the same
    scores = task.score(worse, test)
    assert scores.values["logical_form_accuracy"] == pytest.approx(0.6)
    assert 0.6 < scores.values["execution_accuracy"] < 0.8
    assert sum(int(str(row["readable"])) for row in scores.per_input) == 40
    for metric, value in scores.values.items():
        interval = paired_bootstrap(scores.per_input, task.score(outputs, test).per_input, metric=metric)
        assert interval.difference == pytest.approx(value - 1)


def test_without_rows_execution_is_not_a_number_and_never_zero() -> None:
    scores = WikiSQL("folder").score([GOLD, "nothing"], [question(), question()])
    assert scores.values["logical_form_accuracy"] == 0.5 and math.isnan(scores.values["execution_accuracy"])
    assert all("execution" not in row for row in scores.per_input)


def test_what_cannot_be_scored_is_refused() -> None:
    task = WikiSQL("folder")
    refused(lambda: task.score([GOLD], []), "1 outputs for 0 inputs")
    refused(lambda: task.score([GOLD], [Example("k", written(HEADER, "x"), "")]), "no SQL")
    refused(lambda: task.score([GOLD], [question(gold='SELECT "Age" FROM table')]), "Age")
    refused(lambda: WikiSQL("hub"), "task.source=hub")
    refused(lambda: WikiSQL("folder", scored="train"), "task.scored=train")
    refused(lambda: WikiSQL("folder", metrics=["bleu"]), "task.metrics")


# --- inputs


def test_the_input_is_the_header_and_the_question() -> None:
    text = written(HEADER, "Who  wears\tnumber 3? ")
    assert text == 'Player | No. | School/Club Team | Nick"name\nWho wears number 3?'
    assert header_of(text) == ("Player", "No.", "School/Club Team", 'Nick"name')


def test_ask_and_remark() -> None:
    task = WikiSQL("embedded")
    example = task.ask("Player | No. || Who wears 3?")
    assert example.input == "Player | No.\nWho wears 3?"
    assert task.remark(example, 'SELECT "Age" FROM table') == "no query: no column 'Age'"
    refused(lambda: task.ask("Who wears 3?"), "COLUMN | COLUMN || QUESTION")


def test_the_question_loses_its_first_words_and_the_header_nothing() -> None:
    task, example = WikiSQL("embedded"), question("one two three")
    assert task.fit(example, lambda _: True) is example
    names = example.input.partition("\n")[0]
    shortened = task.fit(example, lambda e: len(e.input) <= len(names) + 6)
    assert shortened.input == f"{names}\nthree" and (shortened.key, shortened.references) == ("k", (GOLD,))
    refused(lambda: task.fit(example, lambda e: len(e.input) < len(names)), "never a column name", "data.max_length")


# --- files


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three splits in the official layout, one of them packed; train without its tables' rows."""
    monkeypatch.setattr(wikisql_files, "ROWS", {"train": (2,), "dev": (1,), "test": (1,)})
    place = tmp_path / "wikisql"
    place.mkdir()
    table = {"id": "1-1", "header": list(HEADER), "types": list(TABLE.types), "rows": [list(row) for row in TABLE.rows or ()]}
    one = {"phase": 1, "table_id": "1-1", "question": "How many?", "sql": {"sel": 0, "conds": [[1, 0, 3.0]], "agg": 3}}
    (place / "train.headers.jsonl").write_text(json.dumps({"id": "1-1", "header": list(HEADER)}) + "\n")
    (place / "train.jsonl").write_text((json.dumps(one) + "\n") * 2)
    for split in ("dev", "test"):
        (place / f"{split}.tables.jsonl.xz").write_bytes(lzma.compress(json.dumps(table).encode() + b"\n"))
        (place / f"{split}.jsonl").write_text(json.dumps(one) + "\n")
    return tmp_path


def test_official_files_plain_and_packed(folder: Path) -> None:
    splits = WikiSQL("folder").load(str(folder))
    gold = """SELECT COUNT("Player") FROM table WHERE "No." = '3.0'"""
    assert [example.target for example in splits.train] == [gold, gold]
    assert splits.dev[0].target == gold and splits.test[0].references == (gold,) and splits.test[0].target == ""
    assert splits.caption == "WikiSQL (dev, from local files; 2 of 56,355 training rows)"
    assert {"wikisql/dev.jsonl", "wikisql/dev.tables.jsonl.xz", "wikisql/rows/test"} <= set(splits.hashes)
    assert WikiSQL("folder").score([gold], splits.test).values["execution_accuracy"] == 1
    (folder / "wikisql" / "dev.tables.jsonl.xz").unlink()
    (folder / "wikisql" / "dev.headers.jsonl").write_text(json.dumps({"id": "1-1", "header": list(HEADER)}) + "\n")
    splits = WikiSQL("folder").load(str(folder))
    assert "no execution accuracy" in splits.caption
    assert math.isnan(WikiSQL("folder").score([gold], splits.test).values["execution_accuracy"])


def test_bad_files_are_one_line(folder: Path) -> None:
    place, task = folder / "wikisql", WikiSQL("folder")
    good = (place / "dev.jsonl").read_text()
    (place / "dev.jsonl").write_text(good.rstrip() + "\r\n\r\n")
    task.load(str(folder))
    for text, *parts in (
        ("{", "dev.jsonl, line 1", "is not JSON"),
        (good.replace("1-1", "1-2"), "line 1", "1-2"),
        (good.replace('"sel": 0', '"sel": 9'), "line 1", "not there"),
        (good.replace('"agg"', '"ag"'), "line 1", "no WikiSQL query"),
        (good * 2, "2 rows, expected 1"),
    ):
        (place / "dev.jsonl").write_text(text)
        refused(lambda: task.load(str(folder)), *parts)
    (place / "dev.jsonl").write_text(good)
    (place / "dev.tables.jsonl.xz").write_bytes((place / "dev.tables.jsonl.xz").read_bytes()[:-9])
    refused(lambda: task.load(str(folder)), "dev.tables.jsonl.xz", "xz")
    (place / "dev.tables.jsonl.xz").unlink()
    refused(lambda: task.ready(str(folder)), "no dev.tables.jsonl")
    refused(lambda: task.ready(None), "DATA=")


# --- the real files


REAL, PREDICTIONS = os.environ.get("WIKISQL_DATA", ""), os.environ.get("WIKISQL_PREDICTIONS", "")


@pytest.mark.skipif(not REAL, reason="set WIKISQL_DATA to the folder that holds wikisql/")
def test_every_real_query_survives_its_text() -> None:
    rows, _ = wikisql_files.load_folder(REAL, "wikisql")
    assert {split: len(part) for split, part in rows.items()} == {"train": 56317, "dev": 8421, "test": 15878}
    for part in rows.values():
        for table, text, query in part:
            assert sql.read(sql.write(query, table.header), header_of(written(table.header, text))) == query


@pytest.mark.skipif(not (REAL and PREDICTIONS), reason="set WIKISQL_PREDICTIONS to example.pred.dev.jsonl.bz2, and WIKISQL_DATA")
def test_the_official_example_predictions_get_the_official_score() -> None:
    """salesforce/WikiSQL's own predictions on dev, said as SQL text and read back: evaluate.py prints 45.21 for them."""
    task = WikiSQL("folder")
    test = task.load(REAL).test
    lines = [json.loads(line) for line in bz2.decompress(Path(PREDICTIONS).read_bytes()).splitlines()]
    outputs = []
    for line, example in zip(lines, test, strict=True):
        header = header_of(example.input)
        outputs.append("" if line.get("error") else sql.write(sql.from_json(line["query"], len(header)), header))
    scores = task.score(outputs, test)
    assert round(100 * scores.values["logical_form_accuracy"], 2) == 45.21
    assert sum(row["readable"] == 0 for row in scores.per_input) == 606

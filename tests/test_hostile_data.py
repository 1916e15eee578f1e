"""Data files that a stranger may send: each is one line that names the file and, of a text, the line."""

from __future__ import annotations

import json
import lzma
import os
import resource
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import refused

from lora_repro.tasks import _files
from lora_repro.tasks.base import AbstractTask
from lora_repro.tasks.e2e.task import E2E
from lora_repro.tasks.glue.task import Glue
from lora_repro.tasks.samsum.task import SAMSum
from lora_repro.tasks.triples.webnlg import WebNLG
from lora_repro.tasks.wikisql.task import WikiSQL

DEEP = "[" * 10**5
HALF = '"a \\ud800 b"'
DIGITS = "9" * 5000
TABLE: dict[str, Any] = {"id": "1-1", "header": ["a", "b"]}
ASKED: dict[str, Any] = {"table_id": "1-1", "question": "How many?", "sql": {"sel": 0, "agg": 3, "conds": [[1, 0, "x"]]}}


def sql(**changes: Any) -> str:
    return json.dumps({**ASKED, "sql": {**ASKED["sql"], **changes}})


QUESTIONS = {
    "deep": DEEP,
    "half a character": json.dumps(ASKED).replace('"How many?"', HALF),
    "digits": json.dumps(ASKED).replace('"sel": 0', f'"sel": {DIGITS}'),
    "no object": "[1]",
    "null": "null",
    **{f"question {value!r}": json.dumps({**ASKED, "question": value}) for value in (None, 1, ["a"], {})},
    **{f"table {value!r}": json.dumps({**ASKED, "table_id": value}) for value in (None, 1, ["a"], {})},
    **{f"sel {value!r}": sql(sel=value) for value in (1.5, True, None, "0", [0], -1, 2)},
    **{f"agg {value!r}": sql(agg=value) for value in (1.5, False, None, "0", 9)},
    **{f"conds {value!r}": sql(conds=value) for value in (None, 1, [1], [[0, 0]], [[1.5, 0, "x"]], [[0, True, "x"]])},
    **{f"value {value!r}": sql(conds=[[0, 0, value]]) for value in (None, ["x"], {})},
}
TABLES = {
    "deep": DEEP,
    "half a character": json.dumps(TABLE).replace('"a"', HALF),
    **{f"header {value!r}": json.dumps({**TABLE, "header": value}) for value in (None, 1, [1, 2], [None, "b"])},
    **{f"id {value!r}": json.dumps({**TABLE, "id": value}) for value in (None, 1, ["a"])},
    **{f"rows {value!r}": json.dumps({**TABLE, "rows": value}) for value in (1, [1], [["x"]])},
}


@pytest.fixture
def wikisql(tmp_path: Path) -> Path:
    place = tmp_path / "wikisql"
    place.mkdir()
    for split in ("train", "dev", "test"):
        (place / f"{split}.headers.jsonl").write_text(json.dumps(TABLE) + "\n")
        (place / f"{split}.jsonl").write_text(json.dumps(ASKED) + "\n")
    return place


@pytest.mark.parametrize("line", QUESTIONS.values(), ids=QUESTIONS)
def test_a_question_of_wikisql_that_is_none(line: str, wikisql: Path) -> None:
    (wikisql / "train.jsonl").write_text(f"{json.dumps(ASKED)}\n{line}\n")
    refused(lambda: WikiSQL("folder").load(str(wikisql.parent)), "train.jsonl, line 2")


@pytest.mark.parametrize("line", TABLES.values(), ids=TABLES)
def test_a_table_of_wikisql_that_is_none(line: str, wikisql: Path) -> None:
    (wikisql / "train.headers.jsonl").write_text(f"{json.dumps(TABLE)}\n{line}\n")
    refused(lambda: WikiSQL("folder").load(str(wikisql.parent)), "train.headers.jsonl, line 2")


CHATS = {
    "deep": (DEEP, "line 1"),
    "half a character": (f'[\n{{"dialogue": "Ann: Hi", "summary": {HALF}}}]', "line 2"),
    "digits": (f'[{{"dialogue": {DIGITS}, "summary": "b"}}]', "line 1"),
    "no dialogue": ('[{"dialogue": null, "summary": "b"}]', "row 1"),
    "an object": ('{"dialogue": "a"}', "train.json"),
    "a number": ("1", "train.json"),
    "a NUL": ('[\n{"dialogue": "a\0", "summary": "b"}]', "line 2"),
}


@pytest.mark.parametrize(("text", "where"), CHATS.values(), ids=CHATS)
def test_a_chat_that_is_none(text: str, where: str, tmp_path: Path) -> None:
    (tmp_path / "samsum").mkdir()
    for name in ("train", "val", "test"):
        (tmp_path / "samsum" / f"{name}.json").write_text(text)
    refused(lambda: SAMSum("folder").load(str(tmp_path)), "train.json", where)


ENTRY = {"category": "City", "shape": "NA", "lexicalisations": [{"lex": "a", "comment": "good"}],
         "modifiedtripleset": [{"subject": "a", "property": "b", "object": "c"}]}  # fmt: skip
ENTRIES = {
    "deep": (DEEP, "line 2"),
    "half a character": (json.dumps({"1": ENTRY}).replace('"City"', HALF), "line 2"),
    "null": ("null", "line 2"),
    "no text": (json.dumps({"1": {**ENTRY, "lexicalisations": [{"lex": None, "comment": ""}]}}), "line 2"),
    "a number in a triple": (json.dumps({"1": ENTRY}).replace('"c"', "1"), "line 2"),
}


@pytest.mark.parametrize(("line", "where"), ENTRIES.values(), ids=ENTRIES)
def test_an_entry_of_triples_that_is_none(line: str, where: str, tmp_path: Path) -> None:
    for split in ("train", "dev", "test"):
        (tmp_path / f"{split}.jsonl").write_text(f"{json.dumps({'1': ENTRY})}\n{line}\n")
    refused(lambda: WebNLG("folder", "paper").load(str(tmp_path)), "train.jsonl", where)


def sentences(name: str) -> Glue:
    columns = {"first": "a", "second": "b", "label": "c"}
    return Glue(name="x", label="X", labels=["0", "1"], folder="x", files={"train": name, "dev": name}, columns=columns)


@pytest.mark.parametrize(("name", "text", "where"), [
    ("t.jsonl", f'{{"a": "x", "b": "y", "c": "1"}}\n{{"a": {DEEP}', "line 2"),
    ("t.jsonl", f'{{"a": "x", "b": {HALF}, "c": "1"}}', "line 1"),
    ("t.jsonl", f'{{"a": "x", "b": "y", "c": {DIGITS}}}', "line 1"),
    ("t.tsv", "a\tb\tc\nx\ty\t1\nx\0\ty\t1\n", "line 3"),
])  # fmt: skip
def test_a_sentence_pair_that_is_none(name: str, text: str, where: str, tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / name).write_text(text)
    refused(lambda: sentences(name).load(str(tmp_path)), name, where)


def test_surrogate_pairs_and_escaped_backslashes_are_text() -> None:
    for text in (r'"\ud83d\ude00"', r'"\\ud800"', r'"\"\u00e9\n"', '"\U0001f600"'):
        assert _files.load_json(text, "x", 1) == json.loads(text)


PIPES: list[tuple[AbstractTask, str, list[str]]] = [
    (WikiSQL("folder"), "wikisql", [f"{split}{end}.jsonl" for split in ("train", "dev", "test") for end in ("", ".headers")]),
    (SAMSum("folder"), "samsum", ["train.csv", "validation.csv", "test.csv"]),
    (sentences("t.tsv"), "x", ["t.tsv"]),
    (WebNLG("folder", "paper"), "webnlg2017", ["train.json", "dev.json", "test.json"]),
    (E2E("folder", "raw"), "e2e", ["train.csv", "dev.csv", "test.csv"]),
]


@pytest.mark.parametrize(("task", "folder", "names"), PIPES, ids=[folder for _, folder, _ in PIPES])
def test_a_pipe_or_a_folder_in_place_of_a_file_is_not_waited_for(
    task: AbstractTask, folder: str, names: list[str], tmp_path: Path
) -> None:
    for place, make in ((tmp_path / "pipes", os.mkfifo), (tmp_path / "folders", Path.mkdir)):
        (place / folder).mkdir(parents=True)
        for name in names:
            make(place / folder / name)
        refused(lambda place=place: task.load(str(place)), names[0].partition(".")[0])


@pytest.fixture
def bomb(tmp_path: Path) -> Callable[[int], Path]:
    def make(size: int) -> Path:
        path = tmp_path / "train.csv.xz"
        packer = lzma.LZMACompressor(preset=0)
        with path.open("wb") as file:
            for _ in range(size >> 20):
                file.write(packer.compress(bytes(1 << 20)))
            file.write(packer.flush())
        return path

    return make


@pytest.fixture
def little_memory() -> Iterator[None]:
    """Half a gigabyte more than this process has taken: a whole unpacked bomb does not fit."""
    memory = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (memory + (1 << 29), hard))
    yield
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


@pytest.mark.usefixtures("little_memory")
def test_an_archive_that_unpacks_to_gigabytes_is_left_at_the_limit(
    bomb: Callable[[int], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_files, "LARGEST", 1 << 24)
    path = bomb(1 << 30)
    assert path.stat().st_size < 1 << 20
    refused(lambda: _files.read_text(path), "train.csv.xz", "MiB")


def test_a_plain_file_beyond_the_limit_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "big.csv").open("wb") as file:
        file.truncate(_files.LARGEST + 1)  # sparse
    refused(lambda: _files.read_text(tmp_path / "big.csv"), "big.csv", "MiB")

"""The user's own files: every format and kind of columns, what the audit finds, and one line for whatever cannot be used."""

from __future__ import annotations

import bz2
import csv
import gzip
import json
import logging
import lzma
import math
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from conftest import refused
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value

from lora_repro.config.file_hashes import content_hash
from lora_repro.errors import UserError
from lora_repro.stats.intervals import detectable
from lora_repro.tasks.own import columns, data, tables
from lora_repro.tasks.own.audit import DISAGREE, audit

REVIEWS = [(f"It was {word}, dish {n}.", "good" if word in ("fine", "great") else "bad")
           for n in range(15) for word in ("fine", "great", "poor", "dull")]  # fmt: skip


def objects(rows: Sequence[Sequence[Any]], *names: str) -> list[dict[str, Any]]:
    return [dict(zip(names, row, strict=True)) for row in rows]


def write_csv(path: Path, rows: Sequence[Sequence[Any]], *header: str, delimiter: str = ",") -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, delimiter=delimiter).writerows([header, *rows])
    return path


def write_lines(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def packed(path: Path, pack: Callable[[bytes], bytes]) -> Path:
    path.write_bytes(pack(write_csv(path.with_suffix(""), REVIEWS, "text", "label").read_bytes()))
    path.with_suffix("").unlink()
    return path


def parquet(path: Path) -> Path:
    Dataset.from_list(objects(REVIEWS, "text", "label")).to_parquet(str(path))
    return path


def saved(path: Path) -> Path:
    """A folder with classes by number, as a hub's data set has them, and two splits."""
    features = Features({"text": Value("string"), "label": ClassLabel(names=["bad", "good"])})
    part = Dataset.from_list(objects(REVIEWS, "text", "label"), features=features)
    DatasetDict({"train": part, "test": part}).save_to_disk(str(path))
    return path


def listed(path: Path) -> Path:
    path.write_text(json.dumps(objects(REVIEWS, "text", "label")), encoding="utf-8")
    return path


FORMATS: dict[str, Callable[[Path], Path]] = {
    "plain.csv": lambda path: write_csv(path, REVIEWS, "text", "label"),
    "excel.csv": lambda path: write_csv(path, REVIEWS, "text", "label", delimiter=";"),
    "plain.tsv": lambda path: write_csv(path, REVIEWS, "text", "label", delimiter="\t"),
    "list.json": listed,
    "lines.json": lambda path: write_lines(path, objects(REVIEWS, "text", "label")),
    "lines.jsonl": lambda path: write_lines(path, objects(REVIEWS, "text", "label")),
    "small.csv.gz": lambda path: packed(path, gzip.compress),
    "small.csv.bz2": lambda path: packed(path, bz2.compress),
    "small.csv.xz": lambda path: packed(path, lzma.compress),
    "table.parquet": parquet,
    "folder": saved,
}


@pytest.mark.parametrize("name", ["A.CSV", "A.Csv.GZ", "A.PARQUET"])
def test_a_kind_in_capitals_is_the_same(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    if name == "A.PARQUET":
        parquet(path)
    elif name == "A.CSV":
        write_csv(path, REVIEWS, "text", "label")
    else:
        packed(path, gzip.compress)
    assert len(tables.read(str(path)).rows) == len(REVIEWS)


def test_bytes_of_a_parquet_file_are_texts(tmp_path: Path) -> None:
    rows = [{"text": text.encode(), "label": label} for text, label in REVIEWS]
    Dataset.from_list(rows).to_parquet(str(tmp_path / "a.parquet"))
    assert [row["text"] for row in tables.read(str(tmp_path / "a.parquet")).rows] == [text for text, _ in REVIEWS]
    Dataset.from_list([{"text": b"\xff", "label": "a"}]).to_parquet(str(tmp_path / "b.parquet"))
    refused(lambda: tables.read(str(tmp_path / "b.parquet")), "UTF-8")


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_gives_the_same_rows_and_leaves_nothing_beside_them(name: str, tmp_path: Path) -> None:
    path = FORMATS[name](tmp_path / name)
    before = sorted(tmp_path.rglob("*"))
    table = tables.read(str(path))
    assert [(row["text"], row["label"]) for row in table.rows] == REVIEWS
    assert table.header == ("text", "label") and len(table.places) == 60 and table.sha256 == content_hash(str(path))
    assert sorted(tmp_path.rglob("*")) == before
    dataset = data.read({"train": str(path)})
    assert (dataset.columns.kind, dataset.classes) == ("class", ("bad", "good"))


def test_a_place_is_the_line_at_which_a_row_begins(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('\ufefftext,label\n\n"two\nlines, of ""text""",a\nplain,b\n', encoding="utf-8")  # as Excel writes it
    table = tables.read(str(path))
    assert table.header[0] == "text" and table.places == (3, 5)
    assert table.rows[0]["text"] == 'two\nlines, of "text"' and table.at(5) == "a.csv, line 5"


def test_cells_are_texts_whatever_the_file_holds(tmp_path: Path) -> None:
    lines = [{"text": "x", "label": True, "n": 1, "y": 0.5}, {"text": "y", "n": None, "y": math.nan}]
    path = write_lines(tmp_path / "a.jsonl", lines)
    assert [dict(row) for row in tables.read(str(path)).rows] == [
        {"text": "x", "label": "true", "n": "1", "y": "0.5"}, {"text": "y", "n": "", "y": ""}
    ]  # fmt: skip


def table(*header: str, rows: Sequence[Sequence[Any]]) -> tables.Table:
    return tables.Table("own.csv", header, tuple(objects(rows, *header)), tuple(range(2, len(rows) + 2)), "line", "")


SAID = (("system", "Be short."), ("user", "Hi?"), ("assistant", "Hello."))
CHAT = [{"role": role, "content": text} for role, text in SAID]
TWO = [["one", "a"], ["two", "b"]]
KINDS: dict[str, tuple[tuple[str, ...], Sequence[Sequence[Any]], str, dict[str, str]]] = {
    "text": (("id", "Review", "stars"), [["1", "one", "5"], ["2", "two", "1"]], "class", {"text": "Review", "label": "stars"}),
    "the other column": (("utterance", "label"), TWO, "class", {"text": "utterance", "label": "label"}),
    "pair": (("premise", "hypothesis", "label"), [["p", "h", "a"], ["q", "i", "b"]], "class",
             {"text": "premise", "text_pair": "hypothesis", "label": "label"}),
    "number": (("sentence1", "sentence2", "score"), [["p", "h", "0.5"], ["q", "i", "1"]], "number",
               {"text": "sentence1", "text_pair": "sentence2", "label": "score"}),
    "many whole numbers": (("text", "score"), [[f"t{n}", str(n)] for n in range(30)], "number",
                           {"text": "text", "label": "score"}),
    "completion": (("id", "prompt", "completion"), [["1", "in", "out"]], "text",
                   {"prompt": "prompt", "completion": "completion"}),
    "summary": (("dialogue", "summary"), TWO, "text", {"prompt": "dialogue", "completion": "summary"}),
    "chat": (("messages",), [[CHAT]], "chat", {"messages": "messages"}),
}  # fmt: skip


@pytest.mark.parametrize("name", KINDS)
def test_columns_are_found_by_their_names_and_said_in_one_line(name: str) -> None:
    header, rows, kind, roles = KINDS[name]
    schema = columns.find(table(*header, rows=rows), {})
    assert (schema.kind, schema.roles) == (kind, roles) and "\n" not in schema.said
    assert all(repr(column) in schema.said for column in roles.values())
    again = columns.find(table(*header, rows=rows), schema.roles)  # named, they are the same
    assert (again.kind, again.roles) == (kind, roles)


def test_a_named_column_decides() -> None:
    own = table("text", "title", "label", "stars", rows=[["x", "t", "a", "1"], ["y", "u", "b", "2"]])
    refused(lambda: columns.find(own, {}), "own.csv", "text, title, label, stars", "task.columns.text=")
    schema = columns.find(own, {"text": "title", "label": "stars"})
    assert (schema.input, schema.answer, schema.kind) == ("title", "stars", "class")
    assert columns.find(own, {"text": "title", "label": "stars"}, "number").kind == "number"
    assert columns.find(own, {"prompt": "title", "completion": "text"}).kind == "text"


def test_what_could_be_two_things_is_a_question_that_lists_both() -> None:
    both = table("prompt", "completion", "text", "label", rows=[["p", "c", "t", "a"], ["q", "d", "u", "b"]])
    refused(lambda: columns.find(both, {}), "task.columns.prompt=prompt", "task.columns.text=text")
    assert columns.find(both, {}, "text").kind == "text" and columns.find(both, {}, "class").kind == "class"


@pytest.mark.parametrize("header, alone, together", [
    (("instruction", "input", "output"), "prompt=input", "prompt=instruction+input"),
    (("instruction", "context", "response", "category"), "prompt=instruction", "prompt=instruction+context"),
    (("id", "context", "question", "answer"), "prompt=question", "prompt=context+question"),
    (("prompt", "completion", "response"), "completion=completion", "completion=response"),
])  # fmt: skip
def test_no_column_that_may_belong_to_a_prompt_is_left_out_unsaid(header: tuple[str, ...], alone: str, together: str) -> None:
    own = table(*header, rows=[header])
    refused(lambda: columns.find(own, {}), "own.csv", *(f"--columns {choice} (of run: task.columns.{choice})"
                                                        for choice in (alone, together)))  # fmt: skip
    for choice in (alone, together):
        role, _, name = choice.partition("=")
        schema = columns.find(own, {role: name})
        assert schema.roles[role] == name and schema.kind == "text"
        assert columns.find(own, schema.roles).roles == schema.roles


def test_a_prompt_of_several_columns_has_a_blank_line_between_them_and_no_empty_part() -> None:
    own = table("instruction", "input", "output", rows=[["Add", "1 2", "3"], ["Sing", " ", "la"], ["", "", "x"]])
    rows, empty = columns.rows_of(own, columns.find(own, {"prompt": "instruction+input"}))
    assert [(row.input, row.answer) for row in rows] == [("Add\n\n1 2", "3"), ("Sing", "la")] and empty == [4]
    refused(lambda: columns.find(own, {"prompt": "instruction+inputs"}), "'inputs'", "instruction, input, output")
    named = table("q+a", "b", rows=[["x", "y"]])  # a plus may be a part of a name
    assert columns.rows_of(named, columns.find(named, {"prompt": "q+a"}))[0][0].input == "x"


def test_a_chat_is_asked_up_to_its_last_message() -> None:
    own = table("messages", rows=[[CHAT], [json.dumps(CHAT)], [""]])
    rows, empty = columns.rows_of(own, columns.find(own, {}))
    assert [json.loads(row.input) for row in rows] == [CHAT[:-1]] * 2 and {row.answer for row in rows} == {"Hello."}
    assert empty == [4]


def rows(pairs: Sequence[tuple[str, str]]) -> list[columns.Row]:
    return [columns.Row(place, text, None, answer) for place, (text, answer) in enumerate(pairs, start=2)]


def test_what_is_held_out_depends_on_the_rows_alone_and_keeps_the_balance_of_classes() -> None:
    pairs = [(f"text {n}", "rare" if n % 10 == 0 else "usual") for n in range(200)]
    parts = data.divide({"train": rows(pairs)}, True, held_out=16)
    assert (len(parts.train), len(parts.dev), len(parts.test)) == (144, 16, 40)
    assert Counter(row.answer for row in parts.test) == {"usual": 36, "rare": 4}
    assert Counter(row.answer for row in parts.dev) == {"usual": 14, "rare": 2}
    assert [row.place for row in parts.test] == sorted(row.place for row in parts.test)
    assert len(parts.said) == 2 and "40" in parts.said[0] and "16" in parts.said[1]
    random.Random(0).shuffle(pairs)
    other = data.divide({"train": rows(pairs)}, True, held_out=16)
    for one, two in ((parts.train, other.train), (parts.dev, other.dev), (parts.test, other.test)):
        assert {row.input for row in one} == {row.input for row in two}


@pytest.mark.parametrize("classes, repeats, dev", [(77, 1, 200), (500, 1, 200), (2, 1, 200), (2, 3, 198)])
def test_no_more_dev_rows_are_held_out_than_asked_for(classes: int, repeats: int, dev: int) -> None:
    pairs = [(f"text {n}", f"c{n % classes}") for n in range(3000)] * repeats
    parts = data.divide({"train": rows(pairs)}, True, held_out=200)
    counts = Counter(row.answer for row in parts.dev)
    assert len(parts.dev) == dev and len(counts) == min(classes, 200) and max(counts.values()) - min(counts.values()) <= repeats
    few = {"train": rows([("one", "a"), ("two", "a")] * 9), "test": rows([("three", "a")])}
    assert len(data.divide(few, False, held_out=1).dev) == 9  # the rows of one input


def test_rows_with_one_input_are_held_out_together() -> None:
    pairs = [(f"text {n % 40}", "ab"[n % 2]) for n in range(200)]
    parts = data.divide({"train": rows(pairs)}, True, held_out=30)
    inputs = [{row.input for row in part} for part in (parts.train, parts.dev, parts.test)]
    assert not inputs[0] & inputs[1] and not inputs[0] & inputs[2] and not inputs[1] & inputs[2]


def test_files_of_their_own_are_left_whole_but_for_a_limit() -> None:
    pairs = [(f"text {n}", "ab"[n % 2]) for n in range(50)]
    files = {"train": rows(pairs), "dev": rows(pairs[:9]), "test": rows(pairs[:7])}
    parts = data.divide(files, True, held_out=30, max_train=20, max_test=5)
    assert (len(parts.train), len(parts.dev), len(parts.test)) == (20, 9, 5) and len(parts.said) == 2


def planted(folder: Path) -> data.OwnData:
    """40 training rows, 30 of one class, one twice and one empty; 20 test rows, of which four were trained on."""
    train = [(f"text {n}", "usual" if n < 30 else "rare") for n in range(40)]
    test = [*train[5:7], *train[35:37], *((f"other {n}", "usual") for n in range(16))]
    write_csv(folder / "train.csv", [*train, ("text 3", "rare"), ("", "rare")], "text", "label")
    write_csv(folder / "test.csv", test, "text", "label")
    return data.read({"train": str(folder / "train.csv"), "test": str(folder / "test.csv")}, held_out=2)


def test_the_audit_tells_what_was_planted(tmp_path: Path) -> None:
    report = audit(planted(tmp_path))
    assert report.counts == {"train": 39, "dev": 2, "test": 20} and sum(n for _, n in report.classes) == 39
    assert report.classes[0][0] == "usual" and report.majority == 18 / 20
    leaks = [one for one in report.repeated if one.split != one.other]
    leak = next(one for one in leaks if one.other == "train")
    dev = sum(one.rows for one in leaks if one.other == "dev")
    assert leak.split == "test" and leak.rows + dev == 4 and set(leak.places) <= {2, 3, 4, 5}
    assert report.empty == {"train": (43,)} and report.contradicting in (0, 2)  # 0 if both rows are held out
    assert report.points == pytest.approx(100 * detectable(math.sqrt(DISAGREE / 20)))
    lines = report.text.splitlines()
    assert len(lines) < 20 and max(map(len, lines)) < 200
    for part in ("LEAK", "line 43", "90.0", "39 train, 2 dev, 20 test"):
        assert part in report.text


def test_data_say_the_settings_of_a_run_on_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_csv(tmp_path / "a.csv", REVIEWS, "text", "label")
    assert data.read({"train": "a.csv"}).settings == {
        "task": "own_labels", "task.train": str(tmp_path / "a.csv"), "task.columns.text": "text", "task.columns.label": "label",
    }  # fmt: skip


def test_a_hash_is_of_the_content_and_not_of_the_place(tmp_path: Path) -> None:
    one, two = write_csv(tmp_path / "a.csv", REVIEWS, "t", "l"), write_csv(tmp_path / "b.csv", REVIEWS, "t", "l")
    assert content_hash(str(one)) == content_hash(str(two)) and content_hash(None) is None
    two.write_text("t,l\n", encoding="utf-8")
    assert content_hash(str(one)) != content_hash(str(two))
    folder = saved(tmp_path / "folder")
    before = content_hash(str(folder))
    (folder / "train" / "cache-1.arrow").write_bytes(b"what `datasets` leaves")
    assert content_hash(str(folder)) == before
    (folder / "train" / "state.json").write_text("{}", encoding="utf-8")
    assert content_hash(str(folder)) != before
    hub_id = f"owner/name:config@{'0' * 40}"
    assert content_hash(hub_id) == hub_id


GOOD = "text,label\nx,a\ny,b\n"
MESSAGES = '{"messages": %s}\n'
# What a file holds, and what the one line about it must name.
BAD: dict[str, tuple[str, bytes | str, tuple[str, ...]]] = {
    "empty": ("a.csv", "", ("a.csv", "empty")),
    "blank": ("a.jsonl", "\n \n", ("a.jsonl", "empty")),
    "header alone": ("a.csv", "text,label\n", ("a.csv", "no rows")),
    "no such kind": ("a.docx", "x", ("a.docx", ".csv", ".jsonl")),
    "Latin-1": ("a.csv", "text,label\nx,a\ncafé,b\n".encode("latin-1"), ("a.csv, line 3", "UTF-8")),
    "UTF-16": ("a.csv", GOOD.encode("utf-16"), ("a.csv, line 1", "UTF-8")),
    "a NUL": ("a.csv", "text,label\nx,a\ny\0,b\n", ("a.csv, line 3", "NUL")),
    "a lost cell": ("a.csv", "text,label\nx,a\ny\n", ("a.csv, line 3", "1 cells under 2 columns")),
    "a stray comma": ("a.csv", "text,label\nx,a\none, two,b\n", ("a.csv, line 3", "3 cells", "quotes")),
    "an open quote": ("a.csv", 'text,label\nx,a\n"y,b\n', ("a.csv, line 3",)),
    "a column twice": ("a.csv", "text,text\nx,a\n", ("a.csv", "'text'", "rename")),
    "not JSON": ("a.jsonl", '{"text": "x", "label": "a"}\n{"text": \n', ("a.jsonl, line 2", "JSON")),
    "no object": ("a.jsonl", '["x", "a"]\n', ("a.jsonl, line 1", "object")),
    "half a pair": ("a.jsonl", '{"text": "\\ud800", "label": "a"}\n', ("a.jsonl, line 1", "surrogate")),
    "too deep": ("a.json", "[" * 100_000, ("a.json", "deep")),
    "JSON within": ("a.json", '[{"text": "x", "label": "a"}, 3]', ("a.json, row 2", "object")),
    "no Parquet": ("a.parquet", "PAR1 and no more", ("a.parquet", "Parquet")),
    "no gzip": ("a.csv.gz", b"\x1f\x8b and no more", ("a.csv.gz", ".gz")),
    "cut gzip": ("a.csv.gz", gzip.compress(GOOD.encode() * 99)[:-9], ("a.csv.gz", ".gz")),
    "no label": ("a.csv", "text,title,other\nx,y,a\n", ("a.csv", "text, title, other", "task.columns.label=")),
    "one class": ("a.csv", "text,label\nx,a\ny,a\n", ("a.csv", "'a'", "two")),
    "no class": ("a.csv", "text,label\n" + "".join(f"x{n},l{n}\n" for n in range(50)), ("a.csv", "label", "50 different")),
    "all empty": ("a.csv", "text,label\n,a\n,b\n", ("a.csv", "no row")),
    "a list as text": ("a.jsonl", '{"text": ["x"], "label": "a"}\n{"text": "y", "label": "b"}\n', ("a.jsonl, line 1", "text")),
    "no messages": ("a.jsonl", MESSAGES % '"Hi"', ("a.jsonl, line 1", "role")),
    "no answer": ("a.jsonl", MESSAGES % '[{"role": "user", "content": "Hi"}]', ("a.jsonl, line 1", "assistant")),
    "too few": ("a.csv", GOOD, ("2 different", "too few")),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_one_line_that_names_it_and_the_place(name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file, content, parts = BAD[name]
    (tmp_path / file).write_bytes(content.encode() if isinstance(content, str) else content)
    logging.getLogger("datasets").addHandler(caplog.handler)
    refused(lambda: data.read({"train": str(tmp_path / file)}), *parts)
    logging.getLogger("datasets").removeHandler(caplog.handler)
    assert not caplog.records  # the line is the only one


def test_what_only_several_files_show_is_one_line_too(tmp_path: Path) -> None:
    train, test = write_csv(tmp_path / "train.csv", REVIEWS, "text", "label"), tmp_path / "test.csv"

    def read(**more: Any) -> data.OwnData:
        return data.read({"train": str(train), "test": str(test)}, **more)

    refused(read, "test.csv")  # there is none
    refused(lambda: data.read({}), "task.train")
    refused(lambda: data.read({"train": "owner/name"}), "owner/name", "COMMIT")
    write_csv(test, [("x", "good"), ("y", "new")], "text", "label")
    refused(read, "test.csv, line 3", "'new'", "bad, good")
    write_csv(test, [("x", "good")], "text", "mark")
    refused(read, "test.csv", "'label'", "text, mark")
    write_csv(test, [("x", "good")], "text", "label")
    refused(lambda: read(column_names={"text": "review"}), "train.csv", "'review'", "text, label")
    refused(lambda: read(kind="number"), "train.csv, line 2", "'good'", "task=own_labels")
    folder = saved(tmp_path / "folder")
    refused(lambda: data.read({"train": str(folder), "dev": str(folder)}), "folder", "validation", "train, test")
    (folder / "dataset_dict.json").unlink()
    refused(lambda: data.read({"train": str(folder)}), "folder", "save_to_disk")


def test_the_hub_is_asked_for_a_pinned_set_only_and_its_absence_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    for constants in ("datasets.config", "huggingface_hub.constants"):  # elsewhere both try for half a minute
        monkeypatch.setattr(f"{constants}.HF_HUB_OFFLINE", True)
    with pytest.raises(UserError) as error:
        data.read({"train": f"owner/name@{'0' * 40}"})
    assert "owner/name" in str(error.value) and "\n" not in str(error.value)

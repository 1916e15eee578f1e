"""Data are the official ones or said not to be; what published runs read are the official ones, and their captions stay."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lora_repro import console
from lora_repro.config.compose import build, compose
from lora_repro.run import run, stages
from lora_repro.tasks import _files
from lora_repro.tasks.base import AbstractTask
from lora_repro.tasks.glue.files import rows_sha256
from lora_repro.tasks.glue.mixture import Mixture
from lora_repro.tasks.glue.task import Glue
from lora_repro.tasks.samsum import task as samsum
from lora_repro.tasks.samsum.task import SAMSum
from lora_repro.tasks.wikisql import task as wikisql_files
from lora_repro.tasks.wikisql.task import WikiSQL

SPLITS = {name: tuple(splits) for name, splits in _files.ROWS.items()}
ROOT = Path(__file__).resolve().parents[1]
ROWS = {"train": [("a b", None, "1"), ("c d", None, "0")], "dev": [("e f", None, "1")]}


def test_published_runs_read_the_official_rows() -> None:
    """So the caption of a new run on the same files is that of the published ones, and they share tables."""
    names = set()
    for path in (ROOT / "results" / "laptop" / "records").glob("*.json"):
        data = json.loads(path.read_text())["where"]["data"]
        for name, digest in (data["hashes"] or {}).items():
            task, _, split = name.partition("/rows/")
            if hashes := _files.ROWS.get(task, {}).get(split):
                assert digest in hashes.values(), f"{path.name}: {name}"
                names.add(name)
        assert "not the official" not in data["caption"]
    assert len(names) == sum(map(len, _files.ROWS.values()))


@pytest.fixture
def cola(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Glue:
    """CoLA of three rows, whose official rows are these."""
    (tmp_path / "CoLA").mkdir()
    for split, rows in ROWS.items():
        (tmp_path / "CoLA" / f"{split}.tsv").write_text("".join(f"s\t{label}\t\t{first}\n" for first, _, label in rows))
    hashes = {"cola": {split: {len(rows): rows_sha256(rows)} for split, rows in ROWS.items()}}
    monkeypatch.setattr(_files, "ROWS", hashes)
    task = build(compose(["task=cola", "profile=laptop"]).task)
    return replace(task, rows={"train": 2, "dev": 1}, held_out=0)


CHANGES = {
    "a word": ("dev", "s\t1\t\te g\n"),
    "a label": ("dev", "s\t0\t\te f\n"),
    "rows swapped": ("train", "s\t0\t\tc d\ns\t1\t\ta b\n"),
    "a row twice": ("train", "s\t1\t\ta b\ns\t1\t\ta b\n"),
}


@pytest.mark.parametrize(("split", "text"), CHANGES.values(), ids=CHANGES)
def test_altered_files_are_told_in_a_line_and_in_the_caption(
    split: str, text: str, cola: Glue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    messages: list[str] = []
    monkeypatch.setattr(console, "warn", messages.append)
    before = stages.read(cola, str(tmp_path))
    assert before.caption == "CoLA (GLUE, local files)" and not before.others and not messages
    (tmp_path / "CoLA" / f"{split}.tsv").write_text(text)
    after = stages.read(cola, str(tmp_path))
    assert after.caption == f"CoLA (GLUE, local files; not the official {split})"
    (line,) = messages
    assert "cola" in line and f"not the official {split}" in line and "\n" not in line


CHAT = "dialogue,summary\nAnn: Hi,Ann greets.\nBo: Go,Bo left.\n"
ASKED = '{"table_id": "1", "question": "Q?", "sql": {"sel": 0, "agg": 0, "conds": []}}\n'
TABLE = '{"id": "1", "header": ["a", "b"]}\n'
PAIRS = "sentence1\tsentence2\tlabel\nx Q\tb\tneutral\nc\td\tentailment\n"
OTHERS: dict[str, tuple[AbstractTask, dict[str, str], str]] = {  # the task, its files, and the one that is altered
    "samsum": (SAMSum("folder"), {f"samsum/{name}.csv": CHAT for name in ("train", "validation", "test")}, "samsum/train.csv"),
    "wikisql": (
        WikiSQL("folder"),
        {f"wikisql/{split}{end}": text for split in ("train", "dev", "test")
         for end, text in ((".jsonl", ASKED + ASKED.replace("Q", "R")), (".headers.jsonl", TABLE))},
        "wikisql/train.jsonl",
    ),
    "mnli_text": (
        replace(build(compose(["task=mnli_text"]).task), source="folder", rows={"train": 2, "matched": 2},
                files={"train": "train.tsv", "matched": "matched.tsv"}),
        {f"mnli_part/{name}.tsv": PAIRS for name in ("train", "matched")}, "mnli_part/train.tsv",
    ),
}  # fmt: skip


@pytest.mark.parametrize("change", ["a letter", "rows swapped", "a row twice"])
@pytest.mark.parametrize("name", OTHERS)
def test_the_content_of_each_data_set_counts_not_its_rows(
    name: str, change: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The official rows are here those of small files; with as many others the split is named."""
    task, files, target = OTHERS[name]
    for path, text in files.items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text(text)
    for module in (samsum, wikisql_files):  # which refuse other numbers of rows
        monkeypatch.setattr(module, "ROWS", dict.fromkeys(("train", "dev", "test"), (2,)))
    monkeypatch.setattr(_files, "ROWS", {})
    before = task.load(str(tmp_path))
    hashes = {split: {2: before.hashes[f"{name}/rows/{split}"]} for split in SPLITS[name]}
    monkeypatch.setattr(_files, "ROWS", {name: hashes})
    assert not task.load(str(tmp_path)).others
    *head, first, second = files[target].rstrip("\n").split("\n")
    other = first.replace("Hi", "Ho").replace("Q", "S")
    rows = {"a letter": [other, second], "rows swapped": [second, first], "a row twice": [first, first]}
    (tmp_path / target).write_text("\n".join([*head, *rows[change]]) + "\n")
    after = task.load(str(tmp_path))
    assert after.others == ("train",) and "not the official train" in after.caption


def test_a_mixture_says_whose_files_are_others(cola: Glue, tmp_path: Path) -> None:
    (tmp_path / "CoLA" / "dev.tsv").write_text("s\t0\t\te f\n")
    spec = {"name": "mixture", "label": "Mixture", "names": ["cola", "sentiment"]}
    parts = Mixture(**spec, members=[cola, build(compose(["task=sentiment"]).task)]).load(str(tmp_path))  # type: ignore[arg-type]
    assert parts.others == ("cola dev",) and "CoLA (GLUE, local files; not the official dev)" in parts.caption


def test_a_number_of_rows_of_which_no_copy_was_at_hand_is_not_judged() -> None:
    rows: dict[str, Any] = {"train": range(56355), "dev": range(8421), "test": range(15877)}
    hashes = {f"wikisql/rows/{split}": "0" for split in rows} | {
        "wikisql/rows/dev": str(_files.ROWS["wikisql"]["dev"][8421])
    }
    assert _files.others("wikisql", rows, hashes) == ("test",)
    assert _files.others("mine", rows, {}) == ()


def test_training_rows_in_the_test_set_are_told_before_the_training_and_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    messages: list[str] = []
    monkeypatch.setattr(console, "warn", messages.append)
    task = type(build(compose(["task=sentiment"]).task))
    load = task.load

    def leaking(self: Any, folder: str | None) -> Any:
        parts = load(self, folder)
        twice = [replace(example, target=example.references[0], references=()) for example in parts.test[:3]]
        return replace(parts, train=[*twice, *parts.train])

    monkeypatch.setattr(task, "load", leaking)
    learn = run.learn

    def told_by_now(*given: Any) -> Any:
        assert any("3 of the training rows have an input that is a test input" in line for line in messages)
        return learn(*given)

    monkeypatch.setattr(run, "learn", told_by_now)
    words = ["task=sentiment", "backbone=random_bert", "method=lora", "profile=smoke", f"paths.runs={tmp_path}"]
    record = run.run(compose([*words, "data.n_train=null", "data.n_test=null", "train.steps=1"]))
    assert record["where"]["data"]["train_rows_in_test"] == 3

"""SAMSum: the inputs, both file layouts in miniature, refusals, cutting, scores, the generated set, the real files."""

from __future__ import annotations

import csv
import json
import lzma
import os
from pathlib import Path

import pytest
from conftest import refused

from lora_repro.metrics import rouge
from lora_repro.tasks.base import Example, example_key
from lora_repro.tasks.samsum import task as samsum
from lora_repro.tasks.samsum.task import SAMSum, written

pytestmark = pytest.mark.usefixtures("own_rows")

CHAT = 'Ann: Hi, "all"!\r\n\r\nBob: Hello  \r\nAnn: Bye'
INPUT = 'Ann: Hi, "all"!\nBob: Hello\nAnn: Bye\n\n'


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(samsum, "ROWS", {"train": (2,), "dev": (1,), "test": (1,)})
    place = tmp_path / "samsum"
    place.mkdir()
    for name, n in (("train", 2), ("validation", 1), ("test", 1)):
        with (place / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([("id", "dialogue", "summary"), *[(1, CHAT, "Ann greets\nBob. ")] * n])
    (place / "test.csv.xz").write_bytes(lzma.compress((place / "test.csv").read_bytes()))
    (place / "test.csv").unlink()
    return tmp_path


def test_inputs_and_splits(folder: Path) -> None:
    splits = SAMSum("folder").load(str(folder))
    assert splits.train == [Example(example_key(INPUT), INPUT, "Ann greets Bob.")] * 2
    assert splits.dev[0].target == "Ann greets Bob."
    assert splits.test == [Example(example_key(INPUT), INPUT, "", ("Ann greets Bob.",))]
    assert splits.caption == "SAMSum (from local files; 2 of 14,732 training rows)"
    assert {"samsum/train.csv", "samsum/test.csv.xz", "samsum/rows/dev"} <= set(splits.hashes)


def test_the_authors_json_gives_the_same_rows(folder: Path) -> None:
    before, place = SAMSum("folder").load(str(folder)), folder / "samsum"
    for path in place.glob("*.csv*"):
        path.unlink()
    for name, n in (("train", 2), ("val", 1), ("test", 1)):
        (place / f"{name}.json").write_text(json.dumps([{"id": "1", "dialogue": CHAT, "summary": "Ann greets\r\nBob."}] * n))
    after = SAMSum("folder").load(str(folder))
    assert (after.train, after.dev, after.test) == (before.train, before.dev, before.test)
    assert after.hashes["samsum/rows/train"] == before.hashes["samsum/rows/train"]


def test_bad_files_are_one_line(folder: Path) -> None:
    place, task = folder / "samsum", SAMSum("folder")
    good = (place / "validation.csv").read_text()
    for text, *parts in (
        (good.replace("summary", "summery"), "validation.csv", "summary"),
        (good + "2,Ann: Hi,\n", "row 2"),
        (good + "2,Ann: Hi\n", "row 2"),
        (good + "2,Ann: Hi,She greets.\n", "2 rows, expected 1"),
    ):
        (place / "validation.csv").write_text(text)
        refused(lambda: task.load(str(folder)), *parts)
    (place / "validation.csv").unlink()
    (place / "val.json").write_text("[{")
    refused(lambda: task.load(str(folder)), "val.json")
    (place / "val.json").unlink()
    refused(lambda: task.ready(str(folder)), "validation.csv or val.json")
    refused(lambda: task.ready(None), "DATA=")
    refused(lambda: SAMSum("hub"), "task.source=hub")
    refused(lambda: SAMSum("folder", metrics=["bleu"]), "task.metrics")


def test_a_chat_loses_its_first_utterances_then_first_words() -> None:
    task, example = SAMSum("embedded"), Example("k", written("A: one two\nB: three four"), "", ("s",))
    assert task.fit(example, lambda _: True) is example
    assert [shorter.input for shorter in task.shorter(example)] == ["B: three four\n\n", "three four\n\n", "four\n\n"]
    rest = task.fit(example, lambda e: len(e.input) <= 13)
    assert rest == Example("k", "three four\n\n", "", ("s",))
    refused(lambda: task.fit(example, lambda _: False), "the first utterances", "data.max_length")


def test_scores_are_those_of_both_tools() -> None:
    test = [Example("a", "x", "", ("the cat sat",)), Example("b", "x", "", ("wolf",))]
    scores = SAMSum("embedded").score(["the cat", "wolves"], test)
    assert list(scores.values) == list(SAMSum("embedded").directions) == list(rouge.METRICS)
    assert scores.values["rouge1_rouge_score"] == pytest.approx(0.8 / 2)
    assert scores.values["rouge1_py_rouge"] == pytest.approx(1.8 / 2)
    assert scores.per_input[0]["rouge2_py_rouge"] == pytest.approx(2 / 3)
    refused(lambda: SAMSum("embedded").score(["a"], test), "1 outputs for 2 inputs")
    refused(lambda: SAMSum("embedded").score(["a"], [Example("a", "x", "y")]), "no summary")


def test_nothing_of_the_corpus_is_published() -> None:
    assert not SAMSum.publishes_outputs and "NC-ND" in SAMSum.attribution


def test_ask() -> None:
    example = SAMSum("embedded").ask("Ann: Hi! / Bob: Hello.")
    assert example.input == "Ann: Hi!\nBob: Hello.\n\n" == SAMSum("embedded").ask("Ann: Hi!\\nBob: Hello.").input
    refused(lambda: SAMSum("embedded").ask("  "), "Ann: Hello!")


REAL = os.environ.get("SAMSUM_DATA", "")


@pytest.mark.skipif(not REAL, reason="set SAMSUM_DATA to the folder that holds samsum/")
def test_the_real_files() -> None:
    splits = SAMSum("folder").load(REAL)
    assert [len(splits.train), len(splits.dev), len(splits.test)] == [14731, 818, 819]
    # The keys of the rows, not the rows: their licence allows no copy.
    assert splits.hashes["samsum/rows/test"] == "93e4fa874853006a5326a0188a1b39979115b807672b097cf7f881be6a8859b8"
    assert all(example.input.endswith("\n\n") and example.references[0] for example in splits.test)

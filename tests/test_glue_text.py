"""MNLI as generation: the same rows as the sentence task, words in and out, and labels chosen without decoding."""

from __future__ import annotations

import lzma
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from bootstrap_interval import paired_bootstrap
from conftest import refused

from lora_repro.config.compose import build, compose, resolved
from lora_repro.config.signature import signature
from lora_repro.tasks.base import Example
from lora_repro.tasks.glue.mixture import Mixture
from lora_repro.tasks.glue.task import Glue
from lora_repro.tasks.glue.text import GlueText

pytestmark = pytest.mark.usefixtures("own_rows")

WORDS = {"entailment": "True", "neutral": "Neither", "contradiction": "False"}
TEMPLATE = "{first}\nQuestion: {second} True, False or Neither?\nAnswer:"
ROWS = [
    ("A dog {ran} .", "An animal ran .", "entailment"),
    ("It's \"cold .", "It rains .", "neutral"),
    ("Ann sat .", "Ann stood .", "contradiction"),
]
FILES: dict[str, Any] = {
    "folder": "MNLI", "files": {"train": "train.tsv.xz", "matched": "dev.tsv"},
    "columns": {"first": "sentence1", "second": "sentence2", "label": "label"},
}  # fmt: skip


def task(**given: Any) -> GlueText:
    return GlueText(**{"name": "mnli_text", "label": "MNLI", "words": WORDS, "template": TEMPLATE, **FILES, **given})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    text = "\n".join("\t".join(row) for row in [("sentence1", "sentence2", "label"), *ROWS]) + "\n"
    (tmp_path / "MNLI").mkdir()
    (tmp_path / "MNLI" / "train.tsv.xz").write_bytes(lzma.compress(text.encode()))
    (tmp_path / "MNLI" / "dev.tsv").write_text(text)
    return tmp_path


def test_rows_are_the_sentence_task_s_in_words(folder: Path) -> None:
    splits = task().load(str(folder))
    sentences = Glue(name="mnli_text", label="MNLI", labels=tuple(WORDS), scored=("matched",), **FILES).load(str(folder))
    assert splits.hashes == sentences.hashes
    assert splits.train[0].input == "A dog {ran} .\nQuestion: An animal ran . True, False or Neither?\nAnswer:"
    assert [example.target for example in splits.train] == ["True", "Neither", "False"]
    assert [example.references for example in splits.test] == [("True",), ("Neither",), ("False",)]
    assert {example.target for example in splits.test} == {""}
    assert [example.key for example in splits.dev] == [example.key for example in splits.test]
    assert all(example.second is None for example in splits.train)


def test_packed_and_plain_files_give_the_same_rows(folder: Path) -> None:
    packed = task().load(str(folder))
    path = folder / "MNLI" / "train.tsv.xz"
    (folder / "MNLI" / "train.tsv").write_bytes(lzma.decompress(path.read_bytes()))
    plain = task(files={"train": "train.tsv", "matched": "dev.tsv"}).load(str(folder))
    assert plain.train == packed.train
    path.write_bytes(path.read_bytes()[:-20])
    refused(lambda: task().load(str(folder)), "train.tsv.xz", "xz")


def test_counts_are_asserted_and_a_part_is_said_to_be_one(folder: Path) -> None:
    part = task(rows={"train": 3, "matched": 3}, official={"train": 392702, "matched": 3})
    assert part.load(str(folder)).caption == "answered in words: MNLI (matched; local files; 3 of 392,702 train rows)"
    refused(lambda: task(rows={"train": 4}).load(str(folder)), "3 rows", "4")


@pytest.mark.parametrize("table", ["gpt3", "low_data_mnli"])
def test_where_the_part_is_not_there_the_whole_set_s_overrides_are_named_and_read_it(table: str, tmp_path: Path) -> None:
    """`fetch` gets the whole MNLI: to name that command alone would lead back to the same error."""
    command = [f"experiment={table}", f"row/{table}=lora{'_large' * (table == 'gpt3')}", "profile=laptop", "task=mnli_text"]
    part = build(compose(command).task)
    whole_set = "run lora-repro fetch glue, and read the whole set with task=mnli_text task.folder=MNLI"
    phrases = ("has no mnli_part/ with train_20000.tsv.xz", whole_set)
    refused(lambda: part.ready(None), "the data folder", *phrases)
    refused(lambda: part.load(str(tmp_path)), str(tmp_path), *phrases)
    config = compose([*command, *part.whole.split()]).task
    same = compose(["task=mnli", "profile=laptop"]).task
    assert (config.folder, config.columns) == (same.folder, same.columns)
    assert {split: (config.files[split], config.rows[split]) for split in ("train", "matched")} == {
        split: (same.files[split], same.rows[split]) for split in ("train", "matched")
    }
    (tmp_path / "MNLI").mkdir()
    for split in ("train", "dev_matched"):
        text = "\n".join("\t".join(row) for row in [("sentence1", "sentence2", "gold_label"), *ROWS]) + "\n"
        (tmp_path / "MNLI" / f"{split}.tsv").write_text(text)
    read_whole = build(config)
    read_whole.ready(str(tmp_path))
    assert "of 392,702" not in read_whole.caption()
    refused(lambda: read_whole.ready(None), "MNLI of GLUE is not here: run lora-repro fetch glue")
    refused(lambda: read_whole.load(str(tmp_path)), "MNLI train has 3 rows, GLUE's has 392702")


def test_the_licences_are_named_where_texts_are_shown() -> None:
    for part in ("Wang et al. 2019", "MNLI: OANC", "SICK: CC BY-NC-SA 3.0"):
        for name in ("rte", "cb", "sick", "mnli_text", "mixture"):
            assert build(compose([f"task={name}"]).task).attribution.count(part) == 1


def test_a_task_of_ones_own_is_not_credited_with_glues_licences() -> None:
    own = replace(build(compose(["task=rte"]).task), name="questions", label="Questions", suite="our own")
    assert own.attribution == "Questions (our own): its own licence."
    both = Mixture(name="two", label="Two", names=("rte", "questions"), members=(build(compose(["task=rte"]).task), own))
    assert "Wang et al. 2019" in both.attribution and own.attribution in both.attribution


def test_what_reads_the_whole_set_renames_no_run() -> None:
    names = {signature(resolved(compose(["task=mnli_text", f"task.whole={word}"]))) for word in ("here", "there")}
    assert names == {signature(resolved(compose(["task=mnli_text"])))}


def test_swallowed_rows_are_left_out_and_counted(folder: Path) -> None:
    splits = task(longest=25).load(str(folder))
    assert [len(part) for part in (splits.train, splits.dev, splits.test)] == [2, 2, 2]
    assert splits.caption.endswith("2 of more than 25 characters left out)")


def test_an_answer_is_the_word_and_nothing_else() -> None:
    test = [Example(str(n), "x", "", (word,)) for n, word in enumerate(["True", "Neither", "False", "True"])]
    scores = task().score([" true\n", "Neither", "False.", "False"], test)
    assert scores.values == {"accuracy": 0.5}
    assert [row["correct"] for row in scores.per_input] == [1, 1, 0, 0]
    right = task().score(["True", "Neither", "False", "True"], test)
    assert paired_bootstrap(scores.per_input, right.per_input, metric="accuracy").difference == -0.5
    assert task().quality(["TRUE", "maybe"], ["True", "False"]) == 0.5
    refused(lambda: task().score(["True"], [Example("k", "x", "True")]), "no label")
    refused(lambda: task().score(["True"], test))


def test_gold_that_is_no_label_is_refused() -> None:
    assert task().score(["none"], [Example("k", "x", "", ("True",))]).values == {"accuracy": 0}
    refused(lambda: task().quality(["perhaps"], ["perhaps"]), "'perhaps' is not a label's word")


def test_the_first_sentence_loses_its_last_words_and_the_second_none(folder: Path) -> None:
    example = task().load(str(folder)).train[0]
    assert task().fit(example, lambda _: True) is example
    prompt = task().fit(example, lambda e: len(e.input) < len(example.input) - 3)
    assert prompt.input == "A dog\nQuestion: An animal ran . True, False or Neither?\nAnswer:"
    assert replace(prompt, input=example.input, pair=None) == replace(example, pair=None)  # type: ignore[call-arg]
    refused(lambda: task().fit(example, lambda e: len(e.input) < 20), "data.max_length")


def test_ask_and_remark() -> None:
    assert task().ask("It rains. || It is wet.").input == "It rains.\nQuestion: It is wet. True, False or Neither?\nAnswer:"
    assert task().remark(task().ask("a || b"), "Neither") == "neutral"
    assert task().remark(task().ask("a || b"), "perhaps") == "none of True, Neither, False"
    refused(lambda: task().ask("It rains."), "FIRST || SECOND")
    assert task(template="{first} Good?").ask("A film.").input == "A film. Good?"


@pytest.mark.parametrize(
    ("given", "part"),
    [
        ({"words": {"a": True, "b": "no"}}, "quotes"),
        ({"words": {"a": "yes", "b": " Yes"}}, "different word"),
        ({"words": {"a": "yes"}}, "different word"),
        ({"template": "{second}"}, "{first}"),
        ({"template": "{first} {third}"}, "{first}"),
        ({"template": "{first"}, "task.template"),
        ({"source": "disk"}, "task.source=disk"),
        ({"source": "embedded", "words": {"yes": "a", "no": "b"}}, "entailment, neutral, contradiction"),
        ({"files": {"train": "train.tsv"}}, "matched"),
    ],
)
def test_settings_that_are_refused(given: dict[str, Any], part: str) -> None:
    refused(lambda: task(**given), part)


REAL = os.environ.get("MNLI_PART_DATA", "")


@pytest.mark.skipif(not REAL, reason="set MNLI_PART_DATA to the folder that holds mnli_part/")
def test_the_real_part() -> None:
    config = compose(["task=mnli_text", "task.source=folder"]).task
    splits = build(config).load(REAL)
    assert [len(splits.train), len(splits.dev), len(splits.test)] == [19999, 4998, 4998]
    assert splits.caption == (
        "answered in words: MNLI (matched; local files; 20,000 of 392,702 train rows; 5,000 of 9,815 matched rows; "
        "3 of more than 3,000 characters left out)"
    )

"""The data sets that we generated: frozen rows, the grammars that wrote them, and what holds of them."""

from __future__ import annotations

import json
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

import lora_repro.tasks
from lora_repro.config.compose import build, compose
from lora_repro.config.paths import ROOT
from lora_repro.metrics import slots, sql
from lora_repro.tasks._files import generated_rows
from lora_repro.tasks.base import Splits
from lora_repro.tasks.wikisql.task import Question, header_of
from tests.generators import FILES

TASKS = ("e2e", "webnlg", "dart", "samsum", "wikisql", "mnli_text", "sentiment", "entailment", "similarity")
FOLDER = Path(lora_repro.tasks.__file__).parent


@cache
def loaded(name: str) -> Splits:
    splits: Splits = build(compose([f"task={name}"]).task).load(None)
    return splits


@pytest.mark.parametrize("name", FILES)
def test_a_file_holds_what_its_grammar_writes(name: str) -> None:
    """In any process: each of pytest's draws a hash seed of its own."""
    assert generated_rows(FOLDER / name) == json.loads(json.dumps(FILES[name]()))


def test_every_file_has_its_grammar() -> None:
    assert {path.relative_to(FOLDER).as_posix() for path in FOLDER.rglob("*.xz")} == {*FILES}


def test_the_rows_are_those_of_the_published_records() -> None:
    names = set()
    for path in (ROOT / "results" / "mini" / "records").glob("*.json"):
        record = json.loads(path.read_text(encoding="utf-8"))
        task = record["asked"]["task"]
        if task.get("source") == "embedded":
            assert loaded(task["name"]).hashes == record["where"]["data"]["hashes"], path
            names.add(task["name"])
    assert names == {*TASKS}


@pytest.mark.parametrize("name", TASKS)
def test_it_says_that_it_is_generated_and_no_input_is_in_two_splits(name: str) -> None:
    splits = loaded(name)
    assert "synthetic" in splits.caption
    test_keys = {example.key for example in splits.test}
    assert len(test_keys) == len(splits.test) > 0
    assert not test_keys & {example.key for example in splits.train}
    assert not {example.key for example in splits.dev} & {example.key for example in splits.train}


@pytest.mark.parametrize("name", ["sentiment", "entailment", "mnli_text"])
def test_classes_are_balanced(name: str) -> None:
    splits = loaded(name)
    for part in (splits.train + splits.dev, splits.test):
        classes = Counter(example.target or example.references[0] for example in part)
        assert len({*classes.values()}) == 1 and len(classes) == (3 if name == "mnli_text" else 2)


@pytest.mark.parametrize("name", ["sentiment", "entailment"])
def test_no_word_and_no_length_tells_the_class(name: str) -> None:
    rows = loaded(name).train
    for part in ("input", "second") if name == "entailment" else ("input",):
        words: dict[str, Counter[str]] = {}
        length: Counter[str] = Counter()
        for example in rows:
            tokens = getattr(example, part).lower().split()
            words.setdefault(example.target, Counter()).update({*tokens})
            length[example.target] += len(tokens)
        one, other = words.values()
        assert max(abs(one[word] - other[word]) for word in one | other) < 0.06 * len(rows)
        assert max(length.values()) - min(length.values()) < 0.2 * len(rows)


def test_texts_about_restaurants_say_what_they_should_with_a_few_slips() -> None:
    errors = [slots.slot_errors(example.input, example.target) for example in loaded("e2e").train]
    assert 0.002 < slots.slot_error_rate(errors) < 0.04
    assert {len(example.references) for example in loaded("e2e").test} == {5, 6, 7, 8}


@pytest.mark.parametrize("name", ["webnlg", "dart"])
def test_texts_about_triples_name_both_ends_of_each(name: str) -> None:
    for example in loaded(name).train:
        for triple in example.input.split(" | "):
            subject, _, value = triple.split(" : ")
            assert all(end.replace("_", " ") in example.target for end in (subject, value)), example
    groups = Counter(example.group for example in loaded(name).test)
    assert groups == ({"seen": 30, "unseen": 30} if name == "webnlg" else {"": 60})


def test_people_of_test_chats_are_in_no_training_chat() -> None:
    people = [
        {line.partition(":")[0] for example in part for line in example.input.split("\n") if line}
        for part in (loaded("samsum").train, loaded("samsum").test)
    ]
    assert not people[0] & people[1]


def test_every_query_has_a_result_and_survives_its_text() -> None:
    for example in loaded("wikisql").test:
        assert isinstance(example, Question) and example.table is not None
        query = sql.read(example.references[0], header_of(example.input))
        assert sql.execute(query, example.table)
        assert sql.write(query, example.table.header) == example.references[0]
    assert not any("Bridge" in header_of(example.input) for example in loaded("wikisql").train)

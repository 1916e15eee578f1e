"""GLUE's tasks and their like: official file layouts in miniature, held-out rows, scores, the hub, refusals."""

from __future__ import annotations

import functools
import json
import math
import os
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import datasets
import pytest
from bootstrap_interval import paired_bootstrap
from conftest import refused
from omegaconf import OmegaConf

from lora_repro.config.compose import CONF, build, compose, resolved
from lora_repro.config.signature import signature
from lora_repro.tasks.base import Example, Splits, example_key
from lora_repro.tasks.glue import files as glue_files
from lora_repro.tasks.glue.task import Glue

pytestmark = pytest.mark.usefixtures("own_rows")

Row = tuple[str, str | None, str]

GLUE = "lora_repro.tasks.glue.task.Glue"
YAML = {path.stem: OmegaConf.load(path) for path in sorted((CONF / "task").glob("*.yaml"))}
TASKS = [name for name, config in YAML.items() if config.get("_target_") == GLUE]
IN_FILES = [name for name in TASKS if YAML[name].source == "folder"]
EMBEDDED = [name for name in TASKS if YAML[name].source == "embedded"]
OTHERS = {"cb": "SuperGLUE", "sick": "SemEval 2014"}  # whose the tasks are that are not GLUE's
ON_HUB = [name for name in IN_FILES if name not in OTHERS]
TABLES = [name for name in IN_FILES if name != "cb"]  # the others: a JSON object a line
HEADED = [name for name in TABLES if name != "cola"]
PAIRS = ["cb", "mnli", "mrpc", "qnli", "qqp", "rte", "sick", "stsb"]

ENTAILMENT = ["entailment", "not_entailment"]
# What the tasks' authors publish: folder, rows a split, labels, and the metric in the paper's Table 2.
FACTS: dict[str, tuple[str, dict[str, int], list[str], str]] = {
    "cb": ("CB", {"train": 250, "dev": 56}, ["entailment", "neutral", "contradiction"], "accuracy"),
    "cola": ("CoLA", {"train": 8551, "dev": 1043}, ["0", "1"], "matthews"),
    "mnli": (
        "MNLI",
        {"train": 392702, "matched": 9815, "mismatched": 9832},
        ["entailment", "neutral", "contradiction"],
        "accuracy",
    ),
    "mrpc": ("MRPC", {"train": 3668, "dev": 408}, ["0", "1"], "accuracy"),
    "qnli": ("QNLI", {"train": 104743, "dev": 5463}, ENTAILMENT, "accuracy"),
    "qqp": ("QQP", {"train": 363846, "dev": 40430}, ["0", "1"], "accuracy"),
    "rte": ("RTE", {"train": 2490, "dev": 277}, ENTAILMENT, "accuracy"),
    "sick": ("SICK", {"train": 4500, "test": 4927}, ["ENTAILMENT", "NEUTRAL", "CONTRADICTION"], "accuracy"),
    "sst2": ("SST-2", {"train": 67349, "dev": 872}, ["0", "1"], "accuracy"),
    "stsb": ("STS-B", {"train": 5749, "dev": 1500}, [], "pearson"),
}
FILES = {
    "train": "train.tsv",
    "dev": "dev.tsv",
    "matched": "dev_matched.tsv",
    "mismatched": "dev_mismatched.tsv",
}
THEIR_FILES = {
    "cb": {"train": "train.jsonl", "dev": "dev.jsonl"},
    "sick": {"train": "SICK_train.txt", "test": "SICK_test_annotated.txt"},
}
SIZES = {"train": 6, "dev": 4, "matched": 3, "mismatched": 2, "test": 4}

TREES = [f"sentence{i}_{form}" for form in ("binary_parse", "parse") for i in (1, 2)]
MNLI_HEAD = ["index", "promptID", "pairID", "genre", *TREES, "sentence1", "sentence2"]
HEADS = {
    "mrpc": ["Quality", "#1 ID", "#2 ID", "#1 String", "#2 String"],
    "qnli": ["index", "question", "sentence", "label"],
    "qqp": ["id", "qid1", "qid2", "question1", "question2", "is_duplicate"],
    "rte": ["index", "sentence1", "sentence2", "label"],
    "sick": ["pair_ID", "sentence_A", "sentence_B", "relatedness_score", "entailment_judgment"],
    "sst2": ["sentence", "label"],
    "stsb": "index genre filename year old_index source1 source2 sentence1 sentence2 score".split(),
}

# Quotes as in GLUE: paired, only at the start, only at the end, alone inside, and doubled; blanks at the end.
TEXTS = [
    '"Quality is a long-term matter .',
    'He called it "the witness" , and left .',
    'a quote that only ends "',
    'a lone " inside , as 3.5 " of rain',
    '""doubled"" and \'single\' \\ and backslash',
    "Ünïcode — café , ½ price",
]
SCORES = ["5.000", "0.000", "3.8", "2.750"]


def head(name: str, split: str) -> list[str] | None:
    """The first line of the official file, None where it has none."""
    if name == "mnli":
        annotators = 1 if split == "train" else 5
        return [*MNLI_HEAD, *(f"label{i + 1}" for i in range(annotators)), "gold_label"]
    return HEADS.get(name)


def cells(name: str, split: str, index: int, row: Row) -> list[str]:
    """One line of the official file. Whatever is no sentence and no label is there to be mistaken for one."""
    first, second, label = row
    if name == "cola":
        return ["gj04", label, "" if label == "1" else "*", first]
    if name == "sst2":
        return [f"{first} ", label]
    assert second is not None
    if name == "mrpc":
        return [label, "1355540", "1355592", first, second]
    if name == "qqp":
        return [str(index), "0", "1", first, second, label]
    if name == "stsb":
        return [
            str(index),
            "main-captions",
            "MSRvid",
            "2012test",
            "0001",
            "none",
            "none",
            first,
            second,
            label,
        ]
    if name == "sick":
        return [str(index), first, second, "3.3", label]
    if name in ("qnli", "rte"):
        return [str(index), first, second, label]
    others = ["neutral"] if split == "train" else ["neutral", "entailment", "contradiction", "neutral", "-"]
    return [
        str(index),
        "1e",
        "1n",
        "fiction",
        "( a )",
        "( b )",
        "(ROOT a)",
        "(ROOT b)",
        first,
        second,
        *others,
        label,
    ]


def splits_of(name: str) -> list[str]:
    return list(FACTS[name][1])


def file_of(name: str, split: str) -> str:
    return THEIR_FILES.get(name, FILES)[split]


def sample(name: str, split: str, size: int | None = None) -> list[Row]:
    """Rows of a task, all different, every label among them."""
    labels, start = FACTS[name][2] or SCORES, 10 * splits_of(name).index(split)
    numbers = range(start, start + (size or SIZES[split]))
    return [
        (
            f"{TEXTS[i % len(TEXTS)]}{i}",
            f"{TEXTS[(i + 1) % len(TEXTS)]}{i}b" if name in PAIRS else None,
            labels[i % len(labels)],
        )
        for i in numbers
    ]


def text_of(name: str, split: str, rows: Sequence[Row], end: str = "\n") -> str:
    """The official file of a split."""
    if name not in TABLES:
        entries = ({"premise": a, "hypothesis": b, "label": label, "idx": n} for n, (a, b, label) in enumerate(rows))
        return "".join(json.dumps(row, ensure_ascii=False) + end for row in entries)
    top = head(name, split)
    lines = [cells(name, split, index, row) for index, row in enumerate(rows)]
    return "".join("\t".join(line) + end for line in ([top] if top else []) + lines)


def write(root: Path, name: str, end: str = "\n", mark: str = "", **rows: list[Row]) -> dict[str, list[Row]]:
    """The files of one task under `root`; the rows of a split are `sample`'s unless given. Returns the rows."""
    place = root / FACTS[name][0]
    place.mkdir(exist_ok=True)
    splits = {split: rows.get(split, sample(name, split)) for split in splits_of(name)}
    for split, part in splits.items():
        (place / file_of(name, split)).write_bytes((mark + text_of(name, split, part, end)).encode())
    return splits


@functools.cache
def task_of(name: str) -> Glue:
    """The task of conf/task/<name>.yaml, for the miniature files."""
    sizes = [f"task.rows.{split}={SIZES[split]}" for split in FACTS[name][1]] if name in FACTS else []
    task = build(compose([f"task={name}", "task.held_out=0", *sizes]).task)
    assert isinstance(task, Glue)
    return task


def plain(examples: Sequence[Example]) -> list[Row]:
    """The rows that examples were made from, whether they are to train on or to score."""
    return [(e.input, e.second, e.references[0] if e.references else e.target) for e in examples]


# --- every yaml


def test_the_walk_finds_the_tasks_with_files_and_the_embedded_ones() -> None:
    assert sorted(FACTS) == IN_FILES
    assert EMBEDDED == ["entailment", "sentiment", "similarity"]


@pytest.mark.parametrize("name", IN_FILES)
def test_the_yaml_says_what_glue_and_the_paper_say(name: str) -> None:
    folder, rows, labels, metric = FACTS[name]
    config, task = YAML[name], task_of(name)
    assert (config.name, config.label, config.folder) == (name, folder, folder)
    assert config.rows == rows and list(config.labels) == labels
    assert config.kind == ("class" if labels else "number")
    assert task.metric == metric == next(iter(task.directions))
    assert set(task.directions.values()) == {1}
    if name in OTHERS:
        assert task.suite == OTHERS[name] and not task.hub
    else:
        assert config.hub.id == "nyu-mll/glue" and config.hub.config == name and len(config.hub.revision) == 40


@pytest.mark.parametrize("name", IN_FILES)
def test_official_files(name: str, tmp_path: Path) -> None:
    rows, task = write(tmp_path, name), task_of(name)
    splits = task.load(str(tmp_path))
    test_rows = [row for split in splits_of(name)[1:] for row in rows[split]]
    assert [(e.input, e.second, e.target) for e in splits.train] == rows["train"]
    assert [(e.input, e.second, e.target) for e in splits.dev] == test_rows
    assert [(e.input, e.second, e.references) for e in splits.test] == [(a, b, (y,)) for a, b, y in test_rows]
    assert {e.references for e in splits.train + splits.dev} == {()}
    assert {e.target for e in splits.test} == {""}
    assert splits.caption == f"{FACTS[name][0]} ({OTHERS.get(name, 'GLUE')}, local files)"
    assert set(splits.hashes) == {
        *(f"{FACTS[name][0]}/{file_of(name, split)}" for split in rows),
        *(f"{name}/rows/{split}" for split in rows),
    }


@pytest.mark.parametrize("name", ["rte", "sst2"])
def test_the_key_is_of_the_whole_input(name: str, tmp_path: Path) -> None:
    first, second, _ = write(tmp_path, name)["train"][0]
    text = first if second is None else f"{first}\n{second}"
    assert task_of(name).load(str(tmp_path)).train[0].key == example_key(text)


@pytest.mark.parametrize(
    ("name", "mark", "end"),
    [*((name, "\ufeff", "\r\n") for name in IN_FILES), ("rte", "\ufeff", "\n"), ("rte", "", "\r\n")],
)
def test_byte_order_marks_and_line_ends_change_no_row(name: str, mark: str, end: str, tmp_path: Path) -> None:
    write(tmp_path, name)
    before = task_of(name).load(str(tmp_path))
    write(tmp_path, name, end=end, mark=mark)
    after = task_of(name).load(str(tmp_path))
    assert (after.train, after.dev, after.test) == (before.train, before.dev, before.test)
    for key, digest in before.hashes.items():
        assert (after.hashes[key] == digest) == ("/rows/" in key)


def test_hashes_of_rows_follow_the_rows(tmp_path: Path) -> None:
    rows = write(tmp_path, "rte")
    before = task_of("rte").load(str(tmp_path)).hashes
    write(tmp_path, "rte", dev=[(*rows["dev"][0][:2], "entailment"), *rows["dev"][1:]])
    assert task_of("rte").load(str(tmp_path)).hashes == before  # that label was entailment before
    write(tmp_path, "rte", dev=[(*rows["dev"][0][:2], "not_entailment"), *rows["dev"][1:]])
    after = task_of("rte").load(str(tmp_path)).hashes
    assert {key for key in before if before[key] != after[key]} == {"RTE/dev.tsv", "rte/rows/dev"}


def test_only_line_ends_end_a_line(tmp_path: Path) -> None:
    text = "form feed\x0b\x0c, unit\x1c\x1d\x1e, next\x85line, separators \u2028 and \u2029, no\u00a0break"
    write(tmp_path, "rte", dev=[(text, f"b {text}", "entailment"), *sample("rte", "dev")[1:]])
    example = task_of("rte").load(str(tmp_path)).test[0]
    assert (example.input, example.second) == (text, f"b {text}")


def test_empty_lines_and_a_missing_last_line_end_are_no_rows(tmp_path: Path) -> None:
    rows = write(tmp_path, "sst2")
    for end in ("\n", "\r\n"):
        text = text_of("sst2", "dev", rows["dev"], end)
        for variant in (text + end + end, text.removesuffix(end), text.replace(end, end + end)):
            (tmp_path / "SST-2" / "dev.tsv").write_bytes(variant.encode())
            assert plain(task_of("sst2").load(str(tmp_path)).test) == rows["dev"]


def test_an_empty_sentence_keeps_its_row(tmp_path: Path) -> None:
    rows = [("", "b", "0"), ("a", "", "1"), *sample("mrpc", "dev")[2:]]
    write(tmp_path, "mrpc", dev=rows)
    assert plain(task_of("mrpc").load(str(tmp_path)).test) == rows


def test_columns_are_found_by_name_wherever_they_stand(tmp_path: Path) -> None:
    write(tmp_path, "rte")
    expected = task_of("rte").load(str(tmp_path)).test
    lines = [
        "\t".join(reversed(line.split("\t"))) for line in text_of("rte", "dev", sample("rte", "dev")).splitlines()
    ]
    (tmp_path / "RTE" / "dev.tsv").write_text("\n".join(lines), encoding="utf-8")
    assert task_of("rte").load(str(tmp_path)).test == expected


def test_the_folder_may_start_at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    write(tmp_path, "rte")
    assert len(task_of("rte").load("~").train) == SIZES["train"]


@pytest.mark.parametrize("name", EMBEDDED)
def test_embedded_tasks_need_no_folder_and_say_that_they_are_synthetic(name: str) -> None:
    task = task_of(name)
    splits = task.load(None)
    assert [len(part) for part in (splits.train, splits.dev, splits.test)] == [1800, 400, 400]
    assert "synthetic" in splits.caption and "GLUE" not in splits.caption
    assert {e.second is None for e in splits.train} == {name == "sentiment"}
    assert set(splits.hashes) == {f"{name}/rows/train", f"{name}/rows/dev"}
    if task.kind == "class":
        assert (
            {e.target for e in splits.train}
            == {y for e in splits.test for y in e.references}
            == {*task.labels}
        )
    else:
        assert all(0 <= float(e.references[0]) <= 5 for e in splits.test)


# --- held-out rows


def test_held_out_zero_chooses_on_what_is_scored(tmp_path: Path) -> None:
    rows = write(tmp_path, "rte")
    splits = task_of("rte").load(str(tmp_path))
    assert plain(splits.dev) == plain(splits.test) == rows["dev"]
    assert [e.key for e in splits.dev] == [e.key for e in splits.test]
    assert len(splits.train) == SIZES["train"]
    assert "held out" not in splits.caption


def held(tmp_path: Path, name: str = "rte", held_out: int = 10, size: int = 40) -> Splits:
    write(tmp_path, name, train=sample(name, "train", size))
    task = task_of(name)
    return replace(task, rows={**task.rows, "train": size}, held_out=held_out).load(str(tmp_path))


@pytest.mark.parametrize("name", ["rte", "mnli", "stsb", "cola"])
def test_held_out_rows_are_not_trained_on_and_keep_their_order(name: str, tmp_path: Path) -> None:
    splits, rows = held(tmp_path, name), sample(name, "train", 40)
    train, dev = plain(splits.train), plain(splits.dev)
    assert (len(train), len(dev)) == (30, 10)
    assert not {*train} & {*dev} and {*train, *dev} == {*rows}
    for part in (train, dev):
        places = [rows.index(row) for row in part]
        assert places == sorted(places)
    assert dev not in (rows[:10], rows[-10:])  # drawn: a sorted file would give one label alone
    assert plain(splits.test) == [row for split in splits_of(name)[1:] for row in sample(name, split)]
    assert {e.references for e in splits.dev} == {()} and all(e.target for e in splits.dev)
    assert "10 train rows held out to choose" in splits.caption


def test_held_out_rows_are_the_same_in_every_run(tmp_path: Path) -> None:
    random.seed(1)
    first = held(tmp_path)
    random.seed(2)
    random.random()
    assert held(tmp_path) == first
    rows = sample("rte", "train", 40)
    # The records of finished runs rest on this draw.
    assert [rows.index(row) for row in plain(first.dev)] == [2, 11, 16, 19, 24, 25, 26, 30, 31, 32]


def test_held_out_does_not_change_what_the_files_hash_to(tmp_path: Path) -> None:
    assert held(tmp_path, held_out=0).hashes == held(tmp_path, held_out=10).hashes


@pytest.mark.parametrize("name", EMBEDDED)
def test_embedded_tasks_hold_rows_out_too(name: str) -> None:
    task = task_of(name)
    original, splits = task.load(None), replace(task, held_out=200).load(None)
    assert [len(part) for part in (splits.train, splits.dev, splits.test)] == [1600, 200, 400]
    assert {*plain(splits.train), *plain(splits.dev)} == {*plain(original.train)}
    assert splits.test == original.test


def test_all_but_one_row_may_be_held_out(tmp_path: Path) -> None:
    assert len(held(tmp_path, held_out=39).train) == 1
    for held_out in (40, 41, 1000):
        refused(
            lambda n=held_out: held(tmp_path, held_out=n), f"task.held_out={held_out}", "40 training rows"
        )


# --- scores


def scored(labels: Sequence[str]) -> list[Example]:
    return [Example(str(i), str(i), "", (label,)) for i, label in enumerate(labels)]


def test_scores_of_classes() -> None:
    # TP 3, FP 1, FN 2, TN 4
    outputs, gold = list("1111000000"), list("1110110000")
    mrpc = task_of("mrpc").score(outputs, scored(gold))
    assert list(mrpc.values) == list(task_of("mrpc").directions) == ["accuracy", "f1"]
    assert mrpc.values == {"accuracy": pytest.approx(0.7), "f1": pytest.approx(6 / 9)}
    cola = task_of("cola").score(outputs, scored(gold))
    assert list(cola.values) == list(task_of("cola").directions) == ["matthews", "accuracy"]
    assert cola.values["matthews"] == pytest.approx((3 * 4 - 1 * 2) / math.sqrt(4 * 5 * 5 * 6))
    rte = task_of("rte").score(["entailment"] * 4, scored([*ENTAILMENT, *ENTAILMENT]))
    assert rte.values == {"accuracy": 0.5}
    assert [row["correct"] for row in rte.per_input] == [1, 0, 1, 0]


def test_scores_of_numbers() -> None:
    task = task_of("stsb")
    # Deviations -1.5 -.5 .5 1.5 and -3 -1 -1 5; ranks 1 2 3 4 against 1 2.5 2.5 4.
    scores = task.score(["1.0000", "2.0000", "3.0000", "4.0000"], scored(["0.000", "2.000", "2.0", "8"]))
    assert list(scores.values) == list(task.directions) == ["pearson", "spearman"]
    assert scores.values["pearson"] == pytest.approx(12 / math.sqrt(5 * 36))
    assert scores.values["spearman"] == pytest.approx(4.5 / math.sqrt(5 * 4.5))
    assert scores.per_input[3] == {"gold": 8.0, "predicted": 4.0}
    constant = task.score(["2.5000"] * 3, scored(["1", "2", "3"])).values
    assert all(math.isnan(value) for value in constant.values()) and len(constant) == 2


def test_mnli_is_scored_apart_and_together(tmp_path: Path) -> None:
    write(tmp_path, "mnli")
    task = task_of("mnli")
    examples = task.load(str(tmp_path)).test
    gold = [e.references[0] for e in examples]
    assert len(gold) == 5 and task.metric == "accuracy"
    assert list(task.directions) == ["accuracy", "accuracy_matched", "accuracy_mismatched"]
    wrong = {label: f"not {label}" for label in gold}
    for mistakes, matched, mismatched in [
        ((), 1, 1),
        ((0,), 2 / 3, 1),
        ((4,), 1, 1 / 2),
        ((2, 3, 4), 2 / 3, 0),
    ]:
        outputs = [wrong[label] if i in mistakes else label for i, label in enumerate(gold)]
        scores = task.score(outputs, examples)
        assert scores.values == {
            "accuracy": pytest.approx(1 - len(mistakes) / 5),
            "accuracy_matched": pytest.approx(matched),
            "accuracy_mismatched": pytest.approx(mismatched),
        }
        assert list(scores.values) == list(task.directions) and len(scores.per_input) == 5


def test_a_part_of_mnli_s_dev_sets_is_not_taken_apart(tmp_path: Path) -> None:
    write(tmp_path, "mnli")
    examples = task_of("mnli").load(str(tmp_path)).test[:4]
    scores = task_of("mnli").score([e.references[0] for e in examples], examples)
    assert scores.values == {"accuracy": 1.0}


def test_mnli_matched_alone(tmp_path: Path) -> None:
    write(tmp_path, "mnli")
    task = replace(task_of("mnli"), scored=["mismatched"])
    assert list(task.directions) == ["accuracy"]
    assert plain(task.load(str(tmp_path)).test) == sample("mnli", "mismatched")


RUNS = {  # gold, one run, another
    "mrpc": ("1110110000", "1111000000", "1110010010"),
    "cola": ("1110110000", "1111000000", "1110010010"),
    "stsb": ("0123450123", "1123350213", "5021340121"),
    "rte": ("1010110100", "1010100101", "0010111110"),
}


@pytest.mark.parametrize("name", list(RUNS))
def test_statistics_of_inputs_feed_the_bootstrap(name: str) -> None:
    task = task_of(name)
    code = dict(zip("01", task.labels, strict=True)) if task.labels else {}
    gold, one, other = ([code.get(letter, letter) for letter in text] for text in RUNS[name])
    a, b = (task.score(outputs, scored(gold)) for outputs in (one, other))
    assert len(a.per_input) == 10
    statistics = [json.loads(json.dumps(scores.per_input)) for scores in (a, b)]
    for metric in task.metrics:
        if metric == "spearman":  # its ranks are no sums over inputs
            continue
        interval = paired_bootstrap(statistics[0], statistics[1], n=50, metric=metric)
        assert interval.difference == pytest.approx(a.values[metric] - b.values[metric])
        assert interval.difference != 0 and interval.n_inputs == 10 and interval.low < interval.high


def test_quality_is_the_first_metric() -> None:
    outputs, gold = list("1111000000"), list("1110110000")
    assert task_of("cola").quality(outputs, gold) == pytest.approx(10 / math.sqrt(600))
    assert task_of("mrpc").quality(outputs, gold) == pytest.approx(0.7)
    assert task_of("stsb").quality(["1", "2", "3"], ["3", "2", "1.0"]) == pytest.approx(-1)
    assert math.isnan(task_of("stsb").quality(["2", "2", "2"], ["3", "2", "1"]))


def test_what_cannot_be_scored_is_refused() -> None:
    refused(lambda: task_of("rte").score(["entailment"], scored(ENTAILMENT)), "1 outputs for 2 inputs")
    refused(lambda: task_of("rte").score([], []), "0 outputs for 0 inputs")
    refused(
        lambda: task_of("rte").score(["entailment"], [Example("k12", "a", "entailment")]), "k12", "no label"
    )
    refused(lambda: task_of("stsb").score(["high", "1"], scored(["1", "2"])), "'high'")
    refused(lambda: task_of("rte").human(scored(ENTAILMENT)), "no human texts to score")


# --- bad input


@pytest.mark.parametrize("name", IN_FILES)
def test_no_folder(name: str, tmp_path: Path) -> None:
    folder = FACTS[name][0]
    how = "fetch does not have it" if name in ("sick", "cb") else "run lora-repro fetch glue"
    refused(lambda: task_of(name).load(None), folder, how, "DATA=")
    refused(lambda: task_of(name).load(str(tmp_path)), f"no folder {tmp_path / folder}", file_of(name, "train"))
    (tmp_path / folder).write_text("a file")
    refused(lambda: task_of(name).load(str(tmp_path)), f"no folder {tmp_path / folder}")


@pytest.mark.parametrize("name", IN_FILES)
def test_each_missing_file_is_named(name: str, tmp_path: Path) -> None:
    for split in splits_of(name):
        write(tmp_path, name)
        path = tmp_path / FACTS[name][0] / file_of(name, split)
        path.unlink()
        refused(lambda: task_of(name).load(str(tmp_path)), str(path), *(file_of(name, s) for s in splits_of(name)))
    path.mkdir()
    refused(lambda: task_of(name).load(str(tmp_path)), "cannot read", str(path))


@pytest.mark.parametrize("name", IN_FILES)
def test_each_cut_or_re_split_file_is_refused(name: str, tmp_path: Path) -> None:
    for split in splits_of(name):
        rows = sample(name, split)
        for other in (rows[:-1], [*rows, rows[0]]):
            write(tmp_path, name, **{split: other})
            refused(
                lambda: task_of(name).load(str(tmp_path)),
                f"{FACTS[name][0]} {split} has {len(other)} rows",
                str(len(rows)),
                "re-split",
            )


@pytest.mark.parametrize(
    ("name", "label"), [*((name, "Entailment") for name in IN_FILES), *(("rte", label) for label in ("2", "", "-"))]
)
def test_a_label_outside_the_set_is_refused(name: str, label: str, tmp_path: Path) -> None:
    kind, label_of = ("is not a number", "high") if name == "stsb" else ("is not one of", label)
    for split in splits_of(name):
        rows = sample(name, split)
        write(tmp_path, name, **{split: [rows[0], (*rows[1][:2], label_of), *rows[2:]]})
        refused(
            lambda: task_of(name).load(str(tmp_path)),
            f"{FACTS[name][0]} {split}, row 2",
            repr(label_of),
            kind,
        )


def bad_file(tmp_path: Path, name: str, content: bytes, *parts: str, split: str = "train") -> None:
    """`content` as one file of a task is refused, and the message names the file."""
    write(tmp_path, name)
    path = tmp_path / FACTS[name][0] / file_of(name, split)
    path.write_bytes(content)
    refused(lambda: task_of(name).load(str(tmp_path)), str(path), *parts)


@pytest.mark.parametrize("name", ["cb", "cola", "rte"])  # lines of JSON, a table without a header and one with
@pytest.mark.parametrize("content", ["", "\ufeff", "\n\n", "\r\n"])
def test_an_empty_file_is_refused(name: str, content: str, tmp_path: Path) -> None:
    bad_file(tmp_path, name, content.encode(), "is empty")


@pytest.mark.parametrize("name", HEADED)
def test_a_header_alone_is_refused(name: str, tmp_path: Path) -> None:
    bad_file(tmp_path, name, text_of(name, "train", []).encode(), "a header and no rows")


@pytest.mark.parametrize("name", HEADED)
def test_each_column_that_is_read_must_be_there(name: str, tmp_path: Path) -> None:
    good = text_of(name, "train", sample(name, "train"))
    for column in {str(YAML[name].columns[key]) for key in ("first", "second", "label")} - {"None"}:
        top, _, rest = good.partition("\n")
        header = "\t".join("other" if cell == column else cell for cell in top.split("\t"))
        bad_file(tmp_path, name, f"{header}\n{rest}".encode(), f"no column {column!r}", "TSV")


def test_each_key_that_is_read_must_be_on_every_line(tmp_path: Path) -> None:
    good = text_of("cb", "train", sample("cb", "train"))
    for key in YAML["cb"].columns.values():
        lines, _, last = good.rstrip("\n").rpartition("\n")
        line = last.replace(f'"{key}":', '"other":')
        bad_file(tmp_path, "cb", f"{lines}\n{line}".encode(), "line 6", f"({key!r})")


def test_files_of_another_shape_are_refused(tmp_path: Path) -> None:
    rows = sample("rte", "train")
    commas = text_of("rte", "train", rows).replace("\t", ",")
    bad_file(tmp_path, "rte", commas.encode(), "no column 'sentence1'")
    quotes = text_of("rte", "train", rows).replace("sentence1", '"sentence1"')
    bad_file(tmp_path, "rte", quotes.encode(), "no column 'sentence1'")
    headless = text_of("rte", "train", rows).partition("\n")[2]
    bad_file(tmp_path, "rte", headless.encode(), "no column 'sentence1'")
    bad_file(tmp_path, "mnli", text_of("rte", "train", rows).encode(), "no column 'gold_label'")
    one_line = text_of("rte", "train", rows).replace("\n", "\r")  # an old Mac's
    bad_file(tmp_path, "rte", one_line.encode(), "no column 'label'", r"label\r")


def test_a_header_where_cola_has_none_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "cola")
    path = tmp_path / "CoLA" / "train.tsv"
    path.write_text("source\tlabel\tmark\tsentence\n" + path.read_text())
    refused(lambda: task_of("cola").load(str(tmp_path)), "CoLA train has 7 rows")
    task = replace(task_of("cola"), rows={"train": 7, "dev": 4})
    refused(lambda: task.load(str(tmp_path)), "CoLA train, row 1", "'label'")


@pytest.mark.parametrize("name", sorted({*TABLES} - {"qqp"}))
def test_a_row_with_too_few_columns_is_refused(name: str, tmp_path: Path) -> None:
    lines = text_of(name, "train", sample(name, "train")).splitlines()
    lines[-1] = "\t".join(lines[-1].split("\t")[:-1])
    bad_file(tmp_path, name, "\n".join(lines).encode(), "row 6 has only ", " columns")


@pytest.mark.parametrize("name", IN_FILES)
def test_a_file_that_is_not_utf_8_is_refused(name: str, tmp_path: Path) -> None:
    text = text_of(name, "train", sample(name, "train"))
    assert "ï" in text
    bad_file(tmp_path, name, text.replace("½", "").replace("—", "-").encode("latin-1"), "not UTF-8", "byte ")
    bad_file(tmp_path, name, text.encode("utf-16"), "not UTF-8")


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"source": "web"}, "task.source=web: choose embedded, folder, hub"),
        ({"kind": "text"}, "task.kind=text: choose class or number"),
        ({"kind": "number"}, "kind=number takes pearson and spearman and no labels"),
        ({"kind": "number", "metrics": ["pearson"]}, "and no labels"),
        ({"kind": "number", "labels": []}, "kind=number takes pearson and spearman"),
        ({"kind": "number", "labels": [], "metrics": ["pearson", "accuracy"]}, "kind=number takes pearson and spearman"),
        ({"kind": "number", "labels": [], "metrics": []}, "give metrics"),
        ({"metrics": ["pearson"]}, "kind=class the other metrics"),
        ({"metrics": ["accuracy", "spearman"]}, "kind=class the other metrics"),
        (
            {"metrics": ["acuracy"]},
            "no metric 'acuracy'; choose from accuracy, f1, matthews, pearson, spearman",
        ),
        ({"metrics": []}, "task mrpc"),
        ({"labels": []}, "at least two different labels"),
        ({"labels": ["1"]}, "at least two different labels"),
        ({"labels": [False, True]}, "put it in quotes"),
        ({"labels": ["0", "1", "1"]}, "at least two different labels"),
        ({"positive": None}, "for f1 or matthews one of the labels as positive"),
        ({"positive": "yes"}, "for f1 or matthews one of the labels as positive"),
        ({"labels": ["0", "1", "2"]}, "f1, matthews and positive are for two labels, and it has 3"),
        ({"labels": ["0", "1", "2"], "metrics": ["accuracy"]}, "f1, matthews and positive are for two labels, and it has 3"),
        (
            {"kind": "number", "labels": [], "positive": None, "metrics": ["spearman", "pearson"]},
            "put pearson before spearman",
        ),
        ({"held_out": -1}, "task.held_out must be >= 0, not -1"),
    ],
)
def test_nonsense_is_refused_at_construction(changes: dict[str, object], part: str) -> None:
    refused(lambda: replace(task_of("mrpc"), **changes), part)


def test_an_unknown_embedded_task_is_refused() -> None:
    refused(lambda: replace(task_of("sentiment"), name="sst3").load(None), "'sst3'", *EMBEDDED)


# --- the hub, by a stand-in for its parquet files (the client itself: test_hub.py)

NAMES = {  # of the classes on the hub, in its order
    "cola": ["unacceptable", "acceptable"],
    "mnli": ["entailment", "neutral", "contradiction"],
    "mrpc": ["not_equivalent", "equivalent"],
    "qnli": ENTAILMENT,
    "qqp": ["not_duplicate", "duplicate"],
    "rte": ENTAILMENT,
    "sst2": ["negative", "positive"],
}
HUB_COLUMNS = {
    "cola": ("sentence",),
    "mnli": ("premise", "hypothesis"),
    "qnli": ("question", "sentence"),
    "qqp": ("question1", "question2"),
    "sst2": ("sentence",),
}


def hub_part(name: str, rows: Sequence[Row]) -> datasets.Dataset:
    columns = HUB_COLUMNS.get(name, ("sentence1", "sentence2"))
    parts = {column: [row[place] for row in rows] for place, column in enumerate(columns)}
    labels = FACTS[name][2]
    parts["label"] = [labels.index(row[2]) if labels else float(row[2]) for row in rows]
    label = datasets.ClassLabel(names=NAMES[name]) if name in NAMES else datasets.Value("float32")
    features = datasets.Features({**dict.fromkeys(columns, datasets.Value("string")), "label": label})
    return datasets.Dataset.from_dict(parts, features)


@pytest.mark.parametrize("name", ON_HUB)
def test_hub_rows_equal_the_file_s_rows(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments: list[object] = []
    places = {"dev": "validation", "matched": "validation_matched", "mismatched": "validation_mismatched"}

    def hub_parts(*given: object) -> dict[str, datasets.Dataset]:
        arguments.extend(given[:3])
        return {places.get(split, split): hub_part(name, sample(name, split)) for split in splits_of(name)}

    monkeypatch.setattr(glue_files, "hub_parts", hub_parts)
    splits = replace(task_of(name), source="hub").load(None)
    assert arguments == ["nyu-mll/glue", YAML[name].hub.revision, name]
    expected = {split: sample(name, split) for split in splits_of(name)}
    if name == "stsb":  # numbers there, with the three digits of the files
        expected = {split: [(a, b, f"{float(y):.3f}") for a, b, y in rows] for split, rows in expected.items()}
    assert plain(splits.train) == expected.pop("train")
    assert plain(splits.test) == plain(splits.dev) == [row for rows in expected.values() for row in rows]
    assert splits.caption == f"{FACTS[name][0]} (GLUE, the hub)"
    assert set(splits.hashes) == {f"{name}/rows/{split}" for split in splits_of(name)}


def test_a_hub_with_other_rows_or_without_the_task_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    part = hub_part("rte", sample("rte", "dev"))
    monkeypatch.setattr(glue_files, "hub_parts", lambda *_: {"train": part, "validation": part})
    refused(lambda: replace(task_of("rte"), source="hub").load(None), "RTE train has 4 rows", "6")
    for name in ("sentiment", *OTHERS):
        refused(lambda name=name: replace(task_of(name), source="hub").load(None), "not on the hub")


# --- the real files


@pytest.mark.parametrize("name", TABLES)
def test_real_files(name: str) -> None:
    root = os.environ.get("GLUE_DATA")
    if not root:
        pytest.skip("set GLUE_DATA to a folder with GLUE's TSV files")
    folder, counts, labels, _ = FACTS[name]
    if not (Path(root) / folder).is_dir():
        pytest.skip(f"GLUE_DATA={root} has no {folder}")
    task = build(compose([f"task={name}", "task.held_out=0"]).task)
    splits = task.load(root)
    first, second, label = COLUMNS[name]
    for split, examples in (("train", splits.train), ("scored", splits.test)):
        rows, names = plain(examples), [split] if split == "train" else splits_of(name)[1:]
        assert len(rows) == sum(counts[s] for s in names)
        if labels:
            assert {y for _, _, y in rows} == {*labels}
        else:
            assert all(0 <= float(y) <= 5 for _, _, y in rows)
        expected = []
        for path in (Path(root) / folder / file_of(name, s) for s in names):
            lines = [
                line.rstrip("\r").split("\t") for line in path.read_bytes().decode("utf-8-sig").split("\n")
            ]
            width = len(lines[0])
            lines = lines if name == "cola" else lines[1:]
            expected += [line for line in lines if (len(line) == width if name == "qqp" else line != [""])]
        assert [row[0] for row in rows] == [line[first].strip() for line in expected]
        assert [row[1] for row in rows] == [
            None if second is None else line[second].strip() for line in expected
        ]
        assert [row[2] for row in rows] == [line[label] for line in expected]
        quotes = sum(line[first].count('"') for line in expected)
        assert sum(row[0].count('"') for row in rows) == quotes
        assert quotes > 0 or name not in ("mrpc", "rte", "stsb")


COLUMNS = {  # positions of the sentences and the label in the official files
    "cola": (3, None, 1), "mnli": (8, 9, -1), "mrpc": (3, 4, 0), "qnli": (1, 2, 3),
    "qqp": (3, 4, 5), "rte": (1, 2, 3), "sick": (1, 2, 4), "sst2": (0, None, 1), "stsb": (7, 8, 9),
}  # fmt: skip


# --- once wrong


def test_qqp_s_broken_lines_are_skipped(tmp_path: Path) -> None:
    rows = write(tmp_path, "qqp")
    path = tmp_path / "QQP" / "train.tsv"
    lines = path.read_text(encoding="utf-8").splitlines()
    cut = (
        "97930\t158067\t158068\tWas Muhammad real?"  # GLUE-baselines, issue 5: line 97,931 and its neighbour
    )
    rest = '"\tWas Muhammad a real historical figure?\t0'
    path.write_text("\n".join([*lines[:3], cut, rest, *lines[3:]]), encoding="utf-8")
    assert plain(task_of("qqp").load(str(tmp_path)).train) == rows["train"]


@pytest.mark.parametrize("text", ["a\rb", "a" * 140_000])
def test_what_csv_refuses_is_read(text: str, tmp_path: Path) -> None:
    write(tmp_path, "sst2", dev=[(text, None, "1"), *sample("sst2", "dev")[1:]])
    assert task_of("sst2").load(str(tmp_path)).test[0].input == text


def test_the_ends_of_a_scale_are_in_it_and_a_scale_renames_no_run(tmp_path: Path) -> None:
    write(tmp_path, "stsb", train=[("a", "b", "0"), ("c", "d", "5.000"), *sample("stsb", "train")[2:]])
    assert task_of("stsb").load(str(tmp_path)).train[1].target == "5.000"
    names = {signature(resolved(compose(["task=stsb", f"task.scale={scale}"]))) for scale in ("[0,5]", "[]", "[1,9]")}
    assert len(names) == 1


@pytest.mark.parametrize("score", ["", "5,0", "five", "1.0 2.0", "nan", "inf", "-Infinity", "1_0", "-0.001", "5.001"])
def test_a_score_that_is_no_number_of_its_scale_is_refused(score: str, tmp_path: Path) -> None:
    write(tmp_path, "stsb", train=[("a", "b", score), *sample("stsb", "train")[1:]])
    refused(lambda: task_of("stsb").load(str(tmp_path)), "STS-B train, row 1", score)


@pytest.mark.parametrize(
    "changes",
    [
        {"scored": ["dev", "mismatched"]},
        {"scored": ["deev"]},
        {"files": {"dev": "dev.tsv"}},
        {"columns": {"first": "sentence1"}},
    ],
)
def test_a_yaml_that_forgets_something_is_refused(changes: dict[str, object], tmp_path: Path) -> None:
    write(tmp_path, "rte")
    refused(lambda: replace(task_of("rte"), **changes).load(str(tmp_path)))

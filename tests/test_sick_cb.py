"""Sentence tasks that are not GLUE's: SICK's own TSV and SuperGLUE's JSON lines, by a yaml each."""

from __future__ import annotations

import json
import lzma
from dataclasses import replace
from pathlib import Path

import pytest

from lora_repro.config.compose import build, compose
from lora_repro.errors import UserError
from lora_repro.tasks.glue.files import parse_lines
from lora_repro.tasks.glue.task import Glue

COLUMNS = {"first": "premise", "second": "hypothesis", "label": "label"}


def small(name: str) -> Glue:
    config = compose([f"task={name}", "profile=laptop"]).task
    config.held_out, config.rows = 1, {}
    task: Glue = build(config)
    return task


def test_cb_is_read_from_json_lines(tmp_path: Path) -> None:
    row = {"premise": " He said: \u2028 maybe\t", "hypothesis": "it is", "label": "neutral", "idx": 0}
    (tmp_path / "CB").mkdir()
    for split in ("train", "dev"):
        lines = [json.dumps({**row, "label": label}, ensure_ascii=False) for label in ("neutral", "entailment", "contradiction")]
        (tmp_path / "CB" / f"{split}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    splits = small("cb").load(str(tmp_path))
    assert (len(splits.train), len(splits.dev), len(splits.test)) == (2, 1, 3)
    one = splits.test[1]
    assert (one.input, one.second, one.references) == ("He said: \u2028 maybe", "it is", ("entailment",))
    (tmp_path / "CB" / "train.jsonl.xz").write_bytes(lzma.compress((tmp_path / "CB" / "train.jsonl").read_bytes()))
    task = replace(small("cb"), files={"train": "train.jsonl.xz", "dev": "dev.jsonl"})
    assert task.load(str(tmp_path)).train == splits.train
    assert splits.caption == "CB (SuperGLUE, local files; 1 train rows held out to choose)"


def test_sick_is_read_by_its_header(tmp_path: Path) -> None:
    (tmp_path / "SICK").mkdir()
    text = "pair_ID\tsentence_A\tsentence_B\trelatedness_score\tentailment_judgment\n1\tA dog\tNo dog\t3.3\tCONTRADICTION\n"
    for name in ("SICK_train.txt", "SICK_test_annotated.txt"):
        (tmp_path / "SICK" / name).write_text(text + "2\tA\tB\t1\tNEUTRAL\n", encoding="utf-8")
    splits = small("sick").load(str(tmp_path))
    assert (splits.test[0].input, splits.test[0].second, splits.test[0].references) == ("A dog", "No dog", ("CONTRADICTION",))


NULL = '{"premise": null, "hypothesis": "b", "label": "neutral"}'  # str() would make it the text None


HALF = '{"premise": "\\ud83d", "hypothesis": "b", "label": "neutral"}'  # no UTF-8 has half of a surrogate pair


@pytest.mark.parametrize("text", [HALF, "[1]", "{}", '{"premise": "a"', '{"premise": "a", "hypothesis": "b"}', "", NULL])
def test_what_is_no_such_line_is_named(text: str) -> None:
    with pytest.raises(UserError, match=r"x\.jsonl") as error:
        parse_lines(text, COLUMNS, "x.jsonl")
    assert "\n" not in str(error.value)

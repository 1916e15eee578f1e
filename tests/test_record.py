"""Identity, atomic files and locks."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

from lora_repro import record
from lora_repro.errors import Busy, UserError

ASKED = {
    "backbone": {"name": "b", "label": "B", "sizes": {}},
    "train": {"lr": 1e-3, "micro_batch_size": None, "eval_batch_size": 32, "checkpoint_every": 5},
    "decode": {"beam": 10, "batch_size": 16},
    "seed": 0,
    "row": {"label": "x"},
    "paths": {"runs": "runs"},
    "device": "cpu",
}


def changed(path: str, value: object) -> dict[str, object]:
    asked = json.loads(json.dumps(ASKED))
    node, _, leaf = path.rpartition(".")
    (asked[node] if node else asked)[leaf] = value
    return asked


@pytest.mark.parametrize(
    "path", ["row", "paths", "device", "backbone.label", "backbone.sizes", "decode.batch_size", "train.micro_batch_size"]
)
def test_what_cannot_change_a_result_does_not_change_the_signature(path: str) -> None:
    assert record.signature(changed(path, "other")) == record.signature(ASKED)


@pytest.mark.parametrize("path", ["seed", "train.lr", "decode.beam", "backbone.name"])
def test_everything_else_does(path: str) -> None:
    assert record.signature(changed(path, "other")) != record.signature(ASKED)


def test_the_signature_does_not_change_between_versions_of_this_code() -> None:
    # Published records are looked up by it: a change here orphans all of them.
    assert record.signature(ASKED) == "290e0701d670ccea"


def test_find_returns_done_records_and_leaves_failed_ones_to_be_repeated(tmp_path: Path) -> None:
    assert record.find(tmp_path) is None
    for status, found in (("finished", True), ("diverged", True), ("collapsed", True), ("failed", False)):
        record.save(tmp_path, {"schema": 1, "signature": "s", "status": status}, [{"output": "é"}])
        assert (record.find(tmp_path) is not None) == found
    assert record.load_predictions(tmp_path / "predictions.jsonl") == [{"output": "é"}]


def test_nan_never_reaches_a_file_and_the_old_record_survives(tmp_path: Path) -> None:
    record.save(tmp_path, {"schema": 1, "signature": "s", "status": "finished"}, [])
    with pytest.raises(ValueError):
        record.save(tmp_path, {"schema": 1, "bleu": math.nan}, [])
    assert record.find(tmp_path) is not None
    assert {path.name for path in tmp_path.iterdir()} == {"record.json", "predictions.jsonl"}


@pytest.mark.parametrize("text", ["", "{", '{"schema": 99}', "[]"])
def test_an_unreadable_record_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "record.json").write_text(text)
    with pytest.raises(UserError, match=r"record.json cannot be read"):
        record.find(tmp_path)


HOLDER = """
import sys, pathlib
from lora_repro import record
with record.lock(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_second_process_is_told_to_leave_and_a_dead_one_leaves_no_lock(tmp_path: Path) -> None:
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert holder.stdout is not None and holder.stdin is not None
    assert holder.stdout.readline() == b"held\n"
    with pytest.raises(Busy, match=f"{holder.pid} on") as caught, record.lock(tmp_path):
        pass
    assert caught.value.exit_code == 75
    holder.kill()
    holder.wait()
    holder.stdin.close()
    holder.stdout.close()
    with record.lock(tmp_path):
        pass


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"paths.runs"), record.lock(tmp_path / "file" / "run"):
        pass

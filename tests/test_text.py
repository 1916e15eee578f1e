"""Text is text: whatever Unicode calls a line's end survives in outputs, records, inputs and metrics."""

from __future__ import annotations

from pathlib import Path

import pytest

from lora_repro.commands.generate import read_inputs
from lora_repro.errors import UserError
from lora_repro.records import record
from lora_repro.tasks.e2e.files import read_file
from lora_repro.tracking.metrics import Metrics

ENDS = {"U+2028": "\u2028", "U+2029": "\u2029", "U+0085": "\x85", "VT": "\x0b", "FF": "\x0c", "FS": "\x1c", "CR": "\r"}
ends = pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)


@ends
def test_predictions_come_back_as_they_were_said(end: str, tmp_path: Path) -> None:
    rows = [{"key": "a", "output": f"x{end}y"}, {"key": "b", "output": f"{end}"}]
    record.save(tmp_path, {}, rows)
    assert record.load_predictions(tmp_path / "predictions.jsonl") == rows


@ends
def test_a_line_of_a_file_is_one_input(end: str, tmp_path: Path) -> None:
    if end != "\r":  # which ends a line, as \r\n does
        (tmp_path / "inputs").write_text(f"name[A{end}B]\nname[C]\n", encoding="utf-8")
        assert read_inputs([], str(tmp_path / "inputs")) == [f"name[A{end}B]", "name[C]"]
        (tmp_path / "lines").write_text(f"a{end}b||x\nc||d\n", encoding="utf-8")
        assert read_file(tmp_path / "lines", "tokenised")[0] == [(f"a{end}b", "x"), ("c", "d")]


@pytest.mark.parametrize(
    "damage",
    [b'{"key": "a"}', b'{"key": "a"\n', b'{"output": "x"}\n', b"[]\n", b"3\n", b"\xff\xfe\n", b"null\n", b"[" * 10**5],
    ids=["cut", "half", "no key", "list", "number", "no UTF-8", "null", "deep"],
)
def test_damaged_predictions_are_one_line(damage: bytes, tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_bytes(damage)
    with pytest.raises(UserError, match=r"p.jsonl cannot be read") as error:
        record.load_predictions(tmp_path / "p.jsonl")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("damage", [b'{"stop": 1}', b"{}", b"[]", b"\xff\xff", b'{"step": null}', b"{"])
def test_a_damaged_line_of_metrics_is_dropped_and_said(
    damage: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step": 1, "a": 1}\n' + damage + b'\n{"step": 2, "a": 2}\n{"step": 3')
    Metrics(path).log(3, {"a": 3.0})
    assert path.read_text() == '{"step": 1, "a": 1}\n{"step": 2, "a": 2}\n{"step": 3, "a": 3.0}\n'
    assert "metrics.jsonl is damaged: dropping 1 unreadable lines" in capsys.readouterr().err

"""`lora-repro score`: file formats, one JSON object, one-line mistakes."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lora_repro.commands.score import main
from lora_repro.errors import NotAvailable
from lora_repro.exchange import open_checkpoint
from lora_repro.exchange.score import read_groups, read_lines, read_pair, score_checkpoint
from lora_repro.metrics import jvm, nlg

ROOT = Path(__file__).parents[1]
CASE = Path(__file__).parent / "scorer_case"


@pytest.fixture(scope="module", autouse=True)
def end_java() -> Any:
    yield
    jvm.close()


@pytest.fixture
def files(tmp_path: Path) -> Any:
    def write(predictions: str | bytes, references: str | bytes) -> list[str]:
        arguments = ["e2e"]
        for name, content in (("predictions", predictions), ("references", references)):
            path = tmp_path / name
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
            arguments += [f"--{name}", str(path)]
        return arguments

    return write


@pytest.fixture
def fake_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nlg, "score", lambda outputs, references: dict.fromkeys(nlg.METRICS, 0.5))


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", "-m", "lora_repro", "score", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=os.environ | environment)


def test_scorer_case_prints_one_json_object(capsys: pytest.CaptureFixture[str]) -> None:
    paths = ["--references", str(CASE / "references.txt"), "--predictions", str(CASE / "predictions.txt")]
    assert main(["e2e", *paths, "--json"]) == 0
    output, mistakes = capsys.readouterr()
    assert output.count("\n") == 1 and not mistakes
    scores = json.loads(output)
    assert list(scores) == ["bleu", "nist", "meteor", "rouge_l", "cider"]
    assert scores == pytest.approx(json.loads((CASE / "expected.json").read_text()), abs=1e-9)


@pytest.mark.usefixtures("fake_scores")
def test_table_names_metrics_and_n(files: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(files("a\nb\n", "a\nc\n\nb\n")) == 0
    output = capsys.readouterr().out
    assert "BLEU      0.5000\n" in output and "CIDEr     0.5000\n" in output
    assert output.endswith("n = 2 outputs, 3 references; higher is better\n")


@pytest.mark.parametrize(
    ("predictions", "references"),
    [
        ("a\nb c\n", "x\ny\n\nz\n"),
        ("a\nb c", "x\ny\n\nz"),
        ("a\r\nb c\r\n", "x\r\ny\r\n\r\nz\r\n"),
        ("\ufeffa\nb c\n", "\ufeffx\ny\n\nz\n\n"),
        (" a \nb c\n\n", "\nx\ny\n \n\nz\n\n\n"),
    ],
)
def test_line_ends_marks_and_blanks_are_tolerated(files: Any, predictions: str, references: str) -> None:
    arguments = files(predictions, references)
    assert read_pair(arguments[2], arguments[4]) == (["a", "b c"], [["x", "y"], ["z"]])


def test_empty_outputs_are_outputs(files: Any) -> None:
    arguments = files("\n\nb\n", "x\n\ny\n\nz\n")
    assert read_pair(arguments[2], arguments[4])[0] == ["", "", "b"]
    assert read_lines(files("\n\n", "x")[2]) == ["", ""]


def test_a_reference_file_without_blank_lines_holds_one_each(files: Any) -> None:
    arguments = files("a\nb\n", "x\ny\n")
    assert read_pair(arguments[2], arguments[4])[1] == [["x"], ["y"]]
    arguments = files("a\n", "x\ny\n")
    assert read_pair(arguments[2], arguments[4])[1] == [["x", "y"]]


@pytest.mark.parametrize(
    ("predictions", "references", "message"),
    [
        ("a\nb\nc\n", "x\n\ny\n", "3 predictions in {p} but 2 groups of references in {r}"),
        ("a\n", "x\n\ny\n", "1 predictions in {p} but 2 groups of references in {r}"),
        ("", "x\n", "{p} is empty"),
        ("a\n", "", "{r} is empty"),
        ("a\n", "\n\n", "{r} has only blank lines"),
        (b"caf\xe9\n", "x\n", "{p} is not UTF-8 (byte 3)"),
        ("a\n", b"\xff\xfex\n", "{r} is not UTF-8 (byte 0)"),
    ],
)
def test_bad_files_are_one_line(
    files: Any, capsys: Any, predictions: Any, references: Any, message: str
) -> None:
    arguments = files(predictions, references)
    assert main(arguments) == 2
    output, mistakes = capsys.readouterr()
    assert not output and mistakes.count("\n") == 1
    assert mistakes.startswith("error: " + message.format(p=arguments[2], r=arguments[4]))


def test_missing_file_folder_and_unknown_task(
    files: Any, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    arguments = files("a", "b")
    assert main([*arguments[:2], str(tmp_path / "none"), *arguments[3:]]) == 2
    assert main([*arguments[:2], str(tmp_path), *arguments[3:]]) == 2
    assert main(["glue", *arguments[1:]]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert [line[: line.rfind(":")].split(" ")[1:3] for line in lines[:2]] == [["cannot", "read"]] * 2
    assert lines[2] == "error: unknown task 'glue': choose e2e, or give a checkpoint's folder"


def test_what_would_not_be_read_is_refused(files: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path), "--references", "r.txt", "--predictions", "nowhere.txt"]) == 2
    assert "--predictions is for scoring files, not a checkpoint: leave it out" in capsys.readouterr().err
    for option in ("--data", "--task", "--backbone", "--profile"):
        assert main([*files("a\n", "a\n"), option, "x"]) == 2
        assert f"{option} is for a checkpoint" in capsys.readouterr().err


def test_no_java_exits_3(
    files: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    jvm.close()
    monkeypatch.setattr(jvm, "_candidates", lambda: [])
    assert main(files("quite new", "quite new")) == NotAvailable.exit_code == 3
    assert capsys.readouterr().err.startswith("error: no Java found")


def test_groups_may_be_parted_by_several_blank_lines(tmp_path: Path) -> None:
    path = tmp_path / "r"
    path.write_text("a\nb\n\n\n\nc")
    assert read_groups(str(path)) == [["a", "b"], ["c"]]


def test_a_mistake_in_a_process_of_its_own_has_no_traceback() -> None:
    process = run("e2e", "--references", "none", "--predictions", "none")
    assert process.returncode == 2 and not process.stdout
    assert process.stderr == "error: cannot read none: No such file or directory\n"


@pytest.mark.parametrize(("here", "said"), [("1", False), ("2", True)])
def test_other_data_than_the_run_s_are_said(
    here: str, said: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    scores = SimpleNamespace(values={"accuracy": 1.0})
    task = SimpleNamespace(
        load=lambda data: SimpleNamespace(test=["x"], hashes={"dev.tsv": here}), score=lambda outputs, test: scores
    )
    config = SimpleNamespace(data=SimpleNamespace(n_test=None, subset_seed=0))
    model = SimpleNamespace(config=config, task=task, hashes={"dev.tsv": "1"}, answer=lambda test: ["y"])
    monkeypatch.setattr(open_checkpoint, "open_checkpoint", lambda folder, composed: model)
    assert score_checkpoint(Path("x")) == ({"accuracy": 1.0}, 1)
    assert ("these are not the data that the run was scored on" in capsys.readouterr().err) is said

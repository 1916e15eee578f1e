"""`lora-repro generate` and scoring a checkpoint: own runs, exports, and checkpoints from elsewhere."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from peft_models import smoke_run

from lora_repro.commands import generate
from lora_repro.commands import score as score_command
from lora_repro.decode.beam import BeamSearch
from lora_repro.errors import UserError
from lora_repro.exchange import export, score
from lora_repro.exchange.open_checkpoint import open_checkpoint
from lora_repro.tasks.base import Example
from lora_repro.tasks.e2e.task import E2E

MRS = ["name[The Vaults], eatType[pub]", "name : Blue Spice | food : Thai"]


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return smoke_run(tmp_path_factory.mktemp("runs"), "experiment=e2e", "row/e2e=lora")


@pytest.fixture(scope="module")
def adapter(text: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As if it came from elsewhere: peft's two files alone."""
    folder = export.export(text, tmp_path_factory.mktemp("peft") / "out")
    (folder / "lora_repro.json").unlink()
    return folder


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return smoke_run(tmp_path_factory.mktemp("runs"), "experiment=glue", "row/glue=lora", "task=entailment")


def printed(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    assert generate.main([str(argument) for argument in arguments]) == 0, capsys.readouterr().err
    return capsys.readouterr().out


def mistake(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    assert generate.main([str(argument) for argument in arguments]) == 2
    out, err = capsys.readouterr()
    errors = [line for line in err.splitlines() if line.startswith("error: ")]
    assert not out and len(errors) == 1
    return errors[0]


def test_an_answer_comes_with_its_slot_errors(text: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = printed(capsys, text, *MRS, "--max-new-tokens", 5).splitlines()
    remarks = [line for line in lines if line.startswith("    ")]
    assert remarks == ["    missing name: The Vaults; missing type: pub", "    missing name: Blue Spice; missing food: thai"]
    task = E2E(source="embedded", text_form="raw")
    assert task.remark(task.ask(MRS[0]), "The Vaults is a pub.") == "says all 2 slots, and no other"


def test_files_in_and_out_as_score_reads_them(text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
                                              monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mrs.txt").write_text("\n".join([*MRS, ""]), encoding="utf-8")
    target = tmp_path / "predictions.txt"
    assert printed(capsys, text, "--file", tmp_path / "mrs.txt", "--to", target) == ""
    outputs = score.read_lines(str(target))
    model = open_checkpoint(text)
    assert outputs == [" ".join(o.split()) for o in model.answer([model.task.ask(mr) for mr in MRS])]
    monkeypatch.setattr(sys, "stdin", io.StringIO(MRS[1] + "\n"))
    printed(capsys, text, MRS[0], "--file", "-", "--to", target)
    assert score.read_lines(str(target)) == outputs


def test_a_link_stays_one_and_a_pipe_is_written_to(text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target, link, pipe = tmp_path / "real.txt", tmp_path / "link.txt", tmp_path / "pipe"
    target.write_text("old\n")
    link.symlink_to(target)
    printed(capsys, text, MRS[0], "--to", link)
    (output,) = score.read_lines(str(target))
    assert link.is_symlink() and output != "old"
    os.mkfifo(pipe)
    read: list[str] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_text(encoding="utf-8")), daemon=True)
    reader.start()
    printed(capsys, text, MRS[0], "--to", pipe)
    reader.join(10)
    assert read == [f"{output}\n"] and pipe.is_fifo()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["decode.bean=4"], "decode.bean=4 is no setting of generate; did you mean decode.beam?"),
        (["paths.data=/x"], "its options are in --help (a text like it goes into --file)"),
        (["--to", "."], "--to . is a folder: name a file in it"),
    ],
)
def test_a_misspelt_setting_is_no_input_and_a_folder_is_told_before_the_work(
    text: Path, capsys: pytest.CaptureFixture[str], given: list[str], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generate, "opened", lambda *asked: pytest.fail("the model was opened"))
    assert generate.main([str(text), MRS[0], *given]) == 2
    assert said in capsys.readouterr().err


def test_an_empty_line_is_refused_by_its_number_not_dropped(
    text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Outputs would stand beside other inputs' lines."""
    (tmp_path / "mrs.txt").write_text(f"{MRS[0]}\n\n{MRS[1]}\n")
    assert "line 2 of" in mistake(capsys, text, "--file", tmp_path / "mrs.txt")


def test_options_reach_the_decoder(text: Path) -> None:
    model = open_checkpoint(text, [], {"decode.beam": 3, "decode.length_penalty": 0.5, "train.precision": "bf16"})
    assert (model.config.decode.beam, model.config.decode.length_penalty, model.config.train.precision) == (3, 0.5, "bf16")  # type: ignore[union-attr]
    as_run = open_checkpoint(text).config.decode
    assert as_run.beam == json.loads((text / "record.json").read_text())["asked"]["decode"]["beam"] != 3  # type: ignore[union-attr]


def test_a_few_shot_run_is_not_opened_without_its_examples(text: Path) -> None:
    model = open_checkpoint(text, [], {"data.shots": 2})
    with pytest.raises(UserError, match="a few-shot run cannot be opened"):
        model.answer([Example("0", MRS[0], "")])


def test_an_adapter_from_elsewhere_is_told_its_task_and_backbone(
    text: Path, adapter: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    overrides = ["task=e2e", "backbone=random_llama", "profile=smoke", "train.precision=fp32"]
    assert printed(capsys, adapter, *MRS, *overrides) == printed(capsys, text, *MRS)
    assert "give task=NAME" in mistake(capsys, adapter, MRS[0])
    assert "which untrained 2-layer gpt2 lacks" in mistake(capsys, adapter, MRS[0], "--task", "e2e", "backbone=random_gpt2")


def test_pairs_and_labels(pairs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answers = printed(capsys, pairs, "It rained. || It was wet.", "It rained. || It was dry.").split()
    labels = json.loads((pairs / "record.json").read_text())["asked"]["task"]["labels"]
    assert len(answers) == 2 and set(answers) <= set(labels)


def test_mistakes_are_one_line(text: Path, pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "not an E2E meaning representation" in mistake(capsys, text, "name[The Vaults")
    assert "not a linearised E2E MR" in mistake(capsys, text, "hello")
    assert "nothing to answer" in mistake(capsys, text)
    assert "cannot read" in mistake(capsys, text, "--file", tmp_path / "none")
    assert "is not a checkpoint" in mistake(capsys, tmp_path, MRS[0])
    assert "leave out task=e2e" in mistake(capsys, text, MRS[0], "--task", "e2e")
    assert "two sentences: FIRST || SECOND" in mistake(capsys, pairs, "Only one.")
    assert "beam" in mistake(capsys, pairs, "A || B", "decode.beam=2")


def test_a_task_of_one_sentence_keeps_bars(tmp_path: Path) -> None:
    from lora_repro.config.compose import build, compose

    task: Any = build(compose(["task=sentiment", "profile=smoke"]).task)
    example = task.ask(" one || two ")
    assert (example.input, example.second) == ("one || two", None)
    with pytest.raises(UserError, match="one sentence"):
        task.ask(" ")
    cola: Any = build(compose(["task=cola", "profile=laptop"]).task)  # its yaml says `second: null`
    assert cola.ask("A film to forget.").second is None


def test_a_checkpoint_s_score_is_the_recorded_one(tmp_path: Path, capsys: pytest.CaptureFixture[str],
                                                  monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("peft_models.random_adapter", lambda folder: None)  # as trained
    run = smoke_run(tmp_path, "experiment=glue", "row/glue=full", "task=similarity", "train.lr=1e-2", "train.epochs=3")
    scores = json.loads((run / "record.json").read_text())["measured"]["scores"]
    checkpoint = export.export(run, tmp_path / "merged", "merged")
    for folder in (run, checkpoint):
        assert score_command.main([str(folder), "--json"]) == 0
        assert json.loads(capsys.readouterr().out) == pytest.approx(scores, abs=1e-6)
    assert score_command.main(["e2e", "--predictions", "x"]) == 2 and "needs --references" in capsys.readouterr().err
    assert score_command.main([str(tmp_path)]) == 2 and "is not a checkpoint" in capsys.readouterr().err


def test_its_decoding_options_are_those_of_the_beam_search() -> None:
    fields = {field.name: field.default for field in dataclasses.fields(BeamSearch)}
    words = [f"--{name.replace('_', '-')}={str(value).lower()}" for name, value in fields.items()]
    options = vars(generate.parser().parse_args([".", *words]))
    assert json.dumps({name: options[name] for name in fields}) == json.dumps(fields) and tuple(fields) == generate.DECODING

"""`lora-repro export`: the run, its peft adapter and its merged model answer alike; the card's code is run."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import refused
from faults import ends_of_places, interrupted
from own_models import own_model
from peft_models import logits, smoke_run, trained
from transformers import AutoModelForSequenceClassification

from lora_repro.backbone.detect import describe
from lora_repro.commands import export as export_command
from lora_repro.config import paths
from lora_repro.config.compose import compose, resolved
from lora_repro.config.signature import signature
from lora_repro.data import collate
from lora_repro.errors import UserError
from lora_repro.exchange import card, export, merged, peft_folder, snippets
from lora_repro.exchange.card import settings
from lora_repro.exchange.open_checkpoint import Opened, open_checkpoint, read_origin
from lora_repro.exchange.restore import restore
from lora_repro.files import sealed
from lora_repro.methods.lora import Lora
from lora_repro.objectives.classification import Classification, features_of, logits_of
from lora_repro.run.stages import backbone_of, objective_of
from lora_repro.tasks.base import Example

TEXT = ["experiment=e2e", "row/e2e=lora", "backbone=random_gpt2"]
SENTENCE = ["experiment=glue", "row/glue=lora", "task=entailment"]
MR = "name : The Vaults | Type : pub"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("runs")
    return {
        "text": smoke_run(folder, *TEXT),
        "prefix": smoke_run(folder, "experiment=e2e", "row/e2e=prelayer", "method.infix=0"),
        "sentence": smoke_run(folder, *SENTENCE),
        "mean": smoke_run(folder, *SENTENCE, "backbone.pooling=mean"),
    }


def ask(model: Opened, name: str) -> tuple[torch.Tensor, list[str]]:
    """What the model computes for one row, and its answers to three inputs."""
    task = model.task
    texts = [MR, f"{MR} | food : Thai", "name : X | near : Y"] if task.kind == "text" else ["One. || Two.", "A || B", "C || A"]
    examples = [task.ask(text) for text in texts]
    return rows(model, examples[0]), model.answer(examples)


def rows(model: Opened, example: Example) -> torch.Tensor:
    """Logits of one input at its last real position, or of its class."""
    slots, backbone = model.method.virtual_tokens, model.backbone
    objective = objective_of(model.config)
    inputs, _ = objective.ask([example], backbone, slots, 128)
    with torch.no_grad():
        if isinstance(objective, Classification):
            return logits_of(backbone, features_of(backbone, collate(inputs, backbone.pad)))
        (row,) = inputs
        virtual = {"virtual": torch.tensor([row.virtual])} if sum(slots) else {}
        return logits(backbone.model, torch.tensor([row.ids]), **virtual)[:, -1]


@pytest.mark.parametrize("name", ["text", "prefix", "sentence", "mean"])
def test_run_adapter_and_merged_model_answer_alike(runs: dict[str, Path], name: str, tmp_path: Path) -> None:
    expected, answers = ask(open_checkpoint(runs[name]), name)
    for form in export.FORMATS:
        if (name, form) == ("prefix", "merged"):
            continue
        target = export.export(runs[name], tmp_path / form, form)
        again, same = ask(open_checkpoint(target), name)
        torch.testing.assert_close(again, expected, rtol=1e-5, atol=1e-5)
        assert same == answers
        assert not list(tmp_path.glob(".*")) and not list(target.glob("*.bin"))
    assert expected.std() > 1e-3 and len(set(answers)) > (name == "text")


def test_the_card_says_what_it_is_and_how_it_was_made(runs: dict[str, Path], tmp_path: Path) -> None:
    card = (export.export(runs["text"], tmp_path / "out") / "README.md").read_text(encoding="utf-8")
    record = json.loads((runs["text"] / "record.json").read_text())
    for words in (
        "LoRA on untrained 2-layer gpt2", "library_name: peft", "rank 4, alpha 32", "targets query value", "synthetic",
        "| bleu | 0.1250 |", "| nist | — |", "n = 1", record["signature"], record["where"]["git_sha"], "smoke, 0", "licence",
    ):
        assert words in card, words
    (line,) = re.findall(r"^    lora-repro run (.*)$", card, re.MULTILINE)
    assert signature(resolved(compose(shlex.split(line)))) == record["signature"]
    origin = read_origin(tmp_path / "out") or {}
    assert (origin["format"], origin["profile"], origin["record"]) == ("peft", "smoke", record)
    assert set(origin["files"]) == {path.name for path in (tmp_path / "out").iterdir()} - {"README.md", "lora_repro.json"}


def test_the_card_trusts_the_package_of_ones_own_classes_where_they_are_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Training builds method and task; an export is opened without its method's class."""
    (tmp_path / "own_method.py").write_text("from lora_repro.methods.lora import Lora\nclass Mine(Lora): pass\n")
    (tmp_path / "own_task.py").write_text("from lora_repro.tasks.e2e.task import E2E\nclass Mine(E2E): pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    own = {"method": ["method._target_=own_method.Mine"], "task": ["task._target_=own_task.Mine"]}
    for part, overrides in own.items():
        monkeypatch.setenv(paths.TRUSTED, f"own_{part}")
        run = smoke_run(tmp_path / part, *TEXT, *overrides)
        card = (export.export(run, tmp_path / f"{part}_out") / "README.md").read_text(encoding="utf-8")
        assert f"lora-repro run --trust own_{part} " in card
        assert (f"generate FOLDER --trust own_{part} " in card) == (part == "task")
        monkeypatch.setenv(paths.TRUSTED, "")
        if part == "method":
            assert open_checkpoint(tmp_path / "method_out").config
        else:
            with pytest.raises(UserError, match="--trust own_task"):
                open_checkpoint(tmp_path / "task_out")


def test_the_versatile_language_model_is_refused_by_either_format_and_its_folder_answers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = smoke_run(tmp_path / "runs", "experiment=e2e", "row/e2e=versatile_lm")
    capsys.readouterr()
    to = ["--to", str(tmp_path / "x"), "--format"]
    assert "cannot export versatile_lm to peft, " in mistake([str(run), *to, "peft"], capsys)
    message = mistake([str(run), *to, "merged"], capsys)
    assert "cannot be merged: a plain " in message and " has no model." in message and "use the run's folder itself" in message
    assert sorted(path.name for path in tmp_path.iterdir()) == ["runs"] and ask(open_checkpoint(run), "text")[1]


def test_a_run_in_a_random_subspace_is_exported_merged(tmp_path: Path) -> None:
    run = smoke_run(tmp_path, "experiment=glue", "task=entailment", "method=intrinsic_dimension", "row/glue=full", "method.d=300")
    expected, answers = ask(open_checkpoint(run), "sentence")
    with pytest.raises(UserError, match="cannot export intrinsic_dimension to peft"):
        export.export(run, tmp_path / "peft")
    target = export.export(run, tmp_path / "merged", "merged")
    again, same = ask(open_checkpoint(target), "sentence")
    torch.testing.assert_close(again, expected, rtol=1e-5, atol=1e-5)
    assert same == answers and "intrinsic_dimension (d 300, form did, embeddings False" in (target / "README.md").read_text()


def test_a_card_of_an_installed_package_knows_no_commit() -> None:
    assert card._commit({"git_sha": None, "dirty": True}) == "unknown"
    assert card._commit({"git_sha": "abc", "dirty": True}) == "abc with uncommitted changes"


def test_a_card_tells_methods_within_a_method_in_words() -> None:
    method = resolved(compose(["method=versatile_lm"]))["method"]
    one, other = "adapter_l (bottleneck 10, activation relu, init normal, std 0.02)", "segments (n 2, std 0.02, parts False)"
    assert settings(method) == f"methods {one} and {other}"
    assert settings({"methods": [{"_target_": "x", "name": "bitfit"}], "targets": ["query", "value"]}) == (
        "methods bitfit, targets query value"
    )


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("form", export.FORMATS)
@pytest.mark.parametrize("name", ["text", "sentence", "mean"])
def test_the_card_s_code_computes_our_logits(runs: dict[str, Path], name: str, form: str, tmp_path: Path) -> None:
    target = export.export(runs[name], tmp_path / "out", form)
    (code,) = re.findall(r"```python\n(.*?)```", (target / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    checkpoint = restore(runs[name])
    if form == "peft":  # a base of random weights is nowhere to load from: put it where the code looks
        base = backbone_of(checkpoint.config).load()
        base.model.save_pretrained(tmp_path / "base")
        base.tokenizer.save_pretrained(tmp_path / "base")
        code = re.sub(r"'BASE/\w+'", repr(str(tmp_path / "base")), code)
    text = MR if name == "text" else "One sentence."
    scope: dict[str, Any] = {}
    exec(code.replace("FOLDER", str(target)).replace("TEXT", repr(text)), scope)
    expected = rows(Opened(checkpoint.config, checkpoint.task, checkpoint.method, checkpoint.backbone), Example("k", text, ""))
    got = scope["logits"][:, -1] if name == "text" else scope["logits"]
    torch.testing.assert_close(got.detach(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("form", export.FORMATS)
@pytest.mark.parametrize("architecture", ["mpnet", "modernbert", "distilbert"])
def test_the_card_s_code_takes_the_mean_through_a_head_of_several_layers(architecture: str, form: str, tmp_path: Path) -> None:
    """On a model of the user's that has a head of another task."""
    place, target, lora = own_model(tmp_path / "base", architecture), tmp_path / "out", Lora(rank=2)
    AutoModelForSequenceClassification.from_pretrained(place, num_labels=5).save_pretrained(place)
    ours = trained(replace(describe(str(place)), head="classification", n_labels=3, pooling="mean").load(), lora)
    encodings, _ = Classification(("a", "b", "c")).ask([Example("k", "One sentence.", "")], ours, (0, 0), 128)
    with torch.no_grad():
        expected = logits_of(ours, features_of(ours, collate(encodings, ours.pad)))
    if form == "merged":
        merged.save(target, ours, ("a", "b", "c"))
    else:
        target.mkdir()
        peft_folder.save(target, ours, lora, "base")
    scope: dict[str, Any] = {}
    code = snippets.code({"source": "folder", "hub_id": str(place)}, form, ours)
    exec(code.replace("FOLDER", str(target)).replace("TEXT", repr("One sentence.")), scope)
    torch.testing.assert_close(scope["logits"], expected, rtol=1e-5, atol=1e-5)


def test_the_card_of_own_data_names_its_classes_in_their_order(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("text,label\n" + "".join(f"row {n},{('good', 'bad, very')[n % 2]!r}\n".replace("'", '"') for n in range(40)))
    run = smoke_run(tmp_path / "runs", "task=own_labels", f"task.train={path}", "method=lora", "backbone=random_bert")
    card = (export.export(run, tmp_path / "out", "merged") / "README.md").read_text(encoding="utf-8")
    classes = open_checkpoint(run).task.labels
    assert sorted(classes) == ["bad, very", "good"] and f"Outputs: {', '.join(map(repr, classes))}, in this order" in card


def mistake(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert export_command.main(arguments) == 2
    output, message = capsys.readouterr()
    assert not output and message.startswith("error: ") and message.count("\n") == 1
    return message


def test_the_command_line(runs: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = str(tmp_path / "deep" / "out")
    assert export_command.main([str(runs["text"]), "--to", target]) == 0
    assert "adapter_model.safetensors" in capsys.readouterr().out
    assert "is not empty" in mistake([str(runs["text"]), "--to", target], capsys)
    assert "infix=0" not in mistake([str(tmp_path), "--to", str(tmp_path / "x")], capsys)
    merging = [str(runs["prefix"]), "--to", str(tmp_path / "x"), "--format", "merged"]
    assert "this method cannot be merged" in mistake(merging, capsys)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["deep"]


def changed(run: Path, folder: Path, **values: Any) -> Path:
    shutil.copytree(run, folder)
    record = json.loads((folder / "record.json").read_text())
    for path, value in values.items():
        node, *keys, last = [record, *path.split("__")]
        for key in keys:
            node = node[key]
        node[last] = value
    (folder / "record.json").write_text(json.dumps(sealed(record)))
    return folder


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"status": "diverged"}, " diverged: its model cannot be used"),
        ({"where__backbone__sha256": "f" * 64}, "trained on other weights"),
        ({"where__backbone__files_sha256": "f" * 64}, "trained on other backbone files"),
        ({"asked__method__rank": 5}, "does not have the model's shape"),
        ({"asked__method__targets": ["query"]}, "unknown"),
        ({"measured__parameters": {"method": 0, "head": 0, "total": 1}}, "trained nothing"),
        ({"schema": 99}, "cannot be read"),
    ],
)
def test_a_run_that_cannot_be_restored_is_one_line(
    runs: dict[str, Path], values: dict[str, Any], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = changed(runs["text"], tmp_path / "run", **values)
    assert says in mistake([str(run), "--to", str(tmp_path / "x")], capsys)
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("form", ["peft", "merged"])
def test_an_altered_export_is_not_opened(runs: dict[str, Path], form: str, tmp_path: Path) -> None:
    """One bit of a tensor leaves a score as it was, as often as not."""
    folder = export.export(runs["sentence"], tmp_path / "out", form)
    open_checkpoint(folder)
    names = [path.name for path in folder.iterdir() if path.name != "README.md"]
    assert any(name.endswith(".safetensors") for name in names)
    for name in names:
        content = (folder / name).read_bytes()
        copy = bytearray(content)
        copy[len(content) * 2 // 3] ^= 1
        (folder / name).write_bytes(copy)
        refused(lambda: open_checkpoint(folder), name)
        (folder / name).write_bytes(content)
    (folder / next(name for name in names if name.endswith(".safetensors"))).unlink()
    refused(lambda: open_checkpoint(folder), ".safetensors")


def test_a_folder_without_a_record_is_answered_with_where_runs_are_listed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "is not a run's folder" in mistake([str(tmp_path / "none"), "--to", str(tmp_path / "x")], capsys)


def test_a_full_disk_leaves_nothing(runs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(merged, "save", full)
    with pytest.raises(UserError, match="No space left on device"):
        export.export(runs["text"], tmp_path / "out", "merged")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("form", export.FORMATS)
def test_a_full_disk_is_one_line_and_leaves_nothing(runs: dict[str, Path], tmp_path: Path, form: str) -> None:
    def exported() -> int:
        try:
            export.export(runs["sentence"], tmp_path / "out", form)
        except UserError as error:
            return 2 if "cannot write" in str(error) and "\n" not in str(error) else 1
        return 0

    writes, ends = ends_of_places(exported, tmp_path)
    shutil.rmtree(tmp_path / "out")
    assert {interrupted(exported, tmp_path, number, "full") for number in ends if number < writes} <= {0, 2}
    assert not [path for path in tmp_path.iterdir() if path.name != "out"]

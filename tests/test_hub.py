"""PROFILE=paper through the real client against a hub on this machine: first download, cached, offline, interrupted, refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hub_files
import pytest
import torch
from conftest import refused
from local_hub import Fault, LocalHub, served

from lora_repro.backbone import availability
from lora_repro.config.compose import build, compose
from lora_repro.errors import NotAvailable, UserError
from lora_repro.run import run
from lora_repro.sources import hub as module
from lora_repro.tasks._files import json_lines_sha256
from lora_repro.tasks.e2e import files

PIECES = pytest.mark.skipif(not hub_files.PIECES, reason="needs sentencepiece: pip install -e '.[deberta]'")
BACKBONES = [pytest.param(name, marks=PIECES) if spec.get("packages") else name for name, spec in hub_files.BACKBONES.items()]


@pytest.fixture(scope="module")
def repositories(tmp_path_factory: pytest.TempPathFactory) -> dict[str, hub_files.Repository]:
    return hub_files.repositories(tmp_path_factory.mktemp("drafts"))


@pytest.fixture
def hub(repositories: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalHub]:
    monkeypatch.setattr(module, "PAUSE", 0)
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "datasets"))
    with LocalHub(repositories) as server:
        yield from (server for _ in served(server, monkeypatch, tmp_path / "hub"))


def spec(name: str, *more: str) -> Any:
    return build(compose([f"backbone={name}", *more]).backbone)


@pytest.mark.parametrize("name", BACKBONES)
def test_every_backbone_comes_from_the_hub_once(name: str, hub: LocalHub, monkeypatch: pytest.MonkeyPatch) -> None:
    more = ["backbone.head=classification", "backbone.n_labels=2"] if hub_files.BACKBONES[name].get("cls") else []
    more += [] if hub_files.BACKBONES[name]["revision"] else [f"backbone.revision={hub_files.UNPINNED}"]
    backbone = spec(name, *more)
    assert not availability.has_weights(backbone) and availability.local_tokenizer(backbone) is None
    first = backbone.load()
    assert first.n_layers == 2 and any("tree" in line for line in hub.asked)
    assert not [line for line in hub.asked if "README" in line or "tf_model" in line]
    assert availability.has_weights(backbone) and availability.local_tokenizer(backbone) is not None
    hub.asked.clear()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    again = backbone.load()
    assert not hub.asked  # a commit never changes
    for (key, one), (_, other) in zip(first.decoder.named_parameters(), again.decoder.named_parameters(), strict=True):
        assert torch.equal(one, other), key


@pytest.mark.parametrize(
    "fault", [Fault("tree", 503), Fault("cdn", 502), Fault("cdn", cut=500), Fault("config.json", 429, method="HEAD")], ids=str
)
def test_what_passes_is_waited_out(fault: Fault, hub: LocalHub) -> None:
    hub.faults.append(fault)
    assert spec("gpt2_medium").load().n_layers == 2 and not hub.faults


@pytest.mark.parametrize("file", ["config.json", "model.safetensors"])
def test_a_file_that_changed_in_the_cache_is_not_loaded(file: str, hub: LocalHub) -> None:
    backbone = spec("gpt2_medium")
    assert backbone.load().sha256 == f"{backbone.hub_id}@{backbone.revision}" and len(backbone.load().files_sha256) == 64
    path = (module.model_here(backbone.hub_id, backbone.revision) or Path()) / file
    path.write_bytes(path.read_bytes()[:-1] + b" ")
    refused(backbone.load, file, "lora-repro fetch gpt2_medium")


def test_an_interrupted_download_is_not_taken_for_a_whole_one(hub: LocalHub) -> None:
    hub.faults += [Fault("cdn", 500) for _ in range(4)]
    with pytest.raises(NotAvailable, match=r"cannot get openai-community/gpt2-medium at 6dcaa7a9 .*HTTP 500"):
        spec("gpt2_medium").load()
    assert not availability.has_weights(spec("gpt2_medium"))
    assert spec("gpt2_medium").load().n_layers == 2


def test_weights_that_another_program_left_without_words_are_not_a_model(hub: LocalHub) -> None:
    backbone = spec("gpt2_medium")
    backbone.load()
    for path in (module.model_here(backbone.hub_id, backbone.revision) or Path()).iterdir():
        if path.name not in ("config.json", "model.safetensors"):
            path.unlink()
    assert not availability.has_weights(backbone)
    assert backbone.load().n_layers == 2 and availability.local_tokenizer(backbone) is not None


@pytest.mark.parametrize(
    ("changes", "fault", "said"),
    [
        (["backbone.revision=" + "f" * 40], None, "openai-community/gpt2-medium has no commit ffff"),
        (["backbone.hub_id=no/such"], None, "the hub has no no/such, or it is private"),
        ([], Fault("tree", 403, code="GatedRepo"), "is gated: accept its terms"),
    ],
)
def test_each_cause_has_its_own_words(changes: list[str], fault: Fault | None, said: str, hub: LocalHub) -> None:
    hub.faults += [fault] if fault else []
    with pytest.raises(UserError, match=said):
        spec("gpt2_medium", *changes).load()


def test_no_network_and_no_leave_to_ask(hub: LocalHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(NotAvailable, match="HF_HUB_OFFLINE forbids"):
        spec("gpt2_large").load()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # the client tries five times
    with pytest.raises(NotAvailable, match=r"cannot get openai-community/gpt2-large .* connect, or use profile=mini"):
        spec("gpt2_large").load()


@pytest.mark.parametrize("name", hub_files.GLUE)
def test_every_task_of_the_hub_has_its_rows_and_labels(name: str, hub: LocalHub, monkeypatch: pytest.MonkeyPatch) -> None:
    node = hub_files.GLUE[name]
    few = [f"task.rows.{split}={hub_files.ROWS}" for split in node["rows"]]
    task = build(compose(["profile=paper", f"task={name}", "task.source=hub", *few, "task.held_out=0"]).task)
    first = task.load(None)
    downloads = [line.rpartition("/cdn/datasets/")[2] for line in hub.asked if "GET" in line and "/cdn/" in line]
    assert sorted(downloads) == sorted(f"nyu-mll/glue/{path}" for path in hub_files.parts(node["hub"]["config"]))
    hub.asked.clear()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert task.load(None) == first and not hub.asked
    n_splits = len(node["files"]) - 1 if "words" not in node else 1  # mnli_text answers the matched pairs
    assert (len(first.train), len(first.test)) == (hub_files.ROWS, hub_files.ROWS * n_splits)
    answers = [*node.get("words", {}).values()] or node.get("labels", ["3.800", "0.000"])  # as in GLUE's own file, of a float32
    assert [each.target for each in first.train[: len(answers)]] == answers
    test_split = node["hub"].get([*node["files"]][1], "validation")
    for part, split in ((first.train, "train"), (first.test, test_split)):
        assert f"first 0 of {split}" in part[0].input.splitlines() and not (part[0].second or "").endswith(" ")


def test_rows_that_the_hub_lacks_are_missed(hub: LocalHub) -> None:
    with pytest.raises(UserError, match="RTE train has 24 rows, GLUE's has 2490"):
        build(compose(["profile=paper", "task=rte", "task.source=hub"]).task).load(None)


def test_e2e_of_the_hub_is_held_to_the_original_and_is_asked_for_once(hub: LocalHub, monkeypatch: pytest.MonkeyPatch) -> None:
    task = build(compose(["profile=paper", "task=e2e", "task.source=hub", "task.text_form=raw"]).task)
    with pytest.raises(UserError, match=r"tuetschek/e2e_nlg train: 24 rows, expected 42,061"):
        task.load(None)
    meanings = ("name : The Vaults | Type : pub", "name : Café Adriatic | near : The Rice Boat")
    rows = list(zip(meanings, hub_files.TEXTS, strict=True)) * (hub_files.ROWS // 2)
    expected = files.Expected(hub_files.ROWS, 2, json_lines_sha256(rows))
    monkeypatch.setattr(files, "EXPECTED", {"raw": dict.fromkeys(("train", "dev", "test"), expected)})
    hub.asked.clear()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    splits = task.load(None)
    assert not hub.asked and [(each.input, each.target) for each in splits.train] == rows
    assert [each.input for each in splits.test] == [*meanings]  # each meaning once, with all its texts


@pytest.mark.filterwarnings("ignore")
def test_a_run_at_the_paper_s_scale_from_first_download_to_record(hub: LocalHub, tmp_path: Path) -> None:
    glue = ["task=rte", "task.source=hub", "backbone=roberta_base", "starts=null", "task.rows={train:24,dev:24}"]
    small = ["train.steps=1", "data.n_train=2", "data.n_dev=2", "train.batch_size=2", "data.max_length=64", "device=cpu"]
    overrides = ["profile=paper", "method=lora", *glue, *small, f"paths.runs={tmp_path}/runs"]
    config = compose(overrides)
    run_record = run.run(config, overrides)
    assert run_record["status"] in ("finished", "collapsed")
    assert run_record["where"]["backbone"]["sha256"].startswith("FacebookAI/roberta-base@")

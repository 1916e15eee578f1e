"""The models that are timed are what they say they are; a measurement is saved, found again and refused in one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import tiny_backbone

from lora_repro.commands import latency as latency_command
from lora_repro.costs import footprint, latency, measures
from lora_repro.costs.latency import slowdown
from lora_repro.costs.latency_settings import Bench
from lora_repro.errors import UserError
from lora_repro.methods.adapter_l import AdapterL
from lora_repro.methods.full import Full
from lora_repro.methods.lora import Lora
from lora_repro.methods.prelayer import PreLayer
from lora_repro.methods.untuned import Untuned
from lora_repro.methods.update import unmerge, updates
from lora_repro.planning.cells import Cell

BENCH = Bench(5, 0, [1], [8], 1, 8, 2, 100)
COPY, MERGED = (Bench(5, 0, [1], [8], 1, 8, 2, 100, copy=True, merged=merged) for merged in (False, True))


def storages(model: torch.nn.Module) -> set[int]:
    return {parameter.data_ptr() for parameter in model.parameters()}


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_a_method_shares_the_plain_weights_and_leaves_the_plain_model_plain(architecture: str) -> None:
    plain = tiny_backbone(architecture)
    call = latency.forward(plain, Untuned(), 2, 8)
    before = call()
    other, trainable = latency.adapted(plain, AdapterL(bottleneck=4), BENCH)
    assert storages(plain.model) < storages(other.model) and other.model is not plain.model
    assert sum(p.numel() for p in trainable.method.values()) == sum(
        p.numel() for p in other.model.parameters() if p.data_ptr() not in storages(plain.model)
    )
    again, _ = latency.adapted(plain, Untuned(), COPY)
    assert not storages(plain.model) & storages(again.model)
    assert torch.equal(call(), before)


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_merged_lora_is_merged_into_weights_of_its_own(architecture: str) -> None:
    plain = tiny_backbone(architecture)
    state = {name: value.clone() for name, value in plain.model.state_dict().items()}
    backbone, _ = latency.adapted(plain, Lora(rank=2), MERGED)
    wrappers = list(updates(backbone.model))
    assert wrappers and all(module.merged for module in wrappers)
    assert all(torch.equal(value, state[name]) for name, value in plain.model.state_dict().items())
    torch.manual_seed(3)
    ours = latency.forward(backbone, Lora(rank=2), 2, 8)
    output = ours()
    torch.manual_seed(3)
    base = latency.forward(plain, Untuned(), 2, 8)()
    assert not torch.allclose(output, base, atol=1e-4)  # B was drawn: the update is not zero
    unmerge(backbone.model)
    assert torch.allclose(ours(), output, atol=1e-4)


def test_steps_are_timed_on_shared_memory_with_each_row_s_own_trained_parts() -> None:
    plain = tiny_backbone("gpt2")
    full, some = latency.copy_sharing_memory(plain), latency.copy_sharing_memory(plain)
    parameters = [Full().apply(full).parameters(), Lora(rank=2).apply(some).parameters()]
    assert storages(plain.model) == storages(full.model) < storages(some.model)
    assert all(parameter.requires_grad for parameter in full.model.parameters())
    assert {id(p) for p in parameters[1]} == {id(p) for p in some.model.parameters() if p.requires_grad}
    assert len(parameters[0]) == len(list(plain.model.parameters())) and full.model is not plain.model


def test_what_cannot_be_merged_is_refused() -> None:
    with pytest.raises(UserError, match="cannot be merged"):
        latency.adapted(tiny_backbone("gpt2"), AdapterL(bottleneck=4), MERGED)


def test_virtual_tokens_come_on_top_of_the_length() -> None:
    plain = tiny_backbone("gpt2")
    method = PreLayer(prefix=2, infix=1)
    backbone, _ = latency.adapted(plain, method, BENCH)
    assert latency.forward(backbone, method, 3, 8)().shape == (3, 11, 257)
    assert latency.forward(plain, Untuned(), 3, 8)().shape == (3, 8, 257)


def test_a_hub_model_is_timed_as_random_weights_of_its_shape() -> None:
    cells = measures.declared("latency", "laptop", ["row/latency=plain"])
    spec = footprint.shaped(footprint.build(cells[0].asked["backbone"]))
    assert (spec.source, spec.label) == ("random", "GPT-2 medium, random weights") and spec.shape["n_embd"] == 1024


ROWS = "row/latency=plain,plain_again,lora_merged,lora,adapter_l_small,prelayer,full"
SMALL = [ROWS, "backbone=random_gpt2"]


@pytest.fixture
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """No child processes: tests/test_footprint.py has one."""

    def footprints(cells: list[Cell], overrides: list[str], say: Any) -> list[dict[str, Any]]:
        cell = next(cell for cell in cells if cell.row.name == "lora")
        backbone = cell.asked["backbone"]["name"]
        return [{"backbone": backbone, "row": "lora", "label": cell.row.label, **footprint.footprint(cell.asked)}]

    monkeypatch.setattr(footprint, "footprints", footprints)


@pytest.mark.usefixtures("in_this_process")
def test_a_measurement_is_complete_and_its_numbers_follow_from_its_times(tmp_path: Path) -> None:
    messages: list[str] = []
    overrides = ["profile=smoke", f"paths.runs={tmp_path}", "device=cpu", *SMALL]
    path = latency.measure(overrides, messages.append)
    assert path.parent == tmp_path / "smoke" / "measures" / "adhoc"  # fewer rows than declared
    measurement = json.loads(path.read_text())
    assert measurement["status"] == "finished" and measurement["name"] == "latency" and measurement["profile"] == "smoke"
    assert {"git_sha", "dirty", "versions", "device", "kind", "threads", "load_before"} <= set(measurement["where"])
    assert measurement["asked"]["overrides"] == ["device=cpu", *SMALL]  # a folder of this machine is nobody else's business
    assert measurement["asked"]["bench"]["rounds"] == 5 and measurement["asked"]["methods"]["random_gpt2"]["lora"]["rank"] == 4
    entries = measurement["latency"]
    assert [(e["length"], e["batch"]) for e in entries[::6]] == [(8, 1), (8, 2)] and len(entries) == 2 * 6
    plain = {e["batch"]: e["ms"] for e in entries if e["row"] == "plain"}
    for entry in entries:
        assert len(entry["ms"]) == 5 and min(entry["ms"]) > 0
        if entry["row"] == "plain":
            assert entry["slowdown"] is None and entry["parameters"] == 0
        else:
            again = slowdown(entry["ms"], plain[entry["batch"]], 200)
            assert entry["slowdown"]["median"] == pytest.approx(again.median, rel=1e-3, abs=0.1)  # kept to four digits
            assert entry["slowdown"]["low"] <= entry["slowdown"]["median"] <= entry["slowdown"]["high"]
    assert [entry["row"] for entry in measurement["memory"]] == ["lora"]
    steps = {entry["row"]: entry for entry in measurement["steps"]}
    assert set(steps) == {"lora", "adapter_l_small", "prelayer", "full"}  # each of those trained
    assert steps["full"]["slowdown"] is None and {entry["tokens"] for entry in steps.values()} == {16}
    for name in ("lora", "adapter_l_small", "prelayer"):
        again = slowdown(steps[name]["ms"], steps["full"]["ms"], 200)
        assert len(steps[name]["ms"]) == 5 and steps[name]["slowdown"]["median"] == pytest.approx(again.median, rel=1e-3, abs=0.1)
    assert any("5 rounds of 6 models" in line for line in messages)


@pytest.mark.usefixtures("in_this_process")
def test_it_is_not_measured_twice_unless_the_code_was_dirty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    overrides = ["profile=smoke", f"paths.runs={tmp_path}", "device=cpu", *SMALL]
    path = latency.measure(overrides, lambda text: None)
    measurement = json.loads(path.read_text())
    path.write_text(json.dumps({**measurement, "where": {**measurement["where"], "dirty": False}}))
    monkeypatch.setattr(latency, "times", lambda *rest: pytest.fail("measured again"))
    assert latency.measure(overrides, lambda text: None) == path
    path.write_text(json.dumps({**measurement, "where": {**measurement["where"], "dirty": True}}))
    monkeypatch.setattr(latency, "times", lambda *rest: [])
    latency.measure(overrides, lambda text: None)
    assert json.loads(path.read_text())["latency"] == []


def test_the_declared_settings_have_the_declared_place(tmp_path: Path) -> None:
    cells = measures.declared("latency", "smoke", ["row/latency=plain", "backbone=random_gpt2"])
    place = ["paths.runs=/x", "device=cuda", "bench.threads=1"]
    assert measures.path_of(tmp_path, "latency", cells, place, "cpu") == tmp_path / "measures" / "latency.json"
    assert measures.path_of(tmp_path, "latency", cells, place, "cuda").name == "latency_cuda.json"
    other = measures.path_of(tmp_path, "latency", cells, ["bench.rounds=7"], "cpu")
    assert other.parent.name == "adhoc" and measures.signature_of(cells) in other.name


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["mini"], "not an override"), (["profile=smoke", "row/latency=lora"], "must include plain"),
     (["profile=smoke", "bench.rounds=1"], "bench.rounds"), (["profile=smoke", "row/latency=lroa"], "lroa")],
)  # fmt: skip
@pytest.mark.usefixtures("in_this_process")
def test_mistakes_are_one_line(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    extra = ["backbone=random_gpt2", f"paths.runs={tmp_path}", "device=cpu"]
    assert latency_command.main([*arguments, *extra]) == 2
    stderr = capsys.readouterr().err
    assert stderr.startswith("error: ") and message in stderr and stderr.count("\n") == 1

"""What a stranger may send: nothing of it is run, interpolated, waited for or believed; each is one line."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import tiny_backbone
from safetensors.torch import save_file

from lora_repro.backbone.spec import BackboneSpec
from lora_repro.commands import runs, subspace
from lora_repro.errors import UserError
from lora_repro.exchange import peft_folder
from lora_repro.exchange.load_tensors import read_tensors
from lora_repro.exchange.lora_files import read
from lora_repro.exchange.open_checkpoint import ORIGIN, read_origin
from lora_repro.exchange.peft_lora import patterned
from lora_repro.files import SEAL, sealed
from lora_repro.records import record

PUBLISHED = next((Path(__file__).resolve().parents[1] / "results").glob("*/records/*.json"))
MODULE = "base_model.model.transformer.h.0.attn.c_attn"
SECRET = "verysecretkey0123456789"


def one_line(call: Callable[[], object], says: str = ".") -> None:
    with pytest.raises(UserError, match=says) as error:
        call()
    assert "\n" not in str(error.value) and len(str(error.value)) < 500
    assert SECRET not in str(error.value)


@pytest.mark.parametrize("part", ["AutoConfig", "AutoTokenizer", "AutoModelForCausalLM"])
def test_code_of_a_model_is_not_run_nor_asked_about(part: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kind = "evil" if part == "AutoConfig" else "gpt2"
    shape = {"model_type": kind, "n_layer": 1, "n_embd": 8, "n_head": 1}
    (tmp_path / "config.json").write_text(json.dumps({**shape, "auto_map": {part: "evil.Evil"}}))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"auto_map": {part: ["evil.Evil", None]}, "tokenizer_class": "E"}))
    (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'PWNED')!r}, 'w')\nclass Evil: pass\n")
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("asked whether to run it"))
    spec = BackboneSpec("evil", "evil", "folder", "\n", "<|endoftext|>", "<|endoftext|>", hub_id=str(tmp_path))
    one_line(spec.load, "cannot be read|needs remote code")
    assert not (tmp_path / "PWNED").exists()


@pytest.mark.parametrize("key", ["_attn_implementation", "attn_implementation"])
def test_attention_code_of_the_hub_is_not_fetched(key: str, tmp_path: Path) -> None:
    backbone = tiny_backbone("gpt2")
    backbone.model.save_pretrained(tmp_path)  # type: ignore[operator]
    backbone.tokenizer.save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), key: "kernels-community/flash-attn2"}))
    spec = BackboneSpec("evil", "evil", "folder", "\n", "<|endoftext|>", "<|endoftext|>", hub_id=str(tmp_path))
    one_line(spec.load, "attention code of the hub")


def test_a_random_backbone_names_no_code_either() -> None:
    shape = {"model_type": "gpt2", "n_layer": 1, "n_embd": 8, "n_head": 1, "auto_map": {"AutoModelForCausalLM": "a/b--evil.Evil"}}
    backbone = BackboneSpec("r", "r", "random", "\n", "<|endoftext|>", "<|endoftext|>", shape=shape).load()
    assert type(backbone.model).__module__.startswith("transformers.")


@pytest.mark.parametrize("shape", [
    {"model_type": "t5"}, {"model_type": 3}, {"model_type": "gpt2", "n_layer": "x"}, {"model_type": "gpt2", "n_head": 5},
    {"model_type": "gpt2", "n_embd": -1}, {"model_type": "llama", "num_hidden_layers": None},
    {"model_type": "bert", "vocab_size": 1.5}, {"model_type": "gpt2", "n_layer": 10**12},
])  # fmt: skip
def test_a_shape_that_no_model_has_is_one_line(shape: dict[str, Any]) -> None:
    spec = BackboneSpec("r", "r", "random", "\n", "<|endoftext|>", "<|endoftext|>", shape=shape)
    one_line(spec.load, r"backbone\.shape|layers")


def stored(*without: str, **changes: Any) -> str:
    fields = json.loads(PUBLISHED.read_text()) | changes
    return json.dumps(sealed({key: value for key, value in fields.items() if key not in without}))


ASKED = json.loads(PUBLISHED.read_text())["asked"]
RECORDS = {
    "environment": stored(asked={**ASKED, "task": {**ASKED["task"], "source": "${oc.env:WANDB_API_KEY}"}}),
    "escaped environment": stored(row={"label": "${oc.env:WANDB_API_KEY}"}).replace("$", "\\u0024"),
    "environment in a list": stored(asked={**ASKED, "method": {"targets": ["${oc.env:WANDB_API_KEY}"]}}),
    "environment in a list of lists": stored(asked={**ASKED, "method": {"targets": [["${oc.env:WANDB_API_KEY}"]]}}),
    "twice": PUBLISHED.read_text().replace('"schema": 1,', '"schema": 1, "schema": 1,'),
    "deep": "[" * 10**5,
    "list": "[]",
    "null": "null",
    "empty": "",
    "another schema": stored(schema=2),
    **{f"{key} is a list": stored(**{key: []}) for key in record.KINDS},
    "no hash": json.dumps({key: value for key, value in json.loads(PUBLISHED.read_text()).items() if key != SEAL}),
    "another's hash": PUBLISHED.read_text().replace('"status": "', '"status": "not '),
    "no hashes of its files": stored("files"),
    "no hash of its predictions": stored(files={}),
    "a list of files": stored(files=["predictions.jsonl"]),
}


@pytest.mark.parametrize("text", RECORDS.values(), ids=RECORDS)
def test_a_hostile_record_is_one_line_and_says_no_secret(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", SECRET)
    (tmp_path / "record.json").write_text(text)
    one_line(lambda: record.read_run(tmp_path / "record.json"), "cannot be read")
    one_line(lambda: record.of_run(tmp_path), "cannot be read")
    (tmp_path / ORIGIN).write_text('{"record": %s}' % (text or "0"))
    one_line(lambda: read_origin(tmp_path), "cannot read")


@pytest.mark.parametrize("key", record.KINDS)
def test_a_record_without_a_part_is_one_line(key: str, tmp_path: Path) -> None:
    fields = json.loads(stored(key))
    (tmp_path / ORIGIN).write_text(json.dumps({"record": fields}))
    one_line(lambda: record.whole(fields, tmp_path), key)
    one_line(lambda: read_origin(tmp_path), key)


GOOD = {"peft_type": "LORA", "r": 2, "lora_alpha": 4}
A, B = torch.ones(2, 32), torch.ones(96, 2)
ADAPTERS: dict[str, tuple[dict[str, Any], dict[str, torch.Tensor]]] = {
    **{f"alpha {value!r}": ({"lora_alpha": value}, {}) for value in (None, "abc", [1], 0, -1, True, float("inf"), {"a": 1})},
    **{f"r {value!r}": ({"r": value}, {}) for value in (None, "2", [2], 3)},
    **{f"{key} {value!r:.20}": ({key: value}, {}) for key in ("rank_pattern", "alpha_pattern")
       for value in (3, "x", [1], {"(.*.*)*$x": 8}, {"(": 2}, {"(a|a)*b": 2}, {"a{9999}{9999}": 2}, {"c_attn": "x"})},
    "a long pattern": ({"alpha_pattern": {"x" * 9999: 2}}, {}),
    "a scalar A": ({}, {"A": torch.tensor(1.0)}),
    "no rank": ({"r": 0}, {"A": torch.ones(0, 32), "B": torch.ones(96, 0)}),
    "another width": ({}, {"A": torch.ones(2, 31)}),
    "three axes": ({}, {"A": torch.ones(2, 32, 1)}),
    "NaN": ({}, {"A": torch.full((2, 32), float("nan"))}),
    "whole numbers": ({}, {"A": torch.ones(2, 32, dtype=torch.int64)}),
    **{f"{kind} {n!r}": ({"peft_type": kind, "num_virtual_tokens": n}, {"prompt_embeddings": torch.ones(2, 32)})
       for kind in ("PREFIX_TUNING", "PROMPT_TUNING") for n in (10**12, "x", None, -1, 1.5, [2])},
    "a scalar prompt": ({"peft_type": "PROMPT_TUNING", "num_virtual_tokens": 2}, {"prompt_embeddings": torch.tensor(2.0)}),
}  # fmt: skip
BACKBONE = tiny_backbone("gpt2")


def adapter(folder: Path, config: dict[str, Any], tensors: dict[str, torch.Tensor]) -> Path:
    (folder / "adapter_config.json").write_text(json.dumps(GOOD | config))
    weights = {f"{MODULE}.lora_{key}.weight" if key in "AB" else key: value for key, value in {"A": A, "B": B, **tensors}.items()}
    save_file(weights, folder / "adapter_model.safetensors")
    return folder


@pytest.mark.parametrize(("config", "tensors"), ADAPTERS.values(), ids=ADAPTERS)
def test_a_hostile_adapter_is_one_line(config: dict[str, Any], tensors: dict[str, torch.Tensor], tmp_path: Path) -> None:
    folder = adapter(tmp_path, config, tensors)
    one_line(lambda: peft_folder.load(folder, BACKBONE))
    if "peft_type" not in config and set(config) - {"r", "rank_pattern"}:
        one_line(lambda: read(folder))


FAR = {
    "alpha 1e308": ({"lora_alpha": 1e308}, {}),
    "alpha of 400 digits": ({"lora_alpha": 10**400}, {}),
    "factors of 3e38": ({}, {"A": torch.full((2, 32), 3e38), "B": torch.full((96, 2), 3e38)}),
    **{f"layer of {n} digits": ({}, {"layer": "9" * n}) for n in (5, 24, 5000)},
}


@pytest.mark.parametrize(("config", "tensors"), FAR.values(), ids=FAR)
def test_an_adapter_beyond_any_model_is_not_analysed(
    config: dict[str, Any], tensors: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    module = MODULE.replace(".h.0.", f".h.{tensors.pop('layer', '0')}.")
    (tmp_path / "adapter_config.json").write_text(json.dumps(GOOD | config))
    both = {"A": A, "B": B, **tensors}
    save_file({f"{module}.lora_{key}.weight": both[key] for key in "AB"}, tmp_path / "adapter_model.safetensors")
    one_line(lambda: read(tmp_path), "adapter_")
    assert subspace.main([str(tmp_path), "--to", str(tmp_path / "out")]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize("mark", ["\x1b[2J\x1b[31mhacked", "a\nerror: all is well", "a\rb", "\x9b2J", "a\u2028b"], ids=ascii)
def test_control_characters_in_a_tensor_s_name_do_not_reach_the_terminal(
    mark: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    adapter(tmp_path, {}, {})
    save_file({f"h.0.{mark}.lora_{key}.weight": one for key, one in (("A", A), ("B", B))}, tmp_path / "adapter_model.safetensors")
    assert subspace.main([str(tmp_path), "--to", str(tmp_path / "out")]) == 0
    output = capsys.readouterr().out
    assert mark not in output and mark.encode("unicode_escape").decode()[:4] in output
    assert mark not in (tmp_path / "out" / "subspace.md").read_text(encoding="utf-8")
    with pytest.raises(UserError) as error:
        peft_folder.load(tmp_path, BACKBONE)
    assert str(error.value).isprintable()
    save_file({f"x{mark}": A.to(torch.int64)}, tmp_path / "adapter_model.safetensors")
    with pytest.raises(UserError) as error:
        read_tensors(tmp_path / "adapter_model.safetensors")
    assert str(error.value).isprintable()


def test_patterns_that_people_write_are_matched_as_peft_does() -> None:
    patterns = ("c_attn", r"^transformer\.h\.0\.attn.c_attn", r"h\.\d+\.attn\.c_attn", r"h\.[0-3]\.attn\.(c_attn|x)", "t.*attn")
    for pattern in patterns:
        assert patterned("transformer.h.0.attn.c_attn", {"alpha_pattern": {pattern: 7}, "a": 1}, "alpha_pattern", "a") == 7
    assert patterned("transformer.h.0.attn.c_attn", {"alpha_pattern": {"attn": 7}, "a": 1}, "alpha_pattern", "a") == 1


def test_a_pipe_in_place_of_a_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "adapter_model.safetensors")
    one_line(lambda: read_tensors(tmp_path / "adapter_model.safetensors"), "no file ")


def test_a_pipe_in_a_run_s_folder_is_not_waited_for(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    os.mkfifo(pipe := tmp_path / "run" / "record.json")
    one_line(lambda: record.read(pipe), "is not a file")
    one_line(lambda: record.find(pipe.parent), "is not a file")
    one_line(lambda: record.load_predictions(pipe), "is not a file")
    assert [line[1][4] for line in runs.lines(tmp_path)] == ["its record cannot be read, or was altered"]


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to(path.with_name("elsewhere"))], ids=["pipe", "link"])
@pytest.mark.parametrize("name", ["metrics.jsonl", "adapter.safetensors", "checkpoints", "predictions.jsonl"])
def test_a_run_writes_into_its_folder_alone(name: str, make: Callable[[Path], None], tmp_path: Path) -> None:
    make(tmp_path / name)
    one_line(lambda: record.lock(tmp_path).__enter__(), name)
    (tmp_path / name).unlink()
    with record.lock(tmp_path):
        assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float8_e4m3fn], ids=str)
def test_adapters_of_every_float_are_analysed_and_answer(dtype: torch.dtype, tmp_path: Path) -> None:
    folder = adapter(tmp_path, {}, {"A": A.to(dtype), "B": B.to(dtype)})
    (factors,) = read(folder).values()
    assert factors.scaling == 2 and factors.update[0, 0] == 4
    assert subspace.spectra_table(read(folder), "x").rows
    peft_folder.load(folder, tiny_backbone("gpt2"))


@pytest.mark.parametrize("damage", [b"", bytes(64), b"\xff" * 9, (2**62).to_bytes(8, "little") + b"{}", b"\2" + bytes(7) + b"[]"])
def test_a_damaged_tensors_file_is_one_line(damage: bytes, tmp_path: Path) -> None:
    (tmp_path / "adapter_model.safetensors").write_bytes(damage)
    one_line(lambda: read_tensors(tmp_path / "adapter_model.safetensors"), "damaged")

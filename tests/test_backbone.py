"""The table of architectures against the models themselves, and loud loading."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import SHAPES, refused, tiny_backbone
from planted import edited, flipped
from safetensors.torch import load_file, save_file
from torch.profiler import profile
from transformers.activations import NewGELUActivation

from lora_repro.backbone import spec as module
from lora_repro.backbone.fetch import write_manifest
from lora_repro.backbone.files import check_loading
from lora_repro.backbone.spec import BackboneSpec
from lora_repro.backbone.wheel import Wheel
from lora_repro.config.compose import build, compose
from lora_repro.errors import NotAvailable, UserError
from lora_repro.files import sha256
from lora_repro.report.captions import DRAWN


def test_fused_query_key_and_value_are_the_thirds_of_c_attn() -> None:
    backbone = tiny_backbone("gpt2")
    attention = backbone.layers[1].attn
    x = torch.randn(1, 3, 32)
    expected = attention.c_attn(x).split(32, dim=2)  # type: ignore[operator]
    for kind, part in zip(("query", "key", "value"), expected, strict=True):
        (place,) = backbone.projections(1, kind)
        weight, bias = (
            place.module.weight[:, place.start : place.start + place.size],
            place.module.bias[place.start : place.start + place.size],
        )  # type: ignore[index]
        torch.testing.assert_close(x @ weight + bias, part)


@pytest.mark.parametrize("architecture, sizes", [
    ("gpt2", {"query": [32], "key": [32], "value": [32], "output": [32], "mlp": [128, 32]}),
    ("llama", {"query": [32], "key": [16], "value": [16], "output": [32], "mlp": [64, 64, 32]}),
    ("qwen2", {"query": [32], "key": [16], "value": [16], "output": [32], "mlp": [64, 64, 32]}),
    ("bert", {"query": [32], "key": [32], "value": [32], "output": [32], "mlp": [64, 32]}),
    ("roberta", {"query": [32], "key": [32], "value": [32], "output": [32], "mlp": [64, 32]}),
    ("mpnet", {"query": [32], "key": [32], "value": [32], "output": [32], "mlp": [64, 32]}),
])  # fmt: skip
def test_every_kind_is_where_the_table_says(architecture: str, sizes: dict[str, list[int]]) -> None:
    backbone = tiny_backbone(architecture)
    assert (backbone.n_layers, backbone.hidden_size, backbone.architecture) == (2, 32, architecture)
    assert {kind: [p.size for p in backbone.projections(0, kind)] for kind in sizes} == sizes
    assert backbone.embedding.weight.shape[1] == 32
    for path in backbone.table.layer_norms:
        assert backbone.layers[0].get_submodule(path).weight.shape == (32,)
    assert not any(parameter.requires_grad for parameter in backbone.model.parameters())


def test_gpt_2_s_gelu_is_one_kernel_and_the_same_function() -> None:
    (ours,) = {type(block.mlp.act) for block in tiny_backbone("gpt2").model.transformer.h}
    x = torch.linspace(-9, 9, 2001, dtype=torch.float64, requires_grad=True)
    gradients = [torch.autograd.grad(act(x).sum(), x)[0] for act in (ours(), NewGELUActivation())]
    torch.testing.assert_close(*gradients, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(ours()(x), NewGELUActivation()(x), rtol=1e-12, atol=1e-14)
    y = x.detach()
    with profile() as profiler:
        ours()(y)
    assert [event.name for event in profiler.events() if event.name.startswith("aten::")] == ["aten::gelu"]


def test_an_unknown_kind_names_the_valid_ones() -> None:
    with pytest.raises(UserError, match="query, key, value, output, mlp"):
        tiny_backbone("gpt2").projections(0, "keys")


@pytest.mark.parametrize("kind", ["missing_keys", "unexpected_keys", "mismatched_keys"])
def test_a_checkpoint_that_does_not_fit_is_refused(kind: str) -> None:
    with pytest.raises(UserError, match=r"1 (missing|unexpected|misshapen) weights, first h.0.x"):
        check_loading("b", {kind: ["h.0.x"]})
    check_loading("b", {"missing_keys": [], "unexpected_keys": []})


def test_only_a_new_classification_head_may_be_missing() -> None:
    check_loading("b", {"missing_keys": ["classifier.weight"]}, head="classification")
    with pytest.raises(UserError):
        check_loading("b", {"missing_keys": ["classifier.weight"]}, head="lm")


def test_a_missing_pooler_is_new_only_where_the_head_reads_it() -> None:
    missing = {"missing_keys": ["bert.pooler.dense.weight"]}
    assert not check_loading("b", missing, head="classification", pooling="mean")
    assert check_loading("b", missing, head="classification", pooling=None)
    with pytest.raises(UserError, match="1 missing"):
        check_loading("b", missing, head="lm")


WHEEL = {"package": "x", "version": "1", "sha256": "0" * 64, "file": "model.gguf", "gguf_sha256": "1" * 64}


def spec(**changes: object) -> BackboneSpec:
    values: dict[str, object] = {
        "name": "x",
        "label": "X",
        "source": "wheel",
        "separator": "\n",
        "eos": "<|endoftext|>",
        "pad": "<|endoftext|>",
        "wheel": WHEEL,
    }
    return BackboneSpec(**{**values, **changes})  # type: ignore[arg-type]


@pytest.fixture
def fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a backbone in the cache, as `fetch` leaves it."""
    folder = tmp_path / "x"
    tiny_backbone("llama", seed=3).model.save_pretrained(folder)  # type: ignore[operator]
    tiny_backbone("llama", seed=3).tokenizer.save_pretrained(folder)
    write_manifest(folder, "x", "X", Wheel(**WHEEL))  # type: ignore[arg-type]
    monkeypatch.setattr(module, "backbone_folder", lambda name: tmp_path / name)
    return folder


def test_a_saved_model_loads_whole_and_a_truncated_one_is_refused(fetched: Path) -> None:
    backbone, original = spec().load(), tiny_backbone("llama", seed=3)
    ids = torch.tensor([[65, 66, 10]])
    assert torch.equal(backbone.model(input_ids=ids).logits, original.model(input_ids=ids).logits)
    assert len(backbone.sha256) == len(backbone.files_sha256) == 64 and not original.files_sha256
    with pytest.raises(UserError, match="no token '<nothing>'"):
        spec(eos="<nothing>").load()
    weights = fetched / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(UserError, match=r"lora-repro fetch x"):
        spec().load()


CHANGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "heads": (edited('"num_attention_heads": 4', '"num_attention_heads": 2', "config.json"), "config.json"),
    "a word's number": (edited('"a": ', '"a": 1', "tokenizer.json"), "tokenizer.json"),
    "a weight": (lambda folder: flipped(folder / "model.safetensors"), "model.safetensors"),
    "a file more": (lambda folder: (folder / "added_tokens.json").write_text('{"b": 3}'), "added_tokens.json"),
    "no manifest": (lambda folder: (folder / "manifest.json").unlink(), "no manifest"),
    "a FIFO": (lambda folder: [(folder / "config.json").unlink(), os.mkfifo(folder / "config.json")], "config.json"),
}


@pytest.mark.parametrize(("change", "named"), CHANGES.values(), ids=CHANGES)
def test_a_changed_file_of_a_fetched_backbone_is_one_line(
    change: Callable[[Path], object], named: str, fetched: Path
) -> None:
    change(fetched)
    refused(spec().load, named, "lora-repro fetch x")
    refused(spec(pretrained=False).load, named)


def test_another_wheel_in_the_yaml_is_not_the_cached_one(fetched: Path) -> None:
    refused(spec(wheel={**WHEEL, "version": "2"}).load, "another wheel", "lora-repro fetch x")


def test_a_file_that_the_yaml_pins_is_checked_in_a_folder_too(fetched: Path) -> None:
    pins = {"config.json": sha256(fetched / "config.json")}
    checkpoint = spec(source="folder", hub_id=str(fetched), files=pins)
    assert checkpoint.load().sha256 == sha256(fetched / "model.safetensors")
    edited('"rms_norm_eps": 1e-06', '"rms_norm_eps": 1e-02', "config.json")(fetched)
    refused(checkpoint.load, "config.json", "backbone.files")


def test_one_hash_is_over_configuration_tokenizer_and_weights_but_not_over_who_wrote_them(fetched: Path) -> None:
    folder = spec(source="folder", hub_id=str(fetched))
    first = folder.load().files_sha256
    edited('"transformers_version": "', '"transformers_version": "9', "config.json")(fetched)
    (fetched / "trainer_state.json").write_text("{}")  # nothing reads it
    assert folder.load().files_sha256 == first
    hashes = {first}
    eps = edited('"rms_norm_eps": 1e-06', '"rms_norm_eps": 1e-02', "config.json")
    for change in (eps, CHANGES["a word's number"][0], CHANGES["a weight"][0]):
        change(fetched)
        hashes.add(folder.load().files_sha256)
    assert len(hashes) == 4


@pytest.mark.parametrize("said, forbidden", [("1", True), ("yes", True), ("0", False), ("false", False), ("", False)])
def test_a_backbone_not_fetched_yet_names_the_command(
    said: str, forbidden: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a download is forbidden, in the hub client's own words."""
    monkeypatch.setattr(module, "backbone_folder", lambda name: tmp_path / name)
    monkeypatch.setenv("HF_HUB_OFFLINE", said)
    if not forbidden:
        spec().ready()
        return
    with pytest.raises(NotAvailable, match=r"lora-repro fetch x"):
        spec().load()


def test_the_first_run_fetches_a_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fetches: list[str] = []
    monkeypatch.setattr(module, "backbone_folder", lambda name: tmp_path / name)
    monkeypatch.setattr(module, "fetch", fetches.append)
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    spec().ready()
    assert fetches == []  # what is ready brings nothing yet
    spec().bring()
    assert fetches == ["x"]
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "model.safetensors").touch()
    spec().bring()
    spec(source="random", shape={"model_type": "gpt2"}).bring()
    assert fetches == ["x"]


@pytest.mark.parametrize("architecture, own", [("bert", True), ("roberta", True), ("mpnet", False), ("gpt2", False)])
def test_a_head_s_dropout_is_set_or_refused(architecture: str, own: bool) -> None:
    backbone = spec(source="random", shape=SHAPES[architecture], head="classification", n_labels=2, head_dropout=0.3)
    if own:
        rates = {
            part.p for module in backbone.load().classifier for part in module.modules() if isinstance(part, torch.nn.Dropout)
        }
        assert rates == {0.3}
    else:
        with pytest.raises(UserError, match=r"its head has no dropout of its own: leave backbone\.head_dropout out"):
            backbone.load()


def test_an_unreachable_hub_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(NotAvailable, match="no-such/model at 0123abcd is not here, and HF_HUB_OFFLINE"):
        spec(source="hub", hub_id="no-such/model", revision="0123abcd" * 5).load()


def test_a_pytorch_file_is_read_as_tensors_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = tiny_backbone("llama", seed=3)
    original.model.save_pretrained(tmp_path)  # type: ignore[operator]
    original.tokenizer.save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    (tmp_path / "model.safetensors").unlink()
    torch.save(weights, tmp_path / "pytorch_model.bin")
    checkpoint = spec(source="folder", hub_id=str(tmp_path))
    backbone = checkpoint.load()
    ids = torch.tensor([[65, 66, 10]])
    assert torch.equal(backbone.model(input_ids=ids).logits, original.model(input_ids=ids).logits)
    assert len(backbone.sha256) == 64
    torch.save({"model.norm.weight": Ran(tmp_path / "ran")}, tmp_path / "pytorch_model.bin")
    with pytest.raises(UserError, match="cannot be read as a model") as error:
        checkpoint.load()
    assert "\n" not in str(error.value) and not (tmp_path / "ran").exists()


class Ran:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.path,)


NO_SENTENCEPIECE = importlib.util.find_spec("sentencepiece") is None


@pytest.mark.skipif(not NO_SENTENCEPIECE, reason="sentencepiece is installed: .[deberta]")
def test_a_sentencepiece_tokenizer_without_its_package_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "deberta-v2"}')
    (tmp_path / "spm.model").write_bytes(b"\n\x03a b")
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "DebertaV2Tokenizer"}')
    with pytest.raises(NotAvailable, match=r"needs sentencepiece: pip install -e '\.\[deberta\]'"):
        spec(source="folder", hub_id=str(tmp_path), head="classification").load()


def test_what_a_backbone_lacks_is_known_before_it_is_loaded() -> None:
    deberta = compose(["task=rte", "profile=paper", "backbone=deberta_v2_xxlarge"]).backbone
    with pytest.raises(UserError, match=r"pinned backbone.revision=COMMIT"):
        build(deberta).ready()
    checkpoint = replace(build(deberta), revision="0123abcd" * 5, packages=("no-such-package",))
    with pytest.raises(NotAvailable, match="backbone deberta_v2_xxlarge: its tokenizer needs no-such-package"):
        checkpoint.ready()
    replace(checkpoint, packages=("torch",)).ready()


@pytest.mark.parametrize(
    "wrong",
    [
        {"source": "disk"},
        {"source": "hub"},
        {"source": "random"},
    ],
)
def test_a_spec_that_makes_no_sense_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(UserError):
        spec(**wrong).load()


def test_an_untrained_twin_has_the_architecture_and_no_weight_of_the_checkpoint(tmp_path: Path) -> None:
    original = tiny_backbone("bert", seed=3)
    original.model.save_pretrained(tmp_path)
    original.tokenizer.save_pretrained(tmp_path)
    settings = {"separator": "\n", "eos": "<|endoftext|>", "pad": "<|endoftext|>", "head": "classification"}
    spec = BackboneSpec(name="x", label="X", source="folder", hub_id=str(tmp_path), **settings)  # type: ignore[arg-type]
    backbone, twin, again = (replace(spec, pretrained=pretrained).load() for pretrained in (True, False, False))
    table = original.embedding.weight
    assert torch.equal(backbone.embedding.weight, table) and not torch.equal(twin.embedding.weight, table)
    assert torch.equal(twin.embedding.weight, again.embedding.weight) and twin.embedding.weight.shape == table.shape
    assert (twin.sha256, twin.label) == ("random weights, seed 0", f"X{DRAWN}")


def test_what_a_file_lacks_is_drawn_alike_whatever_was_drawn_before(tmp_path: Path) -> None:
    original = tiny_backbone("bert", seed=3)
    original.model.save_pretrained(tmp_path)
    original.tokenizer.save_pretrained(tmp_path)
    weights = {name: x for name, x in load_file(tmp_path / "model.safetensors").items() if "pooler" not in name}
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    settings = {"separator": "\n", "eos": "<|endoftext|>", "pad": "<|endoftext|>", "head": "classification", "pooling": "mean"}
    spec = BackboneSpec(name="x", label="X", source="folder", hub_id=str(tmp_path), **settings)  # type: ignore[arg-type]
    poolers = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        poolers.append(spec.load().decoder.pooler.dense.weight)  # type: ignore[union-attr]
    assert torch.equal(poolers[0], poolers[1]) and poolers[0].std() > 0


def test_a_numbered_card_becomes_the_current_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pinned memory and synchronisation are the current card's, whatever card a model is on."""
    backbone, devices = tiny_backbone("llama"), []
    monkeypatch.setattr(torch.cuda, "set_device", devices.append)
    monkeypatch.setattr(backbone.model, "to", lambda device: None)
    for device in ("cpu", "cuda", "cuda:1"):
        backbone.to(torch.device(device))
    assert devices == [torch.device("cuda:1")]


def test_a_tokenizer_without_its_files_is_one_line(tmp_path: Path) -> None:
    """transformers makes one without words then, and a run would train on nothing but [UNK]."""
    original = tiny_backbone("bert")
    original.model.save_pretrained(tmp_path)  # type: ignore[operator]
    settings = {"separator": "\n", "eos": "[SEP]", "pad": "[PAD]", "cls": "[CLS]", "head": "classification"}
    spec = BackboneSpec(name="x", label="X", source="folder", hub_id=str(tmp_path), **settings)  # type: ignore[arg-type]
    with pytest.raises(UserError, match=f"^backbone x: the tokenizer in {tmp_path} cannot tell words apart; are its files"):
        spec.load()

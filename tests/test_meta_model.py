"""Backbones on the meta device: every yaml has a shape, every method counts as its formula says, no weight is made."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml

from lora_repro.backbone.fetch import backbone_folder
from lora_repro.backbone.spec import BackboneSpec
from lora_repro.config.compose import CONF, build, compose
from lora_repro.costs.arithmetic import backward
from lora_repro.costs.meta_model import build_meta_model, shape_of
from lora_repro.errors import UserError
from lora_repro.methods.adapter_h import AdapterH
from lora_repro.methods.adapter_p import AdapterP
from lora_repro.methods.base import Shape
from lora_repro.methods.lora import Lora
from lora_repro.methods.untuned import Untuned

BACKBONES = sorted(path.stem for path in (CONF / "backbone").glob("*.yaml") if path.stem not in ("decoder", "encoder", "own"))
METHODS = sorted(path.stem for path in (CONF / "method").glob("*.yaml") if path.stem != "human")
WHEELS = yaml.safe_load((CONF / "plan.yaml").read_text(encoding="utf-8"))["shapes"]


@pytest.mark.parametrize("name", BACKBONES)
def test_every_backbone_has_a_shape(name: str) -> None:
    assert shape_of(build(compose([f"backbone={name}"]).backbone))["num_hidden_layers" if "roberta" in name else "model_type"]


@pytest.mark.parametrize("name", [name for name in BACKBONES if not name.startswith("random") and name != "roberta_large"])
def test_adapters_on_sentences_are_the_nearest_to_lora_s_size(name: str) -> None:
    """RoBERTa large has the paper's own bottlenecks, 16 and 8."""
    spec = replace(build(compose([f"backbone={name}"]).backbone), head="classification", n_labels=2)
    shape = Shape.of(build_meta_model(spec, Untuned()).backbone)
    lora = Lora(rank=8).count(shape)
    for adapter, key in ((AdapterP, "adapter_p"), (AdapterH, "adapter_h_small")):
        off = {size: abs(adapter(bottleneck=size).count(shape) - lora) for size in range(1, 33)}
        assert spec.sizes[key] == min(off, key=lambda size: off[size]), key


@pytest.mark.parametrize("name", sorted(WHEELS))
def test_the_documented_shape_is_the_wheel_s_own(name: str) -> None:
    path = backbone_folder(name) / "config.json"
    if not path.is_file():
        pytest.skip("this backbone has not been fetched")
    own = json.loads(path.read_text(encoding="utf-8"))
    assert WHEELS[name] == {key: own[key] for key in WHEELS[name]}


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("backbone", ["random_gpt2", "random_llama"])
def test_a_method_counts_as_its_formula_says(backbone: str, name: str) -> None:
    numbers = {"bottleneck": 2, "prefix": 2, "infix": 1, "rank": 2, "dropped": 1, "n": 2, "mid": 4}
    sizes: dict[str, object] = {**numbers, "sources": ["rte", "cb"]}
    config = compose([f"backbone={backbone}", f"method={name}"])
    for key in set(sizes) & set(config.method):
        config.method[key] = sizes[key]
    spec, method = build(config.backbone), build(config.method)
    meta = build_meta_model(spec, method)
    shape = Shape.of(spec.load())
    assert (meta.outline.method, meta.outline.head) == (method.count(shape), method.count_head(shape))
    assert all(parameter.is_meta for parameter in meta.backbone.model.parameters())
    assert meta.outline.depth <= meta.outline.layers and meta.tokenizer_here


def test_gpt2_medium_s_lora_without_its_weights() -> None:
    config = compose(["experiment=e2e", "row/e2e=lora", "profile=paper", "backbone=gpt2_medium"])
    meta = build_meta_model(build(config.backbone), build(config.method))
    o = meta.outline
    assert o.method == 24 * 4 * 2 * (1024 + 1024) == o.added and o.depth == o.layers == 24
    assert o.block == 12 * 1024**2 and o.head_matrix == 50257 * 1024 and o.vocabulary == 50257
    assert o.parameters == 354_823_168 + o.method and not o.head_trained


def test_drawing_a_frame_moves_no_random_number() -> None:
    config = compose(["backbone=random_gpt2", "method=prelayer", "method.prefix=3"])
    torch.manual_seed(1)
    before = torch.get_rng_state()
    build_meta_model(build(config.backbone), build(config.method))
    assert torch.equal(before, torch.get_rng_state())


def test_a_backbone_without_sizes_is_refused_in_one_line() -> None:
    spec = BackboneSpec(
        name="mystery", label="", source="hub", separator="", eos="", pad="", hub_id="a/b", revision="c"
    )
    with pytest.raises(UserError, match=r"mystery: .*shape: {model_type"):
        shape_of(spec)


def test_deberta_keeps_its_attention_scores() -> None:
    config = compose(["task=rte", "profile=paper", "backbone=deberta_v2_xxlarge", "method=bitfit"])
    spec = build(config.backbone)
    small = {**spec.shape, "num_hidden_layers": 1, "hidden_size": 48, "intermediate_size": 96, "vocab_size": 300}
    meta = build_meta_model(replace(spec, shape=small, head="classification", n_labels=2), build(config.method))
    assert meta.outline.score_heads == 24 and meta.outline.vocabulary == 0 and meta.outline.head_trained


def test_what_a_method_moves_without_training_it_has_a_gradient() -> None:
    """A run of 16 random directions computes the gradients that full fine-tuning computes, and keeps no moments of them."""
    few, full = (
        build_meta_model(build(config.backbone), build(config.method)).outline
        for config in (compose(["backbone=random_llama", *words]) for words in (
            ["method=intrinsic_dimension", "method.d=16"], ["method=full"]))
    )  # fmt: skip
    assert few.method == 16 and few.weights == full.weights > 0 and few.depth == full.depth and full.moved == 0
    assert backward(few, 20, 1) >= 0.9 * backward(full, 20, 1) and 0 < few.moved <= full.trained


def test_a_checkpoint_in_a_folder_has_the_sizes_of_its_config_json(tmp_path: Path) -> None:
    """Its yaml says none: it may lie in a folder of one's own, beside conf/."""
    spec = build(compose(["backbone=random_llama"]).backbone)
    spec.load().model.config.save_pretrained(tmp_path)
    folder_spec = replace(spec, source="folder", hub_id=str(tmp_path), shape={})
    method = build(compose(["method=lora"]).method)
    assert build_meta_model(folder_spec, method).outline == build_meta_model(spec, method).outline
    with pytest.raises(UserError, match=r"cannot read the config\.json of folder/nowhere"):
        shape_of(replace(folder_spec, hub_id="folder/nowhere"))

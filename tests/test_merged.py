"""Merged models: transformers alone loads them, with our logits; methods that merge into nothing are refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from conftest import SHAPES
from peft_models import DEBERTA, IDS, SENTENCE, TEXT, fresh, logits, sentences, trained
from safetensors.torch import load_file, save_file
from transformers import AutoModel, AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from lora_repro.backbone import fetch
from lora_repro.backbone.architecture import KINDS
from lora_repro.backbone.spec import BackboneSpec
from lora_repro.errors import UserError
from lora_repro.exchange import export, merged, peft_folder
from lora_repro.methods.adapter_fusion import AdapterFusion
from lora_repro.methods.adapter_h import AdapterH
from lora_repro.methods.adapter_l import AdapterL
from lora_repro.methods.base import AbstractMethod
from lora_repro.methods.bitfit import BitFit
from lora_repro.methods.combined import Combined
from lora_repro.methods.full import Full
from lora_repro.methods.intrinsic_dimension import IntrinsicDimension
from lora_repro.methods.linear_probe import LinearProbe
from lora_repro.methods.lora import Lora
from lora_repro.methods.matrices import Matrices
from lora_repro.methods.prelayer import PreLayer
from lora_repro.methods.prompt_tuning import PromptTuning
from lora_repro.methods.segments import Segments
from lora_repro.methods.top_layers import TopLayers

LABELS = ["a", "b", "c"]
MERGING = [Lora(rank=2, alpha=4), Lora(rank=2, alpha=3, targets=list(KINDS)), Full(), BitFit(), LinearProbe(), TopLayers(n=1)]
MERGING += [Matrices(targets=["query", "value", "mlp"]), IntrinsicDimension(d=300), IntrinsicDimension(d=300, form="said")]
OURS = [AdapterH(bottleneck=2), Combined(name="versatile_lm", methods=[AdapterL(bottleneck=2), Segments()])]
OURS += [AdapterFusion(sources=["rte", "cola"], bottleneck=2)]
STAYING = [*OURS, PreLayer(prefix=2, infix=1), PromptTuning(prefix=2, infix=1)]


def spec(architecture: str, pooling: str | None = None) -> BackboneSpec:
    """What a record says of the backbone: the shape is the folder's."""
    sentence = architecture in SENTENCE
    return BackboneSpec(
        name="tiny", label="tiny", source="random", separator="\n", eos="<|endoftext|>", pad="<|endoftext|>",
        cls="<s>" if sentence else None, shape={**SHAPES, "deberta-v2": DEBERTA}[architecture],
        head="classification" if sentence else "lm", n_labels=3 if sentence else None, pooling=pooling,  # type: ignore[arg-type]
    )


@pytest.mark.parametrize("method", MERGING, ids=lambda method: method.name)
@pytest.mark.parametrize("architecture", TEXT + SENTENCE)
def test_transformers_alone_computes_our_logits(architecture: str, method: AbstractMethod, tmp_path: Path) -> None:
    ours = trained(fresh(architecture), method)
    expected, before = logits(ours.model), logits(fresh(architecture).model)
    merged.save(tmp_path, ours, LABELS if architecture in SENTENCE else ())
    auto: Any = AutoModelForCausalLM if architecture in TEXT else AutoModelForSequenceClassification
    theirs, info = auto.from_pretrained(tmp_path, output_loading_info=True)
    assert not (info["missing_keys"] or info["unexpected_keys"] or info["mismatched_keys"])
    torch.testing.assert_close(logits(theirs), logits(ours.model), rtol=0, atol=0)  # merged in memory
    torch.testing.assert_close(logits(theirs), expected, rtol=1e-6, atol=2e-6)
    assert (before - expected).abs().max() > 1e-3
    if architecture in SENTENCE:
        assert theirs.config.id2label == dict(enumerate(LABELS))
    again = merged.load(tmp_path, spec(architecture))
    torch.testing.assert_close(logits(again.model), logits(theirs), rtol=0, atol=0)
    assert {path.suffix for path in tmp_path.iterdir()} <= {".json", ".safetensors", ".jinja"}


@pytest.mark.filterwarnings("ignore")
def test_whoever_may_read_the_configuration_may_read_the_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An export or a fetched backbone in a cache of a group: safetensors alone would let nobody but the owner read it."""
    merged.save(tmp_path / "out", trained(fresh("bert"), Full()))

    def expand(gguf: Path, folder: Path, tied: bool) -> None:
        (folder / "config.json").write_text("{}")
        save_file({"a": torch.zeros(1)}, folder / "model.safetensors")

    monkeypatch.setattr(fetch, "dequantise", expand)
    (tmp_path / "cache").mkdir()
    fetch.prepare(Path("x.gguf"), tmp_path / "cache", SimpleNamespace(tied=False))  # type: ignore[arg-type]
    for folder in ("out", "cache"):
        modes = {path.stat().st_mode for path in (tmp_path / folder).iterdir()}
        assert len(modes) == 1, folder


def test_the_tokenizer_comes_along(tmp_path: Path) -> None:
    ours = fresh("gpt2")
    merged.save(tmp_path, ours)
    text = "name : Blue Spice | Type : café\n£20<|endoftext|>"
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    ids = ours.tokenizer.encode(text, add_special_tokens=False)
    assert theirs.encode(text, add_special_tokens=False) == ids and theirs.decode(ids) == text


@pytest.mark.parametrize("architecture", ["gpt2", "roberta"])
def test_a_twin_of_random_weights_is_read_from_its_folder_and_not_drawn_again(architecture: str, tmp_path: Path) -> None:
    ours = trained(fresh(architecture), Full())
    expected = logits(ours.model)
    merged.save(tmp_path, ours, LABELS if architecture in SENTENCE else ())
    again = merged.load(tmp_path, replace(spec(architecture), pretrained=False))
    torch.testing.assert_close(logits(again.model), expected, rtol=0, atol=0)


def test_an_adapter_of_a_twin_of_random_weights_has_no_base_to_name(tmp_path: Path) -> None:
    run: Any = SimpleNamespace(record={"asked": {"backbone": {"pretrained": False, "name": "tiny"}}})
    with pytest.raises(UserError, match="random weights, which are not published"):
        export.write(run, tmp_path, "peft")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("architecture", ["bert", "gpt2"])
def test_where_no_class_reads_as_we_do_the_head_lies_apart(architecture: str, tmp_path: Path) -> None:
    pooling = "mean" if architecture == "bert" else "last"
    ours = trained(sentences(architecture, pooling), Lora(rank=2))
    with torch.no_grad():
        hidden = ours.decoder(input_ids=IDS).last_hidden_state
    expected = logits(ours.model, IDS[:1])  # GPT-2's class takes one row where no padding token is set
    merged.save(tmp_path, ours, LABELS)
    theirs = AutoModel.from_pretrained(tmp_path)
    with torch.no_grad():
        torch.testing.assert_close(theirs.eval()(input_ids=IDS).last_hidden_state, hidden, rtol=1e-5, atol=1e-5)
    assert set(load_file(tmp_path / "head.safetensors")) == {*_head(ours)}
    head_spec = replace(spec(architecture), head="classification", n_labels=3, pooling=pooling)
    again = merged.load(tmp_path, head_spec)
    torch.testing.assert_close(logits(again.model, IDS[:1]), expected, rtol=1e-5, atol=1e-5)
    (tmp_path / "head.safetensors").unlink()
    with pytest.raises(UserError, match="no trained head"):
        merged.load(tmp_path, head_spec)


def _head(backbone: Any) -> dict[str, Any]:
    root = {"bert": "classifier", "gpt2": "score"}[backbone.architecture]
    return {name: p for name, p in backbone.model.named_parameters() if name.startswith(root)}


@pytest.mark.parametrize("method", STAYING, ids=lambda method: method.name)
def test_what_merges_into_nothing_is_refused(method: AbstractMethod, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="this method cannot be merged") as error:
        merged.save(tmp_path, trained(fresh("llama"), method))
    assert "\n" not in str(error.value) and not list(tmp_path.iterdir())


@pytest.mark.parametrize("method", [*OURS, IntrinsicDimension(d=300)], ids=lambda method: method.name)
def test_what_peft_has_not_is_refused_without_a_promise_that_merging_breaks(method: AbstractMethod, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"cannot export {method.name} to peft, .* if the method can be merged, or") as error:
        peft_folder.save(tmp_path, trained(fresh("llama"), method), method, "base")
    assert "\n" not in str(error.value) and not list(tmp_path.iterdir())


def test_a_folder_that_is_no_model_is_one_line(tmp_path: Path) -> None:
    for content in ("{", '{"model_type": "nonsense"}', "{}"):
        (tmp_path / "config.json").write_text(content)
        with pytest.raises(UserError, match="cannot be read as a model") as error:
            merged.load(tmp_path, spec("llama"))
        assert "\n" not in str(error.value)

"""LoRA to peft and back: equal logits on every architecture, block rank 2r in a fused matrix, one line for what has no equal."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from own_models import own_model
from peft_models import IDS, SENTENCE, TEXT, fresh, logits, sentences, trained
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSequenceClassification

from lora_repro.backbone.architecture import KINDS
from lora_repro.backbone.detect import describe
from lora_repro.errors import UserError
from lora_repro.exchange import peft_folder
from lora_repro.methods.full import Full
from lora_repro.methods.lora import Lora
from lora_repro.methods.update import merge

pytestmark = pytest.mark.filterwarnings("ignore")  # peft on this transformers speaks of renamed attributes
QV = Lora(rank=3, alpha=12, targets=["query", "value"])
ALL = Lora(rank=2, alpha=3, targets=list(KINDS))
MLP = Lora(rank=2, alpha=4, targets=["mlp"])
KIND_OF_TASK = {**dict.fromkeys([*TEXT, "gpt_neox"], "CAUSAL_LM"), **dict.fromkeys(SENTENCE, "SEQ_CLS")}


def exported(folder: Path, architecture: str, method: Lora, seed: int = 7) -> torch.Tensor:
    """Write our LoRA as peft's and return our logits."""
    ours = trained(fresh(architecture), method, seed)
    peft_folder.save(folder, ours, method, "base")
    return logits(ours.model)


@pytest.mark.parametrize("method", [QV, ALL, MLP], ids=["qv", "all", "mlp"])
@pytest.mark.parametrize("architecture", [*KIND_OF_TASK])
def test_peft_computes_our_logits_and_our_export_comes_back(architecture: str, method: Lora, tmp_path: Path) -> None:
    expected = exported(tmp_path, architecture, method)
    assert (logits(fresh(architecture).model) - expected).abs().max() > 1e-3
    model: Any = fresh(architecture).model
    model.save_pretrained(tmp_path / "base")  # transformers' own modules: ours regroup the rows of GPT-NeoX
    theirs = peft.PeftModel.from_pretrained(type(model).from_pretrained(tmp_path / "base"), tmp_path)
    assert type(theirs).__name__ == {"CAUSAL_LM": "PeftModelForCausalLM", "SEQ_CLS": "PeftModelForSequenceClassification"}[
        KIND_OF_TASK[architecture]
    ]
    torch.testing.assert_close(logits(theirs), expected, rtol=1e-5, atol=1e-5)
    if architecture not in SENTENCE:  # a head under peft is a wrapper of its own
        torch.testing.assert_close(logits(theirs.merge_and_unload()), expected, rtol=1e-5, atol=1e-5)
    again = fresh(architecture)
    assert peft_folder.load(tmp_path, again).virtual_tokens == (0, 0)
    torch.testing.assert_close(logits(again.model), expected, rtol=1e-5, atol=1e-5)
    merge(again.model)
    torch.testing.assert_close(logits(again.model), expected, rtol=1e-5, atol=1e-5)


def test_inside_c_attn_query_and_value_are_blocks_of_twice_the_rank(tmp_path: Path) -> None:
    exported(tmp_path, "gpt2", QV)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"], config["target_modules"]) == (6, 24, ["c_attn"])
    assert config["fan_in_fan_out"] is True and not config["rank_pattern"]
    tensors = load_file(tmp_path / "adapter_model.safetensors")
    b = tensors["base_model.model.transformer.h.1.attn.c_attn.lora_B.weight"]
    assert b.shape == (96, 6) and not b[32:64].any()  # no update of the keys
    assert not b[:32, 3:].any() and not b[64:, :3].any() and b[:32, :3].all() and b[64:, 3:].all()


def test_only_the_adapted_modules_are_targets(tmp_path: Path) -> None:
    """BERT's attention.output.dense ends like its MLP's output.dense; GPT-2 has two c_proj."""
    exported(tmp_path / "bert", "bert", MLP)
    exported(tmp_path / "gpt2", "gpt2", Lora(rank=2, targets=["query", "output"]))
    for name, count in (("bert", 2 * 2), ("gpt2", 2 * 2)):
        base = fresh(name).model
        theirs = peft.PeftModel.from_pretrained(base, tmp_path / name)  # type: ignore[arg-type]
        assert sum(hasattr(module, "lora_A") and hasattr(module, "base_layer") for module in theirs.modules()) == count
    assert json.loads((tmp_path / "gpt2/adapter_config.json").read_text())["target_modules"] == ["attn.c_attn", "attn.c_proj"]


MADE: list[tuple[str, dict[str, Any]]] = [
    ("gpt2", {"r": 4, "lora_alpha": 9, "target_modules": ["c_attn"], "fan_in_fan_out": True}),
    ("gpt2", {"r": 2, "lora_alpha": 3, "target_modules": ["c_proj", "c_fc"], "fan_in_fan_out": True, "use_rslora": True}),
    ("llama", {"r": 4, "lora_alpha": 16, "target_modules": "all-linear"}),
    ("llama", {
        "r": 4, "target_modules": ["q_proj", "v_proj"], "rank_pattern": {"v_proj": 2}, "layers_to_transform": [1],
        "alpha_pattern": {"layers.1.self_attn.q_proj": 5},
    }),
    ("bert", {"r": 4, "lora_alpha": 16, "target_modules": ["query", "value"]}),
    ("roberta", {"r": 2, "lora_alpha": 16, "target_modules": ["query", "key"]}),
    ("deberta-v2", {"r": 2, "target_modules": ["query_proj"], "modules_to_save": ["pooler"]}),
]


@pytest.mark.parametrize(("architecture", "settings"), MADE)
def test_what_peft_made_computes_its_logits_here(architecture: str, settings: dict[str, Any], tmp_path: Path) -> None:
    config = peft.LoraConfig(task_type=KIND_OF_TASK[architecture], init_lora_weights=False, **settings)
    theirs = peft.get_peft_model(fresh(architecture).model, config)  # type: ignore[arg-type]
    torch.manual_seed(3)
    for name, parameter in theirs.named_parameters():
        if "lora_" in name or "modules_to_save" in name:
            torch.nn.init.normal_(parameter, 0.0, 0.3)
    theirs.save_pretrained(tmp_path)
    ours = fresh(architecture)
    peft_folder.load(tmp_path, ours)
    expected = logits(theirs)
    torch.testing.assert_close(logits(ours.model), expected, rtol=1e-5, atol=1e-5)
    assert (logits(fresh(architecture).model) - expected).abs().max() > 1e-3
    merge(ours.model)
    torch.testing.assert_close(logits(ours.model), expected, rtol=1e-5, atol=1e-5)


def test_an_adapter_of_the_bare_body_loads_with_the_head_apart(tmp_path: Path) -> None:
    """A mean over positions is no class of transformers: the body is peft's, the head a file beside it."""
    ours = trained(sentences("bert", "mean"), QV)
    peft_folder.save(tmp_path, ours, QV, "base")
    assert json.loads((tmp_path / "adapter_config.json").read_text())["task_type"] == "FEATURE_EXTRACTION"
    body = sentences("bert").decoder
    theirs = peft.PeftModel.from_pretrained(body, tmp_path)  # type: ignore[arg-type]
    head = load_file(tmp_path / "head.safetensors")
    with torch.no_grad():
        expected = ours.decoder(input_ids=IDS).last_hidden_state
        torch.testing.assert_close(theirs(input_ids=IDS).last_hidden_state, expected, rtol=1e-5, atol=1e-5)
    again = sentences("bert", "mean")
    peft_folder.load(tmp_path, again)
    assert torch.equal(again.head.module.weight, head["classifier.weight"])
    torch.testing.assert_close(logits(again.model), logits(ours.model), rtol=1e-5, atol=1e-5)
    (tmp_path / "head.safetensors").unlink()
    with pytest.raises(UserError, match="no trained head"):
        peft_folder.load(tmp_path, sentences("bert", "mean"))


def test_a_new_pooler_is_saved_with_the_head(tmp_path: Path) -> None:
    """A BERT of masked words has none, and peft draws another one for its base."""
    spec = replace(describe(str(own_model(tmp_path / "base", "bert"))), head="classification", n_labels=3)
    ours = trained(spec.load(), QV)
    peft_folder.save(tmp_path / "adapter", ours, QV, "base")
    base = AutoModelForSequenceClassification.from_pretrained(tmp_path / "base", num_labels=3)
    theirs = peft.PeftModel.from_pretrained(base, tmp_path / "adapter")
    torch.testing.assert_close(logits(theirs), logits(ours.model), rtol=1e-5, atol=1e-5)
    again = spec.load()
    peft_folder.load(tmp_path / "adapter", again)
    torch.testing.assert_close(logits(again.model), logits(ours.model), rtol=1e-5, atol=1e-5)


def altered(folder: Path, architecture: str = "llama", **settings: Any) -> Path:
    exported(folder, architecture, QV)
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))
    return folder


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"use_dora": True}, "use_dora"),
        ({"bias": "lora_only"}, "bias"),
        ({"init_lora_weights": "pissa"}, "pissa"),
        ({"trainable_token_indices": [1]}, "trainable_token_indices"),
        ({"peft_type": "IA3"}, "IA3"),
        ({"r": 5}, "rank 3, its adapter_config.json says 5"),
    ],
)
def test_what_is_not_plain_lora_is_refused(settings: dict[str, Any], says: str, tmp_path: Path) -> None:
    backbone = fresh("llama")
    before = logits(backbone.model)
    with pytest.raises(UserError, match=says) as error:
        peft_folder.load(altered(tmp_path, **settings), backbone)
    assert "\n" not in str(error.value)
    torch.testing.assert_close(logits(backbone.model), before, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda t: {k: v * (0 if "lora_B" in k else 1) for k, v in t.items()}, "never trained"),
        (lambda t: {k: v for k, v in t.items() if "1.self_attn.q_proj.lora_B" not in k}, "not one A and one B"),
        (lambda t: {k.replace("layers.1", "layers.7"): v for k, v in t.items()}, "layers.7"),
        (lambda t: {k: v[:, :-1].contiguous() if "lora_A" in k else v for k, v in t.items()}, "shape"),
        (lambda t: {k: v * float("nan") for k, v in t.items()}, "NaN"),
        (lambda t: t | {"base_model.model.lm_head.weight": torch.ones(2)}, "other than LoRA's"),
        (lambda t: {"other": torch.ones(1)}, "no LoRA tensor"),
    ],
)
def test_tensors_that_do_not_fit_are_one_line(change: Any, says: str, tmp_path: Path) -> None:
    exported(tmp_path, "llama", QV)
    path = tmp_path / "adapter_model.safetensors"
    save_file(change(load_file(path)), path)
    backbone = fresh("llama")
    with pytest.raises(UserError, match=says) as error:
        peft_folder.load(tmp_path, backbone)
    assert "\n" not in str(error.value)


def test_a_pickle_and_damage_are_refused(tmp_path: Path) -> None:
    exported(tmp_path, "llama", QV)
    tensors = tmp_path / "adapter_model.safetensors"
    tensors.write_bytes(tensors.read_bytes()[:100])
    with pytest.raises(UserError, match="damaged"):
        peft_folder.load(tmp_path, fresh("llama"))
    tensors.rename(tmp_path / "adapter_model.bin")
    with pytest.raises(UserError, match="pickle"):
        peft_folder.load(tmp_path, fresh("llama"))
    (tmp_path / "adapter_config.json").write_text("{")
    with pytest.raises(UserError, match="cannot read"):
        peft_folder.load(tmp_path, fresh("llama"))


def test_a_method_that_peft_lacks_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot export full to peft"):
        peft_folder.save(tmp_path, trained(fresh("gpt2"), Full()), Full(), "base")
    assert not list(tmp_path.iterdir())

"""Prefixes of both forms and prompts, to peft and back; infix, encoders and sentence tasks refused."""

from __future__ import annotations

from pathlib import Path

import peft
import pytest
import torch
from peft_models import IDS, TEXT, fresh, logits, sentences, trained

from lora_repro.errors import UserError
from lora_repro.exchange import peft_folder
from lora_repro.methods.base import AbstractMethod
from lora_repro.methods.prelayer import PreLayer
from lora_repro.methods.prompt_tuning import PromptTuning

pytestmark = pytest.mark.filterwarnings("ignore")  # peft on this transformers speaks of renamed attributes
N = 3
METHODS = {
    "activations": PreLayer(prefix=N, infix=0),
    "key_value": PreLayer(form="key_value", prefix=N, infix=0, reparametrise=False),
    "mlp": PreLayer(form="key_value", prefix=N, infix=0, mid=5),
    "prompt": PromptTuning(prefix=N, infix=0),
}
each = pytest.mark.parametrize("method", list(METHODS.values()), ids=list(METHODS))


def answered(model: object, method: AbstractMethod) -> torch.Tensor:
    """Our logits of the real positions: slots, if the method has any, stand in front."""
    prefix, _ = method.virtual_tokens
    ids = torch.cat([torch.zeros(2, prefix, dtype=torch.long), IDS], 1)
    slots = torch.cat([torch.arange(prefix).expand(2, -1), torch.full_like(IDS, -1)], 1)
    return logits(model, ids, **({"virtual": slots} if prefix else {}))[:, prefix:]


@each
@pytest.mark.parametrize("architecture", TEXT)
def test_peft_computes_our_logits_and_our_export_comes_back(architecture: str, method: AbstractMethod, tmp_path: Path) -> None:
    ours = trained(fresh(architecture), method)
    expected = answered(ours.model, method)
    peft_folder.save(tmp_path, ours, method, "base")
    theirs = peft.PeftModel.from_pretrained(fresh(architecture).model, tmp_path)  # type: ignore[arg-type]
    got = logits(theirs)[:, -IDS.shape[1] :]
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)
    assert (logits(fresh(architecture).model) - expected).abs().max() > 1e-3
    again = fresh(architecture)
    became = peft_folder.load(tmp_path, again)
    torch.testing.assert_close(answered(again.model, became), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ["prefix", "projected", "prompt"])
@pytest.mark.parametrize("architecture", TEXT)
def test_what_peft_made_computes_its_logits_here(architecture: str, kind: str, tmp_path: Path) -> None:
    config: peft.PeftConfig
    if kind == "prompt":
        config = peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=N)
    else:
        more = {"prefix_projection": True, "encoder_hidden_size": 6} if kind == "projected" else {}
        config = peft.PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=N, **more)
    theirs = peft.get_peft_model(fresh(architecture).model, config)  # type: ignore[arg-type]
    torch.manual_seed(3)
    for parameter in theirs.prompt_encoder.parameters():
        torch.nn.init.normal_(parameter, 0.0, 0.3)
    theirs.save_pretrained(tmp_path)
    expected = logits(theirs)[:, -IDS.shape[1] :]
    ours = fresh(architecture)
    became = peft_folder.load(tmp_path, ours)
    torch.testing.assert_close(answered(ours.model, became), expected, rtol=1e-5, atol=1e-5)
    assert (logits(fresh(architecture).model) - expected).abs().max() > 1e-3


@pytest.mark.parametrize("method", [PreLayer(prefix=N, infix=2), PromptTuning(prefix=N, infix=2)])
def test_an_infix_is_refused(method: AbstractMethod, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"method\.infix=0"):
        peft_folder.save(tmp_path, trained(fresh("gpt2"), method), method, "base")


@pytest.mark.parametrize("method", [PreLayer(prefix=N, infix=0), PromptTuning(prefix=N, infix=0)])
@pytest.mark.parametrize("architecture", ["bert", "gpt2"])
def test_a_sentence_task_is_refused_both_ways(architecture: str, method: AbstractMethod, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="do not fit a sentence task: its"):
        peft_folder.save(tmp_path, trained(sentences(architecture), method), method, "base")
    peft_folder.save(tmp_path, trained(fresh("gpt2"), METHODS["prompt"]), METHODS["prompt"], "base")
    with pytest.raises(UserError, match="do not fit a sentence task"):
        peft_folder.load(tmp_path, sentences(architecture))


def test_another_backbone_s_sizes_are_one_line(tmp_path: Path) -> None:
    method = METHODS["key_value"]
    peft_folder.save(tmp_path, trained(fresh("gpt2"), method), method, "base")
    with pytest.raises(UserError, match="shape"):
        peft_folder.load(tmp_path, fresh("llama"))

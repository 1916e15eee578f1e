"""Every method that stands in a decoder while it answers, against tests/beam_oracle.py: the search knows none of them."""

from __future__ import annotations

import beam_oracle
import pytest
import torch

from lora_repro.config.compose import build, compose
from lora_repro.decode.beam import BeamSearch
from lora_repro.objectives.completion import encode_prompt
from lora_repro.run.stages import adapt, backbone_of

METHODS = {
    "lora": ["method.targets=[query,key,value,output,mlp]"],
    "prelayer": ["method.prefix=3", "method.infix=2"],
    "prelayer key_value": ["method.form=key_value", "method.prefix=3", "method.infix=0", "method.mid=8"],
    "prompt_tuning": ["method.prefix=3", "method.infix=2"],
    "adapter_h": [],
    "adapter_l": [],
    "adapter_drop": ["method.dropped=1"],
    "bitfit": [],
    "lora_prelayer": [],
    "lora_prompt_tuning": [],
    "dora": [],
}


@pytest.mark.parametrize("kind", ["random_gpt2", "random_llama"])
@pytest.mark.parametrize("method", METHODS)
def test_a_method_decodes_as_the_oracle(method: str, kind: str) -> None:
    name = method.partition(" ")[0]
    config = compose(["profile=smoke", "task=e2e", f"backbone={kind}", f"method={name}", *METHODS[method]])
    peft_method = build(config.method)
    model = adapt(backbone_of(config), peft_method, 1, torch.device("cpu"))
    backbone = model.backbone
    with torch.no_grad():  # as if trained: a method may start as the identity, and an untrained model says little
        for parameter in backbone.model.parameters():
            parameter += 0.15 * torch.randn(parameter.shape)
    prompts = [encode_prompt(text, backbone, peft_method.virtual_tokens) for text in ("name[Ab]", "a, b", "food[x y], area[z]")]
    output = BeamSearch(beam=3, max_new_tokens=7, batch_size=3).decode(
        backbone.model, backbone.tokenizer, prompts, backbone.eos, backbone.pad, segments=backbone.reads_segments
    )
    for prompt, tokens, score in zip(prompts, output.tokens, output.scores, strict=True):
        expected, best = beam_oracle.search(
            backbone.model, backbone.tokenizer, prompt.ids, prompt.virtual, backbone.eos, 3, 7, 0.9, 4
        )
        assert tokens == expected and score == pytest.approx(best, abs=1e-4)

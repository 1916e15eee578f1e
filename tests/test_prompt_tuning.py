"""Prompt tuning against input embeddings put together by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from conftest import tiny_backbone

from lora_repro.backbone.addressed import cache_name
from lora_repro.methods.base import Shape
from lora_repro.methods.prompt_tuning import PromptTuning

CACHE = cache_name(tiny_backbone("gpt2").decoder)
IDS = torch.randint(0, 256, (2, 13), generator=torch.Generator().manual_seed(0))
VIRTUAL = torch.tensor(
    [[0, 1, 2, -1, -1, -1, -1, 3, 4, -1, -1, -1, -1], [-1, -1, 0, 1, 2, -1, 3, 4, -1, -1, -1, -1, -1]]
)


def run(backbone: Any, **inputs: Any) -> torch.Tensor:
    with torch.no_grad():
        return backbone.decoder(**inputs).last_hidden_state  # type: ignore[no-any-return]


@pytest.mark.parametrize("architecture", ["gpt2", "llama", "bert", "roberta"])
def test_equals_embeddings_by_hand(architecture: str) -> None:
    backbone, plain = tiny_backbone(architecture), tiny_backbone(architecture)
    PromptTuning(prefix=3, infix=2, init="gaussian", std=0.5).apply(backbone)
    values = backbone.decoder.prompt_tuning.values.detach()
    embeddings = plain.embedding(IDS).detach().clone()
    for b in range(2):
        for t in range(13):
            if VIRTUAL[b, t] >= 0:
                embeddings[b, t] = values[VIRTUAL[b, t]]
    # RoBERTa counts positions from the ids when it gets ids, so both calls are told them.
    at = {"position_ids": torch.arange(2, 15).expand(2, 13)}
    got = run(backbone, input_ids=IDS, virtual=VIRTUAL, **at)
    torch.testing.assert_close(got, run(plain, inputs_embeds=embeddings, **at), rtol=1e-5, atol=1e-5)
    assert (got - run(plain, input_ids=IDS, **at)).abs().max() > 1e-2


def test_counts_of_the_paper() -> None:
    """GPT-3 rows of Table 15 (d = 12288)."""
    shape = Shape(96, 12288, 12288, {}, 0, 0, 0, 0, 0)
    for prefix, count in ((32, 491_520), (64, 884_736), (128, 1_671_168), (256, 3_244_032), (512, 6_389_760)):
        assert PromptTuning(prefix=prefix, infix=8).count(shape) == count


def test_a_call_without_slots_is_not_silent() -> None:
    backbone = tiny_backbone("gpt2")
    PromptTuning(prefix=3, infix=2).apply(backbone)
    with pytest.raises(ValueError, match="virtual"):
        run(backbone, input_ids=IDS)

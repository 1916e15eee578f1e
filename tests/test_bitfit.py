"""BitFit: which biases there are, which are added, and that only they move."""

from __future__ import annotations

import pytest
import torch
from conftest import tiny_backbone

from lora_repro.methods.base import Shape
from lora_repro.methods.bitfit import BitFit

IDS = torch.arange(20).view(2, 10)


@pytest.mark.parametrize("architecture", ["gpt2", "bert", "roberta"])
def test_trains_every_bias_of_the_body_and_adds_none(architecture: str) -> None:
    backbone = tiny_backbone(architecture)
    shape, names = Shape.of(backbone), set(dict(backbone.model.named_parameters()))
    trainable = BitFit().apply(backbone)
    assert set(dict(backbone.model.named_parameters())) == names
    body = backbone.model.base_model_prefix + "."
    assert set(trainable.method) == {n for n in names if n.endswith(".bias") and n.startswith(body)}
    assert BitFit().note(shape) == ""


def test_adds_zero_biases_where_there_are_none() -> None:
    backbone = tiny_backbone("llama")
    shape = Shape.of(backbone)
    before = backbone.model(input_ids=IDS).logits
    trainable = BitFit().apply(backbone)
    # Per block: query 32, key 16, value 16, output 32, MLP 64 + 64 + 32.
    assert len(trainable.method) == 2 * 7 and trainable.counts(backbone.model)["method"] == 2 * 256
    assert all(not bias.any() for bias in trainable.parameters())
    torch.testing.assert_close(backbone.model(input_ids=IDS).logits, before, rtol=0, atol=0)
    assert "zero-initialised" in BitFit().note(shape)
    with torch.no_grad():
        trainable.method["model.layers.1.mlp.down_proj.bias"] += 1.0
    assert (backbone.model(input_ids=IDS).logits - before).abs().max() > 1e-2  # an added bias takes part


def test_gpt2_count_is_the_formula() -> None:
    """Biases of a block: 3d + d + 4d + d, its two LayerNorms' 2d: 11 d; the final LayerNorm's d."""
    assert BitFit().count(Shape.of(tiny_backbone("gpt2"))) == 2 * 11 * 32 + 32
    medium = Shape(24, 1024, 1024, {}, 12 * 1024**2 + 13 * 1024, 11 * 1024, 1024, 0, 0)
    assert BitFit().count(medium) == 271_360

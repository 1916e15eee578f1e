"""LoRA against loralib, peft and literal arithmetic."""

from __future__ import annotations

import math
from typing import Any

import loralib
import pytest
import torch
from conftest import tiny_backbone
from transformers.pytorch_utils import Conv1D

from lora_repro.backbone.dropout import dropout
from lora_repro.backbone.weights import read
from lora_repro.errors import UserError
from lora_repro.methods.base import Shape
from lora_repro.methods.lora import Lora, LoraLinear, LoraPart
from lora_repro.methods.update import merge, unmerge


def part(start: int, size: int, d_in: int, rank: int) -> LoraPart:
    update = LoraPart(start, size, d_in, rank, "kaiming", 0.02, torch.device("cpu"))
    torch.nn.init.normal_(update.B)
    return update


def randomise(model: torch.nn.Module, seed: int = 5) -> list[LoraLinear]:
    """Random A and B in every LoRA layer, so that an update that is lost or misplaced shows."""
    torch.manual_seed(seed)
    layers = [module for module in model.modules() if isinstance(module, LoraLinear)]
    for layer in layers:
        for update in layer.ordered():
            torch.nn.init.normal_(update.A, 0.0, 0.1)
            torch.nn.init.normal_(update.B, 0.0, 0.1)
    return layers


def ids(seed: int = 1) -> torch.Tensor:
    return torch.randint(0, 256, (3, 11), generator=torch.Generator().manual_seed(seed))


def logits(model: Any, tokens: torch.Tensor | None = None) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=ids() if tokens is None else tokens).logits


def test_linear_equals_loralib() -> None:
    torch.manual_seed(0)
    theirs = loralib.Linear(12, 20, r=3, lora_alpha=7)
    torch.nn.init.normal_(theirs.lora_B)
    base = torch.nn.Linear(12, 20)
    base.load_state_dict({"weight": theirs.weight, "bias": theirs.bias})
    mine = LoraLinear(base, {"query": part(0, 20, 12, 3)}, 7 / 3)
    mine.parts["query"].load_state_dict({"A": theirs.lora_A, "B": theirs.lora_B})
    x = torch.randn(4, 5, 12)
    torch.testing.assert_close(mine(x), theirs(x), rtol=1e-5, atol=1e-5)
    assert (mine(x) - base(x)).abs().max() > 0.1  # the update is not negligible in this test


def test_fused_layer_equals_loralib_merged_linear() -> None:
    torch.manual_seed(0)
    theirs = loralib.MergedLinear(
        16, 48, r=4, lora_alpha=32, enable_lora=[True, False, True], fan_in_fan_out=True
    )
    torch.nn.init.normal_(theirs.lora_B)
    base = Conv1D(48, 16)
    base.load_state_dict({"weight": theirs.weight, "bias": theirs.bias})
    # Given out of order: the columns, not the order of the parts, decide where an update goes.
    mine = LoraLinear(base, {"value": part(32, 16, 16, 4), "query": part(0, 16, 16, 4)}, 8.0)
    mine.parts["query"].load_state_dict({"A": theirs.lora_A[:4], "B": theirs.lora_B[:16]})
    mine.parts["value"].load_state_dict({"A": theirs.lora_A[4:], "B": theirs.lora_B[16:]})
    x = torch.randn(2, 5, 16)
    torch.testing.assert_close(mine(x), theirs(x), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(mine(x)[..., 16:32], base(x)[..., 16:32], rtol=0, atol=0)  # keys untouched


def test_dropout_is_one_draw_on_the_input_of_the_update_only() -> None:
    base = Conv1D(24, 8)
    same = part(0, 8, 8, 2)
    twin = part(16, 8, 8, 2)
    twin.load_state_dict(same.state_dict())
    mine = LoraLinear(base, {"query": same, "value": twin}, 2.0, dropout=0.5).train()
    torch.manual_seed(3)
    x = torch.randn(6, 8)
    update = mine(x) - base(x)
    torch.testing.assert_close(update[:, :8], update[:, 16:], atol=1e-6, rtol=1e-5)
    torch.manual_seed(3)
    torch.randn(6, 8)
    inputs = dropout(x, 0.5)
    torch.testing.assert_close(update[:, :8], 2.0 * inputs @ same.A.T @ same.B.T, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("architecture", ["gpt2", "llama", "bert", "roberta"])
def test_step_zero_merge_and_unmerge(architecture: str) -> None:
    backbone = tiny_backbone(architecture)
    before = logits(backbone.model)
    Lora(targets=["query", "key", "value", "output", "mlp"]).apply(backbone)
    torch.testing.assert_close(logits(backbone.model), before, rtol=0, atol=0)  # B = 0
    layers = randomise(backbone.model)
    weights = [read(layer.base).clone() for layer in layers]
    outputs = logits(backbone.model)
    assert (outputs - before).abs().max() > 1e-3
    merge(backbone.model)
    once = [read(layer.base).clone() for layer in layers]
    merge(backbone.model)
    backbone.model.train()  # no side effect: nothing is unmerged by changing the mode
    backbone.model.eval()
    assert all(torch.equal(read(layer.base), w) for layer, w in zip(layers, once, strict=True))
    torch.testing.assert_close(logits(backbone.model), outputs, rtol=1e-5, atol=1e-5)
    for layer, weight in zip(layers, weights, strict=True):
        torch.testing.assert_close(read(layer.base) - weight, layer.delta(), rtol=1e-4, atol=1e-6)
    unmerge(backbone.model)
    unmerge(backbone.model)
    assert all(torch.equal(read(layer.base), w) for layer, w in zip(layers, weights, strict=True))
    torch.testing.assert_close(logits(backbone.model), outputs, rtol=0, atol=0)


def test_each_part_of_a_fused_matrix_has_its_own_a_and_b() -> None:
    backbone = tiny_backbone("gpt2")
    trainable = Lora(rank=4).apply(backbone)
    assert [name.split(".", 1)[1] for name in trainable.method][:4] == [
        f"h.0.attn.c_attn.parts.{kind}.{letter}" for kind in ("query", "value") for letter in "AB"
    ]
    backbone.model.train()
    assert all(layer.dropout.training for layer in randomise(backbone.model))
    backbone.model.eval()
    layer = randomise(backbone.model)[0]
    d = backbone.hidden_size
    assert [(u.start, tuple(u.A.shape), tuple(u.B.shape)) for u in layer.ordered()] == [
        (0, (4, d), (d, 4)),
        (2 * d, (4, d), (d, 4)),
    ]
    x = torch.randn(2, 3, d)
    literal = layer.base(x).detach().clone()
    for u in layer.ordered():
        literal[..., u.start : u.start + d] += 8.0 * x @ (u.B @ u.A).T
    torch.testing.assert_close(layer(x), literal, rtol=1e-5, atol=1e-5)


def test_initialisation() -> None:
    torch.manual_seed(0)
    uniform = LoraPart(0, 8, 400, 50, "kaiming", 0.02, torch.device("cpu")).A.detach()
    assert uniform.abs().max() <= 1 / math.sqrt(400) and uniform.abs().max() > 0.99 / math.sqrt(400)
    assert abs(float(uniform.std()) - 1 / math.sqrt(3 * 400)) < 5e-4  # sd of U(-a, a) is a / sqrt 3
    gaussian = LoraPart(0, 8, 400, 50, "gaussian", 0.02, torch.device("cpu")).A.detach()
    assert abs(float(gaussian.std()) - 0.02) < 5e-4 and gaussian.abs().max() > 0.06
    torch.manual_seed(1)
    first = Lora().apply(tiny_backbone("gpt2", seed=4)).parameters()
    second = Lora().apply(tiny_backbone("gpt2", seed=4)).parameters()
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_an_update_that_is_not_finite_is_never_merged() -> None:
    backbone = tiny_backbone("gpt2")
    Lora().apply(backbone)
    layers = randomise(backbone.model)
    weights = [read(layer.base).clone() for layer in layers]
    with torch.no_grad():
        layers[1].ordered()[0].B[0, 0] = float("nan")
    with pytest.raises(UserError, match="not finite"):
        merge(backbone.model)
    assert all(torch.equal(read(layer.base), w) for layer, w in zip(layers, weights, strict=True))
    assert not any(layer.merged for layer in layers)


def test_half_precision_base() -> None:
    backbone = tiny_backbone("llama")
    backbone.model.to(torch.bfloat16)
    trainable = Lora().apply(backbone)
    assert all(p.dtype == torch.float32 for p in trainable.parameters())
    layer = randomise(backbone.model)[0]
    weight = read(layer.base).clone()
    assert logits(backbone.model).dtype == torch.bfloat16
    merge(backbone.model)
    assert torch.equal(read(layer.base), (weight.float() + layer.delta()).to(torch.bfloat16))
    unmerge(backbone.model)
    assert torch.equal(read(layer.base), weight)


def test_rank_is_bounded_by_the_narrow_matrix() -> None:
    """Llama's shared values are 16 wide here (192 on SmolLM2), narrower than the hidden size."""
    assert Lora(rank=16).apply(tiny_backbone("llama")).method
    with pytest.raises(UserError, match="full rank 16 of value"):
        Lora(rank=17).apply(tiny_backbone("llama"))


def test_count_on_shared_keys_and_values() -> None:
    """4 (576 + 576) + 4 (576 + 192) per block, 30 blocks: the 230,400 of SmolLM2-135M."""
    matrices = {"query": ((576, 576),), "key": ((576, 192),), "value": ((576, 192),), "output": ((576, 576),)}
    shape = Shape(30, 576, 192, matrices, 0, 0, 0, 0, 0)
    assert Lora(rank=4).count(shape) == 230_400

"""AdapterH and AdapterL against literal arithmetic."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from conftest import tiny_backbone
from peft_models import sentences

from lora_repro.methods._bottleneck import Bottleneck
from lora_repro.methods.adapter_drop import AdapterDrop
from lora_repro.methods.adapter_h import AdaptedOutput, AdapterH
from lora_repro.methods.adapter_l import AdapterL
from lora_repro.methods.adapter_p import AdapterP

IDS = torch.arange(24).view(2, 12)


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=IDS).logits


def randomise(model: torch.nn.Module) -> list[Bottleneck]:
    torch.manual_seed(2)
    adapters = [module for module in model.modules() if isinstance(module, Bottleneck)]
    for adapter in adapters:
        for parameter in adapter.parameters():
            torch.nn.init.normal_(parameter, 0.0, 0.3)
    return adapters


def test_bottleneck_is_its_formula() -> None:
    torch.manual_seed(0)
    adapter = Bottleneck(6, 3, "relu", "normal", 0.5, norm=True)
    for parameter in adapter.parameters():
        torch.nn.init.normal_(parameter)
    h = torch.randn(4, 6)
    normed = (h - h.mean(1, keepdim=True)) / (h.var(1, unbiased=False, keepdim=True) + 1e-5).sqrt()
    normed = normed * adapter.norm.weight + adapter.norm.bias
    low = (normed @ adapter.down.weight.T + adapter.down.bias).clamp(min=0)
    torch.testing.assert_close(
        adapter(h), h + low @ adapter.up.weight.T + adapter.up.bias, atol=1e-5, rtol=1e-5
    )


@pytest.mark.parametrize("architecture", ["gpt2", "llama", "qwen2", "bert", "roberta", "mpnet", "deberta-v2"])
def test_adapter_h_sits_where_each_residual_addition_reads(architecture: str) -> None:
    """In training, what the adapter gives is what is added, and no dropout comes after it."""
    backbone = sentences(architecture) if architecture == "deberta-v2" else tiny_backbone(architecture)
    AdapterH(bottleneck=3).apply(backbone)
    randomise(backbone.model)
    layer: Any = backbone.layers[0].train()
    for part in layer.modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = 0.5
    first, second = (layer.get_submodule(path) for path in backbone.table.residuals)
    assert isinstance(first, AdaptedOutput) and isinstance(second, AdaptedOutput)
    inputs: dict[str, torch.Tensor] = {}
    gave: dict[str, torch.Tensor] = {}
    layer.register_forward_pre_hook(lambda _, args: inputs.update(block=args[0]))
    layer.register_forward_hook(lambda _, args, out: gave.update(block=out if isinstance(out, torch.Tensor) else out[0]))
    first.register_forward_hook(lambda _, args, out: gave.update(first=out))
    second.register_forward_hook(lambda _, args, out: gave.update(second=out))
    norms = [layer.get_submodule(path) for path in backbone.table.layer_norms]
    backbone.model(input_ids=IDS)
    x = inputs["block"]
    if backbone.table.post_norm:
        literal = norms[1](norms[0](x + gave["first"]) + gave["second"])
    else:
        literal = x + gave["first"] + gave["second"]
    torch.testing.assert_close(gave["block"], literal, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("architecture", ["gpt2", "llama", "bert", "roberta"])
def test_adapter_l_follows_every_block(architecture: str) -> None:
    """The model equals one whose blocks are called by hand with the adapter after each."""
    backbone, plain = tiny_backbone(architecture), tiny_backbone(architecture)
    AdapterL(bottleneck=3).apply(backbone)
    adapters = randomise(backbone.model)
    assert len(adapters) == backbone.n_layers and all(
        isinstance(a.norm, torch.nn.LayerNorm) for a in adapters
    )
    for adapter, layer in zip(adapters, plain.layers, strict=True):
        forward = layer.forward

        def after(*args: Any, adapter: Any = adapter, forward: Any = forward, **kwargs: Any) -> Any:
            out = forward(*args, **kwargs)
            h = out if isinstance(out, torch.Tensor) else out[0]
            h = h + adapter.up(F.relu(adapter.down(adapter.norm(h))))
            return h if isinstance(out, torch.Tensor) else (h, *out[1:])

        layer.forward = after  # type: ignore[method-assign]
    torch.testing.assert_close(logits(backbone.model), logits(plain.model), atol=1e-5, rtol=1e-5)
    assert (logits(backbone.model) - logits(tiny_backbone(architecture).model)).abs().max() > 1e-3


def test_a_wide_adapter_can_be_any_mlp() -> None:
    """Section 4.1: as they grow, adapters become an MLP. m + 2 d units are any of m in their place: relu(x) - relu(-x) = x."""
    m, d = 7, 32
    backbone, plain = tiny_backbone("gpt2"), tiny_backbone("gpt2")
    AdapterP(bottleneck=m + 2 * d).apply(backbone)
    torch.manual_seed(3)
    adapters = [module for module in backbone.model.modules() if isinstance(module, Bottleneck)]
    assert len(adapters) == backbone.n_layers
    for adapter, layer in zip(adapters, plain.layers, strict=True):
        mlp = torch.nn.Sequential(torch.nn.Linear(d, m), torch.nn.ReLU(), torch.nn.Linear(m, d))
        one = torch.eye(d)
        with torch.no_grad():
            adapter.down.weight.copy_(torch.cat([mlp[0].weight, one, -one]))
            adapter.down.bias.copy_(torch.cat([mlp[0].bias, torch.zeros(2 * d)]))
            adapter.up.weight.copy_(torch.cat([mlp[2].weight, -one, one], dim=1))
            adapter.up.bias.copy_(mlp[2].bias)

        def instead(block: object, args: object, output: Any, mlp: torch.nn.Module = mlp) -> Any:
            return mlp(output) if isinstance(output, torch.Tensor) else (mlp(output[0]), *output[1:])

        layer.register_forward_hook(instead)
    torch.testing.assert_close(logits(backbone.model), logits(plain.model), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
@pytest.mark.parametrize("method", [AdapterH, AdapterL])
def test_step_zero(architecture: str, method: Any) -> None:
    before = logits(tiny_backbone(architecture).model)
    exact = tiny_backbone(architecture)
    method(init="zero_up", bottleneck=5).apply(exact)
    torch.testing.assert_close(logits(exact.model), before, rtol=0, atol=0)
    near = tiny_backbone(architecture)
    method(bottleneck=5).apply(near)
    difference = float((logits(near.model) - before).abs().max())
    # Not at the identity; AdapterH is near it, AdapterL (std 0.02 on a normalised input) is not meant to be.
    assert 0 < difference < (0.02 if method is AdapterH else 0.5) * float(before.abs().max())


def test_initialisation_as_the_sources_have_it() -> None:
    torch.manual_seed(0)
    backbone = tiny_backbone("gpt2")
    AdapterH(bottleneck=500).apply(backbone)
    weight = next(m for m in backbone.model.modules() if isinstance(m, Bottleneck)).down.weight.detach()
    assert 0.0198 < float(weight.abs().max()) <= 0.02  # N(0, 0.01^2) cut off at two std ...
    assert abs(float(weight.std()) - 0.0088) < 2e-4  # ... has 0.88 of its std
    backbone = tiny_backbone("gpt2")
    AdapterL(bottleneck=500).apply(backbone)
    adapter = next(m for m in backbone.model.modules() if isinstance(m, Bottleneck))
    assert (
        abs(float(adapter.up.weight.detach().std()) - 0.02) < 5e-4
        and float(adapter.up.weight.detach().abs().max()) > 0.05
    )
    assert not adapter.up.bias.any() and not adapter.down.bias.any()
    assert bool((adapter.norm.weight == 1).all()) and not adapter.norm.bias.any()


def test_adapter_l_passes_on_the_rest_of_a_tuple() -> None:
    from lora_repro.methods.adapter_l import adapt_output

    layer = torch.nn.Module()
    layer.add_module("adapter", Bottleneck(4, 2, "relu", "normal", 0.5, norm=True))
    h = torch.randn(1, 3, 4)
    out = adapt_output(layer, (), (h, "cache"))
    assert (
        out[1] == "cache" and torch.equal(out[0], adapt_output(layer, (), h)) and not torch.equal(out[0], h)
    )


@pytest.mark.parametrize("architecture", ["llama", "bert"])
@pytest.mark.parametrize("method", [AdapterH, AdapterL, AdapterP, AdapterDrop])
def test_half_precision_base(method: Any, architecture: str) -> None:
    backbone = tiny_backbone(architecture)
    backbone.model.to(torch.bfloat16)
    trainable = method(bottleneck=3, **({"dropped": 1} if method is AdapterDrop else {})).apply(backbone)
    assert logits(backbone.model).dtype == torch.bfloat16
    assert all(parameter.dtype == torch.float32 for parameter in trainable.method.values())

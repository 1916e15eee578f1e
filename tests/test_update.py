"""What the project asks of an updated matrix holds for every method that updates one; how a matrix is stored is its own."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from conftest import tiny_backbone
from torch import nn

from lora_repro.backbone import weights
from lora_repro.backbone.architecture import KINDS
from lora_repro.backbone.model import Backbone
from lora_repro.errors import UserError
from lora_repro.methods.adapter_h import AdapterH
from lora_repro.methods.base import AbstractMethod, Shape
from lora_repro.methods.bitfit import BitFit
from lora_repro.methods.combined import Combined
from lora_repro.methods.dora import Dora
from lora_repro.methods.full import Full
from lora_repro.methods.linear_probe import LinearProbe
from lora_repro.methods.lora import Lora
from lora_repro.methods.matrices import Matrices
from lora_repro.methods.pissa import Pissa
from lora_repro.methods.prompt_tuning import PromptTuning
from lora_repro.methods.top_layers import TopLayers
from lora_repro.methods.update import merge, strip, unmerge, updates

UPDATING = [Lora(rank=2, targets=KINDS), Matrices(targets=["query", "value", "mlp"])]
UPDATING += [Combined(methods=[Matrices(targets=["query"]), Lora(rank=2, targets=["query", "output"])])]
IDS = torch.randint(0, 256, (2, 9), generator=torch.Generator().manual_seed(3))
each_method = pytest.mark.parametrize("method", UPDATING, ids=lambda method: method.name)


def moved(backbone: Backbone, method: AbstractMethod) -> Backbone:
    """The method with every trained value drawn."""
    torch.manual_seed(2)
    with torch.no_grad():
        for parameter in method.apply(backbone).parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return backbone


def logits(backbone: Backbone) -> torch.Tensor:
    with torch.no_grad():
        return backbone.model(input_ids=IDS).logits  # type: ignore[no-any-return]


@each_method
@pytest.mark.parametrize("architecture", ["gpt2", "llama", "bert"])
def test_delta_factors_merge_and_strip_say_the_same(architecture: str, method: AbstractMethod) -> None:
    plain, backbone = tiny_backbone(architecture), moved(tiny_backbone(architecture), method)
    names, expected = set(plain.model.state_dict()), logits(backbone)
    deltas = [module.delta() for module in updates(backbone.model)]
    for module, delta in zip(updates(backbone.model), deltas, strict=True):
        for start in range(0, len(delta), 16):
            if pair := module.factors(rows := slice(start, start + 32)):
                torch.testing.assert_close(pair[0] @ pair[1], delta[rows].double(), rtol=1e-5, atol=1e-7)
    bases = [(module.base, weights.read(module.base).clone()) for module in updates(backbone.model)]
    merge(backbone.model)
    merge(backbone.model)
    torch.testing.assert_close(logits(backbone), expected, rtol=1e-5, atol=1e-5)
    assert all(torch.equal(m.delta(), d) for m, d in zip(updates(backbone.model), deltas, strict=True))
    unmerge(backbone.model)
    assert all(torch.equal(weights.read(base), before) for base, before in bases)
    strip(backbone.model)
    assert set(backbone.model.state_dict()) == names and not list(updates(backbone.model))
    torch.testing.assert_close(logits(backbone), expected, rtol=1e-5, atol=1e-5)
    assert (logits(plain) - expected).abs().max() > 1e-3


@pytest.mark.parametrize("architecture", ["gpt2", "llama", "bert"])
@pytest.mark.parametrize(
    "methods, says",
    [([Lora(rank=2), Dora(rank=2)], ""), ([Pissa(rank=2, alpha=2), Lora(rank=2)], ""),
     ([Lora(rank=2, targets=["output"]), AdapterH(bottleneck=2)], ""),
     ([Dora(rank=2), Lora(rank=2)], "LoraLinear around DoraLinear"),
     ([Dora(rank=2), Dora(rank=2)], "DoraLinear around DoraLinear"),
     ([Dora(rank=2), Pissa(rank=2, alpha=2)], "PissaLinear around DoraLinear"),
     ([AdapterH(bottleneck=2), Lora(rank=2, targets=["output"])], "LoraLinear around AdaptedOutput")],
)  # fmt: skip
def test_an_update_around_what_does_not_add_is_refused_and_others_merge(
    architecture: str, methods: list[AbstractMethod], says: str
) -> None:
    """Merged beneath DoRA an update changes the lengths that DoRA takes off, and beneath an adapter what goes through it.

    Where a dropout follows the matrix, AdapterH sits on that instead.
    """
    if says and ("Adapted" not in says or architecture == "llama"):
        with pytest.raises(UserError, match=says):
            Combined(methods=methods).apply(tiny_backbone(architecture))
        return
    backbone = moved(tiny_backbone(architecture), Combined(methods=methods))
    expected = logits(backbone)
    strip(backbone.model)
    torch.testing.assert_close(logits(backbone), expected, rtol=1e-4, atol=1e-4)


class Eighths(weights.StoredMatrix):
    """W in 8 bits, one scale for all: a quantised matrix at its simplest."""

    def __init__(self, weight: torch.Tensor, bias: nn.Parameter | None) -> None:
        super().__init__()
        self.scale = float(weight.abs().max()) / 127
        self.register_buffer("codes", (weight / self.scale).round().to(torch.int8))
        self.bias = bias

    @property
    def sizes(self) -> tuple[int, int]:
        codes: Any = self.codes
        return codes.shape[1], codes.shape[0]

    def read(self) -> torch.Tensor:
        codes: Any = self.codes
        return codes.float() * self.scale

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.linear(x, self.read(), self.bias)


def quantised(architecture: str, dense: bool = False) -> Backbone:
    """Every matrix of the blocks stored in 8 bits; `dense`: the same values as floats."""
    backbone = tiny_backbone(architecture)
    for layer in range(backbone.n_layers):
        for place in (place for kind in KINDS for place in backbone.projections(layer, kind)):
            if isinstance(module := place.module, weights.StoredMatrix):
                continue  # another part of a fused one
            bias: Any = module.bias
            matrix = Eighths(weights.read(module).detach(), bias)
            if dense:
                weights.write(module, matrix.read())
            else:
                place.replace(matrix)
    return backbone


@pytest.mark.parametrize(
    "method", [*UPDATING, AdapterH(bottleneck=3), BitFit(), LinearProbe(), PromptTuning(prefix=2, infix=1)], ids=lambda m: m.name
)
@pytest.mark.parametrize("architecture", ["gpt2", "llama", "bert"])
def test_no_method_notices_how_a_matrix_is_stored(architecture: str, method: AbstractMethod) -> None:
    """A gradient step on a backbone of 8-bit matrices is that on the same values as floats."""
    results = []
    for dense in (False, True):
        backbone = quantised(architecture, dense)
        shape = Shape.of(backbone)
        torch.manual_seed(0)
        trainable = method.apply(backbone)
        counts = trainable.counts(backbone.model)
        assert counts["method"] == method.count(shape)
        virtual = torch.full_like(IDS, -1)
        virtual[:, :3] = torch.arange(3)
        extra = {"virtual": virtual} if sum(method.virtual_tokens) else {}
        backbone.model(input_ids=IDS, **extra).logits.square().mean().backward()
        gradients = {name: p.grad for name, p in trainable.named.items() if p.grad is not None}
        results.append((shape, counts, gradients))
    (shape, counts, ours), (other, others, theirs) = results
    assert (shape, counts) == (other, others) and ours.keys() == theirs.keys() != set()
    for name, gradient in ours.items():
        torch.testing.assert_close(gradient, theirs[name], rtol=1e-4, atol=1e-6)


def test_what_needs_the_weights_themselves_refuses_stored_ones() -> None:
    for method in (Full(), TopLayers(n=1)):
        with pytest.raises(UserError, match="quantised"):
            method.apply(quantised("llama"))
    backbone = moved(quantised("llama"), Lora(rank=2))
    with pytest.raises(UserError, match="cannot merge into a quantised backbone: dequantise it first"):
        merge(backbone.model)
    assert not any(module.merged for module in updates(backbone.model))

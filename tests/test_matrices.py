"""Single matrices trained in full: training D beside W is training W."""

from __future__ import annotations

import pytest
import torch
from conftest import tiny_backbone

from lora_repro.backbone.weights import transposed
from lora_repro.methods.lora import Lora
from lora_repro.methods.matrices import Matrices

IDS = torch.randint(0, 256, (2, 12), generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("architecture", ["gpt2", "llama", "bert"])
@pytest.mark.parametrize("kinds", [["query"], ["query", "value"], ["query", "key", "value", "output"], ["mlp"]], ids="-".join)
def test_a_gradient_step_on_d_is_that_step_on_w(architecture: str, kinds: list[str]) -> None:
    ours, literal = tiny_backbone(architecture), tiny_backbone(architecture)
    trainable = Matrices(targets=kinds).apply(ours)
    assert torch.equal(ours.model(input_ids=IDS).logits, literal.model(input_ids=IDS).logits)  # D starts at zero
    places = [place for layer in range(2) for kind in kinds for place in literal.projections(layer, kind)]
    for place in places:
        place.module.weight.requires_grad_(True)
    for model in (ours.model, literal.model):
        model(input_ids=IDS).logits.square().mean().backward()
    with torch.no_grad():
        for parameter in trainable.method.values():  # not the new head
            parameter -= 0.1 * parameter.grad  # type: ignore[operator]
        for place in places:
            weight, gradient = place.module.weight, place.module.weight.grad
            wide = transposed(place.module)
            (weight.T if wide else weight)[place.rows] -= 0.1 * (gradient.T if wide else gradient)[place.rows]
    assert torch.allclose(ours.model(input_ids=IDS).logits, literal.model(input_ids=IDS).logits, atol=1e-5)


def test_lora_at_full_rank_reaches_what_the_whole_matrix_reaches() -> None:
    """Section 4.1: at rank = dimension B A may be any matrix; here it is made to be a given D."""
    lora, full = tiny_backbone("bert"), tiny_backbone("bert")
    Lora(rank=32, alpha=32, dropout=0.0, targets=["query"]).apply(lora)
    Matrices(targets=["query"]).apply(full)
    draw = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for layer in range(2):
            delta = 0.1 * torch.randn(32, 32, generator=draw)
            ours, theirs = (b.projections(layer, "query")[0].module.parts["query"] for b in (lora, full))
            ours.B.copy_(delta @ torch.linalg.inv(ours.A))
            theirs.D.copy_(delta)
    assert torch.allclose(lora.model(input_ids=IDS).logits, full.model(input_ids=IDS).logits, atol=1e-4)

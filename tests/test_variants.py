"""LoRA's later rivals against peft: the same start, function and merged weight, on a model without fused matrices."""

from __future__ import annotations

import math
from typing import Any

import peft
import pytest
import torch
from conftest import tiny_backbone

from lora_repro.backbone import weights
from lora_repro.backbone.dropout import dropout
from lora_repro.errors import UserError
from lora_repro.methods.base import AbstractMethod, Shape
from lora_repro.methods.dora import Dora
from lora_repro.methods.lora import Lora
from lora_repro.methods.pissa import Pissa
from lora_repro.methods.update import PartUpdate, merge, unmerge
from lora_repro.methods.vera import Vera

TARGETS = ["query", "value", "output", "mlp"]
NAMES = ["q_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
RIVALS: dict[str, AbstractMethod] = {
    "lora": Lora(rank=3, alpha=6, dropout=0.0, targets=TARGETS),
    "rslora": Lora(rank=3, alpha=6, dropout=0.0, targets=TARGETS, scaling="sqrt_rank"),
    "dora": Dora(rank=3, alpha=6, dropout=0.0, targets=TARGETS),
    "pissa": Pissa(rank=3, alpha=6, targets=TARGETS),
    "vera": Vera(rank=5, targets=TARGETS),
}
CONFIGS: dict[str, Any] = {
    "lora": peft.LoraConfig(r=3, lora_alpha=6, target_modules=NAMES),
    "rslora": peft.LoraConfig(r=3, lora_alpha=6, target_modules=NAMES, use_rslora=True),
    "dora": peft.LoraConfig(r=3, lora_alpha=6, target_modules=NAMES, use_dora=True),
    "pissa": peft.LoraConfig(r=3, lora_alpha=6, target_modules=NAMES, init_lora_weights="pissa"),
    "vera": peft.VeraConfig(r=5, target_modules=NAMES),
}


def logits(model: Any) -> torch.Tensor:
    tokens = torch.randint(0, 256, (3, 11), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return model(input_ids=tokens).logits


def close(a: torch.Tensor, b: torch.Tensor) -> None:
    torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


def layers(model: torch.nn.Module) -> dict[str, PartUpdate]:
    return {name: module for name, module in model.named_modules() if isinstance(module, PartUpdate)}


def copy(name: str, mine: PartUpdate, theirs: Any, shared: Any) -> None:
    """Give peft's layer the values of ours."""
    (part,) = mine.ordered()
    if name == "vera":
        theirs.vera_lambda_d["default"].data.copy_(part.d)
        theirs.vera_lambda_b["default"].data.copy_(part.b)
        shared.vera_A["default"].data.copy_(mine.shared.A)
        shared.vera_B["default"].data.copy_(mine.shared.B)
        return
    theirs.lora_A["default"].weight.data.copy_(part.A)
    theirs.lora_B["default"].weight.data.copy_(part.B)
    if name == "dora":
        theirs.lora_magnitude_vector["default"].weight.data.copy_(part.magnitude)


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")  # peft reads the old name
@pytest.mark.parametrize("name", RIVALS)
def test_a_whole_model_equals_peft(name: str) -> None:
    mine, other = tiny_backbone("llama"), tiny_backbone("llama")
    before = logits(mine.model)
    shape = Shape.of(mine)
    trainable = RIVALS[name].apply(mine)
    close(logits(mine.model), before)  # nothing has changed yet
    theirs: Any = peft.get_peft_model(other.model, CONFIGS[name])
    assert (
        theirs.get_nb_trainable_parameters()[0]
        == RIVALS[name].count(shape)
        == sum(p.numel() for p in trainable.parameters())
    )
    torch.manual_seed(7)
    for parameter in trainable.parameters():
        torch.nn.init.normal_(parameter, parameter.mean().item(), 0.1)
    for place, layer in layers(mine.model).items():
        copy(name, layer, theirs.base_model.model.get_submodule(place), theirs.base_model)
    output = logits(mine.model)
    assert (output - before).abs().max() > 0.01
    close(output, logits(theirs.eval()))
    merge(mine.model)
    close(logits(mine.model), output)
    theirs.merge_adapter()
    for place, layer in layers(mine.model).items():
        close(weights.read(layer), theirs.base_model.model.get_submodule(place).get_base_layer().weight)
    unmerge(mine.model)
    assert torch.equal(logits(mine.model), output)


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
@pytest.mark.parametrize("name", ["dora", "vera", "pissa"])
def test_gradients_equal_pefts(name: str) -> None:
    mine, other = tiny_backbone("llama"), tiny_backbone("llama")
    RIVALS[name].apply(mine)
    theirs: Any = peft.get_peft_model(other.model, CONFIGS[name])
    torch.manual_seed(7)
    for layer in layers(mine.model).values():
        for parameter in layer.parts.parameters():
            torch.nn.init.normal_(parameter, parameter.mean().item(), 0.1)
    for place, layer in layers(mine.model).items():
        copy(name, layer, theirs.base_model.model.get_submodule(place), theirs.base_model)
    tokens = torch.randint(0, 256, (2, 9), generator=torch.Generator().manual_seed(2))
    for model in (mine.model, theirs.eval()):
        model(input_ids=tokens, labels=tokens).loss.backward()  # type: ignore[operator]
    for place, layer in layers(mine.model).items():
        twin, (part,) = theirs.base_model.model.get_submodule(place), layer.ordered()
        if name == "vera":
            pairs = [(part.d, twin.vera_lambda_d["default"]), (part.b, twin.vera_lambda_b["default"])]
        else:
            pairs = [(part.A, twin.lora_A["default"].weight), (part.B, twin.lora_B["default"].weight)]
        if name == "dora":
            pairs.append((part.magnitude, twin.lora_magnitude_vector["default"].weight))
        for ours, reference in pairs:
            close(ours.grad, reference.grad)


@pytest.mark.parametrize("name", RIVALS)
@pytest.mark.parametrize("architecture", ["gpt2", "bert"])
def test_the_change_is_that_of_the_backbones_own_weight(name: str, architecture: str) -> None:
    """Where query and value are thirds of one matrix, and where they stand alone: delta() = W' - W, factors multiply to it."""
    plain, mine = tiny_backbone(architecture), tiny_backbone(architecture)
    trainable = RIVALS[name].apply(mine)
    torch.manual_seed(3)
    for parameter in trainable.method.values():
        torch.nn.init.normal_(parameter, parameter.mean().item(), 0.1)
    for kind in ("query", "value"):
        was, place = plain.projections(1, kind)[0], mine.projections(1, kind)[0]
        rows, layer = place.rows, place.module
        delta, factors = layer.delta()[rows], layer.factors(rows)
        if name == "dora":
            assert factors is None
        else:
            close((factors[0] @ factors[1]).float(), delta)
        assert delta.abs().max() > 1e-3
        layer.merge()
        close(weights.read(layer)[rows], weights.read(was.module)[rows] + delta)
        close(layer.delta()[rows], delta)  # merged or not
        layer.unmerge()
    if architecture == "gpt2":
        assert not layer.delta()[mine.hidden_size : 2 * mine.hidden_size].any()  # keys are no target


def test_dora_is_weight_normalisation_with_a_constant_norm() -> None:
    """Against the source's Equation 5 written out, gradient included; dropout is on what training adds."""
    backbone = tiny_backbone("llama")
    Dora(rank=2, alpha=4, dropout=0.5, targets=["query"]).apply(backbone)
    layer = next(iter(layers(backbone.model).values()))
    (part,) = layer.ordered()
    torch.manual_seed(0)
    torch.nn.init.normal_(part.B, 0.0, 0.1)
    torch.nn.init.normal_(part.magnitude, 1.0, 0.1)
    weight = weights.read(layer).detach()
    x = torch.randn(4, weight.shape[1])
    v = weight + 2.0 * part.B @ part.A
    expected = (part.magnitude / v.norm(dim=1).detach())[:, None] * v
    layer.eval()
    close(layer(x), x @ expected.T)
    torch.manual_seed(5)
    dropped = dropout(x, 0.5)
    torch.manual_seed(5)
    close(layer.train()(x), x @ weight.T + dropped @ (expected - weight).T)


def test_pissa_starts_as_the_best_approximation_and_freezes_the_rest() -> None:
    plain, mine = tiny_backbone("gpt2"), tiny_backbone("gpt2")
    Pissa(rank=3, alpha=6, targets=["query"]).apply(mine)
    place = mine.projections(0, "query")[0]
    was = weights.read(plain.projections(0, "query")[0].module)[place.rows]
    layer = place.module
    (part,) = layer.ordered()
    u, s, v = torch.linalg.svd(was)
    close(2.0 * part.B @ part.A, (u[:, :3] * s[:3]) @ v[:3])
    close(weights.read(layer)[: place.size], (u[:, 3:] * s[3:]) @ v[3:])
    assert not layer.delta().any()


def test_vera_shares_one_frozen_pair() -> None:
    backbone = tiny_backbone("llama")
    trainable = Vera(rank=4, targets=["key", "mlp"]).apply(backbone)
    modules = list(layers(backbone.model).values())
    assert len({id(layer.shared) for layer in modules}) == 1
    assert tuple(modules[0].shared.A.shape) == (4, 64) and tuple(modules[0].shared.B.shape) == (64, 4)
    assert {name.rpartition(".")[2] for name in trainable.method} == {"b", "d"}


def test_lora_plus_gives_b_its_own_rate_and_rslora_its_own_scale() -> None:
    backbone = tiny_backbone("gpt2")
    trainable = Lora(rank=4, alpha=8, lr_ratio=16).apply(backbone)
    assert set(trainable.rates) == {name for name in trainable.method if name.endswith(".B")}
    assert set(trainable.rates.values()) == {16} and len(trainable.rates) == 4
    assert Lora(rank=4, alpha=8).factor == 2 and Lora(rank=4, alpha=8, scaling="sqrt_rank").factor == 4


@pytest.mark.parametrize("method", [Dora(rank=33), Pissa(rank=33)], ids=lambda method: method.name)
def test_a_rank_beyond_the_matrix_is_refused(method: AbstractMethod) -> None:
    with pytest.raises(UserError, match="full rank 32"):
        method.apply(tiny_backbone("gpt2"))


def test_dora_and_vera_draw_from_the_bounds_of_their_sources() -> None:
    """DoRA's A from ±1/√d_in as LoRA's, B = 0; VeRA's both from Kaiming's ±√(6/columns)."""
    backbone = tiny_backbone("llama")
    Dora(rank=4, targets=["query", "mlp"]).apply(backbone)
    for layer in layers(backbone.model).values():
        (part,) = layer.ordered()
        bound = 1 / math.sqrt(part.A.shape[1])
        assert 0.8 * bound < part.A.abs().max() <= bound and not part.B.any()
    backbone = tiny_backbone("llama")
    Vera(rank=4, targets=["key", "mlp"]).apply(backbone)
    pair = next(iter(layers(backbone.model).values())).shared
    for matrix in (pair.A, pair.B):
        bound = math.sqrt(6 / matrix.shape[1])
        assert 0.9 * bound < matrix.abs().max() <= bound

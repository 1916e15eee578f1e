"""Dropout on a CPU: the same random bits as a literal version's, torch's elsewhere, and no draw of torch's own in a step."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from lora_repro.backbone.dropout import Dropout, dropout, replace_dropout
from lora_repro.config.compose import build, compose
from lora_repro.run.stages import objective_of
from tests.benchmarks._arms import ours


def literal(x: torch.Tensor, p: float) -> torch.Tensor:
    """The factors, value by value: the next 16 of the draws' bits, as a signed number, decide."""
    draws = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(2**63), None).tolist()
    words = [
        int.from_bytes((draw % 2**64).to_bytes(8, "little")[i : i + 2], "little", signed=True)
        for draw in draws
        for i in (0, 2, 4, 6)
    ]
    threshold = round(p * 65536)
    scale = torch.tensor(65536 / (65536 - threshold), dtype=x.dtype)
    factors = [0.0 if word < threshold - 32768 else float(scale) for word in words[: x.numel()]]
    return torch.tensor(factors, dtype=x.dtype).view(x.shape)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("p", [0.1, 0.5, 0.999])
@pytest.mark.parametrize("shape", [(7,), (3, 5, 11), (0, 4)])
def test_it_is_a_literal_one(shape: tuple[int, ...], p: float, dtype: torch.dtype) -> None:
    x = torch.randn(shape).to(dtype).requires_grad_()
    torch.manual_seed(3)
    out = dropout(x, p)
    out.backward(torch.ones_like(out))
    torch.manual_seed(3)
    factors = literal(x, p)
    assert torch.equal(out, x * factors) and torch.equal(x.grad, factors)


def test_its_rate_is_p() -> None:
    torch.manual_seed(0)
    n, p = 4_000_000, 0.1
    out = dropout(torch.ones(n), p)
    assert abs((out == 0).float().mean().item() - p) < 5 * (p * (1 - p) / n) ** 0.5
    by_place = (out.view(-1, 4) == 0).float().mean(0)  # each of the four that share a draw
    assert (by_place - p).abs().max().item() < 5 * (p * (1 - p) * 4 / n) ** 0.5
    joint_rate = ((out.view(-1, 4)[:, 0] == 0) & (out.view(-1, 4)[:, 1] == 0)).float().mean().item()
    assert abs(joint_rate - p * p) < 5 * (p * p * 4 / n) ** 0.5


@pytest.mark.parametrize("p", [0.0, 1e-6, 1.0])
def test_a_rate_that_the_bits_cannot_hold_is_torch_s(p: float) -> None:
    x = torch.randn(100)
    torch.manual_seed(1)
    ours = dropout(x, p)
    torch.manual_seed(1)
    assert torch.equal(ours, F.dropout(x, p))
    assert torch.equal(dropout(x, 0.5, training=False), x)


def test_off_a_cpu_it_is_torch_s() -> None:
    assert dropout(torch.empty(3, device="meta"), 0.5).device.type == "meta"


def test_a_model_s_dropouts_are_replaced_as_they_are() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.3), nn.Sequential(nn.Dropout(0.0))).eval()
    state = {name: value.clone() for name, value in model.state_dict().items()}
    replace_dropout(model)
    assert [type(part) for part in model.modules() if isinstance(part, nn.Dropout)] == [Dropout, Dropout]
    assert model[1].p == 0.3 and not model[1].training and not copy.deepcopy(model)[1].training
    assert state.keys() == model.state_dict().keys()
    x = torch.randn(2, 4)
    assert torch.equal(model(x), model[0](x)) and not torch.equal(model.train()(x), model[0](x))


@pytest.mark.parametrize("kind", ["random_bert", "random_gpt2"])
def test_a_training_step_draws_nothing_by_torch_s_own(kind: str) -> None:
    overrides = [
        "profile=smoke",
        f"backbone={kind}",
        "backbone.dropout=0.1",
        "method=lora",
        "method.dropout=0.1",
    ]
    config = compose([*overrides, "task=entailment"] if kind == "random_bert" else overrides)
    objective, spec = objective_of(config), build(config.backbone)
    backbone = objective.fit(spec).load()
    assert backbone.drops
    rows, _ = objective.encode(
        build(config.task).load(config.paths.data).train[:4], backbone, (0, 0), config.data.max_length
    )
    step = ours(backbone, build(config.method), objective, build(config.train))
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiler:
        step(rows)
    calls = {event.key: event.count for event in profiler.key_averages()}
    assert calls["aten::random_"] > 4
    assert not calls.keys() & {"aten::bernoulli_", "aten::native_dropout"}

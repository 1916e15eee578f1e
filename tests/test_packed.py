"""The packed step against the padded one: every method on every architecture, the loss and all gradients; and what a row sees."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from conftest import tiny_backbone
from test_methods import CASES
from torch import nn
from torch._dynamo.testing import CompileCounter
from torch.utils._python_dispatch import TorchDispatchMode

from lora_repro import console
from lora_repro.backbone import model, packed
from lora_repro.backbone.model import Backbone
from lora_repro.data import Batch, Encoded, collate
from lora_repro.errors import UserError
from lora_repro.methods.adapter_h import AdapterH
from lora_repro.methods.base import AbstractMethod
from lora_repro.methods.lora import Lora
from lora_repro.methods.prelayer import PreLayer
from lora_repro.methods.prompt_tuning import PromptTuning
from lora_repro.objectives.classification import Classification, features_of
from lora_repro.objectives.completion import Completion
from lora_repro.train.precision import autocast

each_case = pytest.mark.parametrize(("method", "architecture"), CASES, ids=[f"{m.name}-{a}" for m, a in CASES])


@pytest.fixture(autouse=True)
def _both_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed, "LONGEST", 12)


def row(length: int, slots: tuple[int, int]) -> Encoded:
    """A sequence of that length whose first `slots[0]` positions, and some in its middle, are virtual."""
    generator = torch.Generator().manual_seed(length)
    virtual = [-1] * length
    virtual[: slots[0]] = range(slots[0])
    virtual[4 : 4 + slots[1]] = range(slots[0], sum(slots))
    ids = torch.randint(2, 256, (length,), generator=generator).tolist()
    return Encoded(ids, virtual, [int(i >= 8) for i in range(length)], 8, length % 2)


def batch(method: AbstractMethod) -> Batch:
    return collate([row(n, method.virtual_tokens) for n in (11, 17, 9, 17)], 256)


def moved(architecture: str, method: AbstractMethod) -> tuple[Backbone, dict[str, nn.Parameter]]:
    """An adapted backbone, large enough everywhere that what must not matter would show if it did."""
    backbone = tiny_backbone(architecture)
    parameters = method.apply(backbone).named
    with torch.no_grad():
        for parameter in backbone.model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    for module in backbone.model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0  # the packed step draws other masks
    backbone.model.train()
    return backbone, parameters


@each_case
def test_loss_and_gradients_are_the_padded_step_s(
    method: AbstractMethod, architecture: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    objective = Completion() if architecture in ("gpt2", "llama") else Classification(("no", "yes"))
    backbone, parameters = moved(architecture, method)
    steps = []
    # Packed; padded, its mask (B, T) given to transformers; padded as on a GPU, with a mask that transformers takes as it is.
    packs, plain = backbone.table, replace(backbone.table, packs=False)
    for table, batching in ((packs, None), (plain, None), (packs, "padded")):
        backbone.table = table
        if batching:
            monkeypatch.setattr(Backbone, "batching", batching)
        loss = objective.summed(backbone, batch(method), 0.1)
        if parameters:
            gradients = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
        steps.append((backbone.batching, loss.detach(), gradients if parameters else ()))
    assert [batching for batching, *_ in steps] == ["packed", "padded", "padded"]
    _, expected, theirs = steps.pop(1)
    for _, loss, ours in steps:
        torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-5)
        for name, one, other in zip(parameters, ours, theirs, strict=bool(parameters)):
            assert (one is None) == (other is None), name
            if one is not None:
                near = 1e-5 * max(1.0, float(other.abs().max()))
                torch.testing.assert_close(one, other, rtol=1e-4, atol=near, msg=lambda text, name=name: f"{name}: {text}")
        assert not parameters or any(one is not None and one.abs().max() > 1e-3 for one in ours)


@each_case
def test_a_recomputed_step_is_the_padded_step_to_the_bit_and_keeps_less(
    method: AbstractMethod, architecture: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    objective = Completion() if architecture in ("gpt2", "llama") else Classification(("no", "yes"))
    backbone, parameters = moved(architecture, method)
    if not parameters:
        pytest.skip("nothing is trained")
    for module in backbone.model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.2
    monkeypatch.setattr(Backbone, "batching", "padded")

    def step() -> tuple[int, list[torch.Tensor | None]]:
        sizes: dict[int, int] = {}

        def keep(tensor: torch.Tensor) -> torch.Tensor:
            if not isinstance(tensor, nn.Parameter):
                sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        torch.manual_seed(3)
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            loss = objective.summed(backbone, batch(method), 0.1)
        gradients = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
        return sum(sizes.values()), [loss.detach(), *gradients]

    memory, expected = step()
    backbone.recompute()
    less, tensors = step()
    assert backbone.recomputes and len(tensors) == len(expected)
    for ours, theirs in zip(tensors, expected, strict=True):
        assert (ours is None) == (theirs is None) and (ours is None or theirs is None or torch.equal(ours, theirs))
    deep = method.name not in ("linear_probe", "top_layers", "adapter_drop", "untuned")  # others' gradients cross every block
    assert less < 0.7 * memory or not deep
    with torch.no_grad():
        backbone.model.eval()
        assert torch.isfinite(objective.summed(backbone, batch(method), 0.0))


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "bert"])
def test_a_compiled_training_has_the_loss_and_gradients_and_compiles_a_length_once(
    architecture: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    counter = CompileCounter()  # what dynamo takes of the model, computed without a compiler
    monkeypatch.setattr(model, "COMPILER", counter)
    monkeypatch.setattr(model.shutil, "which", lambda name: "/usr/bin/g++")
    objective = Completion() if architecture in ("gpt2", "llama") else Classification(("no", "yes"))
    backbone, parameters = moved(architecture, Lora(rank=2))
    rows = [row(n, (0, 0)) for n in (11, 17, 9)]

    def step(*rows: Encoded) -> tuple[torch.Tensor, ...]:
        loss = objective.summed(backbone, collate(rows, 256, backbone.lengths), 0.1)
        return loss, *torch.autograd.grad(loss, list(parameters.values()))

    expected = step(*rows)
    monkeypatch.setattr(console, "_warned", set())
    backbone.compile()
    assert "a CPU compiles each length of rows for a minute or more" in capsys.readouterr().err
    assert backbone.batching == "padded" and collate(rows, 256, backbone.lengths).ids.shape == (3, 32)
    for ours, theirs in zip(step(*rows), expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
    first = counter.frame_count
    step(rows[0], row(20, (0, 0)), rows[2])  # another length below 32
    assert counter.frame_count == first > 0
    step(rows[0], row(40, (0, 0)), rows[2])
    assert counter.frame_count > first
    backbone.model.eval()
    assert objective.validate(backbone, rows, 2)["dev_loss"] > 0

    monkeypatch.setattr(model.shutil, "which", lambda name: None)
    with pytest.raises(UserError, match="needs a C"):
        backbone.compile()


def test_a_model_with_a_window_keeps_transformers_own_mask() -> None:
    backbone = tiny_backbone("qwen2")
    attention = torch.ones(2, 5, dtype=torch.long)
    assert backbone._mask(attention).shape == (2, 1, 5, 5) and backbone.batching == "packed"
    backbone.model.config.use_sliding_window = True
    assert backbone._mask(attention) is attention and backbone.batching == "padded"


class Waits(TorchDispatchMode):
    """Operations that make the host wait for a GPU: a value read, places counted."""

    def __init__(self) -> None:
        super().__init__()
        self.met: list[str] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name, places = str(function), args[1] if len(args) > 1 and isinstance(args[1], list | tuple) else ()
        by_mask = name.startswith("aten.index") and any(x is not None and x.dtype == torch.bool for x in places)
        if by_mask or any(word in name for word in ("local_scalar", "nonzero", "masked_select", "unique")):
            self.met.append(name)
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("architecture", ["gpt2", "llama", "bert", "roberta"])
@pytest.mark.parametrize("precision", [None, torch.bfloat16])
def test_a_step_on_a_gpu_waits_for_nothing(
    architecture: str, precision: torch.dtype | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Shown on a CPU: none of the operations that would wait is met.
    objective = Completion() if architecture in ("gpt2", "llama") else Classification(("no", "yes"))
    for method in (Lora(rank=2), AdapterH(bottleneck=4), PreLayer(prefix=3, infix=2), PromptTuning(prefix=3, infix=2)):
        backbone, parameters = moved(architecture, method)
        monkeypatch.setattr(Backbone, "batching", "padded")
        optimizer, inputs = torch.optim.AdamW(parameters.values()), batch(method)
        with Waits() as waits, autocast(torch.device("cpu"), precision):
            (objective.summed(backbone, inputs, 0.1) / 7).backward()
            optimizer.zero_grad(set_to_none=True)
        assert waits.met == []
    with Waits() as waits:
        assert float(torch.ones(1)) == 1
    assert waits.met

@pytest.mark.parametrize("pooling", ["first", "last", "mean"])
@pytest.mark.parametrize("architecture", ["gpt2", "llama", "qwen2", "bert", "roberta", "mpnet"])
def test_features_are_those_of_each_row_alone(architecture: str, pooling: str) -> None:
    backbone, _ = moved(architecture, Lora(rank=2))
    backbone.model.eval()
    backbone.pooling = pooling
    rows = [row(n, (0, 0)) for n in (11, 9, 30)]
    features = [features_of(backbone, collate([one], 256)) for one in rows]
    torch.testing.assert_close(features_of(backbone, collate(rows, 256)), torch.cat(features), rtol=1e-5, atol=1e-5)


def test_no_layer_computes_padding_and_bfloat16_stays_near() -> None:
    backbone, _ = moved("llama", Lora(rank=2))
    sizes: list[int] = []
    backbone.layers[0].register_forward_pre_hook(lambda layer, args: sizes.append(args[0].shape[:2].numel()))
    inputs = batch(Lora())
    with torch.no_grad():
        loss = Completion().summed(backbone, inputs, 0.0)
        with torch.autocast("cpu", torch.bfloat16):
            bf16_loss = Completion().summed(backbone, inputs, 0.0)
    assert backbone.model.config._attn_implementation == "sdpa"  # type: ignore[union-attr]  # elsewhere it attends as it did
    assert sizes == [11 + 17 + 9 + 17] * 2 and float(bf16_loss) == pytest.approx(float(loss), rel=0.02)


def test_dropout_of_attention_weights_is_drawn() -> None:
    backbone = tiny_backbone("bert", attention_probs_dropout_prob=0.5)
    for layer in backbone.layers:
        layer.attention.self.dropout.p = 0.5  # type: ignore[union-attr, operator]
    inputs = batch(Lora())
    backbone.model.train()
    noisy = [features_of(backbone, inputs) for _ in range(2)]
    backbone.model.eval()
    still = [features_of(backbone, inputs) for _ in range(2)]
    assert not torch.equal(*noisy) and torch.equal(*still)

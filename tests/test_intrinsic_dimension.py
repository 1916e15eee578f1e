"""Random subspaces: Fastfood against a dense matrix, the gradient through it, and what the released code makes of both."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import tiny_backbone
from torch import nn
from torch.nn.utils.parametrize import register_parametrization

from lora_repro.backbone.weights import round_frozen
from lora_repro.config.compose import build, compose
from lora_repro.costs.meta_model import build_meta_model
from lora_repro.errors import UserError
from lora_repro.methods._fastfood import Fastfood, hadamard, transformed
from lora_repro.methods._subspace import Subspace
from lora_repro.methods.base import Shape
from lora_repro.methods.combined import Combined
from lora_repro.methods.intrinsic_dimension import IntrinsicDimension, Moved
from lora_repro.methods.lora import Lora
from lora_repro.methods.update import merge, strip
from lora_repro.train.precision import autocast


def sylvester(n: int) -> torch.Tensor:
    """H[i, j] = (-1)^(number of ones that i and j have in common), float64: the definition, entry by entry."""
    return torch.tensor([[(-1.0) ** (i & j).bit_count() for j in range(n)] for i in range(n)], dtype=torch.float64)


def dense(p: Fastfood) -> torch.Tensor:
    """P (D, d) with every factor written out, from the same draws as Fastfood's."""
    signs, places, gaussians = p.draw(torch.device("cpu"))
    n, m = p.large, p.small
    generator = torch.Generator().manual_seed(p.seed)
    torch.randint(2, (m,), generator=generator)
    order = torch.randperm(n, generator=generator)  # the permutation itself, of which the code keeps only `modulo m`
    assert torch.equal(order % m, places.long())
    g = torch.randn(n, generator=generator).double()
    b = torch.zeros(n, n, dtype=torch.float64)
    b[range(m), range(m)] = signs.double()
    permutation = torch.zeros(n, n, dtype=torch.float64)
    permutation[torch.arange(n), order] = 1
    h = sylvester(n)
    projection = h @ torch.diag(g) @ permutation @ h @ b / math.sqrt(n * float(g.square().sum())) / math.sqrt(p.rows / n)
    torch.testing.assert_close(gaussians.double(), g / math.sqrt(p.rows * float(g.square().sum())))
    return projection[: p.rows, : p.d]


@pytest.mark.parametrize("exponent", range(9))
def test_the_transform_is_sylvester_s_matrix(exponent: int) -> None:
    torch.testing.assert_close(hadamard(exponent, torch.device("cpu")).double(), sylvester(2**exponent))
    x = torch.randn(2**exponent, dtype=torch.float64)
    for rows in {1, 2**exponent, -(-(2**exponent) * 2 // 3)}:
        torch.testing.assert_close(transformed(x, rows), (sylvester(2**exponent) @ x)[:rows], rtol=0, atol=1e-12)


def digits_accuracy(width: int, d: int | None) -> float:
    """Accuracy on 500 images of a 64-w-w-10 network trained along d random directions from random weights; None: in full."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    order = torch.randperm(len(digits.target), generator=torch.Generator().manual_seed(0))
    x, y = torch.tensor(digits.data, dtype=torch.float32)[order] / 16, torch.tensor(digits.target)[order]
    torch.manual_seed(0)
    layers = [nn.Linear(64, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 10)]
    model, parameters = nn.Sequential(*layers), [p for layer in layers for p in layer.parameters()]
    if d is not None:
        subspace = Subspace(d, 0, torch.device("cpu"))
        for number, (module, name) in enumerate((layers[at], name) for at in (0, 2, 4) for name in ("weight", "bias")):
            p = getattr(module, name).requires_grad_(False)
            parametrization = Moved(subspace, 0, Fastfood(p.numel(), d, number), 1.0)
            register_parametrization(module, name, parametrization, unsafe=True)
        parameters = [subspace.theta]
    optimizer = torch.optim.Adam(parameters, 3e-3 if d is None else 0.03)
    for _ in range(300):
        rows = torch.randint(1000, (100,))
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x[rows]), y[rows]).backward()
        optimizer.step()
    with torch.no_grad():
        return float((model(x[-500:]).argmax(-1) == y[-500:]).float().mean())


@pytest.mark.parametrize("width", [50, 200])
def test_the_directions_that_suffice_hardly_depend_on_the_width(width: int) -> None:
    """Li et al. 2018 (arXiv 1804.08838, 3), with digits of 8 x 8 pixels: for 6,310 values as for 55,210, 400 do and 50 do not."""
    enough = 0.9 * digits_accuracy(width, None)
    assert digits_accuracy(width, 50) < enough <= digits_accuracy(width, 400)


SIZES = [(100, 7), (128, 128), (97, 33), (5, 3), (1, 1), (20, 60), (300, 1)]  # (D, d): also more dimensions than values


@pytest.mark.parametrize("rows, d", SIZES)
def test_fastfood_is_the_dense_projection(rows: int, d: int) -> None:
    p = Fastfood(rows, d, seed=3)
    x = torch.randn(d, dtype=torch.float64, requires_grad=True)
    projection = dense(p)
    torch.testing.assert_close(p(x), projection @ x, rtol=0, atol=1e-6)
    above = torch.randn(rows, dtype=torch.float64)
    p(x).backward(above)
    torch.testing.assert_close(x.grad, projection.T @ above, rtol=0, atol=1e-6)


def test_columns_have_length_one() -> None:
    """Exactly where no row is cut off, on average where some are; the same draws for the same seed, others for another."""
    torch.testing.assert_close(dense(Fastfood(64, 20, 1)).norm(dim=0), torch.ones(20, dtype=torch.float64), rtol=0, atol=1e-6)
    squares = torch.cat([dense(Fastfood(90, 32, seed)).square().sum(0) for seed in range(12)])
    assert abs(float(squares.mean()) - 1) < 0.03
    assert torch.equal(dense(Fastfood(64, 20, 1)), dense(Fastfood(64, 20, 1)))
    assert not torch.equal(dense(Fastfood(64, 20, 1)), dense(Fastfood(64, 20, 2)))


IDS = torch.randint(0, 256, (2, 9), generator=torch.Generator().manual_seed(0))


def gradients(method: IntrinsicDimension) -> tuple[torch.Tensor, list[torch.Tensor], list[Fastfood], float]:
    """theta's gradient; each moved tensor's own, in the order of the projections; the projections; the loss."""
    backbone = tiny_backbone("gpt2")  # without a head's bias of two values, of which the released code would see two of theta
    trainable = method.apply(backbone)
    modules = {m for m in backbone.model.modules() if isinstance(m, Moved)}
    theta = next(p for name, p in trainable.method.items() if name.endswith("theta"))
    with torch.no_grad():
        theta.copy_(torch.randn(len(theta), generator=torch.Generator().manual_seed(5)) * 0.1)
    calls: list[tuple[torch.Tensor, Fastfood]] = []

    def note(module: Moved, args: object, out: torch.Tensor) -> None:
        out.retain_grad()
        calls.append((out, module.projection))

    for module in modules:
        module.register_forward_hook(note)
    loss = backbone.model(input_ids=IDS).logits.square().mean()
    loss.backward()
    pairs = [(out.grad.flatten().double(), p) for out, p in calls if out.grad is not None]
    return theta.grad, [grad for grad, _ in pairs], [p for _, p in pairs], float(loss.detach())


def test_the_gradient_is_that_of_the_dense_projection() -> None:
    """sum of P_i^T (gradient of W_i), every P_i dense; the released code has each term divided by its N."""
    gradient, each, projections, loss = gradients(IntrinsicDimension(d=6))
    expected = sum((dense(p).T @ g for p, g in zip(projections, each, strict=True) if p.large <= 1024), torch.zeros(6).double())
    large = [(p, g) for p, g in zip(projections, each, strict=True) if p.large > 1024]
    for p, g in large:  # too large to write out: column by column
        expected = expected + torch.stack([p(row.double()) @ g for row in torch.eye(6)])
    torch.testing.assert_close(gradient.double(), expected, rtol=1e-4, atol=1e-6)

    released_gradient, each, projections, same = gradients(IntrinsicDimension(d=6, released=True))
    assert same == pytest.approx(loss)  # the forward pass is the same one where no tensor has fewer values than theta
    pairs = zip(projections, each, strict=True)
    reference = sum(torch.stack([p(row.double()) @ g for row in torch.eye(6)]) / p.large for p, g in pairs)
    torch.testing.assert_close(released_gradient.double(), reference, rtol=1e-4, atol=1e-9)
    away = torch.nn.functional.cosine_similarity(released_gradient, gradient, dim=0)
    assert released_gradient.norm() < gradient.norm() / 10 and away < 0.98  # another direction, not only another rate


def test_the_docs_say_what_the_released_gradient_is_divided_by() -> None:
    """docs/protocol.md, tensor by tensor of MiniLM-L6: values each, how many, 1 / N, and what each sees of theta."""
    spec = replace(build(compose(["task=sst2", "backbone=minilm_l6"]).backbone), head="classification", n_labels=2)
    backbone = build_meta_model(spec, IntrinsicDimension(d=1000, released=True)).backbone
    modules = {module for module in backbone.model.modules() if isinstance(module, Moved)}
    assert all(module.slow == 1 / module.projection.large for module in modules)
    kinds = Counter((p.rows, p.large, min(p.large, p.d)) for p in (module.projection for module in modules))
    expected = [f" {rows:,} | {count} | 1 / {large:,} | {dims:,} |" for (rows, large, dims), count in sorted(kinds.items())]
    text = (Path(__file__).parents[1] / "docs" / "protocol.md").read_text(encoding="utf-8")
    section = text.split("## Intrinsic dimension as the released code has it")[1].split("\n## ")[0]
    assert [f" {line.split('|', 2)[2].strip()}" for line in section.splitlines() if "1 /" in line] == expected


def test_the_released_code_drops_what_a_small_tensor_has_no_room_for() -> None:
    ours, theirs = Fastfood(32, 100, 1), Fastfood(32, 100, 1, cut=True)
    last = torch.zeros(100)
    last[40:] = 1
    assert ours(last).norm() > 1 and not theirs(last).any()
    assert (ours.large, theirs.large) == (128, 32)


@pytest.mark.parametrize("form, released, trained", [("did", False, {"theta": 40}), ("said", False, {"theta": 37, "scales": 3})])
def test_what_is_trained(form: str, released: bool, trained: dict[str, int]) -> None:
    """d values in all, of SAID a scale for each of the two layers and one for the rest; nothing of the head apart."""
    backbone = tiny_backbone("bert")
    shape = Shape.of(backbone)
    method = IntrinsicDimension(d=40, form=form, released=released)
    trainable = method.apply(backbone)
    assert {name.rpartition(".")[2]: p.numel() for name, p in trainable.method.items()} == trained
    assert not trainable.head and method.count(shape) == 40 and method.count_head(shape) == 0 < shape.new_head_parameters


def test_the_head_moves_and_embeddings_only_if_asked() -> None:
    for embeddings in (False, True):
        backbone = tiny_backbone("gpt2")
        theta = next(iter(IntrinsicDimension(d=40, embeddings=embeddings).apply(backbone).method.values()))
        table, plain = backbone.embedding.weight.detach().clone(), backbone.layers[0].ln_1.bias.detach().clone()
        with torch.no_grad():
            theta += 0.1
        assert torch.equal(backbone.embedding.weight, table) is not embeddings
        assert not torch.equal(backbone.layers[0].ln_1.bias, plain)
        assert torch.equal(backbone.embedding.weight, backbone.head.module.weight)  # still tied
    classifier = tiny_backbone("bert")
    theta = next(iter(IntrinsicDimension(d=40).apply(classifier).method.values()))
    head = classifier.head.module.weight.detach().clone()
    with torch.no_grad():
        theta += 0.1
    assert not torch.equal(classifier.head.module.weight, head)


@pytest.mark.parametrize("embeddings", [False, True])
def test_stripped_it_is_a_plain_model_of_the_same_outputs(embeddings: bool) -> None:
    backbone = tiny_backbone("gpt2")
    names = set(backbone.model.state_dict())
    theta = next(iter(IntrinsicDimension(d=40, embeddings=embeddings).apply(backbone).method.values()))
    with torch.no_grad():
        theta += 0.05
        before = backbone.model(input_ids=IDS).logits
        strip(backbone.model)
        assert torch.equal(backbone.model(input_ids=IDS).logits, before)
    assert set(backbone.model.state_dict()) == names


def test_without_gradients_the_sum_is_computed_once() -> None:
    backbone = tiny_backbone("bert")
    theta = next(iter(IntrinsicDimension(d=40).apply(backbone).method.values()))
    layer = backbone.layers[0].intermediate.dense
    with torch.no_grad():
        weight = layer.weight
        assert layer.weight is weight
        theta += 0.1
        assert layer.weight is not weight
    assert layer.weight.requires_grad  # and with them always anew


def test_lora_goes_around_it() -> None:
    """Named first it moves the backbone's own tensors, and LoRA's stay LoRA's; merging waits until it is undone."""
    backbone = tiny_backbone("bert")
    pair = Combined(methods=(Lora(rank=2), IntrinsicDimension(d=40)))
    trainable = pair.apply(backbone)
    assert sum(p.numel() for p in trainable.method.values()) == pair.count(Shape.of(tiny_backbone("bert")))
    with torch.no_grad():
        for parameter in trainable.parameters():
            parameter += 0.05
        before = backbone.model(input_ids=IDS).logits
        with pytest.raises(UserError, match="another method computes at each call"):
            merge(backbone.model)
        strip(backbone.model)
        torch.testing.assert_close(backbone.model(input_ids=IDS).logits, before)


@pytest.mark.parametrize(
    "settings, message", [({"d": 0}, "whole number"), ({"form": "sade"}, "did, said"), ({"d": 10**6}, "exceeds the"),
                          ({"d": 3, "form": "said"}, "above 3")],
)  # fmt: skip
def test_nonsense_is_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        IntrinsicDimension(**settings).apply(tiny_backbone("bert"))  # type: ignore[arg-type]


def test_bf16_leaves_what_is_computed_alone() -> None:
    """Before training and before answering: the sum is kept in float32, and the projection is, whatever autocast says."""
    backbone = tiny_backbone("bert")
    theta = next(iter(IntrinsicDimension(d=40).apply(backbone).method.values()))
    for _ in range(2):
        round_frozen(backbone.model, torch.bfloat16, backbone.embedding)
        with autocast(torch.device("cpu"), torch.bfloat16):
            assert backbone.layers[0].intermediate.dense.weight.dtype == torch.float32
            backbone.model(input_ids=IDS)
        theta.requires_grad_(False)


@pytest.mark.parametrize("released", [False, True])
def test_said_scales_each_layer_by_its_own(released: bool) -> None:
    """The released code has a scale a tensor."""
    backbone = tiny_backbone("gpt2")
    IntrinsicDimension(d=200, form="said", released=released).apply(backbone)
    modules = {name: module for name, module in backbone.model.named_modules() if isinstance(module, Moved)}
    subspace = next(iter(modules.values())).shared
    with torch.no_grad():
        subspace.theta.normal_()
        subspace.scales.copy_(torch.arange(1.0, len(subspace.scales) + 1))
    scales = {}
    for name, module in modules.items():
        ratio = (module.change() / module.projection(subspace.theta)).detach()
        assert float(ratio.std()) < 1e-4
        scales[name] = round(float(ratio.mean()))
    if released:
        assert len(set(scales.values())) == len(subspace.scales) == len(set(modules.values()))
    else:
        assert scales == {name: 1 if ".h.0." in name else 2 if ".h.1." in name else 3 for name in scales}
        assert set(scales.values()) == {1, 2, 3}

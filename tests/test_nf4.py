"""NF4 written out literally against bitsandbytes' codes to the bit, and every additive method over it."""

from __future__ import annotations

import importlib.util
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from conftest import SHAPES
from peft_models import logits, smoke_run
from scipy.stats import norm

from lora_repro.backbone import nf4, weights
from lora_repro.backbone.architecture import KINDS
from lora_repro.backbone.model import Backbone
from lora_repro.backbone.spec import BackboneSpec
from lora_repro.config.compose import build, compose, resolved
from lora_repro.costs.meta_model import build_meta_model
from lora_repro.errors import NotAvailable, UserError
from lora_repro.exchange.export import export
from lora_repro.exchange.open_checkpoint import open_checkpoint
from lora_repro.methods.adapter_drop import AdapterDrop
from lora_repro.methods.adapter_fusion import AdapterFusion
from lora_repro.methods.adapter_h import AdapterH
from lora_repro.methods.adapter_l import AdapterL
from lora_repro.methods.adapter_p import AdapterP
from lora_repro.methods.base import AbstractMethod, Shape
from lora_repro.methods.bitfit import BitFit
from lora_repro.methods.combined import Combined
from lora_repro.methods.dora import Dora
from lora_repro.methods.full import Full
from lora_repro.methods.intrinsic_dimension import IntrinsicDimension
from lora_repro.methods.linear_probe import LinearProbe
from lora_repro.methods.lora import Lora
from lora_repro.methods.matrices import Matrices
from lora_repro.methods.pissa import Pissa
from lora_repro.methods.prelayer import PreLayer
from lora_repro.methods.prompt_tuning import PromptTuning
from lora_repro.methods.segments import Segments
from lora_repro.methods.top_layers import TopLayers
from lora_repro.methods.update import merge, strip, updates
from lora_repro.methods.vera import Vera
from lora_repro.planning.cells import cells

HERE = importlib.util.find_spec("bitsandbytes") is not None
installed = pytest.mark.skipif(not HERE, reason="bitsandbytes is not installed: pip install -e '.[qlora]'")
IDS = torch.randint(0, 256, (2, 9), generator=torch.Generator().manual_seed(3))


def levels() -> torch.Tensor:
    """The 16 levels: 8 of the normal quantiles below the median, zero, 7 above, over the largest (the paper's appendix E).

    The outermost probability, 0.9677083, is the mean of 1 - 1 / (2 * 15) and 1 - 1 / (2 * 16).
    """
    outermost = 1 - (1 / 30 + 1 / 32) / 2
    below = -norm.ppf(torch.linspace(outermost, 0.5, 8, dtype=torch.float64)[:-1])
    above = norm.ppf(torch.linspace(outermost, 0.5, 9, dtype=torch.float64)[:-1])
    values = torch.tensor(sorted([*below, 0.0, *above]), dtype=torch.float64)
    return values / values.max()


def dynamic() -> list[float]:
    """The 256 levels of a scale: 0, 1 and, of both signs, for each power 10^-6 .. 10^0 twice as many means as for the last."""
    values = [0.0, 1.0]
    for i in range(7):
        edges = torch.linspace(0.1, 1, 2**i + 1, dtype=torch.float32)
        means = (10 ** (i - 6) * (edges[:-1] + edges[1:]) / 2).tolist()
        values += [*means, *(-mean for mean in means)]
    return sorted(values)


def nearest(x: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
    """The level nearest to each value."""
    return (x.unsqueeze(-1) - table).abs().argmin(-1)


def quantised(w: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(codes, scales) of w, a block of 64 of the flattened w at a time, the last one shorter."""
    blocks, table = w.flatten().split(64), levels().float()
    scales = torch.stack([block.abs().max() for block in blocks])
    return torch.cat([nearest(block / scale, table) for block, scale in zip(blocks, scales, strict=True)]), scales


def dequantised(codes: torch.Tensor, scales: torch.Tensor) -> torch.Tensor:
    """Level times scale, flat."""
    table = levels().float()
    return torch.cat([table[code] * scale for code, scale in zip(codes.split(64), scales, strict=True)])


@installed
def test_levels_are_normal_quantiles_and_scales_dynamic() -> None:
    normal, steps = nf4._tables(torch.device("cpu"))
    torch.testing.assert_close(normal.double(), levels(), rtol=0, atol=3e-7)
    assert steps.tolist() == torch.tensor(dynamic(), dtype=torch.float32).tolist() and len(set(dynamic())) == 256


@installed
@pytest.mark.parametrize("double", [True, False])
@pytest.mark.parametrize("out, inputs", [(32, 48), (96, 384), (192, 96), (7, 10)])
def test_codes_are_the_literal_ones_to_the_bit(out: int, inputs: int, double: bool) -> None:
    """Also where a row is no whole number of blocks, which the library's own CPU kernel reads wrongly."""
    w = torch.randn(out, inputs, generator=torch.Generator().manual_seed(out)) * torch.logspace(-3, 0, out)[:, None]
    matrix = nf4.Nf4Matrix(w, double=double)
    codes, scales = quantised(w)
    nibbles = [code for byte in matrix.codes.flatten().tolist() for code in (byte >> 4, byte & 15)]
    assert nibbles == codes.tolist()
    if double:
        mean, steps = scales.mean(), torch.tensor(dynamic(), dtype=torch.float32)
        groups = (scales - mean).split(256)
        outer = torch.stack([group.abs().max() for group in groups])
        values = torch.cat([group / most for group, most in zip(groups, outer, strict=True)])
        assert matrix.mean == mean and matrix.outer is not None and torch.equal(matrix.outer, outer)
        # The library finds the nearest of the 256 in a table of 2^16 places: between two levels it may take the other one.
        indices = matrix.scales.long()
        further = (values - steps[indices]).abs() - (values - steps[nearest(values, steps)]).abs()
        assert float(further.max()) <= 2**-14 and int((indices != nearest(values, steps)).sum()) <= 1
        scales = torch.cat([steps[code] * most for code, most in zip(indices.split(256), outer, strict=True)]) + mean
    torch.testing.assert_close(matrix.read(), dequantised(codes, scales).reshape(out, inputs), rtol=1e-6, atol=1e-9)
    assert weights.sizes(matrix) == (inputs, out)


@installed
@pytest.mark.parametrize("double, bits", [(True, 4 + 8 / 64 + 32 / (64 * 256)), (False, 4 + 32 / 64)])
def test_memory_is_what_arithmetic_says(double: bool, bits: float) -> None:
    matrix = nf4.Nf4Matrix(torch.randn(256, 512), double=double)
    bytes_of_a_mean = 4 * double
    assert 8 * (weights.stored_bytes(matrix) - bytes_of_a_mean) == bits * 256 * 512
    assert not double or math.isclose(bits, 4.127, abs_tol=1e-3)


def backbone(architecture: str, quantise: Any = "nf4") -> Backbone:
    lm = architecture in ("gpt2", "llama")
    end, head = "<|endoftext|>", "lm" if lm else "classification"
    shape: Any = SHAPES[architecture]
    return BackboneSpec("tiny", "tiny", "random", "\n", end, end, shape=shape, head=head, quantise=quantise).load()  # type: ignore


def as_floats(architecture: str) -> Backbone:
    """The same values as floats, in modules of the architecture's own."""
    model = backbone(architecture)
    assert weights.dequantise(model.model) and not weights.dequantise(model.model)
    return model


ADDITIVE: list[AbstractMethod] = [Lora(rank=2, targets=KINDS), Dora(rank=2), AdapterH(bottleneck=3), AdapterP(bottleneck=3)]
ADDITIVE += [AdapterL(bottleneck=3), AdapterDrop(bottleneck=3, dropped=1), AdapterFusion(sources=["a", "b"], bottleneck=3)]
ADDITIVE += [BitFit(), Matrices(targets=["query", "value", "mlp"]), Vera(rank=2), LinearProbe()]
ADDITIVE += [PreLayer(prefix=2, infix=1), PromptTuning(prefix=2, infix=1)]
ADDITIVE += [Combined(name="versatile_lm", methods=[AdapterL(bottleneck=3), Segments()])]
ADDITIVE += [Combined(methods=[Lora(rank=2), PromptTuning(prefix=2, infix=1)])]
CHANGING: list[AbstractMethod] = [Full(), TopLayers(n=1), IntrinsicDimension(d=3), Pissa(rank=2)]


@installed
@pytest.mark.parametrize("method", ADDITIVE, ids=lambda method: method.name)
@pytest.mark.parametrize("architecture", ["gpt2", "llama", "bert"])
def test_a_step_over_nf4_is_that_over_the_dequantised_floats(architecture: str, method: AbstractMethod) -> None:
    passes = []
    for model in (backbone(architecture), as_floats(architecture)):
        shape = Shape.of(model)
        torch.manual_seed(0)
        trainable = method.apply(model)
        counts = trainable.counts(model.model)
        assert counts["method"] == method.count(shape)
        for parameter in trainable.kept.values():  # the fused adapters come from other runs
            torch.nn.init.normal_(parameter, std=0.1)
        virtual = torch.full_like(IDS, -1)
        virtual[:, :3] = torch.arange(3)
        extra = {"virtual": virtual} if sum(method.virtual_tokens) else {}
        model.model(input_ids=IDS, **extra).logits.square().mean().backward()
        passes.append((shape, counts, {name: p.grad for name, p in trainable.named.items() if p.grad is not None}))
    (shape, counts, ours), (other, others, theirs) = passes
    assert (shape, counts) == (other, others) and ours.keys() == theirs.keys() != set()
    assert any(gradient.any() for gradient in ours.values())
    for name, gradient in ours.items():
        torch.testing.assert_close(gradient, theirs[name], rtol=1e-4, atol=1e-6)


@installed
@pytest.mark.parametrize("architecture", ["gpt2", "bert"])
def test_only_the_matrices_of_the_blocks_are_quantised_and_come_back_as_they_were(architecture: str) -> None:
    plain, four_bit = backbone(architecture, None), backbone(architecture)
    assert Shape.of(plain) == Shape.of(four_bit)
    ours, theirs = dict(four_bit.model.named_parameters()), dict(plain.model.named_parameters())
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    inside = theirs.keys() - ours.keys()
    assert len(inside) == 2 * (4 if architecture == "gpt2" else 6) and all(".weight" in name for name in inside)
    weights.dequantise(four_bit.model)
    before, after = plain.model.state_dict(), four_bit.model.state_dict()
    assert {name: value.shape for name, value in before.items()} == {name: value.shape for name, value in after.items()}
    for name, value in after.items():
        # Half the widest gap between levels, -1 and -0.696, times a block's scale, which is at most the largest value.
        most = 0.16 * float(value.abs().max()) if name in inside else 0
        assert float((value - before[name]).abs().max()) <= most


@installed
def test_merging_is_refused_until_the_weights_are_dequantised() -> None:
    model = backbone("gpt2")
    with torch.no_grad():
        for parameter in Lora(rank=2, alpha=2, targets=KINDS).apply(model).parameters():
            parameter.add_(0.1)
        expected = model.model(input_ids=IDS).logits
        with pytest.raises(UserError, match="into a quantised backbone: dequantise it first"):
            merge(model.model)
        assert not any(module.merged for module in updates(model.model))
        weights.dequantise(model.model)
        strip(model.model)
        torch.testing.assert_close(model.model(input_ids=IDS).logits, expected, rtol=1e-4, atol=1e-4)


@installed
def test_autocast_and_no_grad_compute_the_same_product() -> None:
    matrix, x = nf4.Nf4Matrix(torch.randn(24, 32), torch.nn.Parameter(torch.randn(24))), torch.randn(2, 3, 32)
    expected = F.linear(x, matrix.read(), matrix.bias)
    torch.testing.assert_close(matrix(x), expected)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        product = matrix(x)
    assert product.dtype == torch.bfloat16
    torch.testing.assert_close(product.float(), expected, rtol=0.03, atol=0.1)


@pytest.mark.parametrize("method", [*ADDITIVE, *CHANGING], ids=lambda method: method.name)
def test_a_plan_refuses_what_its_runs_would_and_counts_the_rest_as_over_floats(method: AbstractMethod) -> None:
    """Without bitsandbytes, too: a forecast needs no codes."""
    floats = build(compose(["backbone=random_llama"]).backbone)
    codes = replace(floats, quantise="nf4")
    if method in CHANGING:
        with pytest.raises(UserError, match="the backbone's own weights, which are quantised here"):
            build_meta_model(codes, method)
    else:
        outline = build_meta_model(codes, method).outline
        assert replace(outline, quantised=0, bits=32) == replace(build_meta_model(floats, method).outline, bits=32)


def test_mistakes_are_told_in_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nf4.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(NotAvailable, match=r"^backbone tiny: quantise=nf4 needs bitsandbytes: pip install -e '.\[qlora\]'$"):
        backbone("gpt2")
    with pytest.raises(UserError, match="must be nf4 or null, not 'int8'"):
        backbone("gpt2", "int8")


@installed
def test_a_run_over_nf4_is_exported_as_an_adapter_or_dequantised(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = smoke_run(tmp_path, "experiment=e2e", "row/e2e=lora", "backbone=random_gpt2", "backbone.quantise=nf4")
    with pytest.raises(UserError, match=r"into a quantised backbone: dequantise it first \(export --dequantise\)"):
        export(run, tmp_path / "refused", "merged")
    with pytest.raises(UserError, match="needs --format merged"):
        export(run, tmp_path / "refused", "peft", dequantise=True)
    assert not (tmp_path / "refused").exists()
    target = export(run, tmp_path / "merged", "merged", dequantise=True)
    assert "dequantised 8 matrices: the model takes 0.2 MiB instead of 0.1" in capsys.readouterr().out
    export(run, tmp_path / "peft")
    cards = [(tmp_path / form / "README.md").read_text(encoding="utf-8") for form in ("merged", "peft")]
    caveats = ("quantising them again would also round the update", "an adapter over the floats computes slightly other logits")
    assert [[text in card for text in caveats] for card in cards] == [[True, False], [False, True]]
    outputs = [logits(open_checkpoint(folder).backbone.model, IDS) for folder in (run, tmp_path / "peft", target)]
    for other in outputs[1:]:
        torch.testing.assert_close(other, outputs[0], rtol=1e-5, atol=1e-5)


def test_the_largest_open_model_joins_any_table_in_4_bits() -> None:
    """The command of docs/scaling.md, as written; nothing is fetched."""
    page = (Path(__file__).resolve().parents[1] / "docs" / "scaling.md").read_text(encoding="utf-8")
    (command,) = re.findall(r"^    lora-repro run (.*qwen_coder_1500m.*)$", page, re.M)
    codes, floats = (cells(words) for words in (command.split(), command.removesuffix(" backbone.quantise=nf4").split()))
    assert {cell.row.name for cell in codes} == {"lora_large"}
    assert not {cell.signature for cell in codes} & {cell.signature for cell in floats}
    spec = build(compose(codes[0].overrides).backbone)
    assert (spec.name, spec.source, spec.quantise, spec.double_quantise) == ("qwen_coder_1500m", "wheel", "nf4", True)


@pytest.mark.parametrize("experiment, task", [("qlora", "e2e"), ("qlora_glue", "stsb")])
@pytest.mark.parametrize("row, plain", [("qlora", "lora"), ("qlora_all", "lora_all")])
def test_qlora_s_rows_are_lora_s_over_nf4_and_nothing_else(experiment: str, task: str, row: str, plain: str) -> None:
    configs = [
        resolved(compose([f"experiment={experiment}", f"row/{experiment}={name}", f"task={task}", "profile=laptop"]))
        for name in (row, plain)
    ]
    assert configs[0]["backbone"]["quantise"] == "nf4" and configs[0]["backbone"]["double_quantise"]
    for each in configs:
        each["backbone"]["quantise"] = None
        del each["row"], each["train"]["lr"]  # each searched for itself
    assert configs[0] == configs[1]


@pytest.mark.parametrize("experiment, task", [("qlora", "e2e"), ("qlora_glue", "stsb")])
@pytest.mark.parametrize("profile", ["mini", "laptop"])
def test_lora_in_bf16_is_lora_in_another_precision_and_nothing_else(experiment: str, task: str, profile: str) -> None:
    task = {"stsb": "sentiment"}.get(task, task) if profile == "mini" else task
    half, single = (
        resolved(compose([f"experiment={experiment}", f"row/{experiment}={name}", f"task={task}", f"profile={profile}"]))
        for name in ("lora_all_bf16", "lora_all")
    )
    assert (half["train"]["precision"], single["train"]["precision"]) == ("bf16", "fp32")
    for each in (half, single):
        del each["row"], each["train"]["precision"], each["train"]["lr"]  # each searched for itself
    assert half == single

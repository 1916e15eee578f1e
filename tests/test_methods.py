"""What holds for every method: found by walking lora_repro/methods, so that a new one is tested by being there."""

from __future__ import annotations

import dataclasses
import importlib
import re
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from conftest import tiny_backbone
from omegaconf import OmegaConf
from transformers import AutoConfig, AutoModelForCausalLM

from lora_repro.backbone.model import Backbone
from lora_repro.config.compose import build
from lora_repro.errors import UserError
from lora_repro.methods.adapter_h import AdapterH
from lora_repro.methods.adapter_l import AdapterL
from lora_repro.methods.base import AbstractMethod, Shape, Trainable
from lora_repro.methods.combined import Combined
from lora_repro.methods.full import Full
from lora_repro.methods.human import Human
from lora_repro.methods.linear_probe import LinearProbe
from lora_repro.methods.lora import Lora
from lora_repro.methods.prelayer import PreLayer
from lora_repro.methods.prompt_tuning import PromptTuning
from lora_repro.methods.top_layers import TopLayers

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted((ROOT / "lora_repro" / "methods").glob("[a-z]*.py"))
STEMS = [file.stem for file in FILES if file.stem not in ("base", "update")]
SMALL: dict[str, Any] = {"bottleneck": 3, "prefix": 2, "infix": 1, "n": 2, "rank": 2, "dropped": 1, "d": 40}
ARCHITECTURES = ["gpt2", "llama", "bert"]  # of each kind one; tests/test_architectures.py has all of them


def method_class(stem: str) -> type[AbstractMethod]:
    module = importlib.import_module(f"lora_repro.methods.{stem}")
    own = [x for x in vars(module).values() if isinstance(x, type) and x.__module__ == module.__name__]
    (cls,) = [x for x in own if issubclass(x, AbstractMethod)]
    return cls


def variants(stem: str) -> list[AbstractMethod]:
    """The method at test size, and its other forms where it has some."""
    cls = method_class(stem)
    fields = {field.name for field in dataclasses.fields(cls)}
    small = cls(**{key: value for key, value in SMALL.items() if key in fields})
    if stem == "adapter_fusion":
        return [cls(sources=("one", "two"), bottleneck=3)]  # type: ignore[call-arg]
    methods = [small]
    if stem == "combined":
        lora, prompt, prefix = Lora(rank=2), PromptTuning(prefix=2, infix=1), PreLayer(prefix=1, infix=2)
        return [Combined(methods=pair) for pair in ((lora, prompt), (prefix, lora), (prompt, prefix))]
    if stem == "lora":
        methods.append(Lora(rank=2, targets=["query", "key", "value", "output", "mlp"], init="gaussian"))
    if stem == "prelayer":
        forms = [
            {"reparametrise": True, "mid": 5},
            {"reparametrise": False},
            {"reparametrise": False, "init": "gaussian"},
        ]
        methods += [dataclasses.replace(small, form="key_value", infix=0, **form) for form in forms]  # type: ignore[arg-type]
    return methods


CASES = [
    (method, a)
    for stem in STEMS
    for method in variants(stem)
    for a in ARCHITECTURES
    if method_class(stem).needs_model
]
CASES = [(m, a) for m, a in CASES if not (getattr(m, "form", "") == "key_value" and a == "bert")]
each_case = pytest.mark.parametrize(
    ("method", "architecture"), CASES, ids=[f"{m.name}-{a}" for m, a in CASES]
)


def batch(method: AbstractMethod) -> dict[str, torch.Tensor]:
    ids = torch.randint(0, 256, (2, 12), generator=torch.Generator().manual_seed(3))
    prefix, infix = method.virtual_tokens
    if not prefix + infix:
        return {"input_ids": ids}
    virtual = torch.full_like(ids, -1)
    virtual[:, :prefix] = torch.arange(prefix)
    virtual[:, 6 : 6 + infix] = torch.arange(prefix, prefix + infix)
    return {"input_ids": ids, "virtual": virtual}


def applied(method: AbstractMethod, backbone: Backbone) -> Trainable:
    """The method applied; what it keeps from other runs is filled with something, as a run's start would."""
    trainable = method.apply(backbone)
    for parameter in trainable.kept.values():
        torch.nn.init.constant_(parameter, 0.05)
    return trainable


def step(backbone: Backbone, method: AbstractMethod, parameters: list[torch.nn.Parameter]) -> None:
    """Move every given parameter that has a gradient by 0.01 against its sign: far enough to show in float32."""
    backbone.model.train()
    logits = backbone.model(**batch(method)).logits
    logits.float().square().mean().backward()
    with torch.no_grad():
        for parameter in parameters:
            if parameter.grad is not None:
                parameter -= 0.01 * parameter.grad.sign()
    backbone.model.eval()


@each_case
def test_only_declared_parameters_train_and_their_count_is_the_formula(method: AbstractMethod, architecture: str) -> None:
    backbone = tiny_backbone(architecture)
    shape = Shape.of(backbone)
    trainable = applied(method, backbone)
    counts = trainable.counts(backbone.model)
    assert (counts["method"], counts["head"]) == (method.count(shape), method.count_head(shape))
    assert counts["total"] == sum(p.numel() for p in backbone.model.parameters()) >= shape.parameters
    parameters = {**trainable.method, **trainable.head}
    model_weights = dict(backbone.model.named_parameters())
    assert {name for name, p in model_weights.items() if p.requires_grad} == set(parameters)
    if not parameters:
        return
    old = {name: p.detach().clone() for name, p in model_weights.items()}
    step(backbone, method, trainable.parameters())
    assert all(p.grad is None for name, p in model_weights.items() if name not in parameters)
    updates = {name for name, p in model_weights.items() if not torch.equal(p, old[name])}
    assert updates and updates <= set(parameters)
    # LoRA's A waits for B to leave zero, and an unattended weight (a pooler, a last key bias) may have no gradient;
    # whatever has one has moved.
    assert {n for n, p in parameters.items() if p.grad is not None and p.grad.any()} == updates


@each_case
def test_step_zero_and_mode(method: AbstractMethod, architecture: str) -> None:
    """Methods that say so leave the output unchanged; none leaves a module in train mode."""
    backbone, plain = tiny_backbone(architecture), tiny_backbone(architecture)
    method.apply(backbone)
    assert not any(module.training for module in backbone.model.modules())
    others = ("adapter_drop", "adapter_h", "adapter_l", "adapter_p", "combined", "prelayer", "prompt_tuning", "segments")
    if method.name in others:
        return
    with torch.no_grad():
        got, before = backbone.model(**batch(method)).logits, plain.model(**batch(method)).logits
    exact = method.name != "pissa"  # which takes W apart
    torch.testing.assert_close(got, before, **({"rtol": 0, "atol": 0} if exact else {}))


@each_case
def test_the_adapted_state_can_be_saved_and_loaded(method: AbstractMethod, architecture: str) -> None:
    """A second copy of the method, given the first one's trained values by name, computes the same."""
    one, two = tiny_backbone(architecture), tiny_backbone(architecture)
    torch.manual_seed(1)
    trainable = applied(method, one)
    if trainable.parameters():
        step(one, method, trainable.parameters())
    torch.manual_seed(2)
    fresh = applied(method, two)
    assert set(fresh.method) == set(trainable.method) and set(fresh.head) == set(trainable.head)
    values = {name: p.detach() for name, p in {**trainable.method, **trainable.head}.items()}
    two.model.load_state_dict(values, strict=False)
    with torch.no_grad():
        torch.testing.assert_close(
            one.model(**batch(method)).logits, two.model(**batch(method)).logits, rtol=0, atol=0
        )


@pytest.mark.parametrize("stem", STEMS)
def test_files_and_configs_belong_together(stem: str) -> None:
    cls = method_class(stem)
    assert getattr(cls, "__final__", False) and cls.__bases__ == (AbstractMethod,)
    text = (ROOT / "conf" / "method" / f"{stem}.yaml").read_text(encoding="utf-8")
    values = yaml.safe_load(text)
    assert values["_target_"] == f"lora_repro.methods.{stem}.{cls.__name__}" and values["name"] == stem
    default = build(OmegaConf.create(values))
    assert default == cls() or stem == "combined"  # the yaml states every constructor value, and the defaults agree with it
    assert set(values) - {"_target_"} == {field.name for field in dataclasses.fields(cls)}
    with pytest.raises(TypeError):
        cls(rnak=4)  # type: ignore[call-arg]


def test_every_config_has_its_file() -> None:
    """Another yaml is a form of one of them under a name of its own, such as lora_plus."""
    texts = {path.stem: path.read_text(encoding="utf-8") for path in (ROOT / "conf" / "method").glob("*.yaml")}
    assert set(STEMS) <= set(texts)
    for stem in set(texts) - set(STEMS):
        form = re.search(r"^(?:defaults: \[|_target_: lora_repro\.methods\.)(\w+)", texts[stem], re.M)
        assert form and form[1] in STEMS and f"name: {stem}" in texts[stem], stem


def gpt2_shape(size: str) -> Shape:
    """The shape of GPT-2 medium or large, read off a model without storage."""
    layers, width, heads = {"medium": (24, 1024, 16), "large": (36, 1280, 20)}[size]
    config = AutoConfig.for_model("gpt2", n_layer=layers, n_embd=width, n_head=heads)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    tokenizer = tiny_backbone("gpt2").tokenizer
    return Shape.of(Backbone(model, tokenizer, "\n", "<|endoftext|>", "<|endoftext|>"))


@pytest.fixture(scope="module")
def medium() -> Shape:
    return gpt2_shape("medium")


@pytest.fixture(scope="module")
def large() -> Shape:
    return gpt2_shape("large")


def test_gpt2_shapes_are_the_closed_forms(medium: Shape, large: Shape) -> None:
    """Block: 12 d^2 + 13 d. Model: V d + P d + L blocks + final LayerNorm 2 d; the prediction layer is tied."""
    for shape, layers, d in ((medium, 24, 1024), (large, 36, 1280)):
        assert shape.layer_parameters == 12 * d * d + 13 * d
        assert shape.parameters == (50257 + 1024) * d + layers * shape.layer_parameters + 2 * d
        assert (shape.head_parameters, shape.layer_biases, shape.other_biases) == (50257 * d, 11 * d, d)
        assert shape.matrices["query"] == ((d, d),) and shape.matrices["mlp"] == ((d, 4 * d), (4 * d, d))


def test_counts_of_table_3(medium: Shape, large: Shape) -> None:
    """The closed forms of every GPT-2 row; the paper prints 0.35, 0.37, 11.09, 25.19 and 354.92 M (M), 0.77, 0.88, 23.00
    and 774.03 M (L). Two differ by more than rounding: LoRA's, and FT's of GPT-2 M by 0.03 %."""
    expected = [
        (Lora(rank=4), medium, 393_216),
        (AdapterL(bottleneck=6), medium, 368_784),
        (AdapterL(bottleneck=224), medium, 11_089_152),
        (AdapterH(bottleneck=112), medium, 11_064_576),
        (TopLayers(n=2), medium, 25_192_448),
        (Full(), medium, 354_823_168),
        (Lora(rank=4), large, 737_280),
        (AdapterL(bottleneck=8), large, 875_808),
        (AdapterL(bottleneck=248), large, 23_002_848),
        (Full(), large, 774_030_080),
        (LinearProbe(), medium, 0),
    ]
    for method, shape, count in expected:
        assert method.count(shape) == count, method
    assert LinearProbe().count_head(medium) == 51_463_168


def test_counts_of_table_15() -> None:
    """GPT-3 175B: d = 12288, L = 96."""
    d = 12288
    kinds = ("query", "key", "value", "output")
    shape = Shape(96, d, d, dict.fromkeys(kinds, ((d, d),)), 0, 0, 0, 0, 0)
    assert [AdapterH(bottleneck=b).count(shape) for b in (1, 4, 8, 16, 64)] == [
        7_078_080, 21_234_432, 40_109_568, 77_859_840, 304_361_472,
    ]  # fmt: skip
    assert Lora(rank=2, targets=["value"]).count(shape) == Lora(rank=1).count(shape) == 4_718_592
    assert Lora(rank=4, targets=kinds).count(shape) == Lora(rank=8).count(shape) == 37_748_736


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_linear_probe_unties(architecture: str) -> None:
    backbone = tiny_backbone(architecture)
    assert backbone.head.module.weight is backbone.embedding.weight
    embedding = backbone.embedding.weight.detach().clone()
    method = LinearProbe()
    trainable = method.apply(backbone)
    assert set(trainable.head) == {"lm_head.weight"} and not trainable.method
    step(backbone, method, trainable.parameters())
    assert torch.equal(backbone.embedding.weight, embedding)
    assert not torch.equal(backbone.head.module.weight, embedding)
    backbone.model.tie_weights()
    assert backbone.head.module.weight is not backbone.embedding.weight


def test_human_has_no_model() -> None:
    assert not Human.needs_model
    with pytest.raises(UserError, match="no model"):
        Human().apply(tiny_backbone("gpt2"))


def test_more_top_layers_than_layers() -> None:
    with pytest.raises(UserError, match="exceeds the backbone's 2 layers"):
        TopLayers(n=3).apply(tiny_backbone("gpt2"))
    with pytest.raises(UserError, match=r"method\.n"):
        TopLayers(n=0)


@pytest.mark.parametrize(
    ("architecture", "block"), [("gpt2", "transformer.h.1."), ("llama", "model.layers.1.")]
)
def test_top_layers_are_the_last_ones(architecture: str, block: str) -> None:
    names = TopLayers(n=1).apply(tiny_backbone(architecture)).method
    assert names and all(name.startswith(block) for name in names)


def test_what_is_not_declared_is_frozen() -> None:
    """Whatever the backbone came with, and a parameter that a method creates without declaring it."""

    class Careless(AbstractMethod):
        def insert(self, backbone: Backbone) -> Trainable:
            for name in ("declared", "forgotten"):
                backbone.model.register_parameter(name, torch.nn.Parameter(torch.zeros(3)))
            return Trainable(method={"declared": backbone.model.declared})  # type: ignore[dict-item]

        def count(self, shape: Shape) -> int:
            return 3

    backbone = tiny_backbone("gpt2")
    backbone.model.requires_grad_(True)
    Careless().apply(backbone)
    assert [name for name, p in backbone.model.named_parameters() if p.requires_grad] == ["declared"]


def test_an_unregistered_parameter_is_refused() -> None:
    class Stray(AbstractMethod):
        def insert(self, backbone: Backbone) -> Trainable:
            return Trainable(method={"stray": torch.nn.Parameter(torch.zeros(3))})

        def count(self, shape: Shape) -> int:
            return 3

    with pytest.raises(ValueError, match="not registered"):
        Stray().apply(tiny_backbone("gpt2"))

"""Methods in one model at once: each acts as it does alone, counts add up, slots are numbered apart, and clashes are refused."""

from __future__ import annotations

import pytest
import torch
from conftest import tiny_backbone
from torch import nn
from torch.nn.utils.parametrize import is_parametrized

from lora_repro.backbone.model import Backbone
from lora_repro.config.compose import build, compose
from lora_repro.errors import UserError
from lora_repro.methods.adapter_h import AdapterH
from lora_repro.methods.adapter_l import AdapterL
from lora_repro.methods.adapter_p import AdapterP
from lora_repro.methods.base import AbstractMethod, Shape
from lora_repro.methods.bitfit import BitFit
from lora_repro.methods.combined import Combined
from lora_repro.methods.full import Full
from lora_repro.methods.human import Human
from lora_repro.methods.intrinsic_dimension import IntrinsicDimension
from lora_repro.methods.linear_probe import LinearProbe
from lora_repro.methods.lora import Lora
from lora_repro.methods.prelayer import PreLayer
from lora_repro.methods.prompt_tuning import PromptTuning

LORA, PROMPT, PREFIX = Lora(rank=2, dropout=0.0), PromptTuning(prefix=2, infix=1), PreLayer(prefix=1, infix=2)
KEYS = PreLayer(form="key_value", prefix=2, infix=0, mid=4)
IDS = torch.arange(60, 72)[None]


def sequence(method: AbstractMethod, context: int = 5) -> dict[str, torch.Tensor]:
    """[prefix slots] context [infix slots] rest, as a task encodes it."""
    prefix, infix = method.virtual_tokens
    real, virtual = IDS[0].tolist(), []
    virtual = [*range(prefix), *[-1] * context, *range(prefix, prefix + infix), *[-1] * (len(real) - context)]
    ids = [256] * prefix + real[:context] + [256] * infix + real[context:]
    inputs = {"input_ids": torch.tensor([ids])}
    return inputs | ({"virtual": torch.tensor([virtual])} if prefix + infix else {})


def drawn(backbone: Backbone, method: AbstractMethod) -> dict[str, nn.Parameter]:
    trainable = method.apply(backbone)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in trainable.method.values():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    return trainable.method


def out(backbone: Backbone, method: AbstractMethod) -> torch.Tensor:
    with torch.no_grad():
        return backbone.model(**sequence(method)).logits[0]  # type: ignore[no-any-return]


@pytest.mark.parametrize("architecture", ["gpt2", "llama", "bert"])
@pytest.mark.parametrize("pair", [(LORA, PROMPT), (PROMPT, LORA), (LORA, PREFIX), (PREFIX, LORA), (LORA, AdapterH(bottleneck=2))])
def test_lora_at_zero_leaves_the_other_alone(architecture: str, pair: tuple[AbstractMethod, AbstractMethod]) -> None:
    (other,) = (method for method in pair if method is not LORA)
    single, both = tiny_backbone(architecture), tiny_backbone(architecture)
    drawn(single, other)
    combination = Combined(methods=pair)
    values = list(drawn(twin := tiny_backbone(architecture), other).values())
    trainable = combination.apply(both)
    with torch.no_grad():
        rest = [parameter for name, parameter in trainable.method.items() if ".parts." not in name]
        for parameter, value in zip(rest, values, strict=True):
            parameter.copy_(value)
    torch.testing.assert_close(out(both, combination), out(single, other), rtol=0, atol=0)
    assert torch.equal(out(single, other), out(twin, other))
    with torch.no_grad():
        for name, parameter in trainable.method.items():
            if name.endswith(".B"):
                parameter.fill_(0.5)
    assert (out(both, combination) - out(single, other)).abs().max() > 1e-4


@pytest.mark.parametrize("architecture", ["gpt2", "llama", "bert"])
def test_a_prefix_and_a_prompt_each_keep_their_own_positions(architecture: str) -> None:
    """[2 of the prompt][1 of the prefix] context [1 of the prompt][2 of the prefix]: swapped values, a swapped sequence."""
    combination, reverse = Combined(methods=[PROMPT, PREFIX]), Combined(methods=[PREFIX, PROMPT])
    assert combination.virtual_tokens == reverse.virtual_tokens == (3, 3)
    backbone = tiny_backbone(architecture)
    drawn(backbone, combination)
    inputs: dict[int, torch.Tensor] = {}

    def keep(layer: nn.Module, args: tuple[torch.Tensor, ...], kwargs: object) -> None:
        inputs[len(inputs)] = args[0].detach()

    for layer in backbone.layers:
        layer.register_forward_pre_hook(keep, with_kwargs=True)  # after the method's own
    out(backbone, combination)
    prompt, prefix = backbone.decoder.prompt_tuning.values, backbone.decoder.prelayer.values  # type: ignore[union-attr]
    mine, others = [0, 1, 8], [2, 9, 10]  # 3 slots, 5 tokens, 3 slots
    for layer in range(2):
        torch.testing.assert_close(inputs[layer][0, others], prefix[layer], rtol=0, atol=0)  # type: ignore[index]
    if architecture == "llama":  # no positions are added, and no LayerNorm comes before the first block
        torch.testing.assert_close(inputs[0][0, mine], prompt, rtol=0, atol=0)


def test_keys_before_the_sequence_and_a_prompt_in_it() -> None:
    combination, backbone = Combined(methods=[KEYS, PROMPT]), tiny_backbone("llama")
    drawn(backbone, combination)
    logits = out(backbone, combination)
    inputs = sequence(combination)
    with torch.no_grad():
        cut = {name: value[:, :10] for name, value in inputs.items()}
        first = backbone.model(**cut, use_cache=True)
        name = "cache" if "cache" in first else "past_key_values"
        rest = backbone.model(input_ids=inputs["input_ids"][:, 10:], **{name: first[name]}).logits[0]
    torch.testing.assert_close(rest, logits[10:], rtol=1e-4, atol=1e-5)


def test_counts_are_sums_and_heads_are_counted_once() -> None:
    methods = [LORA, PROMPT, LinearProbe(), BitFit()]
    for architecture in ("gpt2", "llama", "bert"):
        backbone = tiny_backbone(architecture)
        shape = Shape.of(backbone)
        combination = Combined(methods=methods)
        counts = combination.apply(backbone).counts(backbone.model)
        assert counts["method"] == combination.count(shape) == sum(method.count(shape) for method in methods)
        assert counts["head"] == combination.count_head(shape) == LinearProbe().count_head(shape)


@pytest.mark.parametrize("architecture", ["gpt2", "bert"])
def test_random_directions_leave_alone_what_a_method_before_them_trains(architecture: str) -> None:
    backbone = tiny_backbone(architecture)
    query = backbone.projections(0, "query")[0].module
    Combined(methods=[BitFit(), IntrinsicDimension(d=9)]).apply(backbone)
    assert is_parametrized(query, "weight") and not is_parametrized(query, "bias")
    assert query.bias.requires_grad


@pytest.mark.parametrize(
    ("methods", "says"),
    [
        ([LORA], "two methods or more"),
        ([LORA, Full()], "full and a method before it both train"),
        ([AdapterP(bottleneck=2), BitFit()], "bitfit and a method before it both train .* name bitfit first"),
        ([AdapterL(bottleneck=2), AdapterP(bottleneck=2)], "adapter_p replaces the module of a method before it"),
        ([PROMPT, PROMPT], "replaces the module"),
    ],
)
def test_clashes_are_refused(methods: list[AbstractMethod], says: str) -> None:
    with pytest.raises(UserError, match=says):
        Combined(methods=methods).apply(tiny_backbone("llama"))
    with pytest.raises(UserError, match="name bitfit first"):
        Combined(methods=[IntrinsicDimension(d=9), BitFit()]).apply(tiny_backbone("gpt2"))
    with pytest.raises(UserError, match="not 'human'"):
        Combined(methods=[LORA, Human()])


def test_the_configuration_holds_whole_methods() -> None:
    method = build(compose(["method=combined"]).method)
    assert method == Combined(methods=[Lora(), PromptTuning()])


def test_positions_are_those_of_virtual_tokens_and_of_keys_and_values() -> None:
    assert KEYS.virtual_tokens == (0, 0)
    methods = (LORA, KEYS, PROMPT, Combined(methods=(LORA, KEYS, PROMPT)))
    assert [method.positions for method in methods] == [0, 2, 3, 5]

"""PreLayer: trained activations against a layer-by-layer reference, trained keys and values against peft."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from conftest import tiny_backbone
from transformers import DynamicCache

from lora_repro.backbone.addressed import cache_name
from lora_repro.backbone.model import Backbone
from lora_repro.errors import UserError
from lora_repro.methods._key_value import KeyValuePrefix
from lora_repro.methods.base import Shape
from lora_repro.methods.prelayer import PreLayer

PREFIX, INFIX = 3, 2
CACHE = cache_name(tiny_backbone("gpt2").decoder)
DECODERS = ["gpt2", "llama"]


def sequence(context: int, rest: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(ids, virtual), both (1, T): prefix slots, context, infix slots, rest."""
    generator = torch.Generator().manual_seed(context)
    length = PREFIX + context + INFIX + rest
    ids = torch.randint(0, 256, (1, length), generator=generator)
    virtual = torch.full((1, length), -1)
    virtual[0, :PREFIX] = torch.arange(PREFIX)
    virtual[0, PREFIX + context : PREFIX + context + INFIX] = torch.arange(PREFIX, PREFIX + INFIX)
    return ids, virtual


def adapted(architecture: str, **settings: Any) -> Backbone:
    backbone = tiny_backbone(architecture)
    trainable = PreLayer(
        **{"prefix": PREFIX, "infix": INFIX, "init": "gaussian", "std": 0.5} | settings
    ).apply(backbone)
    torch.manual_seed(7)
    for parameter in trainable.parameters():
        torch.nn.init.normal_(parameter, 0.0, 0.4)
    return backbone


def run(backbone: Backbone, **inputs: Any) -> torch.Tensor:
    with torch.no_grad():
        return backbone.decoder(**inputs).last_hidden_state  # type: ignore[no-any-return]


def reference(backbone: Backbone, plain: Backbone, ids: torch.Tensor, virtual: torch.Tensor) -> torch.Tensor:
    """The plain model, layer by layer: run it with the first l layers' inputs already overwritten, and so on."""
    values = backbone.decoder.prelayer.values.detach()
    for index, layer in enumerate(plain.layers):
        forward = layer.forward

        def entered(
            hidden: torch.Tensor, *args: Any, i: int = index, forward: Any = forward, **kwargs: Any
        ) -> Any:
            hidden = hidden.clone()
            for b in range(hidden.shape[0]):
                for t in range(hidden.shape[1]):
                    if virtual[b, t] >= 0:
                        hidden[b, t] = values[i, int(virtual[b, t])]
            return forward(hidden, *args, **kwargs)

        layer.forward = entered  # type: ignore[method-assign]
    return run(plain, input_ids=ids)


@pytest.mark.parametrize("architecture", ["gpt2", "llama", "bert", "roberta"])
def test_activations_equal_the_literal_reference(architecture: str) -> None:
    backbone = adapted(architecture)
    ids, virtual = sequence(6, 5)
    got = run(backbone, input_ids=ids, virtual=virtual)
    torch.testing.assert_close(got, reference(backbone, tiny_backbone(architecture), ids, virtual))
    assert (got - run(tiny_backbone(architecture), input_ids=ids)).abs().max() > 1e-2
    # What stands at the placeholder positions does not matter.
    other = torch.where(virtual >= 0, 17, ids)
    torch.testing.assert_close(run(backbone, input_ids=other, virtual=virtual), got, rtol=0, atol=0)


@pytest.mark.parametrize("architecture", DECODERS)
@pytest.mark.parametrize("form", ["activations", "key_value"])
def test_decoding_with_a_cache_equals_the_full_forward(architecture: str, form: str) -> None:
    infix = INFIX if form == "activations" else 0
    backbone = adapted(architecture, form=form, infix=infix)
    ids, virtual = sequence(6, 5)
    slots = {"virtual": virtual} if form == "activations" else {}
    full = run(backbone, input_ids=ids, **slots)
    for cache in (None, DynamicCache()):
        cut = ids.shape[1] - 3
        with torch.no_grad():
            first = {key: value[:, :cut] for key, value in slots.items()}
            out = backbone.decoder(input_ids=ids[:, :cut], **{CACHE: cache}, use_cache=True, **first)
            steps = [out.last_hidden_state]
            for t in range(cut, ids.shape[1]):
                mask, at = torch.ones(1, t + 1, dtype=torch.long), torch.tensor([[t]])
                more = {"attention_mask": mask, "position_ids": at} if t % 2 else {}
                out = backbone.decoder(
                    input_ids=ids[:, t : t + 1], **{CACHE: getattr(out, CACHE)}, use_cache=True, **more
                )
                steps.append(out.last_hidden_state)
        torch.testing.assert_close(torch.cat(steps, 1), full, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("architecture", DECODERS)
@pytest.mark.parametrize("form", ["activations", "key_value"])
@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_changes_nothing(architecture: str, form: str, side: str) -> None:
    backbone = adapted(architecture, form=form, infix=INFIX if form == "activations" else 0)
    rows = [sequence(2, 3), sequence(8, 4)]
    longest = max(ids.shape[1] for ids, _ in rows)
    ids, virtual = torch.full((2, longest), 256), torch.full((2, longest), -1)
    mask = torch.zeros(2, longest, dtype=torch.long)
    spans = [
        slice(longest - r[0].shape[1], None) if side == "left" else slice(0, r[0].shape[1]) for r in rows
    ]
    for b, (row, span) in enumerate(zip(rows, spans, strict=True)):
        ids[b, span], virtual[b, span], mask[b, span] = row[0][0], row[1][0], 1
    slots = {"virtual": virtual} if form == "activations" else {}
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    got = run(backbone, input_ids=ids, attention_mask=mask, position_ids=positions, **slots)
    for b, (row, span) in enumerate(zip(rows, spans, strict=True)):
        expected = run(backbone, input_ids=row[0], **({"virtual": row[1]} if slots else {}))
        torch.testing.assert_close(got[b, span], expected[0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("architecture", DECODERS)
def test_key_value_equals_past_keys_and_values_by_hand(architecture: str) -> None:
    backbone, plain = adapted(architecture, form="key_value", infix=0, mid=16), tiny_backbone(architecture)
    ids = sequence(6, 5)[0].repeat(2, 1)
    module: KeyValuePrefix = backbone.decoder.prelayer  # type: ignore[assignment]
    first, _, last = module.mlp.children()
    flat = torch.tanh(module.embedding @ first.weight.T + first.bias) @ last.weight.T + last.bias
    cache = DynamicCache()
    width = backbone.kv_size
    for layer in range(2):  # row i of `flat`: layer 0's key, layer 0's value, layer 1's key, ...
        key, value = (flat[:, (2 * layer + j) * width : (2 * layer + j + 1) * width] for j in (0, 1))
        heads = (
            t.view(1, PREFIX, backbone.n_kv_heads, -1).transpose(1, 2).repeat(2, 1, 1, 1)
            for t in (key, value)
        )
        cache.update(*heads, layer)
    literal = run(plain, input_ids=ids, **{CACHE: cache})
    torch.testing.assert_close(run(backbone, input_ids=ids), literal, rtol=1e-5, atol=1e-5)
    mask = torch.ones_like(ids)
    torch.testing.assert_close(
        run(backbone, input_ids=ids, attention_mask=mask), literal, rtol=1e-5, atol=1e-5
    )


def test_a_call_without_slots_is_not_silent() -> None:
    backbone = adapted("gpt2")
    with pytest.raises(ValueError, match="virtual"):
        run(backbone, input_ids=sequence(4, 2)[0])


def test_counts_of_the_paper() -> None:
    """GPT-3 rows of Table 15 (d = 12288, L = 96), and 16 slots on GPT-2 M and L: LoRA's own counts."""
    for layers, width, prefix, infix, count in (
        (96, 12288, 2, 2, 4_718_592),
        (96, 12288, 8, 8, 18_874_368),
        (96, 12288, 64, 0, 75_497_472),
        (24, 1024, 8, 8, 393_216),
        (36, 1280, 8, 8, 737_280),
    ):
        shape = Shape(layers, width, width, {}, 0, 0, 0, 0, 0)
        assert PreLayer(prefix=prefix, infix=infix).count(shape) == count
    medium = Shape(24, 1024, 1024, {}, 0, 0, 0, 0, 0)
    method = PreLayer(form="key_value", prefix=5, infix=0)
    assert method.count(medium) == 5 * 1024 + 1024 * 512 + 512 + 512 * 49152 + 49152
    assert method.served(medium) == PreLayer(form="key_value", prefix=5, infix=0, reparametrise=False).count(
        medium
    )
    assert method.served(medium) == 245_760
    assert "245,760 values are left to serve" in method.note(medium)
    assert PreLayer().note(medium) == "" == PreLayer(form="key_value", infix=0, reparametrise=False).note(medium)


def test_key_value_needs_a_decoder() -> None:
    with pytest.raises(UserError, match="decoder backbone"):
        PreLayer(form="key_value", infix=0).apply(tiny_backbone("bert"))


def test_the_key_value_form_starts_from_a_table_of_unit_variance() -> None:
    trainable = PreLayer(prefix=40, infix=0, form="key_value", mid=8).apply(tiny_backbone("gpt2"))
    (table,) = [value for name, value in trainable.method.items() if name.endswith("embedding")]
    assert float(table.detach().std()) == pytest.approx(1, abs=0.1)

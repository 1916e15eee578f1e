"""AdapterP and AdapterDrop against models written out by hand, and the addresses of DeBERTa that they need."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from conftest import tiny_backbone
from transformers import AutoConfig, AutoModelForSequenceClassification

from lora_repro.backbone.model import Backbone
from lora_repro.backbone.spec import BackboneSpec
from lora_repro.errors import UserError
from lora_repro.methods._bottleneck import Bottleneck
from lora_repro.methods.adapter_drop import AdapterDrop
from lora_repro.methods.adapter_h import AdapterH
from lora_repro.methods.adapter_p import AdapterP
from lora_repro.methods.base import AbstractMethod, Shape
from lora_repro.methods.bitfit import BitFit
from lora_repro.methods.lora import Lora
from lora_repro.methods.update import merge, unmerge

IDS = torch.arange(2, 26).view(2, 12)
ARCHITECTURES = ["gpt2", "llama", "bert", "roberta", "mpnet", "deberta-v2"]
METHODS = [AdapterP(bottleneck=3), AdapterDrop(bottleneck=3, dropped=1)]
every_method = pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
every_architecture = pytest.mark.parametrize("architecture", ARCHITECTURES)

# deberta-v2-xxlarge's own settings; the sizes are apart.
DEBERTA: dict[str, Any] = {
    "model_type": "deberta-v2",
    "relative_attention": True,
    "pos_att_type": "p2c|c2p",
    "norm_rel_ebd": "layer_norm",
    "share_att_key": True,
    "position_biased_input": False,
    "type_vocab_size": 0,
    "conv_kernel_size": 3,
    "conv_act": "gelu",
}
SMALL = {
    "num_hidden_layers": 2,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_attention_heads": 4,
    "position_buckets": 4,
}
XXLARGE = {
    "num_hidden_layers": 48,
    "hidden_size": 1536,
    "intermediate_size": 6144,
    "num_attention_heads": 24,
    "position_buckets": 256,
    "vocab_size": 128100,
}


def tiny(architecture: str) -> Backbone:
    """A tiny random backbone whose LayerNorms do something, so that before and after one are not the same."""
    if architecture == "deberta-v2":
        spec = BackboneSpec(
            name="tiny_deberta",
            label="random DeBERTa",
            source="random",
            separator="\n",
            eos="<|endoftext|>",
            pad="<|endoftext|>",
            shape={**DEBERTA, **SMALL},
            head="classification",
        )
        backbone = spec.load()
    else:
        backbone = tiny_backbone(architecture)
    torch.manual_seed(1)
    for name, parameter in backbone.model.named_parameters():
        if parameter.dim() == 1:  # biases and LayerNorms
            torch.nn.init.normal_(parameter, float("norm" in name.lower() and "bias" not in name), 0.2)
    return backbone


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=IDS, attention_mask=torch.ones_like(IDS)).logits


def adapters_of(module: torch.nn.Module) -> list[Bottleneck]:
    return [part for part in module.modules() if isinstance(part, Bottleneck)]


def randomise(model: torch.nn.Module) -> None:
    torch.manual_seed(2)
    for adapter in adapters_of(model):
        for parameter in adapter.parameters():
            torch.nn.init.normal_(parameter, 0.0, 0.3)


def adapted(adapter: Bottleneck | None, h: torch.Tensor) -> torch.Tensor:
    """The adapter's arithmetic, without its modules."""
    if adapter is None:
        return h
    low = (h @ adapter.down.weight.T + adapter.down.bias).clamp(min=0)
    return h + low @ adapter.up.weight.T + adapter.up.bias


def layer_norm(norm: Any, x: torch.Tensor) -> torch.Tensor:
    """A LayerNorm's own arithmetic, without what hangs on the module."""
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True) + norm.eps).sqrt() * norm.weight + norm.bias


def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, causal: bool, bias: torch.Tensor | None = None) -> torch.Tensor:
    """Softmax attention, one head and one position after the other; (batch, length, heads, width) each.

    bias (length, length, heads) is added to the scores.
    """
    out = torch.zeros_like(q)
    for head in range(q.shape[2]):
        shared = head * k.shape[2] // q.shape[2]  # Llama's heads share keys and values
        for i in range(q.shape[1]):
            seen = i + 1 if causal else q.shape[1]
            score = torch.einsum("bd,bjd->bj", q[:, i, head], k[:, :seen, shared]) / math.sqrt(q.shape[3])
            if bias is not None:
                score = score + bias[i, :, head]
            out[:, i, head] = torch.einsum("bj,bjd->bd", score.softmax(-1), v[:, :seen, shared])
    return out.flatten(2)


def heads(x: torch.Tensor) -> torch.Tensor:
    return x.unflatten(-1, (-1, 8))


def rotated(x: torch.Tensor) -> torch.Tensor:
    """Rotary positions: each pair (i, i + half) of a head turned by position * 10000^(-i / half)."""
    half = x.shape[3] // 2
    angle = torch.arange(x.shape[1])[:, None] * 10000.0 ** (-torch.arange(half) / half)
    cos, sin = angle.cos()[:, None], angle.sin()[:, None]
    a, b = x[..., :half], x[..., half:]
    return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)


Adapters = list[Bottleneck | None]


def bert_by_hand(decoder: Any, adapters: Adapters) -> torch.Tensor:
    x = decoder.embeddings(input_ids=IDS)
    for block, adapter in zip(decoder.encoder.layer, adapters, strict=True):
        own = block.attention.self
        mixed = attend(heads(own.query(x)), heads(own.key(x)), heads(own.value(x)), causal=False)
        x = layer_norm(block.attention.output.LayerNorm, x + block.attention.output.dense(mixed))
        mlp = block.output.dense(F.gelu(block.intermediate.dense(x)))
        x = adapted(adapter, layer_norm(block.output.LayerNorm, x + mlp))
    return x


def mpnet_by_hand(decoder: Any, adapters: Adapters) -> torch.Tensor:
    x = decoder.embeddings(input_ids=IDS)
    # Keys before a position have buckets 0 to 15, those after it 16 to 31; of each 16 the first 8 stand for one distance, the
    # others widen as a power law up to 128. IDS is 12 long: distances 8 to 11 fall into bucket 8 and 9.
    bucket = [min(n, 7) if n < 8 else 8 + int(math.log(n / 8) / math.log(16) * 8) for n in range(IDS.shape[1])]
    where = torch.tensor([[bucket[abs(j - i)] + 16 * (j > i) for j in range(IDS.shape[1])] for i in range(IDS.shape[1])])
    bias = decoder.encoder.relative_attention_bias.weight[where]
    for block, adapter in zip(decoder.encoder.layer, adapters, strict=True):
        own = block.attention.attn
        mixed = attend(heads(own.q(x)), heads(own.k(x)), heads(own.v(x)), causal=False, bias=bias)
        x = layer_norm(block.attention.LayerNorm, x + own.o(mixed))
        mlp = block.output.dense(F.gelu(block.intermediate.dense(x)))
        x = adapted(adapter, layer_norm(block.output.LayerNorm, x + mlp))
    return x


def gpt2_by_hand(decoder: Any, adapters: Adapters) -> torch.Tensor:
    x = decoder.wte(IDS) + decoder.wpe.weight[: IDS.shape[1]]
    for block, adapter in zip(decoder.h, adapters, strict=True):
        q, k, v = (heads(part) for part in block.attn.c_attn(layer_norm(block.ln_1, x)).split(32, dim=2))
        x = x + block.attn.c_proj(attend(q, k, v, causal=True))
        high = F.gelu(block.mlp.c_fc(layer_norm(block.ln_2, x)), approximate="tanh")
        x = adapted(adapter, x + block.mlp.c_proj(high))
    return layer_norm(decoder.ln_f, x)


def llama_by_hand(decoder: Any, adapters: Adapters) -> torch.Tensor:
    x = decoder.embed_tokens(IDS)
    for block, adapter in zip(decoder.layers, adapters, strict=True):
        h, own = block.input_layernorm(x), block.self_attn
        q, k, v = rotated(heads(own.q_proj(h))), rotated(heads(own.k_proj(h))), heads(own.v_proj(h))
        x = x + own.o_proj(attend(q, k, v, causal=True))
        h, mlp = block.post_attention_layernorm(x), block.mlp
        x = adapted(adapter, x + mlp.down_proj(F.silu(mlp.gate_proj(h)) * mlp.up_proj(h)))
    return decoder.norm(x)


BY_HAND: dict[str, Callable[[Any, Adapters], torch.Tensor]] = {
    "gpt2": gpt2_by_hand,
    "llama": llama_by_hand,
    "bert": bert_by_hand,
    "roberta": bert_by_hand,
    "mpnet": mpnet_by_hand,
}


@every_method
@pytest.mark.parametrize("architecture", list(BY_HAND))
@torch.no_grad()
def test_the_model_is_the_one_written_out(method: AbstractMethod, architecture: str) -> None:
    """Every block by hand: the adapter after the MLP's LayerNorm, or after the last residual addition."""
    backbone = tiny(architecture)
    before = backbone.decoder(input_ids=IDS).last_hidden_state
    by_hand = BY_HAND[architecture]
    torch.testing.assert_close(by_hand(backbone.decoder, [None, None]), before, atol=1e-5, rtol=1e-5)
    method.apply(backbone)
    randomise(backbone.model)
    found = adapters_of(backbone.model)
    adapters: Adapters = [None] * (2 - len(found)) + found  # type: ignore[operator]
    after = backbone.decoder(input_ids=IDS).last_hidden_state
    torch.testing.assert_close(by_hand(backbone.decoder, adapters), after, atol=1e-5, rtol=1e-5)
    assert float((after - before).abs().max()) > 0.1


@every_method
def test_deberta_s_last_norm_is_followed(method: AbstractMethod) -> None:
    """The model equals one whose LayerNorms after the MLP are called by hand with the adapter behind."""
    backbone, plain = tiny("deberta-v2"), tiny("deberta-v2")
    method.apply(backbone)
    randomise(backbone.model)
    adapters = adapters_of(backbone.model)
    for layer, adapter in zip(plain.layers[-len(adapters) :], adapters, strict=True):
        norm = layer.get_submodule("output.LayerNorm")

        def after(x: torch.Tensor, adapter: Bottleneck = adapter, norm: Any = norm) -> torch.Tensor:
            return adapted(adapter, layer_norm(norm, x))

        norm.forward = after  # type: ignore[method-assign]
    torch.testing.assert_close(logits(backbone.model), logits(plain.model), atol=1e-5, rtol=1e-5)
    assert float((logits(backbone.model) - logits(tiny("deberta-v2").model)).abs().max()) > 1e-3


@every_architecture
def test_the_adapter_is_on_the_norm_or_on_the_block(architecture: str) -> None:
    post_norm = architecture in ("bert", "roberta", "mpnet", "deberta-v2")
    backbone = tiny(architecture)
    assert backbone.table.post_norm == post_norm
    AdapterP(bottleneck=3).apply(backbone)
    for layer in backbone.layers:
        (owner,) = [name for name, part in layer.named_modules() if hasattr(part, "adapter")]
        assert owner == ("output.LayerNorm" if post_norm else "")


@every_method
@pytest.mark.parametrize("architecture", ["gpt2", "bert"])
def test_step_zero(method: Any, architecture: str) -> None:
    before = logits(tiny(architecture).model)
    exact, start = tiny(architecture), tiny(architecture)
    type(method)(
        bottleneck=3, init="zero_up", **({"dropped": 1} if method.name == "adapter_drop" else {})
    ).apply(exact)
    assert torch.equal(logits(exact.model), before)
    method.apply(start)  # the source's start is not the identity
    assert not torch.equal(logits(start.model), before)


def test_initialisation_as_the_source_has_it() -> None:
    backbone = tiny("bert")
    AdapterP(bottleneck=500).apply(backbone)
    for adapter in adapters_of(backbone.model):
        for linear in (adapter.down, adapter.up):
            weight = linear.weight.detach()
            assert abs(float(weight.std()) - 0.02) < 5e-4 and float(weight.abs().max()) > 0.05  # not cut off
            assert not linear.bias.any()
        assert isinstance(adapter.act, torch.nn.ReLU) and isinstance(adapter.norm, torch.nn.Identity)


def test_counts_of_table_2() -> None:
    """RoBERTa large: the paper prints 3.0 and 0.8 M; the first is 5 % below the formula. AdapterDrop's two are 0.9
    (a sixteenth of RoBERTa base's width, nothing dropped) and 0.3 M (which of its sizes is not printed)."""
    large, base = (Shape(n, d, d, {}, 0, 0, 0, 0, 0) for n, d in ((24, 1024), (12, 768)))
    assert AdapterP(bottleneck=64).count(large) == 3_171_840
    assert AdapterP(bottleneck=16).count(large) == 811_392
    assert AdapterDrop(bottleneck=48, dropped=0).count(base) == 894_528
    assert AdapterDrop(bottleneck=48, dropped=8).count(base) == 298_176
    assert AdapterDrop().count(base) == 521_808


@pytest.mark.parametrize("dropped", [-1, 1.5, True, None])
def test_a_number_of_dropped_blocks_is_one(dropped: Any) -> None:
    with pytest.raises(UserError, match=r"method\.dropped"):
        AdapterDrop(dropped=dropped)


@pytest.mark.parametrize("dropped", [2, 3])
def test_one_block_keeps_its_adapter(dropped: int) -> None:
    backbone, method = tiny("bert"), AdapterDrop(dropped=dropped)
    shape, names = Shape.of(backbone), set(backbone.model.state_dict())
    with pytest.raises(UserError, match=f"method.dropped={dropped} must be below the backbone's 2 blocks"):
        method.apply(backbone)
    assert set(backbone.model.state_dict()) == names
    with pytest.raises(UserError, match="must be below the backbone's 2 blocks"):
        method.count(shape)


def test_deberta_s_addresses() -> None:
    backbone = tiny("deberta-v2")
    assert (backbone.n_layers, backbone.hidden_size, backbone.kv_size) == (2, 32, 32)
    assert backbone.architecture == "deberta-v2" and backbone.embedding.weight.shape == (257, 32)
    sizes = {"query": [32], "key": [32], "value": [32], "output": [32], "mlp": [64, 32]}
    assert {kind: [p.size for p in backbone.projections(0, kind)] for kind in sizes} == sizes
    block: Any = backbone.layers[1]
    own = block.attention.self
    at = {kind: [p.module for p in backbone.projections(1, kind)] for kind in sizes}
    assert at["query"] == [own.query_proj] and at["key"] == [own.key_proj] and at["value"] == [own.value_proj]
    assert at["output"] == [block.attention.output.dense]
    assert at["mlp"] == [block.intermediate.dense, block.output.dense]
    norms = [part for part in block.modules() if isinstance(part, torch.nn.LayerNorm)]
    assert [block.get_submodule(path) for path in backbone.table.layer_norms] == norms
    assert backbone.head.module is backbone.model.classifier and backbone.head.size == 2
    config: Any = backbone.model.config
    assert (config.hidden_dropout_prob, config.attention_probs_dropout_prob) == (0, 0)
    dropouts = [part.p for part in backbone.model.modules() if isinstance(part, torch.nn.Dropout)]
    assert dropouts and not any(dropouts)  # the backbone's setting reached every one of them


@pytest.mark.parametrize("architecture", ["deberta-v2", "mpnet"])
@pytest.mark.parametrize(
    "method",
    [
        Lora(rank=2),
        Lora(rank=2, targets=["query", "key", "value", "output", "mlp"]),
        BitFit(),
        AdapterH(bottleneck=3),
        *METHODS,
    ],
    ids=lambda method: method.name,
)
def test_methods_work_on_relative_attention(method: AbstractMethod, architecture: str) -> None:
    backbone = tiny(architecture)
    shape, before = Shape.of(backbone), logits(backbone.model)
    trainable = method.apply(backbone)
    assert trainable.counts(backbone.model)["method"] == method.count(shape)
    if method.name in ("lora", "bitfit"):
        assert torch.equal(logits(backbone.model), before)
    torch.manual_seed(2)  # one that leaves no adapter with all of its three units off
    for parameter in trainable.parameters():
        torch.nn.init.normal_(parameter, 0.0, 0.3)
    backbone.model(input_ids=IDS, attention_mask=torch.ones_like(IDS)).logits.square().sum().backward()
    assert all(p.grad is not None and bool(p.grad.any()) for p in trainable.parameters())


def test_lora_merges_into_deberta() -> None:
    """Its query and key also project the relative positions: through the update, like the tokens."""
    backbone = tiny("deberta-v2")
    trainable = Lora(rank=2, targets=["query", "key", "value"]).apply(backbone)
    for parameter in trainable.parameters():
        torch.nn.init.normal_(parameter, 0.0, 0.1)
    apart = logits(backbone.model)
    merge(backbone.model)
    torch.testing.assert_close(logits(backbone.model), apart, atol=1e-5, rtol=1e-5)
    unmerge(backbone.model)
    assert torch.equal(logits(backbone.model), apart)


def test_counts_on_deberta_xxl() -> None:
    """Read off a model without storage. LoRA's 4,718,592 are the 4.7 M printed in Table 2."""
    config = AutoConfig.for_model(**{**DEBERTA, **XXLARGE})
    with torch.device("meta"):
        model = AutoModelForSequenceClassification.from_config(config)
    shape = Shape.of(Backbone(model, tiny_backbone("bert").tokenizer, "\n", "<|endoftext|>", "<|endoftext|>"))
    assert (shape.n_layers, shape.hidden_size) == (48, 1536)
    assert Lora(rank=16).count(shape) == 4_718_592
    assert AdapterP(bottleneck=64).count(shape) == 48 * (2 * 1536 * 64 + 64 + 1536)
    assert 1.5e9 < shape.parameters < 1.6e9

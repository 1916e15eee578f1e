"""Every architecture of the table against transformers' own class, with every kind of method: logits, counts, merging, peft."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from conftest import SHAPES, refused, tiny_backbone
from peft_models import IDS, logits, trained
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, T5Config, ViTConfig

from lora_repro.backbone.addressed import AddressedModel
from lora_repro.backbone.architecture import ARCHITECTURES, KINDS, table_of
from lora_repro.backbone.model import Backbone
from lora_repro.data import Encoded, collate
from lora_repro.exchange import peft_folder
from lora_repro.methods.adapter_drop import AdapterDrop
from lora_repro.methods.adapter_h import AdapterH
from lora_repro.methods.adapter_l import AdapterL
from lora_repro.methods.adapter_p import AdapterP
from lora_repro.methods.base import AbstractMethod, Shape
from lora_repro.methods.bitfit import BitFit
from lora_repro.methods.dora import Dora
from lora_repro.methods.full import Full
from lora_repro.methods.linear_probe import LinearProbe
from lora_repro.methods.lora import Lora
from lora_repro.methods.matrices import Matrices
from lora_repro.methods.prelayer import PreLayer
from lora_repro.methods.prompt_tuning import PromptTuning
from lora_repro.methods.update import merge, strip
from lora_repro.objectives.classification import features_of, logits_of

NAMES = list(ARCHITECTURES)
DECODERS = [name for name in NAMES if "lm" in ARCHITECTURES[name].heads]
ENCODERS = [name for name in NAMES if name not in DECODERS]
QV = Lora(rank=2, alpha=8, targets=["query", "value"], dropout=0.0)
ALL = Lora(rank=2, alpha=3, targets=list(KINDS), dropout=0.0)
KEYS = PreLayer(form="key_value", prefix=3, infix=0, reparametrise=False)
STILL: list[AbstractMethod] = [QV, ALL, Full(), BitFit(), Matrices(targets=["key", "mlp"]), Dora(rank=2), LinearProbe()]
MOVING: list[AbstractMethod] = [AdapterH(bottleneck=3), AdapterL(bottleneck=3), AdapterP(bottleneck=3), AdapterDrop(dropped=1)]
VIRTUAL: list[AbstractMethod] = [PreLayer(prefix=2, infix=1), PromptTuning(prefix=2, infix=1)]
each = pytest.mark.parametrize("name", NAMES)


def plain(backbone: Backbone) -> Any:
    """transformers' own class with the same weights, read from the state that a file would hold."""
    kind: Any = type(backbone.model)
    twin = kind(backbone.model.config).eval()
    twin.load_state_dict(backbone.model.state_dict())
    return twin


def wide(name: str) -> Backbone:
    """A random model with values large enough everywhere that what must not matter would show."""
    backbone = tiny_backbone(name)
    with torch.no_grad():
        for parameter in backbone.model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(parameter.numel())))
    return backbone


def rows(lengths: tuple[int, ...] = (11, 17, 9)) -> Any:
    generator = torch.Generator().manual_seed(4)
    sequences = [torch.randint(3, 256, (n,), generator=generator).tolist() for n in lengths]
    return collate([Encoded(ids, [-1] * len(ids), [0] * len(ids), 4, 1) for ids in sequences], 0)


def test_every_architecture_has_a_shape_here() -> None:
    assert set(NAMES) <= set(SHAPES)


@each
@pytest.mark.parametrize("batching", ["packed", "padded"])
def test_body_and_head_give_the_logits_of_transformers(name: str, batching: str, monkeypatch: pytest.MonkeyPatch) -> None:
    backbone, batch = wide(name), rows()
    if batching == "padded":
        monkeypatch.setattr(Backbone, "batching", "padded")
    with torch.no_grad():
        expected = plain(backbone)(input_ids=batch.ids, attention_mask=batch.attention).logits
        if name in DECODERS:
            actual = backbone.logits(backbone.hidden(batch.ids, batch.attention))
            actual, expected = (x[batch.attention.bool()] for x in (actual, expected))
        else:
            actual = logits_of(backbone, features_of(backbone, batch))
    torch.testing.assert_close(actual, expected, rtol=2e-5, atol=2e-5)


def test_a_matrix_that_is_grouped_by_head_gives_each_part_and_the_same_logits() -> None:
    model: Any = AutoModelForCausalLM.from_config(AutoConfig.for_model(vocab_size=257, **SHAPES["gpt_neox"])).eval()
    projection = model.gpt_neox.layers[1].attention.query_key_value
    x, before = torch.randn(5, 32), logits(model)
    expected = projection(x).view(5, 4, 3, 8)  # (positions, heads, query key value, head_dim)
    backbone = AddressedModel(model)
    torch.testing.assert_close(logits(model), before)
    for part, kind in enumerate(("query", "key", "value")):
        (place,) = backbone.projections(1, kind)
        torch.testing.assert_close(place.module(x)[:, place.rows], expected[:, :, part].flatten(1))


@pytest.mark.parametrize("name", DECODERS)
def test_a_decoder_s_classifier_reads_its_last_position(name: str) -> None:
    spec = tiny_backbone(name, head="classification")
    batch = rows((12, 12))
    with torch.no_grad():
        spec.model.config.pad_token_id = 256  # in no row: transformers then reads the last position
        expected = plain(spec)(input_ids=batch.ids).logits
        torch.testing.assert_close(logits_of(spec, features_of(spec, batch)), expected, rtol=2e-5, atol=2e-5)


@each
def test_methods_train_what_their_formulas_count(name: str) -> None:
    methods = [*STILL, *MOVING, *VIRTUAL, *([KEYS] if name in DECODERS else [])]
    for method in methods:
        backbone = tiny_backbone(name)
        shape = Shape.of(backbone)
        trainable = method.apply(backbone)
        counts = trainable.counts(backbone.model)
        assert (counts["method"], counts["head"]) == (method.count(shape), method.count_head(shape)), method
        batch = rows()
        for row in range(len(batch.ids)):
            batch.virtual[row, : sum(method.virtual_tokens)] = torch.arange(sum(method.virtual_tokens))
        kwargs = {"virtual": batch.virtual} if sum(method.virtual_tokens) else {}
        hidden = backbone.hidden(batch.ids, batch.attention, **kwargs)
        out = backbone.logits(hidden) if name in DECODERS else logits_of(backbone, hidden[:, 0])
        out.square().mean().backward()
        gradient_keys = {key for key, p in trainable.method.items() if p.grad is not None and bool(p.grad.isfinite().all())}
        unread = {key for key in trainable.method if "pooler" in key or "position" in key or "token_type" in key}
        assert set(trainable.method) - gradient_keys <= unread, method


@each
def test_at_the_start_nothing_changes_and_merging_changes_nothing(name: str) -> None:
    for method in STILL:
        backbone = wide(name)
        before = logits(plain(backbone))
        trainable = method.apply(backbone)
        torch.testing.assert_close(logits(backbone.model), before, rtol=1e-5, atol=1e-5)
        with torch.no_grad():
            for parameter in trainable.parameters():
                parameter.add_(0.05 * torch.randn_like(parameter))
        reference = logits(backbone.model)
        assert (reference - before).abs().max() > 1e-3, method
        merge(backbone.model)
        torch.testing.assert_close(logits(backbone.model), reference, rtol=2e-5, atol=2e-5)
        strip(backbone.model)
        if not isinstance(method, BitFit):  # its biases are in no plain model without any
            torch.testing.assert_close(logits(plain(backbone)), reference, rtol=2e-5, atol=2e-5)


@each
def test_adapters_are_in_every_residual_branch(name: str) -> None:
    backbone = wide(name)
    before = logits(backbone.model)
    AdapterH(bottleneck=3, init="zero_up").apply(backbone)
    torch.testing.assert_close(logits(backbone.model), before, rtol=1e-6, atol=1e-6)
    up = [module for key, module in backbone.model.named_modules() if key.endswith("adapter.up")]
    assert len(up) == 2 * backbone.n_layers
    for module in up:
        with torch.no_grad():
            module.bias.copy_(torch.randn(32))
            assert (logits(backbone.model) - before).abs().max() > 1e-4
            module.bias.zero_()


@each
def test_virtual_tokens_that_start_as_words_are_those_words(name: str) -> None:
    """Prompt tuning everywhere; in a decoder a prefix of trained activations or keys stands for the tokens that drew it, too."""
    methods: list[AbstractMethod] = [PromptTuning(prefix=3, infix=0)]
    methods += [PreLayer(prefix=3, infix=0), KEYS] if name in DECODERS else []
    for method in methods:
        backbone = wide(name)
        twin = plain(backbone)
        torch.manual_seed(11)
        words = torch.randint(backbone.embedding.num_embeddings, (3,))
        torch.manual_seed(11)
        method.apply(backbone)
        backbone.model.eval()
        expected = logits(twin, torch.cat([words.expand(2, -1), IDS], 1))
        slots = [] if method is KEYS else [0, 1, 2]
        tokens = [[0] * len(slots) + row for row in IDS.tolist()]
        batch = collate([Encoded(ids, slots + [-1] * 11, [0] * len(ids), 4, 1) for ids in tokens], 0)
        with torch.no_grad():
            if name in DECODERS:
                kwargs = {"virtual": batch.virtual} if slots else {}
                actual = backbone.logits(backbone.hidden(batch.ids, batch.attention, **kwargs))
            else:
                actual = logits_of(backbone, features_of(backbone, batch))
        expected = expected[:, 3:] if method is KEYS else expected
        torch.testing.assert_close(actual, expected, rtol=2e-5, atol=2e-5, msg=lambda said, m=method: f"{m}: {said}")


@each
@pytest.mark.filterwarnings("ignore")  # peft on this transformers speaks of renamed attributes
@pytest.mark.parametrize("method", [QV, ALL], ids=["qv", "all"])
def test_peft_computes_our_logits(name: str, method: Lora, tmp_path: Path) -> None:
    ours = trained(wide(name), method)
    base = plain(wide(name))
    peft_folder.save(tmp_path, ours, method, "base")
    theirs = peft.PeftModel.from_pretrained(base, tmp_path)
    torch.testing.assert_close(logits(theirs), logits(ours.model), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("config, words", [
    (T5Config(), ("t5", "encoder-decoder")),
    (AutoConfig.for_model("bart"), ("bart", "encoder-decoder")),
    (AutoConfig.for_model("albert"), ("albert", "share")),
    (ViTConfig(), ("vit", "unknown", "ARCHITECTURES")),
    (AutoConfig.for_model("opt", do_layer_norm_before=False), ("opt", "LayerNorm")),
    (nn.Linear(2, 2), ("Linear", "unknown")),
])  # fmt: skip
def test_what_the_table_lacks_is_told_before_anything_is_built(config: Any, words: tuple[str, ...]) -> None:
    refused(lambda: table_of(config), *words)

"""docs/api.md runs as it stands, and what it promises holds for the other architectures and for peft's own reader."""

from __future__ import annotations

import doctest
from pathlib import Path
from typing import Any

import own_models
import pytest
import torch
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    BertModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from lora_repro.api import BeamSearch, complete, load, merge, save, similarity, strip, to_peft, unmerge
from lora_repro.backbone.byte_tokenizer import byte_tokenizer
from lora_repro.errors import UserError
from lora_repro.methods import AdapterH, Dora, Lora, PreLayer

PAGE = Path(__file__).resolve().parents[1] / "docs" / "api.md"
SIZES: dict[str, Any] = {
    "num_hidden_layers": 2, "hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 48, "vocab_size": 300,
}  # fmt: skip
IDS = torch.tensor([[72, 101, 108, 111]])


def bert(cls: Any = BertForSequenceClassification) -> PreTrainedModel:
    model: PreTrainedModel = cls(BertConfig(**SIZES, num_labels=3)).eval()
    return model


def llama() -> PreTrainedModel:
    return LlamaForCausalLM(LlamaConfig(**SIZES)).eval()


def first(model: Any) -> torch.Tensor:
    out: torch.Tensor = model(IDS)[0].detach()
    return out


def test_the_page_runs_as_it_stands() -> None:
    failures, examples = doctest.testfile(str(PAGE), module_relative=False)
    assert not failures and examples > 25


@pytest.mark.parametrize("make", [llama, bert, lambda: bert(BertModel)], ids=["llama", "bert", "bert without head"])
def test_lora_in_a_plain_model(make: Any, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = make()
    before = first(model)
    lora = Lora(rank=2, targets=("query", "value"))
    trainable = lora.apply(model)
    assert torch.equal(first(model), before)
    assert {name for name, p in model.named_parameters() if p.requires_grad} == set(trainable.named)
    for p in trainable.parameters():
        torch.nn.init.normal_(p, std=0.1)
    after = first(model)
    assert (after - before).abs().max() > 1e-3
    save(trainable, tmp_path / "x.safetensors")
    merge(model)
    assert torch.allclose(first(model), after, atol=1e-5)
    unmerge(model)
    assert torch.equal(first(model), after)
    for p in trainable.parameters():
        torch.nn.init.zeros_(p)
    load(trainable, tmp_path / "x.safetensors")
    assert torch.equal(first(model), after)
    strip(model)
    assert torch.allclose(first(model), after, atol=1e-5)


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
@pytest.mark.parametrize("make", [llama, bert], ids=["llama", "bert"])
def test_peft_reads_what_was_applied_to_a_plain_model(make: Any, tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    torch.manual_seed(0)
    model = make()
    model.save_pretrained(tmp_path / "base")
    lora = Lora(rank=2)
    trainable = lora.apply(model)
    for p in trainable.parameters():
        torch.nn.init.normal_(p, std=0.1)
    to_peft(model, lora, tmp_path / "adapter", base=str(tmp_path / "base"))
    again = peft.PeftModel.from_pretrained(type(model).from_pretrained(tmp_path / "base"), tmp_path / "adapter").eval()
    assert torch.allclose(first(again), first(model), atol=1e-5)


def test_a_head_is_trained_and_other_methods_fit_but_those_with_slots() -> None:
    assert set(Lora(rank=2).apply(bert()).head) == {"classifier.weight", "classifier.bias"}
    assert Dora(rank=2).apply(llama()).method and AdapterH(bottleneck=4).apply(bert()).method
    with pytest.raises(UserError, match="needs virtual tokens in its inputs"):
        PreLayer().apply(llama())
    with pytest.raises(UserError, match="unknown architecture Linear"):
        Lora().apply(torch.nn.Linear(2, 2))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("model, config", [(Qwen2ForCausalLM, Qwen2Config), (GPTNeoXForCausalLM, GPTNeoXConfig)])
@pytest.mark.parametrize("tokenizer", [byte_tokenizer("<eos>"), own_models.tokenizer("bos")], ids=["plain", "bos"])
def test_the_beam_search_takes_any_causal_model(
    model: type[PreTrainedModel], config: Any, tokenizer: Any, seed: int
) -> None:
    """With one beam and no bans it is greedy decoding, which a loop over whole sequences gives too."""
    torch.manual_seed(seed)
    network = model(config(**SIZES, num_key_value_heads=1)).eval()
    ids = tokenizer("Hello")["input_ids"]
    start = len(ids)
    while len(ids) < start + 5:
        best = int(network(torch.tensor([ids])).logits[0, -1].argmax())
        if best == tokenizer.eos_token_id:
            break
        ids.append(best)
    texts = complete(network, tokenizer, ["Hello", "Hello there"], BeamSearch(beam=1, max_new_tokens=5, no_repeat_ngram=0))
    assert texts[0] == tokenizer.decode(ids[start:]).split("\n\n")[0].strip()


def test_similarity_is_of_spans_and_not_of_scales() -> None:
    one = torch.randn(3, 20)
    assert similarity(one, torch.diag(torch.tensor([5.0, 2.0, 1.0])) @ one)[2, 2] == pytest.approx(1)
    assert similarity(torch.eye(20)[:2], torch.eye(20)[2:6]).max() == 0


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
def test_a_body_is_no_language_model_to_peft_and_a_stripped_model_is_one_line(tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    torch.manual_seed(0)
    body = BertModel(BertConfig(**SIZES)).eval()
    body.save_pretrained(tmp_path / "base")
    lora = Lora(rank=2)
    for p in lora.apply(body).parameters():
        torch.nn.init.normal_(p, std=0.1)
    ids = torch.arange(5)[None]
    states = body(ids).last_hidden_state
    to_peft(body, lora, tmp_path / "adapter", base=str(tmp_path / "base"))
    again = peft.PeftModel.from_pretrained(BertModel.from_pretrained(tmp_path / "base"), tmp_path / "adapter").eval()
    torch.testing.assert_close(again(input_ids=ids).last_hidden_state, states, rtol=0, atol=1e-5)
    with pytest.raises(UserError, match="a method has updated this model before"):
        Lora(rank=4).apply(body)  # `to_peft` would then write one of the two
    strip(body)
    with pytest.raises(UserError, match="no LoRA in this model"):
        to_peft(body, lora, tmp_path / "none", base="b")
    assert Lora(rank=4).apply(body).method

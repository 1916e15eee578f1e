"""Small models, prompts and tokenizers for the decoding tests, and the comparison with the oracle."""

from __future__ import annotations

import random
from types import SimpleNamespace
from typing import Any

import beam_oracle
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from transformers.cache_utils import DynamicCache

from lora_repro.data import Encoded
from lora_repro.decode.beam import BeamSearch, Decoded

V, EOS, PAD = 30, 0, 1
PIECES = ["<eos>", "<pad>", "\n", "\n\n", "a\n", "\nb", *(chr(97 + i) + " " for i in range(V - 6))]


class Pieces:
    """A tokenizer whose newlines come alone, doubled, and at either end of a word."""

    def decode(self, ids: list[int], **_: Any) -> str:
        return "".join(PIECES[i] for i in ids)


def random_model(kind: str, seed: int, vocabulary: int = V, scale: float = 12.0) -> nn.Module:
    """A two-layer model with peaked outputs (nats between tokens), so that beams differ and end at many lengths."""
    torch.manual_seed(seed)
    shape: dict[str, Any] = {
        "vocab_size": vocabulary,
        "tie_word_embeddings": False,
        "eos_token_id": 0,
        "bos_token_id": 0,
    }
    if kind == "gpt2":
        dropout = {"embd_pdrop": 0.0, "attn_pdrop": 0.0, "resid_pdrop": 0.0}
        model: nn.Module = GPT2LMHeadModel(
            GPT2Config(n_embd=16, n_layer=2, n_head=2, n_positions=128, **dropout, **shape)
        )
    else:
        heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 128}
        model = LlamaForCausalLM(
            LlamaConfig(hidden_size=16, num_hidden_layers=2, intermediate_size=32, **heads, **shape)
        )
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 2:
                parameter.normal_(0, scale * 0.05 if "head" in name else 0.25)
    return model.eval()


def asked(ids: list[int], virtual: list[int]) -> Encoded:
    """A prompt of one segment."""
    return Encoded(ids, virtual, [0] * len(ids), len(ids))


def random_prompts(rng: random.Random, n: int, vocabulary: int = V) -> list[Encoded]:
    lengths = [rng.randint(1, 9) for _ in range(n)]
    return [asked([rng.randrange(vocabulary) for _ in range(k)], [-1] * k) for k in lengths]


class Table(nn.Module):
    """A model whose logits depend on the last token only: row `t` of a table. Counts its calls.

    `seen`: what each row of the last call may attend to: its padded prompt, then its own tokens in their order.
    """

    def __init__(self, table: torch.Tensor) -> None:
        super().__init__()
        self.table = nn.Parameter(table, requires_grad=False)
        self.config = SimpleNamespace(_attn_implementation="none")
        self.shapes: list[tuple[int, ...]] = []

    def forward(
        self, input_ids: torch.Tensor, position_ids: Any = None, cache: Any = None, logits_to_keep: int = 0, **_: Any
    ) -> SimpleNamespace:
        self.shapes.append(tuple(input_ids.shape))
        cache = cache if cache is not None else DynamicCache()
        if position_ids is None:  # the oracle's calls
            position_ids = torch.arange(input_ids.shape[1]).expand_as(input_ids)
        keys = (position_ids * len(self.table) + input_ids)[:, None, :, None].float()
        past, _ = cache.update(keys, keys, 0)
        if isinstance(past, torch.Tensor):
            self.prompt = past.shape[2]
            self.seen = [row.long().remainder(len(self.table)).tolist() for row in past[:, 0, :, 0]]
        else:
            self.seen = [self._path(past, row) for row in range(len(input_ids))]
            assert [row[-1] for row in self.seen] == input_ids[:, -1].tolist()
        return SimpleNamespace(logits=self.table[input_ids[:, -logits_to_keep:]].clone(), cache=cache)

    def _path(self, layer: Any, row: int) -> list[int]:
        seat, slot = int(layer.tree.seat[row]), int(layer.tree.slot[row])
        keys, mask = layer.keys[seat, 0, :, 0].long(), layer.tree.bias[seat, slot] == 0
        prompt = torch.where(mask[: self.prompt], keys[: self.prompt] % len(self.table), PAD).tolist()
        return [*prompt, *(keys[self.prompt :][mask[self.prompt :]].sort().values % len(self.table)).tolist()]


def byte_tokenizer() -> PreTrainedTokenizerFast:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(
        models.BPE({"<eos>": 0, "<pad>": 1, **{c: i + 2 for i, c in enumerate(alphabet)}}, [])
    )
    tokenizer.pre_tokenizer, tokenizer.decoder = (
        pre_tokenizers.ByteLevel(add_prefix_space=False),
        decoders.ByteLevel(),
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<eos>", pad_token="<pad>")


def agree(
    search: BeamSearch, model: nn.Module, tokenizer: Any, prompts: list[Encoded], eos: int = EOS
) -> Decoded:
    """Decode, and hold every prompt against the oracle."""
    hypotheses = search.decode(model, tokenizer, prompts, eos, PAD)
    rule = (search.beam, search.max_new_tokens, search.length_penalty, search.no_repeat_ngram)
    for i, prompt in enumerate(prompts):
        tokens, score = beam_oracle.search(model, tokenizer, prompt.ids, prompt.virtual, eos, *rule)
        assert hypotheses.tokens[i] == tokens, (search, prompt)
        assert hypotheses.scores[i] == pytest.approx(score, abs=1e-4)
        assert hypotheses.outputs[i] == beam_oracle.text(tokenizer, tokens, eos)
    return hypotheses

"""Folders as a user has them: a tiny random model of any architecture and a tokenizer of its kind, by save_pretrained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from conftest import SHAPES
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForMaskedLM, PreTrainedTokenizerFast

from lora_repro.backbone.architecture import ARCHITECTURES

KINDS: dict[str, dict[str, str]] = {
    "bert": {"cls_token": "[CLS]", "sep_token": "[SEP]", "pad_token": "[PAD]", "unk_token": "[UNK]", "mask_token": "[MASK]"},
    "roberta": {"cls_token": "<s>", "sep_token": "</s>", "eos_token": "</s>", "pad_token": "<pad>", "bos_token": "<s>"},
    "bos": {"bos_token": "<s>", "eos_token": "</s>"},
    "plain": {"eos_token": "<|endoftext|>"},
}
PAIRS = {
    "bert": ("[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1"),
    "roberta": ("<s> $A </s>", "<s> $A </s> </s> $B </s>"),
    "bos": ("<s> $A", "<s> $A <s> $B"),
}


def tokenizer(kind: str, **special: str | None) -> PreTrainedTokenizerFast:
    """One token per byte, and around texts what BERT's, RoBERTa's, Llama's (`bos`) or GPT-2's (`plain`) tokenizer puts there."""
    special_tokens = {key: token for key, token in {**KINDS[kind], **special}.items() if token}
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(models.BPE(vocab={letter: i for i, letter in enumerate(alphabet)}, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(list(dict.fromkeys(KINDS[kind].values())))
    if kind in PAIRS:
        words = [(token, backend.token_to_id(token)) for token in dict.fromkeys(KINDS[kind].values())]
        single, pair = PAIRS[kind]
        backend.post_processor = processors.TemplateProcessing(single=single, pair=pair, special_tokens=words)
    return PreTrainedTokenizerFast(tokenizer_object=backend, clean_up_tokenization_spaces=False, **special_tokens)


def own_model(folder: Path, architecture: str = "bert", kind: str = "", seed: int = 1, **shape: Any) -> Path:
    """A model as from pretraining, an encoder with the head of masked words, in a new folder."""
    encoder = "lm" not in ARCHITECTURES[architecture].heads
    words = tokenizer(kind or ("bert" if encoder else "plain"))
    values = {"vocab_size": len(words) + 3, "bos_token_id": 0, "eos_token_id": 1, **SHAPES[architecture], **shape}
    torch.manual_seed(seed)
    auto: Any = AutoModelForMaskedLM if encoder else AutoModelForCausalLM
    auto.from_config(AutoConfig.for_model(**values)).save_pretrained(folder)
    words.save_pretrained(folder)
    return folder

"""A tokenizer without a file, for random models."""

from __future__ import annotations

from transformers import PreTrainedTokenizerFast


def byte_tokenizer(*special: str) -> PreTrainedTokenizerFast:
    """A tokenizer with one token per byte and no file, for random models: ids 0..255 and `<|endoftext|>` = 256.

    `special`: further tokens that the model's yaml names, from 257 on.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={letter: i for i, letter in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|endoftext|>", clean_up_tokenization_spaces=False
    )  # type: ignore[no-untyped-call]
    if new := [token for token in dict.fromkeys(special) if token != fast.eos_token]:
        fast.add_tokens(new, special_tokens=True)
    return fast

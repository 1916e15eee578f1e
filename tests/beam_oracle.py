"""A literal, slow beam search for one prompt: the oracle of tests/test_decode.py.

One loop over slots, as the authors' decoder behaves: no cache, no padding, no early stop, nothing dropped, the whole
beam * vocabulary list ranked at every step. It shares no code with lora_repro.
"""

import math

import torch


def ban(generated, vocabulary, n):
    """Tokens that would repeat an n-gram of `generated`, by trying each of them."""
    repeats = []
    if n > 0:
        ngrams = {tuple(generated[i : i + n]) for i in range(len(generated) - n + 1)}
        for token in range(vocabulary):
            if tuple([*generated, token][-n:]) in ngrams and len(generated) + 1 >= n:
                repeats.append(token)
    return repeats


@torch.inference_mode()
def search(model, tokenizer, prompt, virtual, eos, beam, max_new_tokens, length_penalty, no_repeat_ngram, segments=None):
    """(tokens, score) of the best hypothesis. segments: of the prompt's positions, where they are read; the text is of 1."""
    slots = [(0.0, [])]  # (running sum, tokens); the first step has one slot
    best_score, best = None, None
    for step in range(1, max_new_tokens + 1):
        flat = []  # (sum, flat index, tokens)
        ids = torch.tensor([prompt + tokens for _, tokens in slots])
        extra = {}
        if any(v >= 0 for v in virtual):
            extra["virtual"] = torch.tensor([virtual + [-1] * (step - 1) for _ in slots])
        if segments is not None:
            extra["segments"] = torch.tensor([segments + [1] * (step - 1) for _ in slots])
        all_logits = model(input_ids=ids, **extra).logits[:, -1]
        for slot, (total, tokens) in enumerate(slots):
            if total == -math.inf:
                continue  # its continuations are -inf as well: they can't outrank a live one
            logits = all_logits[slot].clone()
            repeats = ban(tokens, len(logits), no_repeat_ngram)
            logits[repeats] = -math.inf
            logp = torch.log_softmax(logits.float(), -1)
            for token, value in enumerate(logp.tolist()):
                if value > -math.inf:
                    flat.append((total + value, slot * len(logits) + token, [*tokens, token]))
        flat.sort(key=lambda item: (-item[0], item[1]))
        slots = []
        for total, _, tokens in flat[:beam]:
            text = tokenizer.decode(tokens, skip_special_tokens=False, clean_up_tokenization_spaces=False)
            if tokens[-1] == eos or "\n\n" in text:
                score = total / step**length_penalty
                if best_score is None or score > best_score:
                    best_score, best = score, tokens
                total = -math.inf
            slots.append((total, tokens))
        if all(total == -math.inf for total, _ in slots):
            break
    for total, tokens in slots:
        if total > -math.inf:
            score = total / max_new_tokens**length_penalty
            if best_score is None or score > best_score:
                best_score, best = score, tokens
    return best, best_score


def text(tokenizer, tokens, eos):
    """The words of a hypothesis."""
    words = tokens[: tokens.index(eos)] if eos in tokens else tokens
    output = tokenizer.decode(words, skip_special_tokens=False, clean_up_tokenization_spaces=False)
    return output.split("\n\n")[0].strip()

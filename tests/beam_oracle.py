"""A literal, slow beam search for one prompt: the oracle of tests/test_decode.py.

One loop over slots, as the authors' decoder behaves: no cache, no padding, no early stop, nothing dropped, the whole
beam * vocabulary list ranked at every step. It shares no code with lora_repro.
"""

import math

import torch


def ban(generated, vocabulary, n):
    """Tokens that would repeat an n-gram of `generated`, by trying each of them."""
    banned = []
    if n > 0:
        seen = {tuple(generated[i : i + n]) for i in range(len(generated) - n + 1)}
        for token in range(vocabulary):
            if tuple([*generated, token][-n:]) in seen and len(generated) + 1 >= n:
                banned.append(token)
    return banned


@torch.inference_mode()
def search(model, tokenizer, prompt, virtual, eos, beam, max_new_tokens, length_penalty, no_repeat_ngram, segments=None):
    """(tokens, score) of the best hypothesis. segments: of the prompt's positions, where they are read; the text is of 1."""
    slots = [(0.0, [])]  # (running sum, generated); the first step has one slot
    best_score, best = None, None
    for step in range(1, max_new_tokens + 1):
        flat = []  # (sum, flat index, generated)
        ids = torch.tensor([prompt + generated for _, generated in slots])
        extra = {}
        if any(v >= 0 for v in virtual):
            extra["virtual"] = torch.tensor([virtual + [-1] * (step - 1) for _ in slots])
        if segments is not None:
            extra["segments"] = torch.tensor([segments + [1] * (step - 1) for _ in slots])
        all_logits = model(input_ids=ids, **extra).logits[:, -1]
        for slot, (total, generated) in enumerate(slots):
            if total == -math.inf:
                continue  # its continuations are -inf as well: they can't outrank a live one
            logits = all_logits[slot].clone()
            banned = ban(generated, len(logits), no_repeat_ngram)
            logits[banned] = -math.inf
            logp = torch.log_softmax(logits.float(), -1)
            for token, value in enumerate(logp.tolist()):
                if value > -math.inf:
                    flat.append((total + value, slot * len(logits) + token, [*generated, token]))
        flat.sort(key=lambda item: (-item[0], item[1]))
        slots = []
        for total, _, generated in flat[:beam]:
            text = tokenizer.decode(generated, skip_special_tokens=False, clean_up_tokenization_spaces=False)
            if generated[-1] == eos or "\n\n" in text:
                score = total / step**length_penalty
                if best_score is None or score > best_score:
                    best_score, best = score, generated
                total = -math.inf
            slots.append((total, generated))
        if all(total == -math.inf for total, _ in slots):
            break
    for total, generated in slots:
        if total > -math.inf:
            score = total / max_new_tokens**length_penalty
            if best_score is None or score > best_score:
                best_score, best = score, generated
    return best, best_score


def text(tokenizer, tokens, eos):
    """The words of a hypothesis."""
    words = tokens[: tokens.index(eos)] if eos in tokens else tokens
    decoded = tokenizer.decode(words, skip_special_tokens=False, clean_up_tokenization_spaces=False)
    return decoded.split("\n\n")[0].strip()

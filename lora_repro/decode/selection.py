"""One step of the beam search: ban repeated n-grams, rank the continuations, tell which beams have ended."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lora_repro.errors import UserError

BLANK_LINE = "\n\n"
BLOCK, ROWS = 128, 8  # vocabulary entries per block (`top_entries`); rows whose float32 log-probabilities fit a core's cache


@dataclass(frozen=True)
class Beams:
    """R live beams of a batch of prompts.

    owner (R,): the prompt; slot (R,): rank among the prompt's `beam` slots, which settles ties; parent (R,): the row
    it continues; sums (R,) float64: sum of log-probabilities (nats); history (R, n): the generated tokens.
    """

    owner: Tensor
    slot: Tensor
    parent: Tensor
    sums: Tensor
    history: Tensor

    @classmethod
    def start(cls, n: int) -> Beams:
        """One empty beam for each of n prompts: the first step expands only one."""
        zeros = torch.zeros(n, dtype=torch.long)
        return cls(torch.arange(n), zeros, torch.arange(n), zeros.double(), zeros[:, None][:, :0])

    def prompts(self) -> int:
        """How many prompts still have a beam."""
        return len(set(self.owner.tolist()))

    def rows(self, index: Tensor) -> Beams:
        """The beams at `index`, in its order."""
        fields = (self.owner, self.slot, self.parent, self.sums, self.history)
        return Beams(*(field[index] for field in fields))


def repeated_ngrams(history: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """(rows, tokens) that would repeat an n-gram of `history` (R, t); none for n = 0 or while t < n.

    A token is banned if it followed an earlier occurrence of the row's last n - 1 tokens.
    """
    length = history.shape[1]
    if n == 0 or length < n:
        empty = torch.zeros(0, dtype=torch.long)
        return empty, empty
    windows = history.unfold(1, n, 1)  # (R, t - n + 1, n): every n-gram so far
    last = history[:, length - n + 1 :]  # (R, n - 1)
    row, position = (windows[..., :-1] == last[:, None]).all(-1).nonzero(as_tuple=True)
    return row, windows[row, position, n - 1]


def top_entries(logp: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Values and ids (R, k) of the k largest entries of each row of `logp` (R, V), like `topk` but several times faster.

    They lie in the k blocks with the largest maxima: for an entry of any other block, k entries are at least as large.
    """
    n = logp.shape[1] // BLOCK
    best = logp[:, : n * BLOCK].view(len(logp), n, BLOCK).amax(-1).topk(min(k, n)).indices
    columns = torch.arange(logp.shape[1], device=logp.device)
    ids = (best[..., None] * BLOCK + columns[:BLOCK]).flatten(1) if n else best
    ids = torch.cat([ids, columns[n * BLOCK :].expand(len(logp), -1)], 1)
    values, places = logp.gather(1, ids).topk(k)
    return values, ids.gather(1, places)


def top_per_row(logits: Tensor, k: int, sums: Tensor, owner: Tensor) -> tuple[Tensor, Tensor]:
    """Log-probabilities, in float32, and ids (R, k) of the k likeliest tokens of each row of `logits` (R, V).

    Ties go to the lower ids. `topk` alone does not define which of several equal entries at the border (the k-th place) it keeps,
    and bf16 logits tie often. A row with such a tie is recomputed, unless another row of its prompt has a larger border sum: then
    k better sums exist. A CPU takes a few rows at a time, so that their log-probabilities stay in its cache.
    """
    k_more = min(k + 1, logits.shape[1])
    parts = torch.split(logits, ROWS if logits.device.type == "cpu" else len(logits))
    entries = [top_entries(torch.log_softmax(part, -1, dtype=torch.float32), k_more) for part in parts]
    values, ids = (torch.cat(tensors).cpu() for tensors in zip(*entries, strict=True))
    if k_more > k:
        border = sums + values[:, k - 1].double()
        highest = border.new_full((int(owner.max()) + 1,), -torch.inf).scatter_reduce(
            0, owner, border, "amax"
        )
        ties = (values[:, k - 1] == values[:, k]) & (border > -torch.inf) & (border >= highest[owner])
        for row in ties.nonzero()[:, 0].tolist():
            logp = torch.log_softmax(logits[row], -1, dtype=torch.float32)
            above = ids[row, :k][values[row, :k] > values[row, k]]
            equal = (logp == values[row, k].item()).nonzero()[: k - len(above), 0].cpu()
            ids[row, :k] = torch.cat(
                [above, equal]
            )  # values[row, :k] need no update: the same values in the same order
    return values[:, :k], ids[:, :k]


def expand(beams: Beams, logits: Tensor, beam: int, no_repeat_ngram: int) -> Beams:
    """The `beam` best continuations of each prompt's beams, by running sum, in (owner, slot) order.

    logits (R, V) are changed in place. The best `beam` of a prompt lie among the best `beam` of each of its rows,
    so only R * beam sums are ranked; ties go to the lower (slot, token), as in one flat ranking of slot * V + token.
    Raises UserError if beam > V or if a row has no finite probability.
    """
    vocabulary = logits.shape[1]
    if beam > vocabulary:
        raise UserError(
            f"decode.beam={beam} exceeds the vocabulary of {vocabulary} tokens: use a smaller beam"
        )
    banned_rows, banned_tokens = repeated_ngrams(beams.history, no_repeat_ngram)
    logits[banned_rows.to(logits.device), banned_tokens.to(logits.device)] = -torch.inf
    values, ids = top_per_row(logits, beam, beams.sums, beams.owner)
    if bool(values.isnan().any()):
        raise UserError(
            "decoding met NaN or infinite logits, or a beam in which no_repeat_ngram bans every token"
        )
    sums = (beams.sums[:, None] + values.double()).flatten().numpy()  # (R * beam,)
    flat = (beams.slot[:, None] * vocabulary + ids).flatten().numpy()
    owner = beams.owner.repeat_interleave(beam).numpy()
    order = np.lexsort((flat, -sums, owner))
    rank = np.arange(len(order)) - np.searchsorted(owner[order], owner[order])  # rank within its own prompt
    mask = (rank < beam) & np.isfinite(sums[order])  # banned tokens hold no slot
    indices, slot = torch.from_numpy(order[mask]), torch.from_numpy(rank[mask])
    parent, token = indices // beam, ids.flatten()[indices]
    history = torch.cat([beams.history[parent], token[:, None]], 1)
    return Beams(beams.owner[parent], slot, parent, torch.from_numpy(sums)[indices], history)


class Ending:
    """Which beams have ended (EOS or, with `blank_line`, a blank line in the decoded text), and the text they leave.

    The blank line is judged on text, not on ids: "\\n\\n" may be one token, two, or the seam of two longer ones. It can
    only appear with a token that holds a newline, so only such beams are decoded; tokens are classified as they occur.
    """

    def __init__(self, tokenizer: Any, eos: int, blank_line: bool = True) -> None:
        self.tokenizer, self.eos, self.blank_line = tokenizer, eos, blank_line
        self._has_newline: dict[int, bool] = {}

    def __call__(self, history: Tensor) -> list[bool]:
        """For each row of history (R, n): has the last token ended it?"""
        return [
            token == self.eos or (self._newline(token) and self._blank(history[row].tolist()))
            for row, token in enumerate(history[:, -1].tolist())
        ]

    def text(self, tokens: Sequence[int]) -> str:
        """Text of the tokens before EOS, cut at the first blank line if that ends a beam, stripped."""
        ids = list(tokens)
        if self.eos in ids:
            ids = ids[: ids.index(self.eos)]
        text = self._decode(ids)
        return (text.split(BLANK_LINE)[0] if self.blank_line else text).strip()

    def _blank(self, ids: list[int]) -> bool:
        return self.blank_line and BLANK_LINE in self._decode(ids)

    def _newline(self, token: int) -> bool:
        if token not in self._has_newline:
            self._has_newline[token] = "\n" in self._decode([token])
        return self._has_newline[token]

    def _decode(self, ids: list[int]) -> str:
        text = self.tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        return str(text)

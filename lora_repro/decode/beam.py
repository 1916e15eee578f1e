"""The paper's beam search (LoRA v2, section D.3 and Table 11; behaviour as in the authors' released decoder), batched.

It differs from a library's usual beam search in two points. The `beam` best continuations by running sum hold the slots whether
they have ended or not. Repeated n-grams are counted over generated tokens only: 92 % of the E2E test references share a BPE
4-gram with their own input, which must not be forbidden.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import torch
from torch import nn

from lora_repro.config.validation import Range, check
from lora_repro.decode.forward import BeamForward
from lora_repro.decode.selection import Beams, Ending, expand
from lora_repro.errors import UserError

if TYPE_CHECKING:
    from lora_repro.data import Encoded


@dataclass(frozen=True)
class Decoded:
    """What a search found, in the order of its prompts.

    `outputs`: text cut at EOS, then at a blank line that ends it, then stripped. `tokens`: the generated ids, end token included.
    `scores`: sum of log-probabilities / length^penalty. `forward_calls`: model calls. `steps`: positions searched, summed over
    prompts, which equals the calls of a search of one prompt at a time.
    """

    outputs: list[str]
    tokens: list[list[int]]
    scores: list[float]
    forward_calls: int
    steps: int


@dataclass
class _Best:
    score: float = -math.inf
    tokens: tuple[int, ...] = ()


@dataclass(frozen=True)
class BeamSearch:
    """Beam search; a hypothesis of n generated tokens (end token included) scores sum log p / n^length_penalty.

    A beam ends on EOS or, with `blank_line`, on a blank line in its decoded text; beams unfinished after `max_new_tokens` are
    scored by the same formula. `no_repeat_ngram` (0: off) forbids a second occurrence of an n-gram among the generated tokens;
    forbidden logits become -inf before the softmax, so the rest renormalises. Ties go to the earlier beam, then the lower id.

    The early stop is exact. Log-probabilities are <= 0, so a beam with running sum s <= 0 can only end with a sum <= s, and at
    length L <= N = max_new_tokens scores at most s / L^p <= s / N^p for p >= 0 (dividing a negative number by more makes it
    larger). A beam whose bound does not exceed the best hypothesis can never replace it, so it is dropped, even while its
    siblings live on: whatever takes its slot has a lower sum, hence a lower bound, and is dropped as well. So the surviving
    beams are those of the full search, and a prompt stops when none is left.

    Raises UserError for settings out of range.
    """

    beam: Annotated[int, Range(1)] = 10
    max_new_tokens: Annotated[int, Range(1)] = 64
    length_penalty: Annotated[float, Range(0, 10)] = 0.9  # the early stop's bound does not hold below 0
    no_repeat_ngram: int = 4
    batch_size: Annotated[int, Range(1)] = 16
    blank_line: bool = True

    def __post_init__(self) -> None:
        check(f"{__name__}.BeamSearch", vars(self), "decode")

    def decode(
        self,
        model: nn.Module,
        tokenizer: Any,
        prompts: Sequence[Encoded],
        eos: int,
        pad: int,
        progress: Callable[[int], None] | None = None,
        segments: bool = False,
    ) -> Decoded:
        """Decode every prompt as given (no deduplication), longest first, `batch_size` at a time.

        `progress(n)` gets the number of newly finished prompts. `segments`: whether the model reads them. The model is left in
        eval mode; the caller sets autocast. Raises UserError for an empty prompt, a beam wider than the vocabulary, or logits
        without any finite probability.
        """
        if any(len(prompt.ids) == 0 for prompt in prompts):
            raise UserError("cannot decode an empty prompt: give every input at least one token")
        if any(len(prompt.ids) != len(prompt.virtual) for prompt in prompts):
            raise UserError("a prompt needs one virtual slot index (or -1) for each token id")
        model.eval()
        order = sorted(range(len(prompts)), key=lambda i: -len(prompts[i].ids))  # similar lengths need least padding
        by_prompt: dict[int, _Best] = {}
        ending = Ending(tokenizer, eos, self.blank_line)
        calls = steps = 0
        with torch.inference_mode():
            for start in range(0, len(order), self.batch_size):
                batch = order[start : start + self.batch_size]
                forward = BeamForward(model, [prompts[i] for i in batch], pad, self.beam, segments)
                best, positions = self._search(forward, ending, progress or (lambda finished: None))
                by_prompt.update(zip(batch, best, strict=True))
                calls, steps = calls + forward.calls, steps + positions
        hypotheses = [by_prompt[i] for i in range(len(prompts))]
        texts = [ending.text(best.tokens) for best in hypotheses]
        return Decoded(texts, [list(b.tokens) for b in hypotheses], [b.score for b in hypotheses], calls, steps)

    def _search(
        self, forward: BeamForward, ending: Ending, progress: Callable[[int], None]
    ) -> tuple[list[_Best], int]:
        """The best hypothesis of each prompt of one batch, and the positions searched."""
        best = [_Best() for _ in forward.prompts]
        beams, live, steps = Beams.start(len(best)), len(best), 0
        logits = forward.prompt()
        longest = self.max_new_tokens**self.length_penalty
        for length in range(1, self.max_new_tokens + 1):
            steps += live
            beams = expand(beams, logits, self.beam, self.no_repeat_ngram)
            open_rows = self._close(beams, best, ending, length)
            if length < self.max_new_tokens:
                sums, owner = beams.sums.tolist(), beams.owner.tolist()
                open_rows = [row for row in open_rows if sums[row] / longest > best[owner[row]].score]
            beams = beams.rows(torch.tensor(open_rows, dtype=torch.long))
            before, live = live, beams.prompts()
            if live < before:
                progress(before - live)
            if live == 0:
                break
            logits = forward.step(beams)
        return best, steps

    def _close(self, beams: Beams, best: list[_Best], ending: Ending, length: int) -> list[int]:
        """Score ended beams as hypotheses and, at the last length, the others too; returns the rows still open."""
        ends = ending(beams.history)
        open_rows = [row for row, end in enumerate(ends) if not end]
        rows = [row for row, end in enumerate(ends) if end]
        if length == self.max_new_tokens:
            rows, open_rows = rows + open_rows, []
        sums, owner = beams.sums.tolist(), beams.owner.tolist()
        for row in rows:
            score = sums[row] / length**self.length_penalty
            if score > best[owner[row]].score:
                best[owner[row]] = _Best(score, tuple(beams.history[row].tolist()))
        return open_rows

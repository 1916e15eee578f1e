"""Beam search beside transformers' `generate`, which gets its fastest form: plain bf16 weights, and batches of its own.

No token ends a text here, and random weights hardly write a blank line: both write `NEW` tokens with ten beams, which is the same
work. The two rank and ban otherwise (lora_repro.decode.beam): texts are compared with an oracle, by a test, and not here.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from typing import Any

import torch

from lora_repro.config.compose import build, compose
from lora_repro.costs.pairs.step import copied, within
from lora_repro.costs.pairs.table import Row, told
from lora_repro.costs.timing import interleaved
from lora_repro.data import Encoded
from lora_repro.errors import UserError
from lora_repro.stages import objective_of
from lora_repro.train.precision import autocast, resolve_precision, round_frozen
from lora_repro.train.ranks import Ranks

NEW, PROMPTS, ROUNDS = 32, 16, 3
NEVER = -1  # the token that would end a text
THEIRS = 8  # prompts a batch: their best of 4, 8 and 16


def measure(overrides: Sequence[str], backbone: str = "smollm2_135m", new: int = NEW, rounds: int = ROUNDS) -> dict[str, Any]:
    """Seconds of each round for all prompts, and the tokens each wrote of one."""
    profile, rest = within(overrides, "e2e")
    chosen = ["task=e2e", f"backbone={backbone}", "backbone.pretrained=false", "method=lora", "train.precision=auto"]
    sizes = ["decode=beam", "decode.beam=10", f"decode.max_new_tokens={new}", f"decode.batch_size={PROMPTS}"]
    config = compose([f"profile={profile}", *chosen, *sizes, *rest])
    objective, device = objective_of(config), Ranks.here(config.device).device
    dtype = resolve_precision(config.train.precision, device)
    plain = objective.fit(build(config.backbone)).load().to(device)
    examples = build(config.task).load(config.paths.data).test[:PROMPTS]
    rows, _ = objective.ask(examples, plain, (0, 0), config.data.max_length)
    adapted, theirs = copied(plain), copied(plain).model.to(dtype or torch.float32)
    theirs.generation_config.eos_token_id = None  # type: ignore[union-attr]
    build(config.method).apply(adapted)
    adapted.to(device).model.requires_grad_(False).eval()
    round_frozen(adapted.model, dtype, adapted.embedding)
    written: dict[str, int] = {}

    def ours() -> None:
        with autocast(device, dtype):
            found = build(config.decode).decode(adapted.model, adapted.tokenizer, rows, NEVER, adapted.pad)
        written["ours"] = max(map(len, found.tokens))

    def peer() -> None:
        written["generate"] = max(_generated(theirs, part, plain, config.decode) for part in _parts(rows))

    calls = {"ours": ours, "generate": peer}
    found = interleaved(calls, rounds, 0, clock=time.process_time if device.type == "cpu" else time.perf_counter, warm=False)
    if set(written.values()) != {new}:
        raise UserError(f"one of them stopped before {new} tokens ({written}): not the same work")
    seconds = {name: [ms / 1e3 for ms in times] for name, times in found.items()}
    middle = {name: statistics.median(times) for name, times in seconds.items()}
    what = f"beam search, 10 beams, {new} tokens for {PROMPTS} prompts, {backbone}, {'fp32' if dtype is None else 'bf16'}"
    row = Row(what, middle["ours"], "transformers' generate", middle["generate"], "1.6")
    return {"rows": told([row]), "seconds": seconds}


def _parts(rows: Sequence[Encoded]) -> list[list[Encoded]]:
    """Prompts of like length together."""
    order = sorted(rows, key=lambda row: -len(row.ids))
    return [order[start : start + THEIRS] for start in range(0, len(order), THEIRS)]


def _generated(model: Any, rows: Sequence[Encoded], backbone: Any, how: Any) -> int:
    """Tokens that it wrote of the longest."""
    width = max(len(row.ids) for row in rows)
    ids = torch.tensor([[backbone.pad] * (width - len(row.ids)) + row.ids for row in rows], device=backbone.device)
    mask = torch.tensor([[0] * (width - len(row.ids)) + [1] * len(row.ids) for row in rows], device=backbone.device)
    with torch.inference_mode():
        out = model.generate(
            input_ids=ids, attention_mask=mask, num_beams=how.beam, max_new_tokens=how.max_new_tokens, do_sample=False,
            length_penalty=how.length_penalty, no_repeat_ngram_size=how.no_repeat_ngram, early_stopping=False,
            pad_token_id=backbone.pad, eos_token_id=None,
        )  # fmt: skip
    return int(out.shape[1]) - width

"""Beam search beside transformers' `generate` and, on a CPU, beside CTranslate2 (Klein et al. 2020), the fastest engine there.

- `generate` runs in its fastest form: plain bf16 weights, and its own batches.
- CTranslate2 runs in float32 and int8, since it has no bf16 on most CPUs. It needs prompts of one length, so both it and ours
  get the last tokens of each prompt, as many as the shortest has.

No token ends a text here, so all write `NEW` tokens with ten beams and do the same work. They rank and ban candidates by
different rules (lora_repro.decode.beam), so the texts are not compared here; a test compares ours with an oracle.
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from lora_repro.backbone.model import Backbone
from lora_repro.config.compose import build, compose
from lora_repro.data import Encoded
from lora_repro.errors import UserError
from lora_repro.run.stages import objective_of
from lora_repro.train.precision import autocast, resolve_precision, round_frozen
from lora_repro.train.ranks import Ranks
from tests.benchmarks._arms import copied, medians, turns, within
from tests.benchmarks._table import Row, told

NEW, PROMPTS, ROUNDS = 32, 16, 3
NEVER = -1  # the token that would end a text
THEIRS = 8  # the peers' prompts per batch: their fastest of 4, 8 and 16


def measure(overrides: Sequence[str], backbone: str = "smollm2_135m", new: int = NEW, rounds: int = ROUNDS) -> dict[str, Any]:
    """Seconds of each round for all prompts. Raises UserError if one of them does not write `new` tokens."""
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

    even = [replace(row, **_last(row, min(len(one.ids) for one in rows))) for row in rows]

    def evenly() -> None:
        with autocast(device, dtype):
            found = build(config.decode).decode(adapted.model, adapted.tokenizer, even, NEVER, adapted.pad)
        written["ours, even prompts"] = max(map(len, found.tokens))

    def engine(weights: str) -> None:
        written[weights] = _translated(engines[weights], even, plain, config.decode)

    calls = {"ours": ours, "generate": peer}
    with tempfile.TemporaryDirectory() as folder:
        engines = _engines(plain, Path(folder)) if device.type == "cpu" else {}
        if engines:
            calls |= {"ours, even prompts": evenly, **{weights: partial(engine, weights) for weights in engines}}
        seconds = turns(calls, rounds, device, 0)
    if set(written.values()) != {new}:
        raise UserError(f"one of the two stopped before {new} tokens ({written}): they did not do the same work")
    middle = medians(seconds)
    what = f"beam search, 10 beams, {new} tokens for {PROMPTS} prompts, {backbone}, {'fp32' if dtype is None else 'bf16'}"
    row = Row(what, middle["ours"], "transformers' generate", middle["generate"], "1.6")
    others = [
        Row(f"{what}, prompts of {len(even[0].ids)}", middle["ours, even prompts"], f"CTranslate2, {weights}", middle[weights])
        for weights in engines
    ]
    return {"rows": told([row, *others]), "seconds": seconds}


def _last(row: Encoded, length: int) -> dict[str, Any]:
    """The fields of a row that keeps only its last `length` tokens."""
    return {name: getattr(row, name)[-length:] for name in ("ids", "virtual", "segments")} | {"prompt_length": length}


def _engines(plain: Backbone, folder: Path) -> dict[str, Any]:
    """weights -> the backbone as a CTranslate2 generator; empty if the package is not installed."""
    try:
        import ctranslate2
    except ImportError:
        return {}
    plain.model.save_pretrained(folder / "plain")  # type: ignore[operator]
    words = copy.deepcopy(plain.tokenizer)
    for name in ("bos_token", "eos_token", "unk_token"):  # CTranslate2 cannot load a model whose tokenizer lacks one
        if getattr(words, name) is None:
            setattr(words, name, words.convert_ids_to_tokens(plain.eos))
    words.save_pretrained(folder / "plain")
    found = {}
    for weights in ("float32", "int8"):
        converter = ctranslate2.converters.TransformersConverter(str(folder / "plain"))
        converter.convert(str(folder / weights), quantization=weights)
        found[weights] = ctranslate2.Generator(str(folder / weights), device="cpu", intra_threads=1, inter_threads=1)
    return found


def _translated(engine: Any, rows: Sequence[Encoded], backbone: Backbone, how: Any) -> int:
    """The number of tokens in the shortest text that CTranslate2 wrote."""
    prompts = [backbone.tokenizer.convert_ids_to_tokens(row.ids) for row in rows]
    found = engine.generate_batch(
        prompts, max_batch_size=THEIRS, beam_size=how.beam, max_length=how.max_new_tokens, min_length=how.max_new_tokens,
        length_penalty=how.length_penalty, no_repeat_ngram_size=how.no_repeat_ngram, include_prompt_in_result=False, end_token=[],
    )  # fmt: skip
    return min(len(one.sequences_ids[0]) for one in found)


def _parts(rows: Sequence[Encoded]) -> list[list[Encoded]]:
    """Batches of prompts of similar length."""
    order = sorted(rows, key=lambda row: -len(row.ids))
    return [order[start : start + THEIRS] for start in range(0, len(order), THEIRS)]


def _generated(model: Any, rows: Sequence[Encoded], backbone: Any, how: Any) -> int:
    """The number of tokens in the longest text that `generate` wrote."""
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

"""Beam search beside transformers' `generate` and, on a CPU, beside CTranslate2 (Klein et al. 2020), the fastest engine there.

- `generate` runs on plain weights in fp32 and, where the machine computes in it, in bf16, each with the batch of 4, 8 or 16
  prompts that is its fastest. The last line sets its fastest form beside ours.
- CTranslate2 runs in float32 and int8, since it has no bf16 on most CPUs. It needs prompts of one length, so both it and ours
  get the last tokens of each prompt, as many as the shortest has.

No token ends a text in these arms, so all write `NEW` tokens with ten beams and do the same work. They rank and ban candidates by
different rules (lora_repro.decode.beam), so the texts are not compared there; a test compares ours with an oracle. In one more
arm a pretrained model's texts end at their first full stop, as users' texts end, and the texts that agree are counted.
"""

from __future__ import annotations

import copy
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from lora_repro.backbone.model import Backbone
from lora_repro.backbone.weights import round_frozen
from lora_repro.config.compose import build, compose
from lora_repro.costs.latency import Call
from lora_repro.data import Encoded
from lora_repro.errors import UserError
from lora_repro.run.stages import objective_of
from lora_repro.train.precision import autocast, resolve_precision
from lora_repro.train.ranks import Ranks
from tests.benchmarks._arms import PARTS, copied, kind, medians, parts, shown, turns, within
from tests.benchmarks._table import Row, by_cpu, told

NEW, PROMPTS, ROUNDS = 32, 16, 3
NEVER = -1  # the token that would end a text
SIZES = (4, 8, 16)  # generate's prompts per batch, of which its fastest is taken
TRIED = 8  # tokens by which that is found
ENGINE = 8  # CTranslate2's prompts per batch: its fastest of these
END = "."  # where texts end that are to end
TARGET = "2.0"
KINDS = {  # part of a search's time -> the operations that it consists of
    "matrix products": PARTS["matrix products"],
    "attention": (*PARTS["attention"], "_scaled_dot_product_flash_attention_for_cpu"),
    "ranking": ("_log_softmax", "amax", "topk", "gather"),
    "copies": (*PARTS["copies"], "index", "index_select", "_index_put_impl_"),
}


@dataclass(frozen=True)
class Pair:
    """Ours and `generate` with the same weights in one precision (None: fp32). `end`: the token that ends a text."""

    plain: Backbone
    adapted: Backbone
    theirs: Any
    dtype: torch.dtype | None
    how: Any
    end: int = NEVER

    @classmethod
    def of(cls, plain: Backbone, config: Any, dtype: torch.dtype | None, end: int = NEVER) -> Pair:
        adapted, theirs = copied(plain), copied(plain).model.to(dtype or torch.float32)
        theirs.generation_config.eos_token_id = None  # type: ignore[union-attr]
        build(config.method).apply(adapted)
        adapted.to(plain.device).model.requires_grad_(False).eval()
        round_frozen(adapted.model, dtype, adapted.embedding)
        return cls(plain, adapted, theirs, dtype, config.decode, end)

    @property
    def name(self) -> str:
        return "fp32" if self.dtype is None else "bf16"

    def ours(self, rows: Sequence[Encoded]) -> list[list[int]]:
        """The tokens of each text, in the order of the prompts."""
        with autocast(self.plain.device, self.dtype):
            hypotheses = build(self.how).decode(self.adapted.model, self.adapted.tokenizer, rows, self.end, self.adapted.pad)
        tokens: list[list[int]] = hypotheses.tokens
        return tokens

    def generated(self, rows: Sequence[Encoded], size: int, new: int) -> list[list[int]]:
        """As `ours`, by transformers' `generate`, `size` prompts of similar length a batch."""
        order = sorted(range(len(rows)), key=lambda i: -len(rows[i].ids))
        texts: dict[int, list[int]] = {}
        for start in range(0, len(order), size):
            batch = order[start : start + size]
            texts |= zip(batch, self._batch([rows[i] for i in batch], new), strict=True)
        return [texts[i] for i in range(len(rows))]

    def _batch(self, rows: Sequence[Encoded], new: int) -> list[list[int]]:
        width, pad, device = max(len(row.ids) for row in rows), self.plain.pad, self.plain.device
        ids = torch.tensor([[pad] * (width - len(row.ids)) + row.ids for row in rows], device=device)
        mask = torch.tensor([[0] * (width - len(row.ids)) + [1] * len(row.ids) for row in rows], device=device)
        with torch.inference_mode():
            out = self.theirs.generate(
                input_ids=ids, attention_mask=mask, num_beams=self.how.beam, max_new_tokens=new, do_sample=False,
                length_penalty=self.how.length_penalty, no_repeat_ngram_size=self.how.no_repeat_ngram, early_stopping=False,
                pad_token_id=pad, eos_token_id=None if self.end == NEVER else self.end,
            )  # fmt: skip
        texts: list[list[int]] = out[:, width:].tolist()
        return [text[: text.index(self.end) + 1] if self.end in text else text for text in texts]

    def fastest(self, rows: Sequence[Encoded]) -> int:
        """The size of batch with which `generate` takes least, by one try of a few tokens."""
        times = {}
        for size in SIZES:
            began = time.process_time()
            self.generated(rows, size, min(TRIED, int(self.how.max_new_tokens)))
            times[size] = time.process_time() - began
        return min(times, key=times.__getitem__)


def measure(overrides: Sequence[str], backbone: str = "smollm2_135m", new: int = NEW, rounds: int = ROUNDS) -> dict[str, Any]:
    """Seconds of each round for all prompts. Raises UserError if an arm whose texts do not end writes other than `new` tokens."""
    fixed = alike(overrides, backbone, new, rounds)
    free = ended(overrides, backbone, new, rounds)
    return {**fixed, "rows": told([*fixed["rows"], free.pop("row")]), "ended": free, "cpu": kind()}


def alike(overrides: Sequence[str], backbone: str, new: int, rounds: int) -> dict[str, Any]:
    """All arms that write `new` tokens. Raises UserError if one does not."""
    config, plain, rows = _prompts(overrides, backbone, new, "backbone.pretrained=false")
    precision = str(config.train.precision)
    words = ("fp32", precision) if precision == "auto" else (precision,)
    pairs = [Pair.of(plain, config, dtype) for dtype in dict.fromkeys(resolve_precision(word, plain.device) for word in words)]
    sizes = {pair.name: pair.fastest(rows) for pair in pairs}
    even = [replace(row, **_last(row, min(len(one.ids) for one in rows))) for row in rows]
    lengths: dict[str, int] = {}
    own = pairs[-1]  # in the machine's own precision

    def ours(arm: str, pair: Pair, given: Sequence[Encoded]) -> None:
        lengths[arm] = max(map(len, pair.ours(given)))

    def peer(arm: str, pair: Pair) -> None:
        lengths[arm] = max(map(len, pair.generated(rows, sizes[pair.name], new)))

    def engine(weights: str) -> None:
        lengths[weights] = _translated(engines[weights], even, plain, config.decode)

    calls: dict[str, Call] = {}
    for pair in pairs:
        calls[f"ours, {pair.name}"] = partial(ours, f"ours, {pair.name}", pair, rows)
        calls[f"generate, {pair.name}"] = partial(peer, f"generate, {pair.name}", pair)
    on_cpu = plain.device.type == "cpu"
    shares = {pair.name: parts(partial(pair.ours, rows), KINDS) for pair in pairs} if on_cpu else {}
    with tempfile.TemporaryDirectory() as folder:
        engines = _engines(plain, Path(folder)) if on_cpu else {}
        if engines:
            calls["ours, even prompts"] = partial(ours, "ours, even prompts", own, even)
            calls |= {weights: partial(engine, weights) for weights in engines}
        seconds = turns(calls, rounds, plain.device, 0)
    if set(lengths.values()) != {new}:
        raise UserError(f"one of the two stopped before {new} tokens ({lengths}): they did not do the same work")
    middle = medians(seconds)
    what = f"beam search, 10 beams, {new} tokens for {PROMPTS} prompts, {backbone}"
    lines = []
    for name, size in sizes.items():
        note = f"Of the search: {shown(shares[name])}" if shares else ""
        baseline = f"transformers' generate, {size} prompts a batch"
        lines.append(Row(f"{what}, {name}", middle[f"ours, {name}"], baseline, middle[f"generate, {name}"], TARGET, note))
    if len(pairs) > 1:
        best = [min(middle[f"{who}, {name}"] for name in sizes) for who in ("ours", "generate")]
        lines.append(Row(f"{what}, each in its faster precision", best[0], "transformers' generate", best[1], TARGET))
    for weights in engines:
        again = middle["ours, even prompts"]
        short = f"{what}, {own.name}, prompts of {len(even[0].ids)}"
        lines.append(Row(short, again, f"CTranslate2, {weights}", middle[weights]))
    return {"rows": lines, "seconds": seconds, "batches": sizes, "parts": shares}


def ended(overrides: Sequence[str], backbone: str, new: int, rounds: int) -> dict[str, Any]:
    """A pretrained model in fp32, whose texts end at a full stop or after `new` tokens; the row, and how many texts agree."""
    config, plain, rows = _prompts(overrides, backbone, new)
    pair = Pair.of(plain, config, None, int(plain.tokenizer.convert_tokens_to_ids(END)))
    size = pair.fastest(rows)
    texts: dict[str, list[list[int]]] = {}
    calls = {
        "ours": lambda: texts.update(ours=pair.ours(rows)),
        "generate": lambda: texts.update(generate=pair.generated(rows, size, new)),
    }
    seconds = turns(calls, rounds, plain.device, 0)
    same = sum(one == other for one, other in zip(texts["ours"], texts["generate"], strict=True))
    middle, length = medians(seconds), statistics.mean(map(len, texts["ours"]))
    what = f"beam search, 10 beams, {PROMPTS} prompts, pretrained {backbone}, texts end at a full stop, fp32"
    note = f"{same} of {PROMPTS} texts are the same; {length:.0f} tokens a text"
    row = Row(what, middle["ours"], f"transformers' generate, {size} prompts a batch", middle["generate"], TARGET, note)
    return {"row": row, "seconds": seconds, "same": same, "tokens": round(length, 1)}


def join(found: dict[str, Any], before: dict[str, Any] | None, where: dict[str, Any]) -> dict[str, Any]:
    """`found`, with the table of what to expect on each kind of CPU."""
    return by_cpu(found, before, where, _figures, "a beam search", ["beam search", "beside", "takes, times"])


def _figures(found: dict[str, Any]) -> dict[str, list[float]]:
    return {f"{row['what']} | {row['beside']}": [row["theirs"] / row["ours"]] for row in found["rows"]}


def _prompts(overrides: Sequence[str], backbone: str, new: int, *more: str) -> tuple[Any, Backbone, list[Encoded]]:
    """The configuration, the model without a method, and the encoded prompts."""
    profile, rest = within(overrides, "e2e")
    settings = ["task=e2e", f"backbone={backbone}", "method=lora", "train.precision=auto", *more]
    sizes = ["decode=beam", "decode.beam=10", f"decode.max_new_tokens={new}", f"decode.batch_size={PROMPTS}"]
    config = compose([f"profile={profile}", *settings, *sizes, *rest])
    objective = objective_of(config)
    plain = objective.fit(build(config.backbone)).load().to(Ranks.here(config.device).device)
    examples = build(config.task).load(config.paths.data).test[:PROMPTS]
    rows, _ = objective.ask(examples, plain, (0, 0), config.data.max_length)
    return config, plain, rows


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
    engines = {}
    for weights in ("float32", "int8"):
        converter = ctranslate2.converters.TransformersConverter(str(folder / "plain"))
        converter.convert(str(folder / weights), quantization=weights)
        engines[weights] = ctranslate2.Generator(str(folder / weights), device="cpu", intra_threads=1, inter_threads=1)
    return engines


def _translated(engine: Any, rows: Sequence[Encoded], backbone: Backbone, how: Any) -> int:
    """The number of tokens in the shortest text that CTranslate2 wrote."""
    prompts = [backbone.tokenizer.convert_ids_to_tokens(row.ids) for row in rows]
    outputs = engine.generate_batch(
        prompts, max_batch_size=ENGINE, beam_size=how.beam, max_length=how.max_new_tokens, min_length=how.max_new_tokens,
        length_penalty=how.length_penalty, no_repeat_ngram_size=how.no_repeat_ngram, include_prompt_in_result=False, end_token=[],
    )  # fmt: skip
    return min(len(one.sequences_ids[0]) for one in outputs)

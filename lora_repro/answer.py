"""What a trained backbone says to each test input: a text, a class or a number."""

from __future__ import annotations

import time
from typing import Any

from tqdm import tqdm

from lora_repro import manners
from lora_repro.backbone.model import Backbone
from lora_repro.classify import Classification
from lora_repro.data import encode_prompt
from lora_repro.decode import BeamSearch, Prompt
from lora_repro.parts import Parts
from lora_repro.tasks.base import Example
from lora_repro.train.precision import autocast, resolve_precision, round_frozen


def answer(backbone: Backbone, parts: Parts, test: list[Example], measured: dict[str, Any]) -> list[str]:
    """Every input once, in the precision of training; notes in `measured` what it took."""
    started = time.monotonic()
    dtype = resolve_precision(parts.train.precision, parts.device)
    backbone.model.requires_grad_(False)
    backbone.model.eval()
    round_frozen(backbone.model, dtype, backbone.embedding)
    name = "decode" if parts.task.kind == "text" else "predict"
    with (
        manners.bar(len(test), f"{parts.label}: {name}", "input") as bar,
        autocast(parts.device, dtype),
    ):
        if isinstance(parts.decoder, BeamSearch):
            outputs, calls = _texts(backbone, parts, parts.decoder, test, bar)
        else:
            objective = parts.objective()
            assert isinstance(objective, Classification)
            rows, cut = objective.encode(test, backbone, parts.method.virtual_tokens, parts.data.max_length)
            if cut:
                measured["test_rows_cut"] = cut
            outputs, calls = objective.answers(
                backbone, rows, parts.decoder.batch_size, lambda n: bar.update(n) and None
            )
    measured["decode_seconds"] = round(time.monotonic() - started, 1)
    measured["forward_calls"] = calls
    return outputs


def _texts(
    backbone: Backbone, parts: Parts, decoder: BeamSearch, test: list[Example], bar: tqdm
) -> tuple[list[str], int]:
    encoded = [encode_prompt(example.input, backbone, parts.method.virtual_tokens) for example in test]
    prompts = [Prompt(row.ids, row.virtual) for row in encoded]
    decoded = decoder.decode(
        backbone.model,
        backbone.tokenizer,
        prompts,
        backbone.eos,
        backbone.pad,
        lambda n: bar.update(n) and None,
    )
    return decoded.outputs, decoded.forward_calls

"""Measures how fast this machine does a run's work, by timing a few steps of one block of the backbone's true shape."""

from __future__ import annotations

import json
import math
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch

from lora_repro.config.compose_cache import load_or_make
from lora_repro.costs.arithmetic import Outline, Work, backward, forward
from lora_repro.records import provenance
from lora_repro.train.precision import autocast, round_frozen

SECONDS, REPEATS = 0.2, 5  # a step is repeated until either limit is reached
CODE = ("costs", "train/precision")  # what decides what is measured
HOUR = 3_600  # seconds
POSITIONS = 1024  # most positions in a step on a CPU, where a larger step is no faster per position


@dataclass(frozen=True)
class Speed:
    """Operations per second: of whole rows, forward and backward, and of single tokens in a beam search."""

    rows: float
    tokens: float


_known: dict[str, Speed] = {}


def speed(
    shape: dict[str, Any], outline: Outline, work: Work, device: torch.device, dtype: torch.dtype | None
) -> Speed:
    """The speed of this machine, measured for each shape, batch and precision; this takes a few seconds.

    It is kept on disk until the machine, the number of threads, torch, conf/ or the code that measures is another, and for an
    hour at most, since a machine that was busy looks slow.
    """
    length = 2 ** round(math.log2(max(work.length, 1)))  # similar lengths share a measurement
    n = work.micro if device.type == "cuda" else max(1, min(work.micro, POSITIONS // length))
    beams = min(work.test_batch, work.test_rows) * work.beam if work.new else 0
    tuned = outline.weights > 0
    key = json.dumps([shape, n, length, beams, tuned, str(device), str(dtype)], sort_keys=True)
    one = replace(outline, layers=1, depth=1, added=0, head_matrix=0, weights=outline.block if tuned else 0)
    row, token = forward(one, length, 0) + backward(one, length, 0), forward(one, 1, 0)

    def measured() -> list[float]:
        with torch.random.fork_rng(), autocast(device, dtype):
            model = _block(shape, device, None if tuned else dtype)
            rows = _rows(model, n, length, tuned, device)
            rate = n * row / _time(rows, device)
            tokens = rate
            if beams:
                tokens = beams * token / _time(_tokens(model, beams, device), device)
        return [rate, tokens]

    if key not in _known:
        machine = [platform.node(), *provenance.machine(device, dtype).values()]
        asked = ["speed", key, str(row), str(token), *machine, str(int(time.time() // HOUR))]
        _known[key] = Speed(*load_or_make(asked, measured, CODE, ("torch", "transformers")))
    return _known[key]


def _block(shape: dict[str, Any], device: torch.device, rounded: torch.dtype | None) -> torch.nn.Module:
    """The body of a model of this shape, with one layer and a small vocabulary."""
    from transformers import AutoConfig, AutoModel  # slow to import

    config = AutoConfig.for_model(**shape)
    config.num_hidden_layers, config.vocab_size = 1, 64
    for name in ("bos_token_id", "eos_token_id"):
        setattr(config, name, None)
    auto: Any = AutoModel
    model: torch.nn.Module = auto.from_config(config, dtype=torch.float32, trust_remote_code=False).eval().to(device)
    model.requires_grad_(False)
    round_frozen(model, rounded, model.get_input_embeddings())  # type: ignore[operator]
    return model


def _rows(model: torch.nn.Module, n: int, length: int, tuned: bool, device: torch.device) -> Callable[[], None]:
    """A function that makes one training step on n rows of noise."""
    inputs = _noise(model, n, length, device).requires_grad_(True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.0, fused=True) if tuned else None

    def step() -> None:
        model.requires_grad_(tuned)
        model(inputs_embeds=inputs).last_hidden_state.float().sum().backward()
        if optimizer:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        inputs.grad = None
        model.requires_grad_(False)

    return step


def _tokens(model: torch.nn.Module, beams: int, device: torch.device) -> Callable[[], None]:
    """A function that runs one position of every beam."""
    inputs = _noise(model, beams, 1, device)

    def step() -> None:
        with torch.inference_mode():
            model(inputs_embeds=inputs)

    return step


def _noise(model: torch.nn.Module, n: int, length: int, device: torch.device) -> torch.Tensor:
    """Random embeddings (n, length, d)."""
    config: Any = model.config
    return torch.randn(n, length, config.hidden_size).to(device)


def _time(step: Callable[[], None], device: torch.device) -> float:
    """Seconds of the fastest step after a warm-up step: slower ones waited for other processes."""

    def wait() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    step()
    wait()
    taken: list[float] = []
    while len(taken) < REPEATS and sum(taken) < SECONDS:
        started = time.perf_counter()
        step()
        wait()
        taken.append(time.perf_counter() - started)
    return min(taken)

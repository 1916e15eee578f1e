"""How fast this machine, or a GPU that is not at hand, does a run's work.

Here a few steps of one block of the backbone's true shape are timed. For another GPU the speed follows from its published peaks
and the fraction that such runs reach. The card computes while Python launches further kernels, so a step takes the longer of
the two:

    max(FLOPs / (0.4 peak) + bytes / (0.7 bandwidth), kernels x 10 us)

The fractions are assumed, not measured here: well-run trainings report 0.4 of the peak (0.46 in Chowdhery et al. 2022, arXiv
2204.02311, Section 4.1), and long copies reach 0.7 of the bandwidth. An eager step of GPT-2 medium under LoRA takes 90 kernels
per block (2,167 over 24 blocks), one position of a beam search 30. Expect an error of up to a factor of two either way.
"""

from __future__ import annotations

import json
import math
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch

from lora_repro.backbone.weights import round_frozen
from lora_repro.config import yaml_file
from lora_repro.config.disk_cache import load_or_make
from lora_repro.config.hydra_errors import did_you_mean
from lora_repro.config.paths import CONF
from lora_repro.costs.arithmetic import FLOAT, Outline, Work, backward, forward
from lora_repro.errors import UserError
from lora_repro.records import provenance
from lora_repro.train.precision import FORMATS, autocast

ARITHMETIC, BANDWIDTH, LAUNCH = 0.4, 0.7, 10e-6  # fractions of the peaks; seconds per kernel
STEP, POSITION = 90, 30  # kernels per block: in a training step, for one generated position
ADAMW = 28  # bytes per trained value and step: four values read, three written
PASSES = 3  # each kept activation is written once, and read by the next product and by the backward pass
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
    layer = replace(outline, layers=1, depth=1, added=0, head_matrix=0, weights=outline.block if tuned else 0)
    row, token = forward(layer, length, 0) + backward(layer, length, 0), forward(layer, 1, 0)

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
        cache_key = ["speed", key, str(row), str(token), *machine, str(int(time.time() // HOUR))]
        _known[key] = Speed(*load_or_make(cache_key, measured, CODE, ("torch", "transformers")))
    return _known[key]


def _block(shape: dict[str, Any], device: torch.device, dtype: torch.dtype | None) -> torch.nn.Module:
    """The body of a model of this shape, with one layer and a small vocabulary."""
    from transformers import AutoConfig, AutoModel  # slow to import

    config = AutoConfig.for_model(**shape)
    config.num_hidden_layers, config.vocab_size = 1, 64
    for name in ("bos_token_id", "eos_token_id"):
        setattr(config, name, None)
    auto: Any = AutoModel
    model: torch.nn.Module = auto.from_config(config, dtype=torch.float32, trust_remote_code=False).eval().to(device)
    model.requires_grad_(False)
    round_frozen(model, dtype, model.get_input_embeddings())  # type: ignore[operator]
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
    times: list[float] = []
    while len(times) < REPEATS and sum(times) < SECONDS:
        start = time.perf_counter()
        step()
        wait()
        times.append(time.perf_counter() - start)
    return min(times)


@dataclass(frozen=True)
class Card:
    """A GPU of conf/plan.yaml. half, fp32: 1e12 operations per second; bandwidth: GB/s; memory: GB."""

    name: str
    format: Literal["bf16", "fp16"]
    half: float
    fp32: float
    bandwidth: float
    memory: float
    source: str

    def dtype(self, precision: str) -> torch.dtype | None:
        """The format in which `auto`, `bf16`, `fp16` or `fp32` computes on this card; None is float32."""
        return FORMATS[self.format if precision == "auto" else precision]

    def speed(self, o: Outline, work: Work, dtype: torch.dtype | None) -> Speed:
        """Operations per second, as `speed` measures them on this machine's device."""
        size = FLOAT if dtype is None else 2
        blocks = o.layers * o.block * size
        peak = (self.fp32 if dtype is None else self.half) * 1e12

        def seconds(flops: float, nbytes: float, kernels: int) -> float:
            busy = flops / (ARITHMETIC * peak) + nbytes / (BANDWIDTH * self.bandwidth * 1e9)
            return max(busy, kernels * o.layers * LAUNCH)

        back = backward(o, work.length, work.scored) if o.trained and not work.features else 0.0
        flops = work.micro * (forward(o, work.length, work.scored) + back)
        activations = FLOAT * PASSES * work.micro * work.length * o.flow * (o.depth or o.layers)
        parts = -(-work.batch // work.micro)  # micro-batches per optimizer step
        traffic = blocks * (2 if back else 1) + activations + ADAMW * o.trained / parts
        rows = flops / seconds(flops, traffic, STEP if back else POSITION)
        beams = min(work.test_batch, work.test_rows) * work.beam
        if not work.new or not beams:
            return Speed(rows, rows)
        context = work.prompt + work.new / 2
        flops = beams * forward(o, 1, 1)
        traffic = blocks + size * o.head_matrix + beams * (2 * size * context * o.layers * o.kv + PASSES * FLOAT * o.vocabulary)
        return Speed(rows, flops / seconds(flops, traffic, POSITION))

    def __str__(self) -> str:
        peaks = f"{self.half:g} TFLOP/s in {self.format}, {self.fp32:g} in float32, {self.bandwidth:g} GB/s"
        parts = f"{ARITHMETIC:.0%} of its arithmetic, {BANDWIDTH:.0%} of its bandwidth, {LAUNCH * 1e6:.0f} us a kernel"
        return f"{self.name} ({self.source}: {peaks}), at {parts}: stated, not measured"


def _cards() -> dict[str, dict[str, Any]]:
    return yaml_file.values(CONF / "plan.yaml")["hardware"]  # type: ignore[no-any-return]


def card(name: str) -> Card:
    """The card of this name. Raises UserError if it is not known."""
    if name.lower() not in _cards():
        raise UserError(f"hardware={name} is unknown; {did_you_mean(name.lower(), _cards())} (conf/plan.yaml)")
    return Card(**_cards()[name.lower()])

"""What the benchmarks share: our training step, arms that take turns, and where a step's time goes."""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable, Mapping, Sequence

import torch

from lora_repro.backbone.model import Backbone
from lora_repro.backbone.weights import round_frozen
from lora_repro.config.compose import profile_of
from lora_repro.costs.latency import Call, interleaved
from lora_repro.data import Encoded, collate
from lora_repro.methods.base import AbstractMethod
from lora_repro.objectives.base import Objective
from lora_repro.train.loop import TrainConfig
from lora_repro.train.optimizer import adamw
from lora_repro.train.precision import autocast, loss_scaler, resolve_precision

PARTS = {  # part of a step's time -> the operations that it consists of
    "matrix products": ("mm", "addmm"),
    "attention": ("bmm", "baddbmm", "_softmax", "_softmax_backward_data"),
    "random numbers": ("random_", "bernoulli_"),
    "copies": ("copy_", "cat", "fill_"),
    "loss": ("_log_softmax", "_log_softmax_backward_data"),
    "optimizer": ("_fused_adamw_",),
}

Step = Callable[[Sequence[Encoded]], float]


def within(overrides: Sequence[str], folder: str) -> tuple[str, list[str]]:
    """(the profile of a command line, its other overrides with `folder` appended to paths.data)."""
    profile, rest = profile_of(overrides)
    return profile, [f"{item}/{folder}" if item.startswith("paths.data=") else item for item in rest]


def ours(backbone: Backbone, method: AbstractMethod, objective: Objective, train: TrainConfig) -> Step:
    """A function that makes one step of `lora_repro.train.loop`, without log or checkpoints, and returns the loss."""
    dtype = resolve_precision(train.precision, backbone.device)
    trainable = method.apply(backbone)
    backbone.to(backbone.device)
    round_frozen(backbone.model, dtype, backbone.embedding)
    optimizer, scaler = adamw(trainable.named, trainable.rates, train), loss_scaler(backbone.device, dtype)
    if train.compile:
        backbone.compile()
    backbone.model.train()

    def step(rows: Sequence[Encoded]) -> float:
        count = sum(objective.count(row) for row in rows)
        with autocast(backbone.device, dtype):
            batch = collate(rows, backbone.pad, backbone.lengths).to(backbone.device)
            loss = objective.summed(backbone, batch, train.label_smoothing) / count
            scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad(set_to_none=True)
        return float(loss.detach())

    return step


def copied(backbone: Backbone) -> Backbone:
    """A deep copy that shares the tokenizer."""
    return copy.deepcopy(backbone, {id(backbone.tokenizer): backbone.tokenizer})


def clock_of(device: torch.device) -> tuple[Callable[[], float], Callable[[], None]]:
    """(the clock for training: CPU time, or wall time on a GPU; a function that returns when the device has finished)."""
    return (time.perf_counter, torch.cuda.synchronize) if device.type == "cuda" else (time.process_time, lambda: None)


def turns(arms: Mapping[str, Call], rounds: int, device: torch.device, warmup: int = 1) -> dict[str, list[float]]:
    """Seconds of each arm in each round, on `clock_of` the device, after `warmup` untimed calls of each."""
    clock, wait = clock_of(device)
    milliseconds = interleaved(arms, rounds, warmup, wait=wait, clock=clock, warm=False)
    return {arm: [ms / 1e3 for ms in times] for arm, times in milliseconds.items()}


def medians(seconds: Mapping[str, Sequence[float]]) -> dict[str, float]:
    return {arm: statistics.median(times) for arm, times in seconds.items()}


def parts(call: Call, kinds: Mapping[str, Sequence[str]] = PARTS) -> dict[str, float]:
    """The share of torch's CPU time in `call` that each kind of operation takes; the rest is `elementwise`."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiler:
        call()
    times = {event.key.removeprefix("aten::"): event.self_cpu_time_total for event in profiler.key_averages()}
    total = sum(times.values())
    shares = {part: sum(times.get(name, 0) for name in names) / total for part, names in kinds.items()}
    return {name: round(share, 3) for name, share in {**shares, "elementwise": 1 - sum(shares.values())}.items()}


def kind() -> str:
    """The instructions by which torch multiplies matrices here: AVX2, AVX512 or AMX.

    A newer CPU multiplies by AVX2 with `ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 MKL_ENABLE_INSTRUCTIONS=AVX2`.
    """
    amx = getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)  # a private name of torch
    capability = torch.backends.cpu.get_cpu_capability()
    return "AMX" if amx() and capability == "AVX512" else capability


def shown(shares: Mapping[str, float]) -> str:
    return ", ".join(f"{part} {share:.0%}" for part, share in shares.items())

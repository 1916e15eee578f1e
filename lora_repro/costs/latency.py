"""What each method costs: time of a forward pass and a training step, training memory, disk (`commands/latency.py`)."""

from __future__ import annotations

import copy
import os
import random
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lora_repro.backbone import nf4
from lora_repro.backbone.model import Backbone
from lora_repro.config.compose import build, profile_of
from lora_repro.costs import footprint, measures
from lora_repro.costs.footprint import bench_device, shaped
from lora_repro.costs.latency_settings import Bench
from lora_repro.costs.measures import BUSY, FULL, PLAIN
from lora_repro.errors import UserError
from lora_repro.files import write_json
from lora_repro.methods.base import AbstractMethod, Trainable
from lora_repro.methods.update import merge, updates
from lora_repro.planning.cells import Cell
from lora_repro.records import provenance, record
from lora_repro.results import backbone_name, grouped

NAME = "latency"
Call = Callable[[], object]


def adapted(plain: Backbone, method: AbstractMethod, bench: Bench) -> tuple[Backbone, Trainable]:
    """A copy of the plain backbone with the method in it.

    It shares the plain model's weights, unless `copy` or `merged` asks for its own: merging must not change the other models.
    Parameters that an update starts at zero (LoRA's B) are drawn at random, so that merged weights differ from the plain ones.
    """
    shared_parts: list[Any] = [plain.tokenizer]
    if not (bench.copy or bench.merged):
        shared_parts += [*plain.model.parameters(), *plain.model.buffers()]
    backbone = copy.deepcopy(plain, {id(thing): thing for thing in shared_parts})
    trainable = method.apply(backbone)
    backbone.model.requires_grad_(False)
    method_ids = set(map(id, trainable.method.values()))
    for module in updates(backbone.model):
        for parameter in module.parameters():
            if id(parameter) in method_ids and not parameter.any():
                torch.nn.init.normal_(parameter, 0.0, 0.02)
    if bench.merged:
        if not any(updates(backbone.model)):
            raise UserError(f"bench.merged=true: {method.name} cannot be merged into the weights; set bench.merged=false")
        merge(backbone.model)
    return backbone, trainable


def forward(backbone: Backbone, method: AbstractMethod, batch: int, length: int) -> Callable[[], torch.Tensor]:
    """A function that runs one forward pass to the logits (B, T, V) of every position, without a cache.

    T = `length` + the method's virtual tokens.
    """
    prefix, infix = method.virtual_tokens
    device, total = backbone.device, prefix + length + infix
    ids = torch.randint(backbone.embedding.num_embeddings, (batch, total)).to(device)
    virtual = torch.full((batch, total), -1)
    virtual[:, :prefix] = torch.arange(prefix)
    virtual[:, prefix + length :] = torch.arange(prefix, prefix + infix)
    more = {"virtual": virtual.to(device)} if prefix + infix else {}

    def call() -> torch.Tensor:
        with torch.inference_mode():
            hidden = backbone.decoder(input_ids=ids, use_cache=False, **more).last_hidden_state
            logits: torch.Tensor = backbone.head.module(hidden)
            return logits

    return call


def wait_for(device: torch.device) -> Callable[[], None]:
    """A function that returns when the device has finished its work."""
    return torch.cuda.synchronize if device.type == "cuda" else (lambda: None)


def copy_sharing_memory(plain: Backbone) -> Backbone:
    """A copy with parameters of its own that share the plain model's memory: the values that a step writes change no time."""
    parameters: dict[int, Any] = {id(parameter): torch.nn.Parameter(parameter.detach()) for parameter in plain.model.parameters()}
    shared_parts = [plain.tokenizer, *plain.model.buffers()]
    return copy.deepcopy(plain, {**parameters, **{id(thing): thing for thing in shared_parts}})


def steps(cells: Sequence[Cell], device: torch.device, say: Callable[[str], None]) -> list[dict[str, Any]]:
    """One entry per trained row of one backbone's `cells`: milliseconds of a training step in every round, and the slow-down
    against full fine-tuning.

    A step is forward, backward and AdamW on one random batch, in float32. Empty if full fine-tuning is not among the cells.
    """
    rows = {cell.row.name: cell for cell in cells if build(cell.asked["bench"]).trained}
    if FULL not in rows:
        return []
    bench: Bench = build(rows[FULL].asked["bench"])
    start, plain, trainers = time.monotonic(), shaped(build(rows[FULL].asked["backbone"])).load().to(device), {}
    for name, cell in rows.items():
        quantisation = cell.asked["backbone"]["quantise"]
        if not (quantisation and nf4.missing_package_error(name)):
            trainers[name] = footprint.training(cell.asked, device, None if quantisation else copy_sharing_memory(plain))
    durations = interleaved(
        {name: trainer.step for name, trainer in trainers.items()}, bench.rounds, 2, wait=wait_for(device), warm=False
    )
    model_name = backbone_name(cells[0])
    say(f"{model_name}: {bench.rounds} rounds of training steps of {len(trainers)} methods, {time.monotonic() - start:.0f} s")
    return [
        {
            "backbone": model_name, "row": name, "label": rows[name].row.label, "tokens": bench.train_batch * bench.train_length,
            "slowdown": None if name == FULL else vars(slowdown(times, durations[FULL], bench.resamples)),
            "ms": [round(value, 4) for value in times],
        }
        for name, times in durations.items()
    ]  # fmt: skip


def times(cells: Sequence[Cell], device: torch.device, say: Callable[[str], None]) -> list[dict[str, Any]]:
    """One entry per size (batch x length) and timed row of one backbone's `cells`: milliseconds of every round, slow-down."""
    bench: Bench = build(cells[0].asked["bench"])
    rows = {cell.row.name: cell for cell in cells if build(cell.asked["bench"]).timed}
    model_name = backbone_name(cells[0])
    if not rows:
        return []
    if PLAIN not in rows:
        raise UserError(f"row/{NAME} must include {PLAIN}, which the other rows are measured against: add it")
    torch.manual_seed(0)
    plain = shaped(build(cells[0].asked["backbone"])).load().to(device)
    models = {}
    for name, cell in rows.items():
        method = build(cell.asked["method"])
        backbone, trainable = adapted(plain, method, build(cell.asked["bench"]))
        models[name] = (backbone.to(device), method, trainable.counts(backbone.model))
    entries = []
    for length in bench.lengths:
        for batch in bench.batches:
            start = time.monotonic()
            calls = {name: forward(backbone, method, batch, length) for name, (backbone, method, _) in models.items()}
            durations = interleaved(calls, bench.rounds, bench.warmup, wait=wait_for(device))
            for name, cell in rows.items():
                against = slowdown(durations[name], durations[PLAIN], bench.resamples)
                entries.append({
                    "backbone": model_name, "batch": batch, "length": length, "row": name, "label": cell.row.label,
                    "parameters": models[name][2]["method"], "total": models[name][2]["total"],
                    "median_ms": statistics.median(durations[name]), "slowdown": None if name == PLAIN else vars(against),
                    "ms": [round(value, 4) for value in durations[name]],
                })  # fmt: skip
            say(f"{model_name} {batch} x {length}: {bench.rounds} rounds of {len(calls)} models, "
                f"{time.monotonic() - start:.0f} s")  # fmt: skip
    return entries


def measure(overrides: Sequence[str], say: Callable[[str], None] = print) -> Path:
    """Measure what conf/experiment/latency.yaml declares, and save it; returns the path. Raises UserError."""
    profile, rest = profile_of(overrides)
    cells = measures.declared(NAME, profile, rest)
    blocks = grouped(cells, backbone_name)
    config = cells[0].asked
    device = bench_device(config)
    path = measures.path_of(Path(config["paths"]["runs"]) / profile, NAME, cells, rest, device.type)
    signature = measures.signature_of(cells)
    if measures.find(path, signature, provenance.device_name(device)):
        say(f"{path}: already measured with these settings; delete it to measure again")
        return path
    with record.lock(path.parent):
        load = os.getloadavg()[0]
        if load > BUSY:
            say(f"warning: this machine is busy (load {load:.1f}): times will be longer and intervals wider")
        start = time.monotonic()
        memory = [entry for block in blocks for entry in footprint.footprints(block, overrides, say)]
        step_times = [entry for block in blocks for entry in steps(block, device, say)]
        latency = [entry for block in blocks for entry in times(block, device, say)]
        public = [item for item in rest if not item.startswith("paths.")]
        write_json(path, {
            "schema": record.SCHEMA, "name": NAME, "signature": signature, "status": "finished", "profile": profile,
            "asked": {"overrides": public, "bench": config["bench"], "methods": {
                backbone_name(block[0]): {cell.row.name: cell.asked["method"] for cell in block} for block in blocks
            }},
            "backbones": {backbone_name(block[0]): shaped(build(block[0].asked["backbone"])).label for block in blocks},
            "latency": latency, "memory": memory, "steps": step_times, "arithmetic": footprint.arithmetic(blocks[0]),
            "where": {**provenance.where(provenance.attempt(device, None)), "kind": device.type,
                      "threads": torch.get_num_threads(), "load_before": round(load, 2),
                      "wall_seconds": round(time.monotonic() - start)},
        })  # fmt: skip
    return path


def interleaved(
    calls: Mapping[str, Call],
    rounds: int,
    warmup: int,
    wait: Callable[[], None] = lambda: None,
    clock: Callable[[], float] = time.perf_counter,
    warm: bool = True,
) -> dict[str, list[float]]:
    """Milliseconds of each call in each round, in the order of rounds.

    Every round runs all calls in a new random order, so a drift of the machine affects all of them, and cancels in the ratio of
    two times of one round. warm: run each call untimed just before it is timed, so that its weights are in the caches, as on a
    server that runs nothing else. wait: returns when the device has finished (CUDA launches are asynchronous); it runs before
    each reading of the clock.
    """
    for call in calls.values():
        for _ in range(warmup):
            call()
    times: dict[str, list[float]] = {name: [] for name in calls}
    draw = random.Random(0)
    for _ in range(rounds):
        for name in draw.sample(list(calls), len(calls)):
            if warm:
                calls[name]()
            wait()
            start = clock()
            calls[name]()
            wait()
            times[name].append(1e3 * (clock() - start))
    return times


@dataclass(frozen=True)
class SlowdownEstimate:
    """Median slow-down in per cent, its 95 % interval, and the number of rounds behind them."""

    median: float
    low: float
    high: float
    n: int


def slowdown(times: Sequence[float], plain: Sequence[float], resamples: int) -> SlowdownEstimate:
    """100 (median_i(t_i / p_i) - 1) over rounds i, with a percentile-bootstrap interval of that median.

    The rounds are resampled, so the interval covers only the noise of this machine during this measurement. Raises ValueError
    unless both have one positive time per round.
    """
    ratios = np.asarray(times, float) / np.asarray(plain, float)
    if len(times) != len(plain) or not len(ratios) or not (np.isfinite(ratios) & (ratios > 0)).all():
        raise ValueError("times and plain must hold one positive number for each round")
    indices = np.random.default_rng(0).integers(len(ratios), size=(resamples, len(ratios)))
    low, high = np.percentile(np.median(ratios[indices], axis=1), [2.5, 97.5])
    median, low, high = (float(100 * (value - 1)) for value in (np.median(ratios), low, high))
    return SlowdownEstimate(median, low, high, len(ratios))

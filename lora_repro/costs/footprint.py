"""The training memory and the file sizes of one method, measured in a fresh process.

    python -m lora_repro.costs.footprint experiment=latency row/latency=lora backbone=gpt2_small     prints one JSON line

`footprints` starts it so: a process that held another model before would report that model's peak.
"""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from lora_repro import console
from lora_repro.backbone import nf4
from lora_repro.backbone.model import Backbone
from lora_repro.backbone.nf4 import Nf4Matrix
from lora_repro.backbone.spec import BackboneSpec
from lora_repro.config.compose import build, compose, resolved
from lora_repro.costs.latency_settings import Bench
from lora_repro.data import Batch, Encoded, collate
from lora_repro.errors import UserError
from lora_repro.methods.base import AbstractMethod, Shape, Trainable
from lora_repro.objectives.completion import summed_loss
from lora_repro.planning.cells import Cell
from lora_repro.records import provenance
from lora_repro.records.run_folder import ADAPTER
from lora_repro.train import checkpoint
from lora_repro.train.ranks import Ranks

# glibc keeps freed blocks below a threshold that it raises by itself; with a fixed one the resident set follows live memory.
ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}


def shaped(spec: BackboneSpec) -> BackboneSpec:
    """The spec of a hub model with random weights of its shape; any other spec as it is."""
    if spec.source != "hub":
        return spec
    return replace(spec, source="random", label=f"{spec.label}, random weights")


def bench_device(config: dict[str, Any]) -> torch.device:
    """The device that a configuration asks for, with its CPU threads set."""
    if "bench" not in config:
        raise UserError("nothing says what to measure: name experiment=latency and a row, for example row/latency=lora")
    bench: Bench = build(config["bench"])
    if bench.threads is not None:
        torch.set_num_threads(bench.threads)
    return Ranks.here(config["device"]).device


def random_batch(backbone: Backbone, method: AbstractMethod, batch: int, length: int) -> Batch:
    """Sequences of `length` random tokens plus the method's virtual tokens; the second half is scored, as after a prompt."""
    prefix, infix = method.virtual_tokens
    ids = torch.randint(backbone.embedding.num_embeddings, (batch, length)).tolist()
    context = length // 2
    virtual = [*range(prefix), *[-1] * context, *range(prefix, prefix + infix), *[-1] * (length - context)]
    segments = [0] * (prefix + context + infix) + [1] * (length - context)
    slots = ([backbone.pad] * prefix, [backbone.pad] * infix)
    rows = [
        Encoded([*slots[0], *line[:context], *slots[1], *line[context:]], virtual, segments, prefix + context + infix)
        for line in ids
    ]
    return collate(rows, backbone.pad)


def saved(compute: Callable[[], torch.Tensor], tensors: Iterable[torch.Tensor]) -> tuple[torch.Tensor, int]:
    """(the result of `compute`, the bytes it keeps for its backward pass): each storage once, without those of `tensors`."""
    pointers = {tensor.untyped_storage().data_ptr() for tensor in tensors}
    nbytes: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in pointers:
            nbytes[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        out = compute()
    return out, sum(nbytes.values())


@dataclass(frozen=True)
class Training:
    """A method in its backbone, trained on one random batch (`bench.train_batch` sequences of `bench.train_length` tokens)."""

    backbone: Backbone
    trainable: Trainable
    optimizer: torch.optim.Optimizer
    batch: Batch

    def loss(self) -> torch.Tensor:
        return summed_loss(self.backbone, self.batch, 0.1)[0] / len(self.batch.scored)

    def step(self) -> None:
        self.loss().backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)


def training(config: dict[str, Any], device: torch.device, backbone: Backbone | None = None) -> Training:
    """The training of a row of conf/row/latency, in float32, in its own backbone or in the given one."""
    bench, method = build(config["bench"]), build(config["method"])
    torch.manual_seed(0)
    backbone = backbone or shaped(build(config["backbone"])).load().to(device)
    trainable = method.apply(backbone)
    backbone.to(device)
    backbone.model.train()
    batch = random_batch(backbone, method, bench.train_batch, bench.train_length).to(device)
    return Training(backbone, trainable, torch.optim.AdamW(trainable.parameters(), lr=1e-4, fused=True), batch)


def footprint(config: dict[str, Any]) -> dict[str, Any]:
    """Measure the memory of `bench.train_steps` steps of AdamW in float32, in this process.

    The first step creates the optimizer's state and the second has it beside live activations, so the peak is that of a long
    training. `weights_bytes`: all parameters and buffers. `loaded_mib`: with the method inserted and every weight touched, as a
    mapped file is not resident before. `peak_mib` - `loaded_mib`: gradients, optimizer state, activations, buffers. One more
    step after the peak gives `activation_bytes` (`saved`) and `gradient_bytes`, those after its backward pass.
    """
    device, bench = bench_device(config), build(config["bench"])
    trainer = training(config, device)
    trainable, model = trainer.trainable, trainer.backbone.model
    for parameter in model.parameters():
        parameter.detach().sum()
    tensors = {value.data_ptr(): value for value in (*model.parameters(), *model.buffers())}
    weights = sum(value.numel() * value.element_size() for value in tensors.values())
    gc.collect()
    provenance.reset_peak_memory(device)
    baseline = provenance.peak_memory_mb(device)
    for _ in range(bench.train_steps):
        trainer.step()
    peak = provenance.peak_memory_mb(device)
    loss, activations = saved(trainer.loss, tensors.values())
    loss.backward()  # type: ignore[no-untyped-call]
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    state = [value for entry in trainer.optimizer.state.values() for value in entry.values() if torch.is_tensor(value)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / ADAPTER
        checkpoint.save_tensors(path, {**trainable.method, **trainable.head})
        file_bytes = path.stat().st_size
    counts = trainable.counts(model)
    return {
        "parameters": counts["method"] + counts["head"],
        "total": counts["total"],
        "quantised": sum(part.sizes[0] * part.sizes[1] for part in model.modules() if isinstance(part, Nf4Matrix)),
        "weights_bytes": weights,
        "loaded_mib": baseline,
        "peak_mib": peak,
        "state_bytes": sum(value.numel() * value.element_size() for value in state),
        "gradient_bytes": sum(value.numel() * value.element_size() for value in gradients),
        "activation_bytes": activations,
        "file_bytes": file_bytes,
    }


def footprints(cells: Sequence[Cell], overrides: Sequence[str], say: Callable[[str], None]) -> list[dict[str, Any]]:
    """One entry per trained row of one backbone's `cells`, each from a process of its own. Raises UserError if one fails."""
    axes = ("backbone=", "row/latency=")
    rest = [item for item in overrides if not item.startswith(axes)]
    entries = []
    for cell in cells:
        if not build(cell.asked["bench"]).trained:
            continue
        start = time.monotonic()
        row, backbone = cell.row, cell.asked["backbone"]["name"]
        if cell.asked["backbone"]["quantise"] and (absent := nf4.missing_package_error(f"backbone {backbone}: quantise=nf4")):
            say(f"{row.name} is left out: {absent}")
            continue
        arguments = [f"backbone={backbone}", f"row/latency={row.name}", *rest]
        command = [sys.executable, "-m", __spec__.name, "experiment=latency", *arguments]
        process = subprocess.run(command, env={**os.environ, **ALLOCATOR}, capture_output=True, text=True, check=False)
        if process.returncode:
            errors = process.stderr.strip().splitlines() or [f"exit status {process.returncode}"]
            raise UserError(f"cannot measure the memory of row {row.name} on {backbone}: {errors[-1].removeprefix('error: ')}")
        measurements = json.loads(process.stdout.splitlines()[-1])
        entries.append({"backbone": backbone, "row": row.name, "label": row.label, **measurements})
        say(f"{backbone} {row.name}: training memory measured in {time.monotonic() - start:.0f} s")
    return entries


def arithmetic(cells: Sequence[Cell]) -> list[dict[str, Any]]:
    """The values trained by each row with a printed size, on the shape of `bench.arithmetic`, a model too large to load."""
    model = build(cells[0].asked["bench"]).arithmetic
    token = "<|endoftext|>"
    spec = BackboneSpec("arithmetic", model["label"], "random", "\n", token, token, shape=model["shape"])
    with torch.device("meta"):  # shapes without memory
        shape = Shape.of(spec.load())
    return [
        {
            "label": model["label"],
            "row": cell.row.name,
            "width": model["bytes"],
            "parameters": build(cell.asked["method"]).count(shape),
            "total": shape.parameters,
        }
        for cell in cells
        if "gpt3_175b" in cell.row.paper
    ]


def main(overrides: list[str]) -> int:
    """Measure the one row that the overrides choose, and print it as one JSON line. Returns the exit status."""
    try:
        print(json.dumps(footprint(resolved(compose(overrides)))))
    except UserError as error:
        return console.report_error(error)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

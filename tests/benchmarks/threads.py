"""Wall time of a LoRA step with one thread and with two, beside what two threads give the matrix products alone.

One and two threads take turns on the same batch; the least time of each counts, since another process only adds time. Where a
step gains less than the products, two runs side by side (`launch.together=2`) use two cores better than one run does.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.nn import functional as F

from lora_repro.config.compose import build, compose
from lora_repro.data import subset
from lora_repro.run.stages import objective_of
from tests.benchmarks._arms import ours, within
from tests.benchmarks._table import Row, told
from tests.benchmarks.step import CASES

THREADS = (1, 2)
ROUNDS = 9
PRODUCTS = 100  # products timed at once
NAMES = ("SmolLM2-135M", "MiniLM-L6 on pairs")  # of the cases of `step`


def measure(
    overrides: Sequence[str],
    names: Sequence[str] = NAMES,
    rounds: int = ROUNDS,
    precisions: Sequence[str] = ("fp32", "bf16"),
) -> dict[str, Any]:
    """Seconds of each round of a step and of the products, for each case and precision, by the number of threads."""
    entries = [measured(name, overrides, rounds, precision) for name in names for precision in precisions]
    return {"rows": told([_row(entry) for entry in entries]), "threads": entries}


def measured(name: str, overrides: Sequence[str], rounds: int, precision: str) -> dict[str, Any]:
    _, backbone, synthetic, real, folder, size = CASES[name]
    profile, rest = within(overrides, folder)
    task = synthetic if profile in ("smoke", "mini") else real
    settings = [f"task={task}", f"backbone={backbone}", "method=lora"]
    config = compose([f"profile={profile}", *settings, *rest, f"train.precision={precision}"])
    objective = objective_of(config)
    plain = objective.fit(build(config.backbone)).load()
    examples = subset(build(config.task).load(config.paths.data).train, size, 0)
    rows, _ = objective.encode(examples, plain, (0, 0), config.data.max_length)
    width, dtype = plain.hidden_size, torch.bfloat16 if precision == "bf16" else torch.float32
    x, w = torch.randn(sum(len(row.ids) for row in rows), width, dtype=dtype), torch.randn(4 * width, width, dtype=dtype)
    step = ours(plain, build(config.method), objective, build(config.train))
    calls = {"step": lambda: step(rows), "products": lambda: [F.linear(x, w) for _ in range(PRODUCTS)]}
    return {"name": name, "precision": precision, "seconds": {kind: _by_threads(call, rounds) for kind, call in calls.items()}}


def _by_threads(call: Callable[[], object], rounds: int) -> dict[str, list[float]]:
    """Wall seconds of each round, by the number of threads, after one untimed call of each."""
    wall_times: dict[str, list[float]] = {str(count): [] for count in THREADS}
    before = torch.get_num_threads()
    try:
        for _ in range(rounds + 1):
            for count in THREADS:
                torch.set_num_threads(count)
                began = time.perf_counter()
                call()
                wall_times[str(count)].append(time.perf_counter() - began)
    finally:
        torch.set_num_threads(before)
    return {count: times[1:] for count, times in wall_times.items()}


def _row(entry: dict[str, Any]) -> Row:
    least = {kind: {count: min(times) for count, times in each.items()} for kind, each in entry["seconds"].items()}
    one, two = (least["step"][str(count)] for count in THREADS)
    products = least["products"]["1"] / least["products"]["2"]
    note = f"wall time; of the products alone one thread takes {products:.2f} times as long"
    return Row(f"LoRA step, {entry['name']}, {entry['precision']}, two threads", two, "one thread", one, note=note)

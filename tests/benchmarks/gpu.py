"""Timings that need a GPU: a LoRA step in fp32, fp16, bf16 and compiled, and short runs sharing the card or one by one.

They are wall times, since the CPU only launches kernels. The loss in fp16 is scaled as in training (`train.precision`).
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from lora_repro.config.compose import build, compose
from lora_repro.config.paths import ROOT
from lora_repro.data import epoch_order
from lora_repro.errors import UserError
from lora_repro.run.stages import objective_of
from lora_repro.train.ranks import Ranks
from tests.benchmarks._arms import copied, medians, ours, turns, within
from tests.benchmarks._table import Row, told

NEEDS_GPU = True
BATCH = 8
ARMS: dict[str, dict[str, Any]] = {
    "bf16": {"precision": "bf16"}, "fp32": {"precision": "fp32"}, "fp16": {"precision": "fp16"},
    "bf16, compiled": {"precision": "bf16", "compile": True},
}  # fmt: skip
TOGETHER = 3  # runs on one card


def measure(
    overrides: Sequence[str],
    rounds: int = 10,
    backbone: str = "smollm2_135m",
    arms: Sequence[str] = tuple(ARMS),
    steps: int = 200,
) -> dict[str, Any]:
    """Seconds per step in each round; seconds of `TOGETHER` runs of `steps` steps, together on one card and one after another.

    Raises UserError if a sweep fails.
    """
    profile, rest = within(overrides, "e2e")
    base_overrides = [f"profile={profile}", "task=e2e", f"backbone={backbone}", "method=lora", *rest]
    config = compose(base_overrides)
    objective, settings, device = objective_of(config), build(config.train), Ranks.here(config.device).device
    plain = objective.fit(build(config.backbone)).load().to(device)
    examples = build(config.task).load(config.paths.data).train[: BATCH * 8]
    rows, _ = objective.encode(examples, plain, (0, 0), config.data.max_length)
    batches = [[rows[i] for i in indices] for indices in epoch_order(len(rows), BATCH, 0, 0)]
    step_functions = {arm: ours(copied(plain), build(config.method), objective, replace(settings, **ARMS[arm])) for arm in arms}

    def call(step: Callable[..., float]) -> None:
        for batch in batches:
            step(batch)

    totals = turns({arm: partial(call, step) for arm, step in step_functions.items()}, rounds, device, 2)
    seconds = {arm: [one / len(batches) for one in times] for arm, times in totals.items()}
    middle = medians(seconds)
    first, *others = arms
    lines = [Row(f"LoRA step of {BATCH} rows, {backbone}, {first}", middle[first], arm, middle[arm]) for arm in others]
    short = ["data.n_test=0", f"train.steps={steps}", f"train.eval_every={steps}", f"seed={','.join(map(str, range(TOGETHER)))}"]
    runs = {n: sweep([*base_overrides, *short], n, device.type) for n in dict.fromkeys((TOGETHER, 1))}
    what = f"{TOGETHER} runs of {steps} steps at a time, {backbone}"
    lines.append(Row(what, runs[TOGETHER], "one after another", runs[1], "2.0"))
    return {"rows": told(lines), "seconds": seconds, "sweeps": {str(n): wall for n, wall in runs.items()}}


def sweep(overrides: Sequence[str], at_once: int, kind: str) -> float:
    """Wall seconds of a sweep with `at_once` runs at a time, in a temporary folder. Raises UserError if it fails."""
    limit = f"launch.per_gpu={at_once}" if kind == "cuda" else f"launch.together={at_once}"
    with tempfile.TemporaryDirectory() as folder:
        began = time.monotonic()
        child = subprocess.run(
            [sys.executable, "-m", "lora_repro.run", "-m", *overrides, limit, f"paths.runs={folder}"],
            cwd=ROOT, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if child.returncode:
            raise UserError(f"a sweep of {at_once} runs at a time ended with {child.returncode}: {child.stderr.strip()[-200:]}")
        return time.monotonic() - began

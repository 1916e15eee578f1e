"""A training step in d random directions (`methods.intrinsic_dimension`) beside one of full fine-tuning, on the same batches."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from lora_repro.config.compose import build, compose
from lora_repro.data import epoch_order
from lora_repro.run.stages import objective_of
from lora_repro.train.ranks import Ranks
from tests.benchmarks._arms import copied, medians, ours, turns, within
from tests.benchmarks._table import Row, told

D = 1000
BATCH = 16
MOST = 2.5  # target: at most this many times a full step


def measure(overrides: Sequence[str], rounds: int = 6, backbone: str = "minilm_l6") -> dict[str, Any]:
    """Each round's seconds of both steps in the run's own precision, and both first losses, which have the same weights."""
    profile, rest = within(overrides, "glue")
    task = "sentiment" if profile in ("smoke", "mini") else "sst2"
    config = compose([f"profile={profile}", f"task={task}", f"backbone={backbone}", *rest])
    objective, train, device = objective_of(config), build(config.train), Ranks.here(config.device).device
    plain = objective.fit(build(config.backbone)).load().to(device)
    splits = build(config.task).load(config.paths.data)
    rows, _ = objective.encode(splits.train[: BATCH * (rounds + 1)], plain, (0, 0), config.data.max_length)
    batches = [[rows[i] for i in indices] for indices in epoch_order(len(rows), BATCH, 0, 0)]
    methods = {"d": ["method=intrinsic_dimension", f"method.d={D}"], "full": ["method=full"]}
    steps = {arm: ours(copied(plain), build(compose(settings).method), objective, train) for arm, settings in methods.items()}
    losses: dict[str, list[float]] = {arm: [] for arm in steps}

    def call(arm: str) -> None:
        losses[arm].append(steps[arm](batches[len(losses[arm])]))

    seconds = turns({arm: partial(call, arm) for arm in steps}, rounds, device)
    middle = medians(seconds)
    what, note = f"a step in {D:,} random directions, {backbone}", f"{splits.caption}; at most {MOST} times a full step"
    row = Row(what, middle["d"], "our full fine-tuning", middle["full"], f"{1 / MOST:.1f}", note)
    return {"rows": told([row]), "seconds": seconds, "losses": {arm: values[0] for arm, values in losses.items()}}

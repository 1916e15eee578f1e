"""A linear-probing step of a language model's head on cached states of the body, beside a step that runs the body again."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from lora_repro.config.compose import build, compose
from lora_repro.run.stages import objective_of
from lora_repro.train.precision import autocast, resolve_precision
from lora_repro.train.ranks import Ranks
from tests.benchmarks._arms import clock_of, copied, medians, ours, parts, shown, turns, within
from tests.benchmarks._table import Row, told

EPOCHS = 5  # as in the paper
BATCH = 8


def measure(overrides: Sequence[str], rounds: int = 4, backbone: str = "smollm2_135m") -> dict[str, Any]:
    """Seconds of both steps and of caching one batch's states; the row compares `EPOCHS` epochs of a batch both ways."""
    profile, rest = within(overrides, "e2e")
    settings = ["task=e2e", f"backbone={backbone}", "method=linear_probe", "train.precision=auto"]
    config = compose([f"profile={profile}", *settings, *rest])
    objective, train, device = objective_of(config), build(config.train), Ranks.here(config.device).device
    plain = objective.fit(build(config.backbone)).load().to(device)
    examples = build(config.task).load(config.paths.data).train[: BATCH * (rounds + 1)]
    rows, _ = objective.encode(examples, plain, (0, 0), config.data.max_length)
    clock, _ = clock_of(device)
    began = clock()
    with autocast(device, resolve_precision(train.precision, device)):
        states = objective.frozen(plain, rows, train.eval_batch_size, EPOCHS)
    keeping = (clock() - began) / (rounds + 1)
    steps = {name: ours(copied(plain), build(config.method), objective, train) for name in ("run again", "kept")}
    batches = {"run again": iter(_batches(rows)), "kept": iter(_batches(states))}
    losses: dict[str, list[float]] = {name: [] for name in steps}

    def call(name: str) -> None:
        losses[name].append(steps[name](next(batches[name])))

    seconds = turns({name: partial(call, name) for name in steps}, rounds, device)
    again, head = (EPOCHS * medians(seconds)[name] for name in ("run again", "kept"))
    what = f"{EPOCHS} epochs of linear probing, a batch of {BATCH}, {backbone}"
    share = head / EPOCHS / keeping
    shares = parts(lambda: [steps["kept"](batch) for batch in _batches(states)[1:3]]) if device.type == "cpu" else {}
    # With b the body's pass and h the head's step, (5 b + 5 h) / (b + 5 h) >= 2 needs h <= 0.6 b.
    target = (EPOCHS - 2) / EPOCHS
    note = f"a step of the head takes {share:.2f} of the body's pass, and 2.0 asks for {target:.1f}"
    note += f". Of that step: {shown(shares)}" if shares else ""
    row = Row(what, keeping + head, "the body run at every step", again, "2.0", note)
    return {"rows": told([row]), "seconds": seconds, "keeping": keeping, "losses": losses, "parts": shares}


def _batches(rows: Sequence[Any]) -> list[Sequence[Any]]:
    return [rows[start : start + BATCH] for start in range(0, len(rows), BATCH)]

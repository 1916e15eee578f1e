"""A step of several LoRA trainings over one frozen backbone at once (`train.pack`) beside the same steps one after another."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from lora_repro.config.compose import build, compose
from lora_repro.costs.bench._arms import medians, turns, within
from lora_repro.costs.bench._table import Row, told
from lora_repro.data import Encoded, epoch_order
from lora_repro.stages import Pack, adapt, objective_of
from lora_repro.train.loop import own_gradients, silent
from lora_repro.train.optimizer import adamw
from lora_repro.train.pack import Member, gradients
from lora_repro.train.precision import loss_scaler, resolve_precision
from lora_repro.train.ranks import Ranks

MEMBERS = 4
CASES = {"smollm2_135m": ("e2e", "e2e", 8), "minilm_l6": ("sentiment", "sst2", 16)}  # task at mini, elsewhere, rows per batch


def measure(overrides: Sequence[str], rounds: int = 4, cases: Mapping[str, tuple[str, str, int]] = CASES) -> dict[str, Any]:
    """Each round's seconds both ways (CPU time; on a GPU wall time), and the losses of the batches, equal both ways."""
    entries = [_measured(overrides, rounds, name, *case) for name, case in cases.items()]
    return {"rows": told([entry.pop("row") for entry in entries]), "steps": entries}


def _measured(overrides: Sequence[str], rounds: int, backbone: str, generated: str, real: str, size: int) -> dict[str, Any]:
    profile, rest = within(overrides, "e2e" if generated == "e2e" else "glue")
    task = generated if profile in ("smoke", "mini") else real
    given = [f"profile={profile}", f"task={task}", f"backbone={backbone}", "method=lora", "method.dropout=0"]
    config = compose([*given, "train.precision=auto", *rest])
    objective, settings, device = objective_of(config), build(config.train), Ranks.here(config.device).device
    pack = Pack.of(objective.fit(build(config.backbone)), resolve_precision(settings.precision, device), device)
    models = [adapt(pack, build(config.method), seed, device) for seed in range(MEMBERS)]
    joint = pack.joined([model.backbone for model in models])
    members = [Member(model.backbone, model.trainable, settings, 0, Path(), silent, "") for model in models]
    examples = build(config.task).load(config.paths.data).train[: size * MEMBERS * 4]
    rows, _ = objective.encode(examples, models[0].backbone, (0, 0), config.data.max_length)
    batches = [[rows[i] for i in chosen] for chosen in epoch_order(len(rows), size, 0, 0)][:MEMBERS]
    optimizers = [adamw(member.trainable.named, member.trainable.rates, settings) for member in members]
    scaler, ranks = loss_scaler(device, None), Ranks(device)
    for member in members:
        member.backbone.model.train()
    losses: dict[str, list[float]] = {}

    def step(name: str, way: Callable[[dict[int, list[Encoded]]], dict[int, Any]]) -> None:
        found = way(dict(enumerate(batches)))
        losses[name] = [float(found[number][0]) for number in range(MEMBERS)]
        for optimizer in optimizers:  # its step is timed, at rate 0, which keeps the weights: both ways start from the same ones
            for group in optimizer.param_groups:
                group["lr"] = 0.0
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    def together(asked: dict[int, list[Encoded]]) -> dict[int, Any]:
        return gradients(joint, members, {number: (rows, scaler) for number, rows in asked.items()}, objective)

    def one_by_one(asked: dict[int, list[Encoded]]) -> dict[int, Any]:
        return {
            number: own_gradients(members[number].backbone, members[number].trainable, rows, objective, settings, scaler, ranks)
            for number, rows in asked.items()
        }

    ways = {"together": together, "one by one": one_by_one}
    seconds = turns({name: partial(step, name, way) for name, way in ways.items()}, rounds, device)
    middle = medians(seconds)
    what = f"{MEMBERS} LoRA steps of {size} rows over one backbone, {backbone}"
    row = Row(what, middle["together"], "one after another", middle["one by one"], note="on a CPU at most 1.13")
    return {"name": backbone, "seconds": seconds, "losses": losses, "row": row}

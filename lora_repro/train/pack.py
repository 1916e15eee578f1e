"""Several trainings in lockstep whose batches go through one frozen backbone together, such as LoRA at several rates and seeds.

Each member has its own model (`Backbone.sharing`), which shares the frozen tensors with the others and validates, saves and
answers alone. Only a step is shared: the joint model multiplies the batches of all members by the frozen weights at once and adds
each member's own terms (`methods.update.SharedBase`). The gradients are those of the member's own step up to the order of
additions; dropout masks differ. On a GPU that a small batch leaves idle, K members cost little more than one. On a CPU, which
matrix products keep busy already, K steps together are 1.0 to 1.13 times as fast as one after another, measured.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import torch

from lora_repro.data import Batch, Encoded, Rows, collate
from lora_repro.errors import Preempted, UserError
from lora_repro.signals import collected
from lora_repro.train.loop import Log, Steps, TrainConfig, training
from lora_repro.train.precision import autocast, resolve_precision
from lora_repro.train.progress import Trained
from lora_repro.train.ranks import Ranks

if TYPE_CHECKING:
    from lora_repro.backbone.model import Backbone
    from lora_repro.methods.base import Trainable
    from lora_repro.objectives.base import Objective

Asked = tuple[Sequence[Encoded], torch.amp.GradScaler]
Told = tuple[torch.Tensor, int]


class Routing(Protocol):
    """`methods.update.Route`."""

    def take(self, whose: Sequence[int], sizes: Sequence[int], dim: int) -> None: ...


@dataclass(frozen=True)
class Member:
    """One training of a pack: its model, its trainable parameters, and the other arguments of `train` but rows and objective."""

    backbone: Backbone
    trainable: Trainable
    config: TrainConfig
    seed: int
    folder: Path
    log: Log
    label: str


@dataclass(frozen=True)
class Joint:
    """The model through which all batches go, and the route that assigns its positions to the members."""

    backbone: Backbone
    route: Routing


def check(config: TrainConfig) -> None:
    """Raise UserError for settings with which a pack cannot train."""
    if config.micro_batch_size or config.compile or config.recompute:
        raise UserError("tune.packed=true cannot be combined with train.micro_batch_size, compile or recompute: leave them out")


def train_together(joint: Joint, members: Sequence[Member], rows: Rows, objective: Objective) -> list[Trained]:
    """`train` for all members on the same rows. Raises UserError (`check`), and Preempted as `train` does."""
    for member in members:
        check(member.config)
    done: dict[int, Trained] = {}
    stopped: Preempted | None = None
    with collected() as caught:
        steps = [_steps(member, rows, objective, caught, first=number == 0) for number, member in enumerate(members)]
        answers: dict[int, Told | None] = dict.fromkeys(range(len(members)))
        try:
            while answers:
                asked: dict[int, Asked] = {}
                for number, answer in answers.items():
                    try:
                        asked[number] = steps[number].send(answer)  # type: ignore[arg-type]
                    except StopIteration as end:
                        done[number] = end.value
                    except Preempted as error:  # this member has saved its state; the others will too
                        stopped = error
                answers = {**gradients(joint, members, asked, objective)} if asked else {}
        finally:
            for each in steps:
                each.close()
        if stopped:
            raise stopped
    return [done[number] for number in range(len(members))]


def _steps(member: Member, rows: Rows, objective: Objective, caught: Sequence[int], first: bool) -> Steps:
    ranks = Ranks(member.backbone.device)
    return training(
        member.backbone, member.trainable, rows, objective, member.config, member.seed, member.folder, caught,
        member.log, member.label, None, ranks, shown=first,
    )  # fmt: skip


def gradients(
    joint: Joint, members: Sequence[Member], asked: Mapping[int, Asked], objective: Objective
) -> dict[int, Told]:
    """Compute the gradients of each asking member's mean loss over its global batch.

    Returns for each its loss and the positions of its padded rows.
    """
    device, config = joint.backbone.device, members[0].config
    count = {number: [objective.count(row) for row in rows] for number, (rows, _) in asked.items()}
    joint.backbone.model.train()
    with autocast(device, resolve_precision(config.precision, device)):
        whole = collate([row for rows, _ in asked.values() for row in rows], joint.backbone.pad)
        direct(joint, whole, {number: len(rows) for number, (rows, _) in asked.items()})
        features = objective.features(joint.backbone, whole.to(device))
        told: dict[int, Told] = {}
        total = torch.zeros((), device=device)
        parts = torch.split(features, [sum(terms) for terms in count.values()])
        for (number, (rows, scaler)), part in zip(asked.items(), parts, strict=True):
            batch = replace(collate(rows, joint.backbone.pad).to(device), features=part)
            loss = objective.summed(members[number].backbone, batch, config.label_smoothing) / sum(count[number])
            total = total + scaler.scale(loss)
            told[number] = (loss.detach().double(), batch.tokens)
        total.backward()  # type: ignore[no-untyped-call]
    return told


def direct(joint: Joint, whole: Batch, rows: Mapping[int, int]) -> None:
    """Tell the route which positions of `Backbone.hidden` are whose: whole rows where it pads, else their real positions."""
    packed = joint.backbone.batching == "packed"
    lengths = iter(whole.lengths.tolist())
    sizes = [sum(next(lengths) for _ in range(n)) if packed else n for n in rows.values()]
    joint.route.take(list(rows), sizes, 1 if packed else 0)

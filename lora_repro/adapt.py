"""A backbone adapted by a method and trained: the expensive half of a run, and all of a learning-rate trial."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from lora_repro import outcome
from lora_repro.backbone.model import Backbone
from lora_repro.classify import Classification, reset_head
from lora_repro.data import subset
from lora_repro.errors import UserError
from lora_repro.methods.base import Shape, Trainable
from lora_repro.parts import Parts
from lora_repro.tasks.base import Splits
from lora_repro.tracking import Metrics
from lora_repro.train import train
from lora_repro.train.objective import Objective
from lora_repro.train.precision import autocast, resolve_precision, round_frozen


def adapt(
    parts: Parts, splits: Splits, folder: Path, metrics: Metrics, start: Path | None = None
) -> tuple[Backbone, dict[str, Any]]:
    """The trained backbone and what its training measured. Goes on from whatever `folder` holds.

    `start`: the folder of a finished run whose method weights this one starts from (its head is dropped).
    """
    backbone = parts.backbone.load().to(parts.device)
    shape = Shape.of(backbone)
    observer = parts.probe.begin(backbone, folder) if parts.probe else None
    torch.manual_seed(parts.seed)
    reset_head(backbone)
    trainable = parts.method.apply(backbone)
    backbone.to(parts.device)  # the parameters that the method created
    measured: dict[str, Any] = {
        "status": "finished",
        "parameters": trainable.counts(backbone.model),
        "note": parts.method.note(shape),
    }
    if start is not None:
        begin_from(start, trainable)
    dtype = resolve_precision(parts.train.precision, parts.device)
    round_frozen(backbone.model, dtype, backbone.embedding)
    parameters = {**trainable.method, **trainable.head}
    if not parameters:
        return backbone, measured
    objective = parts.objective()
    train_rows, dev_rows, cut = rows(parts, splits, backbone, objective)
    if cut:
        measured["rows_cut"] = cut
    trained = outcome.restore(folder, parameters)
    began = time.monotonic()
    if trained is None:
        if not trainable.method and isinstance(objective, Classification):  # a frozen body says the same every epoch
            with autocast(parts.device, dtype):
                train_rows, dev_rows = (
                    objective.cached(backbone, found, parts.train.eval_batch_size) for found in (train_rows, dev_rows)
                )
        trained = train(
            backbone,
            parameters,
            train_rows,
            dev_rows,
            parts.train,
            parts.seed,
            folder / "checkpoints",
            metrics.log,
            parts.label,
            objective,
            observer.observe if observer else None,
            parts.ranks,
        )
        if parts.ranks.first:
            outcome.keep(folder, parameters, trained)
    measured.update(outcome.facts(trained))
    measured["earlier_seconds"] = max(0.0, trained.seconds - (time.monotonic() - began))  # of attempts before this one
    if observer and trained.status == "finished" and parts.ranks.first:
        observer.finish(trained.steps)
    return backbone, measured


def rows(
    parts: Parts, splits: Splits, backbone: Backbone, objective: Objective
) -> tuple[list[Any], list[Any], int]:
    """Training rows, dev rows, and how many of them were cut to data.max_length."""
    data = parts.data
    (train_rows, cut), (dev_rows, cut_too) = (
        objective.encode(
            subset(examples, n, data.subset_seed), backbone, parts.method.virtual_tokens, data.max_length
        )
        for examples, n in ((splits.train, data.n_train), (splits.dev, data.n_dev))
    )
    return train_rows, dev_rows, cut + cut_too


def begin_from(start: Path, trainable: Trainable) -> None:
    """Copy another run's trained method weights (LoRA: every A and B) into this one's; the head stays newly drawn.

    Raises UserError unless exactly these weights, in these shapes, are there.
    """
    path = start / outcome.ADAPTER
    try:
        found = load_file(path)
    except (OSError, SafetensorError) as error:
        raise UserError(
            f"cannot read {path}, which this run starts from; delete {start} and run again"
        ) from error
    absent = sorted(name for name in trainable.method if name not in found)
    misfit = sorted(n for n, p in trainable.method.items() if n in found and found[n].shape != p.shape)
    if absent or misfit or not trainable.method:
        name = (absent + misfit or ["nothing to start from"])[0]
        raise UserError(
            f"{path} does not fit this run's method ({name}); give both runs the same method settings"
        )
    with torch.no_grad():
        for name, parameter in trainable.method.items():
            parameter.copy_(found[name])
    changed: list[nn.Parameter] = [p for n, p in trainable.method.items() if not n.endswith(".A")]
    if not any(bool(p.detach().abs().sum() > 0) for p in changed):
        raise UserError(f"the weights in {path} are all zero: that run trained nothing")

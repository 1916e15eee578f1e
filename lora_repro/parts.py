"""Everything that a configuration names, built."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from omegaconf import DictConfig

from lora_repro.backbone.spec import BackboneSpec
from lora_repro.classify import Classification, Labeller
from lora_repro.compose import build
from lora_repro.data import DataConfig
from lora_repro.decode import BeamSearch
from lora_repro.errors import UserError
from lora_repro.methods.base import AbstractMethod
from lora_repro.probe import UpdateProbe
from lora_repro.tasks.base import AbstractTask
from lora_repro.train import TrainConfig
from lora_repro.train.objective import Completion, Objective
from lora_repro.train.ranks import Ranks


@dataclass(frozen=True)
class Parts:
    """The parts of one run. A mistake in the last of them then costs nothing of the others. Raises UserError."""

    method: AbstractMethod
    task: AbstractTask
    backbone: BackboneSpec
    train: TrainConfig
    decoder: BeamSearch | Labeller
    probe: UpdateProbe | None
    data: DataConfig
    ranks: Ranks
    seed: int
    label: str

    @classmethod
    def of(cls, config: DictConfig) -> Parts:
        task, decoder = build(config.task), build(config.decode)
        if isinstance(decoder, BeamSearch) != (task.kind == "text"):
            raise UserError(
                f"task {task.name} answers with a {task.kind}, which decode={config.decode._target_} does not give"
            )
        place = config.row.name if config.row.table else config.method.name
        return cls(
            method=build(config.method),
            task=task,
            backbone=fitting(build(config.backbone), task),
            train=build(config.train),
            decoder=decoder,
            probe=build(config.probe) if config.get("probe") else None,
            data=build(config.data),
            ranks=Ranks.here(config.device),
            seed=config.seed,
            label=f"{place} seed {config.seed}"
            if task.kind == "text"
            else f"{place} {task.name} seed {config.seed}",
        )

    @property
    def device(self) -> torch.device:
        return self.ranks.device

    def objective(self) -> Objective:
        """What the training minimises: the task's kind says."""
        if self.task.kind == "text":
            if self.train.select_by == "score":
                raise UserError("a text has no single gold answer: choose by train.select_by=loss")
            return Completion()
        score = self.task.quality if self.train.select_by == "score" else None
        return Classification(tuple(self.task.labels), score)


def fitting(spec: BackboneSpec, task: AbstractTask) -> BackboneSpec:
    """The backbone with the head that the task needs. Raises UserError where its yaml or the command line says otherwise."""
    if task.kind == "text":
        if spec.head == "classification":
            raise UserError("this task is answered with text: leave backbone.head to it")
        return spec
    outputs = len(task.labels) or 1
    if spec.n_labels is not None and spec.n_labels != outputs:
        what = "one number" if task.kind == "number" else f"{outputs} classes"
        raise UserError(f"backbone.n_labels={spec.n_labels}, but this task has {what}: leave it to the task")
    return replace(spec, head="classification", n_labels=outputs)

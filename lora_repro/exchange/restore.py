"""Restoring a recorded run's model from its folder: record.json and adapter.safetensors."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from lora_repro.backbone.model import Backbone
from lora_repro.config.compose import build
from lora_repro.exchange.load_tensors import fill, read_tensors
from lora_repro.methods.base import AbstractMethod, require
from lora_repro.records import record
from lora_repro.records.run_folder import ADAPTER, RECORD
from lora_repro.run.stages import adapt, backbone_of
from lora_repro.tasks.base import AbstractTask


@dataclass(frozen=True)
class Restored:
    """A trained model with its task and its record. `profile`: the name of the folder above the run's."""

    record: dict[str, Any]
    profile: str
    config: DictConfig
    task: AbstractTask
    method: AbstractMethod
    backbone: Backbone


def configuration(run_record: Mapping[str, Any], settings: Mapping[str, Any] | None = None) -> DictConfig:
    """The configuration that a record asked for, with what its task found in its data.

    `settings` ("decode.beam": 4) replace single values.
    """
    config_dict = deepcopy(dict(run_record["asked"]))
    config_dict["task"] |= run_record["where"]["data"].get("found") or {}
    config_dict["backbone"]["label"] = run_record["where"]["backbone"]["label"]
    config: DictConfig = OmegaConf.create({**config_dict, "row": dict(run_record["row"]), "device": "auto"})
    for key, value in (settings or {}).items():
        OmegaConf.update(config, key, value)
    return config


def restore(folder: Path, settings: Mapping[str, Any] | None = None) -> Restored:
    """The trained model of a run, float32, on the CPU.

    Raises UserError if the folder holds no usable run, or the backbone is not the one that it was trained on.
    """
    require((folder / RECORD).is_file(), f"{folder} is not a run's folder (no {RECORD}): lora-repro runs lists them")
    run_record = record.whole(record.of_run(folder, [ADAPTER]), folder / RECORD)
    usable = run_record["status"] in ("finished", "collapsed")
    require(usable, f"run {run_record['signature']} {run_record['status']}: its model cannot be used")
    config = configuration(run_record, settings)
    task, method = build(config.task), build(config.method)
    require(method.needs_model, f"run {run_record['signature']} ({method.name}) has no model")
    model = adapt(backbone_of(config), method, config.seed, torch.device("cpu"))
    same_base(run_record, model.backbone)
    if parameters := model.trainable.saved:
        fill(parameters, read_tensors(folder / ADAPTER), "the file belongs to another run: run this one again")
    return Restored(run_record, folder.resolve().parent.name, config, task, method, model.backbone)


def same_base(run_record: Mapping[str, Any], backbone: Backbone) -> None:
    """Raise UserError unless the backbone has the weights that the record names by their sha256 or revision.

    Its configuration and tokenizer must be the run's, too, where the record has the hash of all files.
    """
    hashes = run_record["where"]["backbone"]
    for what, key, digest in (("weights", "sha256", backbone.sha256), ("backbone files", "files_sha256", backbone.files_sha256)):
        run_digest = hashes.get(key, digest)
        require(
            run_digest == digest,
            f"trained on other {what} ({run_digest[:12]}) than the backbone's ({digest[:12]}): use the right one",
        )

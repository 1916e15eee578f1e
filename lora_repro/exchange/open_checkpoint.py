"""Opening any checkpoint that this project can answer with: a run's folder, a peft adapter, a plain transformers model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from lora_repro.backbone.model import Backbone
from lora_repro.config.compose import build, compose
from lora_repro.errors import UserError
from lora_repro.exchange import merged, peft_folder
from lora_repro.exchange.restore import configuration, restore, same_base
from lora_repro.files import SEAL, sealed, sha256
from lora_repro.methods.base import AbstractMethod, require
from lora_repro.methods.untuned import Untuned
from lora_repro.records import record
from lora_repro.records.run_folder import RECORD
from lora_repro.run.stages import answer, backbone_of, label_of, objective_of
from lora_repro.tasks.base import AbstractTask, Example
from lora_repro.train.ranks import Ranks

ORIGIN = "lora_repro.json"  # in an export: the record of the run that it came from, and the hashes of the export's files


@dataclass(frozen=True)
class Opened:
    """A trained model with its task, the method whose slots its inputs leave, and the configuration that says how it answers.

    hashes: of the data that its run was scored on, by file; empty if unknown.
    """

    config: DictConfig
    task: AbstractTask
    method: AbstractMethod
    backbone: Backbone
    hashes: Mapping[str, str] = field(default_factory=dict)

    def answer(self, examples: list[Example]) -> list[str]:
        """One output per example, in order."""
        require(not self.config.data.shots, "a few-shot run cannot be opened without its training data: run it again instead")
        config, backbone = self.config, self.backbone.to(Ranks.here(self.config.device).device)
        settings = (config.data.max_length, config.train.precision, label_of(config))
        return answer(backbone, self.method, objective_of(config), *settings, examples).outputs


def open_checkpoint(
    folder: Path, overrides: Sequence[str] = (), settings: Mapping[str, Any] | None = None
) -> Opened:
    """The model in a folder. `overrides`: `task=rte`, `backbone=...` for a model that was not made by this project.

    `settings` ("decode.beam": 4) replace single values. Raises UserError if the folder is none of the three kinds.
    """
    settings = dict(settings or {})
    if (folder / RECORD).is_file():
        _unneeded(overrides, folder)
        run = restore(folder, settings)
        return Opened(run.config, run.task, run.method, run.backbone, hashes_of(run.record))
    adapter = (folder / peft_folder.CONFIG).is_file()
    if not adapter and not (folder / "config.json").is_file():
        kinds = f"a run ({RECORD}), a peft adapter ({peft_folder.CONFIG}) or a model (config.json)"
        raise UserError(f"{folder} is not a checkpoint: give the folder of {kinds}")
    origin = read_origin(folder)
    if origin is not None:
        _unneeded(overrides, folder)
    config = _settled(overrides, settings) if origin is None else configuration(origin["record"], settings)
    task, spec = build(config.task), backbone_of(config)
    method: AbstractMethod = Untuned()
    if adapter:
        backbone = spec.load()
        if origin is not None:
            same_base(origin["record"], backbone)
        method = peft_folder.load(folder, backbone)
    else:
        backbone = merged.load(folder, spec)
    return Opened(config, task, method, backbone, hashes_of(origin["record"]) if origin else {})


def hashes_of(run_record: Mapping[str, Any]) -> dict[str, str]:
    """The hashes of the data that a record's run read, by file."""
    return dict(run_record["where"]["data"].get("hashes") or {})


def read_origin(folder: Path) -> dict[str, Any] | None:
    """What `export` wrote into the folder, whose files must be those that it wrote; None for a model from elsewhere.

    Raises UserError if it cannot be read, or for the first file that has changed since.
    """
    path = folder / ORIGIN
    if not path.is_file():
        return None
    try:
        origin: dict[str, Any] = record.parse(path.read_text(encoding="utf-8"))
        record.whole(record.checked_run(origin["record"]), path)
        if origin[SEAL] != sealed(origin)[SEAL]:
            raise ValueError("it does not match its own hash")
        files = dict(origin["files"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"cannot read {path} ({error}); export the run again") from None
    for name, digest in files.items():
        if not (folder / name).is_file() or sha256(folder / name) != digest:
            raise UserError(f"{folder / name} is not what was exported: export the run again, or copy it from its source")
    return origin


def _unneeded(overrides: Sequence[str], folder: Path) -> None:
    if overrides:
        raise UserError(f"{folder} records its own task and backbone: leave out {overrides[0]}")


def _settled(overrides: Sequence[str], settings: Mapping[str, Any]) -> DictConfig:
    """The configuration for a model from elsewhere. Raises UserError unless its task is named."""
    if not any(item.startswith("task=") for item in overrides):
        raise UserError("this checkpoint does not record its task and backbone: give task=NAME and backbone=NAME")
    config = compose(list(overrides))
    for key, value in settings.items():
        OmegaConf.update(config, key, value)
    return config

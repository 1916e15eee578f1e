"""What an unfinished run keeps in its folder until its record is written: how the training ended, then the answers."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from lora_repro import provenance
from lora_repro.disk import write_json
from lora_repro.train import checkpoint
from lora_repro.train.progress import Trained

ADAPTER = "adapter.safetensors"
FACTS = "trained.json"
ANSWERS = "answers.json"
OBSERVED = "observed.safetensors"  # a probe's, on the way


def keep(folder: Path, parameters: dict[str, nn.Parameter], trained: Trained) -> None:
    """Save the selected weights (only what was trained) and the facts of the training, so that decoding can be resumed."""
    checkpoint.save_tensors(folder / ADAPTER, dict(parameters))
    (folder / ANSWERS).unlink(missing_ok=True)  # of weights before these
    write_json(folder / FACTS, {**asdict(trained), "dev_loss": trained.facts()["dev_loss"]})


def restore(folder: Path, parameters: dict[str, nn.Parameter]) -> Trained | None:
    """Load a finished training's weights back, if this run got that far. A damaged file means training goes on instead."""
    try:
        facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
        tensors = load_file(folder / ADAPTER)
    except (OSError, ValueError, SafetensorError):
        return None
    if set(tensors) != set(parameters) or not {"code", "dev_scores"} <= set(facts):  # an older version's facts lack them
        return None
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(tensors[name])
    facts["dev_losses"] = [(int(step), float(loss)) for step, loss in facts["dev_losses"]]
    facts["dev_scores"] = [(int(step), score) for step, score in facts["dev_scores"]]
    facts["dev_loss"] = math.nan if facts["dev_loss"] is None else facts["dev_loss"]
    facts["code"] = provenance.joined(facts["code"], provenance.code())
    return Trained(**facts)


def keep_answers(folder: Path, answers: dict[str, Any]) -> None:
    """Save what the model said and what that took: scoring may fail, and need not cost the decoding."""
    write_json(folder / ANSWERS, answers)


def answers(folder: Path) -> dict[str, Any] | None:
    """What `keep_answers` saved, if this run got that far."""
    try:
        found: dict[str, Any] = json.loads((folder / ANSWERS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if "seconds" in found else None  # an older version's is worth no more than decoding again


def clean(folder: Path) -> None:
    """Drop what only an unfinished run needs. The adapter stays."""
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    for name in (FACTS, ANSWERS, OBSERVED):
        (folder / name).unlink(missing_ok=True)

"""How a training ended, kept beside the run until its record is written; and what counts as a collapsed model."""

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
from lora_repro.record import finite, write_json
from lora_repro.train import checkpoint
from lora_repro.train.progress import Trained

ADAPTER = "adapter.safetensors"
FACTS = "trained.json"
ANSWERS = "answers.json"
OBSERVED = "observed.safetensors"  # a probe's, on the way


def keep(folder: Path, parameters: dict[str, nn.Parameter], trained: Trained) -> None:
    """Save the selected weights (only what was trained) and the facts of the training, so that decoding can be resumed."""
    checkpoint.save_tensors(folder / ADAPTER, dict(parameters))
    values = asdict(trained)
    (folder / ANSWERS).unlink(missing_ok=True)  # of weights before these
    write_json(folder / FACTS, {**values, "dev_loss": finite(trained.dev_loss)})


def restore(folder: Path, parameters: dict[str, nn.Parameter]) -> Trained | None:
    """Load a finished training's weights back, if this run got that far. A damaged file means training goes on instead."""
    try:
        facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
        tensors = load_file(folder / ADAPTER)
    except (OSError, ValueError, SafetensorError):
        return None
    if set(tensors) != set(parameters) or "code" not in facts:  # an older version's facts lack it
        return None
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(tensors[name])
    facts["dev_losses"] = [(int(step), float(loss)) for step, loss in facts["dev_losses"]]
    facts["dev_loss"] = math.nan if facts["dev_loss"] is None else facts["dev_loss"]
    facts["code"] = provenance.joined(facts["code"], provenance.code())
    return Trained(**facts)


def keep_answers(folder: Path, outputs: list[str], took: dict[str, Any]) -> None:
    """Save what the model said and what that took: scoring may fail, and need not cost the decoding."""
    write_json(folder / ANSWERS, {"outputs": outputs, "took": took})


def answers(folder: Path) -> tuple[list[str], dict[str, Any]] | None:
    """What `keep_answers` saved, if this run got that far."""
    try:
        found = json.loads((folder / ANSWERS).read_text(encoding="utf-8"))
        return found["outputs"], found["took"]
    except (OSError, ValueError, KeyError):
        return None


def facts(trained: Trained) -> dict[str, Any]:
    """What the record says of the training; `code` and the peak are the record's to place."""
    return {
        "status": trained.status,
        "dev_loss": finite(trained.dev_loss),
        "dev_losses": [list(pair) for pair in trained.dev_losses],
        "best_step": trained.best_step,
        "steps": trained.steps,
        "train_tokens": trained.tokens,
        "train_seconds": round(trained.seconds, 1),
        "peak_memory_mb": trained.peak_memory_mb,
        "code": trained.code,
    }


def judge(status: str, outputs: list[str]) -> str:
    """`collapsed` if a finished model gives one and the same answer (a text, a class, a number) to every input."""
    if status == "finished" and len(outputs) > 1 and len(set(outputs)) == 1:
        return "collapsed"
    return status


def clean(folder: Path) -> None:
    """Drop what only an unfinished run needs. The adapter stays."""
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    for name in (FACTS, ANSWERS, OBSERVED):
        (folder / name).unlink(missing_ok=True)

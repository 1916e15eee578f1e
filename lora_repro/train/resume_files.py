"""What an unfinished run keeps in its folder until its record is written: the result of its training, then its answers."""

from __future__ import annotations

import math
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from lora_repro.files import damaged, read_sealed, sealed, sha256, write_json
from lora_repro.records import provenance
from lora_repro.records.run_folder import ADAPTER, ANSWERS, FACTS, INPUTS, LOCK, clean
from lora_repro.train import checkpoint
from lora_repro.train.progress import Trained


def keep_to(folder: Path, inputs: dict[str, Any]) -> None:
    """Delete what an earlier attempt left if it had other `inputs`, the hashes of data and backbone: the run begins anew then.

    A name (paths.data, a folder of weights) may stand for other files than when the run was interrupted. What an older version
    did not note is taken to be the same.
    """
    before = (read_sealed(folder / INPUTS) or {}).get("inputs", {})
    if any(before.get(key, value) != value for key, value in inputs.items()):
        print(f"{folder}: the data or the backbone changed since this run began, so it begins anew", file=sys.stderr)
        clean(folder)
    write_json(folder / INPUTS, sealed({"inputs": inputs}))


def forget_inputs(folder: Path) -> None:
    """Delete the note of the inputs if nothing was made from them yet, as when a command is refused."""
    if folder.is_dir() and {path.name for path in folder.iterdir()} <= {LOCK, INPUTS}:
        (folder / INPUTS).unlink(missing_ok=True)


def save_trained(folder: Path, parameters: dict[str, nn.Parameter], training: Trained) -> None:
    """Save the selected weights (only what was trained) and the facts of the training, so that decoding can be resumed."""
    digest = checkpoint.save_tensors(folder / ADAPTER, dict(parameters))
    (folder / ANSWERS).unlink(missing_ok=True)  # answers of earlier weights
    write_json(folder / FACTS, sealed({**asdict(training), "dev_loss": training.facts()["dev_loss"], "adapter": digest}))


def restore(folder: Path, parameters: dict[str, nn.Parameter]) -> Trained | None:
    """Load the weights of a finished training, if this run got that far; None, so that training resumes, if a file is damaged."""
    facts = read_sealed(folder / FACTS)
    if facts is None or not {"code", "dev_scores", "adapter"} <= set(facts):  # an older version's facts lack them
        return None
    try:
        if sha256(folder / ADAPTER) != facts.pop("adapter"):
            raise ValueError("it does not match its hash")
        tensors = load_file(folder / ADAPTER)
    except (OSError, ValueError, SafetensorError) as error:
        damaged(folder / ADAPTER, error)
        return None
    if set(tensors) != set(parameters):
        return None
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(tensors[name])
    facts["dev_losses"] = [(int(step), float(loss)) for step, loss in facts["dev_losses"]]
    facts["dev_scores"] = [(int(step), score) for step, score in facts["dev_scores"]]
    facts["dev_halves"] = [(int(step), even, odd) for step, even, odd in facts.get("dev_halves", ())]
    facts["train_losses"] = [(int(step), float(loss)) for step, loss in facts.get("train_losses", ())]
    facts["dev_loss"] = math.nan if facts["dev_loss"] is None else facts["dev_loss"]
    facts["code"] = provenance.joined(facts["code"], provenance.code())
    return Trained(**facts)


def save_answers(folder: Path, answers: dict[str, Any]) -> None:
    """Save the model's outputs and their cost, so that a failure in scoring does not repeat the decoding."""
    write_json(folder / ANSWERS, sealed(answers))


def load_answers(folder: Path) -> dict[str, Any] | None:
    """What `save_answers` saved, if this run got that far."""
    answers = read_sealed(folder / ANSWERS)
    return answers if answers and "code" in answers else None  # an older version's lacks it: decode again


def thin(folder: Path, most: float | None) -> None:
    """Delete trained weights of more than `most` GB; None keeps all. Call it before the record lists the run's files.

    Full fine-tuning saves a whole model per seed, which a table of scores does not need.
    """
    path = folder / ADAPTER
    if most is not None and path.is_file() and path.stat().st_size > most * 1e9:
        path.unlink()

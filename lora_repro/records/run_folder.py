"""The files in a run's folder, runs/<profile>/<signature>/, by name, and which of them only an unfinished run needs."""

import shutil
from pathlib import Path

from lora_repro import console
from lora_repro.files import remove_temporaries

RECORD = "record.json"  # written last: it proves that the run is complete
ADAPTER = "adapter.safetensors"  # the trained weights, and nothing else of the model
PREDICTIONS = "predictions.jsonl"  # one line a test input: key, output, statistics of its score
METRICS = "metrics.jsonl"  # what was logged, step by step
ATTEMPTS = "attempts.json"  # the tries of a sweep that failed, and why the last one did; a sweep's table counts them
UPDATES = "updates.safetensors"  # arrays of a probed run: norms, spectra and directions of every update

# What only an unfinished run needs.
LOCK = "lock"  # who holds the run
INPUTS = "inputs.json"  # hashes of data and backbone: with others it begins anew
CHECKPOINTS = "checkpoints"  # a folder of the last two states of the training
FACTS = "trained.json"  # the result of the training, while answers are decoded
ANSWERS = "answers.json"  # what was decoded, until the record is written
OBSERVED = "observed.safetensors"  # a probe's intermediate file


def leftovers(folder: Path) -> bool:
    """Whether a folder still holds files that only an unfinished run needs, or temporary files of a killed one."""
    names = (CHECKPOINTS, FACTS, ANSWERS, OBSERVED, INPUTS)
    return any((folder / name).exists() for name in names) or any(folder.glob(".*.tmp"))


def clean(folder: Path) -> None:
    """Delete what only an unfinished run needs. The adapter stays."""
    for _ in range(2):  # one deletion that a disk fails must not leave the rest
        shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)
    if (folder / CHECKPOINTS).exists():
        console.warn(f"cannot delete {folder / CHECKPOINTS}, which no run needs any more; the same command tries again")
    remove_temporaries(folder)
    for name in (FACTS, ANSWERS, OBSERVED, INPUTS):
        (folder / name).unlink(missing_ok=True)

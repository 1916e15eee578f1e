"""Everything that results/ says of itself, checked: each file's hash, each record's seal, name and files, and the scores.

A record's scores are computed again from the statistics of its predictions where a sum over inputs gives them
(`score_mismatch`): all but NIST and rank correlations.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lora_repro.config.signature import signature
from lora_repro.errors import UserError
from lora_repro.files import SEAL, sha256
from lora_repro.metrics.corpus import METRICS, columns
from lora_repro.records import manifest
from lora_repro.records.record import load_predictions, read
from lora_repro.records.run_folder import PREDICTIONS, UPDATES


class Checked(NamedTuple):
    """How many files and records were looked at, and a line for whatever is wrong."""

    files: int
    records: int
    faults: list[str]


def check_everything(results: Path) -> Checked:
    """Check all that lies under results/. Raises UserError if the manifest is damaged."""
    faults = manifest.faults(results)
    paths = sorted(results.glob("*/records/*.json"))
    for path in paths:
        faults += [f"{path}: {fault}" for fault in _faults(path)]
    return Checked(len(manifest.read_manifest(results) or ()), len(paths), faults)


def _faults(path: Path) -> Iterator[str]:
    """What is wrong with a record and the files that belong to it."""
    try:
        record = read(path)
    except UserError as error:
        yield str(error)
        return
    if lacking := [key for key in (SEAL, "files", "signature", "asked", "where", "measured") if key not in record]:
        yield f"it has no {', '.join(lacking)}"
        return
    try:
        if not record["signature"] == path.stem == signature(record["asked"]):
            yield "what it asks for has another signature"
        predictions = path.parents[1] / "predictions" / f"{path.stem}.jsonl"
        lines = load_predictions(predictions)
        if sha256(predictions) != record["files"].get(PREDICTIONS) and not _without_outputs(record, lines):
            yield f"{predictions} is not what its run wrote"
        arrays = path.parents[1] / "updates" / f"{path.stem}.safetensors"
        if (sha256(arrays) if arrays.is_file() else None) != record["files"].get(UPDATES):
            yield f"{arrays} is not what its run wrote"
        if wrong := score_mismatch(record, lines):
            yield wrong
    except (UserError, OSError) as error:
        yield str(error)


def _without_outputs(record: dict[str, Any], lines: list[dict[str, Any]]) -> bool:
    """Whether `publish` left the outputs out, which are then the data's own texts or under a licence that forbids them."""
    private = record["where"].get("data", {}).get("outputs_private") or record["asked"]["method"].get("name") == "human"
    return bool(private) and not any("output" in line for line in lines)


def score_mismatch(record: dict[str, Any], predictions: Sequence[dict[str, Any]]) -> str | None:
    """The first score that the predictions contradict, in words; None if there is none.

    Not checked: scores that no sum over inputs gives (NIST, a rank correlation) or whose statistics an older record lacks.
    """
    for name, value in (record["measured"].get("scores") or {}).items():
        if name not in METRICS or value is None or not predictions:
            continue
        try:
            sums = np.sum(columns(predictions, name), axis=0)
        except UserError:
            continue
        if value == 0 and name.startswith("bleu") and not sums[:4].all():
            continue  # an order without a match: multi-bleu (WebNLG, DART) gives 0, E2E's scorer a smoothed number next to it
        again = float(METRICS[name].corpus(sums))
        if not math.isclose(again, value, rel_tol=1e-9, abs_tol=1e-9):
            return f"its predictions give {name} {again:.6g}, not {value:.6g}"
    return None

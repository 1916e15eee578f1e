"""Which differences between two rows a table could show, before any of it is run.

    points = (1.96 + 0.84) sqrt(2 (t / 1.96)² seed² / k + input² / n)

is the least true difference between two rows, with k seeds each on n test inputs, that shows at 5 % with a chance of 80 %. The
error over seeds is widened by Student's t with the 2 (k - 1) degrees of freedom of two rows that spread alike. With several
seeds it is an upper bound, since how each seed does on each input falls with k, too. seed and input are measured on the
published runs of the task: those of the plan's own profile if any setting there has two seeds, else those of another profile.
"""

from __future__ import annotations

import itertools
import json
import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import ndtri, stdtrit

from lora_repro.config.paths import ROOT
from lora_repro.metrics.corpus import counted_score
from lora_repro.records.record import load_predictions, main_metric
from lora_repro.results import published
from lora_repro.stats.bootstrap import paired_draws
from lora_repro.stats.intervals import detectable

PAIRS, DRAWS = 8, 200  # pairs of settings compared, and resamples of their inputs: enough for two digits


@dataclass(frozen=True)
class Noise:
    """How much scores on one task vary at `profile`, in points.

    seed: the standard deviation over seeds of one run's score, pooled over all settings (a row at a place) with two or more
    seeds; None if there are none. input: the standard deviation of the difference between two settings' runs over resamples of n
    test inputs, times sqrt(n), as the root mean square over pairs of settings.
    """

    profile: str
    seed: float | None
    input: float


@cache
def noise(task: str, profile: str, results: Path = ROOT / "results") -> Noise | None:
    """The noise on a task; None unless two settings that answered the same inputs are published."""
    without_seeds = None
    for name in sorted((path.parent.name for path in results.glob("*/records")), key=lambda name: (name != profile, name)):
        if estimate := _measured(results / name, task):
            if estimate.seed is not None:
                return estimate
            without_seeds = without_seeds or estimate
    return without_seeds


def points(noise: Noise | None, seeds: int, inputs: int) -> float | None:
    """The least detectable difference by the module's formula; None if the noise is unknown. One seed has no spread."""
    if noise is None or not inputs or seeds < 1 or (seeds > 1 and noise.seed is None):
        return None
    widen = float(stdtrit(2 * (seeds - 1), 0.975) / ndtri(0.975)) if seeds > 1 else 0.0
    return detectable(math.sqrt(2 * (widen * (noise.seed or 0.0)) ** 2 / seeds + noise.input**2 / inputs))


@cache
def _records(folder: Path) -> dict[str, dict[str, Any]]:
    return published(folder).records


def _measured(folder: Path, task: str) -> Noise | None:
    """The noise on a task from one profile's published runs (`folder`)."""
    settings: dict[str, list[Mapping[str, Any]]] = {}
    for run in _records(folder).values():
        if run["asked"]["task"]["name"] == task and _score(run) is not None:
            setting = {**run["asked"], "seed": 0, "starts_from": None}  # only these differ between the seeds of a setting
            settings.setdefault(json.dumps(setting, sort_keys=True), []).append(run)
    spread = [[100 * (_score(run) or 0.0) for run in runs] for runs in settings.values() if len(runs) > 1]
    freedom = sum(len(values) - 1 for values in spread)
    squares = sum((len(values) - 1) * statistics.variance(values) for values in spread)
    predictions: dict[tuple[str, ...], list[tuple[str, list[dict[str, Any]]]]] = {}
    for runs in settings.values():
        path = folder / "predictions" / f"{runs[0]['signature']}.jsonl"
        if runs[0]["status"] == "finished" and path.is_file():
            lines = load_predictions(path)
            predictions.setdefault(tuple(str(line["key"]) for line in lines), []).append((main_metric(runs[0]["asked"]), lines))
    alike = max(predictions.values(), key=len, default=[])
    variances = [_input(ours, theirs, metric) ** 2 for (metric, ours), (_, theirs) in itertools.pairwise(alike[: PAIRS + 1])]
    if not variances:
        return None
    return Noise(folder.name, math.sqrt(squares / freedom) if freedom else None, math.sqrt(statistics.fmean(variances)))


def _score(run: Mapping[str, Any]) -> float | None:
    return counted_score(run, main_metric(run["asked"]))


def _input(ours: list[dict[str, Any]], theirs: list[dict[str, Any]], metric: str) -> float:
    draws = paired_draws(ours, theirs, DRAWS, metric=metric)
    return 100 * float(np.nanstd(draws.by_inputs)) * math.sqrt(draws.inputs)

"""Which differences between two rows a table could show, before any of it is run.

    points = (1.96 + 0.84) sqrt(2 (t / 1.96)² seed² / k + input² / n)

is the least true difference of two rows with k seeds each on n test inputs that shows at 5 % with a chance of 80 %: the errors of
conf/plan/noise.yaml, those of the seeds widened by Student's t as a table's intervals are (`metrics.bootstrap`).
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import yaml
from scipy.special import ndtri, stdtrit

from lora_repro.config.compose import CONF


@cache
def _noise() -> dict[str, Any]:
    return yaml.safe_load((CONF / "plan" / "noise.yaml").read_text(encoding="utf-8"))  # type: ignore[no-any-return]


def points(task: str, seeds: int, inputs: int) -> float | None:
    """The formula above; None of a task whose noise was not measured, or without inputs. One seed counts without its spread."""
    if task not in _noise() or not inputs or seeds < 1:
        return None
    noise = _noise()[task]
    widen = float(stdtrit(seeds - 1, 0.975) / ndtri(0.975)) if seeds > 1 else 0.0
    error = math.sqrt(2 * (widen * noise["seed"]) ** 2 / seeds + noise["input"] ** 2 / inputs)
    return float(ndtri(0.975) + ndtri(0.8)) * error

"""Checks a record's scores by computing them again from the per-input statistics of its predictions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from lora_repro.errors import UserError
from lora_repro.metrics.corpus import METRICS, columns


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

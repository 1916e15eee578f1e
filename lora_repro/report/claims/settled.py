"""Whether a cell was trained until it was learnt; without that no verdict is read from its scores.

A cell (the runs of one row on one task, over seeds) is settled if

(a) every run has left its plateau, the level of one answer to all inputs: the mean training loss over the last third of the
    steps is at most 0.9 of the first one logged. The first losses of a regression also hold the labels' mean, which every run
    soon learns; so there the last correlation r on the held-out rows must explain a tenth of the variance, r² >= 0.1;
(b) it has stopped rising: from the last evaluation at or before two thirds of the steps to the last of all, the held-out score
    s rises, on average over the seeds, by at most one standard error on its m rows: sqrt(s (1 − s) / m), for shares of rows
    and F1, or (1 − s²) / sqrt(m), for correlations and Matthews'.

- A run that is chosen by its loss has its held-out loss in place of the score in (b); it must not fall by more than e.
- A run without an evaluation up to two thirds has its training loss there: its mean over the last third of the steps must not
  lie below that over the middle third by more than e.
- e is the standard error of the difference between these two means, sqrt(v / n + v' / n'), with the variances v, v' and numbers
  n, n' of the logged losses in either third.

A diverged run counts as it is: no more steps would follow. A row that trains nothing, such as human texts, is settled. A cell
whose records lack the curve that a rule needs is not known to be.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from lora_repro.planning.cells import Cell
from lora_repro.records.record import main_metric
from lora_repro.report.claims.reading import Doubt
from lora_repro.report.table import signed

Record = Mapping[str, Any]

REGRESSION = ("pearson", "spearman")
CORRELATIONS = (*REGRESSION, "matthews")
KEEPS = 0.9  # the largest share of the loss on its plateau that a run which has left it may keep
SCORE, HELD_OUT, TRAINING = "held-out score", "held-out loss", "training loss"


class Rise(NamedTuple):
    """How much better a run becomes at the end of its schedule, by its score or its loss (`what`), and by how much it may."""

    what: str
    gain: float
    error: float


def doubts(label: str, cell: Cell, records: Sequence[Record]) -> list[Doubt]:
    """What keeps the scores of a cell from a verdict: its learning rate, or that it is not settled.

    label: its name. cell: one of its runs as declared. records: those of all its runs.
    """
    rate = cell.rate_doubt
    early = unsettled(label, records)
    return [*([Doubt(rate, f"{label}: {rate}")] if rate else []), *([early] if early else [])]


def unsettled(label: str, records: Sequence[Record]) -> Doubt | None:
    """Why a cell is not settled, such as `still rising`; None if it is. Scores are printed in points, losses as they are."""
    runs = [record for record in records if record["measured"].get("steps") and record["status"] != "diverged"]
    left = [left_plateau(record) for record in runs]
    if stuck := left.count(False):
        return _doubt("still on its plateau", f"{label}, {stuck} of {len(runs)} seeds")
    rises = [rise for record in runs if (rise := last_rise(record))]
    if None in left or len(rises) < len(runs):
        return _doubt("not known to be settled", f"{label}, whose records lack its curve")
    if not rises:
        return None
    gain, error = float(np.mean([rise.gain for rise in rises])), float(np.mean([rise.error for rise in rises]))
    if gain <= error:
        return None
    measure = rises[0].what
    sign, scale, digits = (1, 100, 1) if measure == SCORE else (-1, 1, 3)
    text = f"{measure} {signed(sign * scale * gain, digits)} in the last third (standard error {scale * error:.{digits}f})"
    return _doubt("still rising", f"{label}, {text}")


def _doubt(reason: str, text: str) -> Doubt:
    return Doubt(reason, f"{reason}: {text}")


def left_plateau(record: Record) -> bool | None:
    """Rule (a) for one run; None if its record lacks what the rule needs."""
    metrics = record["measured"]
    if main_metric(record["asked"]) in REGRESSION:
        scores = [score for _, score in metrics.get("dev_scores") or ()]
        return 1 - max(scores[-1] or 0.0, 0.0) ** 2 <= KEEPS if scores else None
    last = _third(record, 2)
    return float(np.mean(last)) <= KEEPS * float(metrics["train_losses"][0][1]) if last else None


def last_rise(record: Record) -> Rise | None:
    """Rule (b) for one run; None if its record lacks what the rule needs."""
    metrics = record["measured"]
    by_score = (record["asked"].get("train") or {}).get("select_by") == "score"
    looks = metrics.get("dev_scores" if by_score else "dev_losses") or ()
    early = [value or 0.0 for step, value in looks if 3 * step <= 2 * metrics["steps"]]
    final = looks[-1][1] or 0.0 if looks else 0.0
    if early and by_score:
        rows = held_out_rows(record)
        return Rise(SCORE, final - early[-1], sampling_error(main_metric(record["asked"]), final, rows)) if rows else None
    middle, last = _third(record, 1), _third(record, 2)
    if min(len(middle), len(last)) < 2:
        return None
    error = math.hypot(*(np.std(part, ddof=1) / math.sqrt(len(part)) for part in (middle, last)))
    return Rise(HELD_OUT, early[-1] - final, error) if early else Rise(TRAINING, float(np.mean(middle) - np.mean(last)), error)


def sampling_error(metric: str, score: float, rows: int) -> float:
    """The standard error of a score on so many rows, by the formulas above."""
    if metric in CORRELATIONS:
        return (1 - score**2) / math.sqrt(rows)
    return math.sqrt(max(score * (1 - score), 0.0) / rows)


def held_out_rows(record: Record) -> int:
    """How many rows chose the weights of a run, as its record or else its settings tell; 0 if neither does."""
    task, data = record["asked"]["task"], record["asked"].get("data") or {}
    n_dev = data.get("n_dev") or task.get("held_out") or (task.get("rows") or {}).get("dev")
    return int(record["measured"].get("dev_rows") or n_dev or 0)


def _third(record: Record, number: int) -> list[float]:
    """The logged training losses of a third of the steps: 0, the first; 1; or 2, the last."""
    metrics = record["measured"]
    low, high = (metrics["steps"] * end / 3 for end in (number, number + 1))
    return [float(loss) for step, loss in metrics.get("train_losses") or () if low < step <= high]

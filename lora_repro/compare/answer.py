"""What was measured of a comparison, and what its intervals let anyone say.

A difference between two methods is that of their shared seeds on the same test rows, with the interval of the paired bootstrap
over rows and seeds (`report.numbers`). Choosing the best of k methods looks at all k (k - 1) / 2 pairs, so every p is
corrected for all of them by Holm's method. Method a is better than b only if the corrected p is below 0.05, each has two
seeds at least, and neither still rises at the end of its training (`report.claims.settled`).
"""

from __future__ import annotations

import itertools
import json
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas
from omegaconf import OmegaConf
from scipy.special import ndtri

from lora_repro.compare.declare import FULL, Guess
from lora_repro.compare.request import UNTUNED
from lora_repro.config.compose import build
from lora_repro.data import subset
from lora_repro.metrics.corpus import METRICS
from lora_repro.planning.cells import Cell
from lora_repro.records.record import load_predictions
from lora_repro.records.run_folder import ADAPTER
from lora_repro.report.claims.settled import unsettled
from lora_repro.report.columns import score_label
from lora_repro.report.numbers import GENERAL_RISE, Difference, Mean, difference, holm, score, summarise
from lora_repro.results import Run, Store, grouped, runs
from lora_repro.stats.bootstrap import InputVariance, interval, p_of, paired_draws, standard_error
from lora_repro.stats.comparable import paired, resampled
from lora_repro.stats.intervals import LEVEL
from lora_repro.stats.verdict import Region, outlook


@dataclass(frozen=True)
class Row:
    """One method. runs: by seed. mean: of the main score, in per cent. doubt: why its scores decide nothing yet, or empty.

    guess: where the search of its rate began.
    """

    name: str
    label: str
    runs: Mapping[int, Run]
    mean: Mean
    scores: Mapping[str, Mean]
    guess: Guess | None
    doubt: str

    @property
    def measured(self) -> list[dict[str, Any]]:
        return [run.record["measured"] for run in self.runs.values()]

    @property
    def cell(self) -> Cell:
        return next(iter(self.runs.values())).cell

    @property
    def method(self) -> Mapping[str, Any]:
        """The method's settings."""
        return dict(self.cell.asked["method"])

    @property
    def family(self) -> str:
        """What rows have in common that differ in their rank alone."""
        return json.dumps({key: value for key, value in self.method.items() if key != "rank"}, sort_keys=True)

    @property
    def trained(self) -> int:
        """Trained values, those of a head included."""
        counts = self.measured[0]["parameters"]
        return int(counts["method"] + counts["head"])

    @property
    def rate(self) -> float | None:
        return float(self.cell.asked["train"]["lr"]) if self.trained else None

    @property
    def step_ms(self) -> float | None:
        """Milliseconds of one training step, the mean over seeds."""
        return _mean(
            [1000 * run["train_seconds"] / run["steps"] for run in self.measured if run.get("steps")]
        )

    @property
    def memory_mb(self) -> float | None:
        """Peak memory of a run's process in MiB, the largest of all seeds."""
        return max(
            (float(run["peak_memory_mb"]) for run in self.measured if run.get("peak_memory_mb")), default=None
        )

    @property
    def rise(self) -> Mean | None:
        """How much the loss on general text rose, in nats per token; None if it was not measured."""
        rises = [value for run in self.runs.values() if (value := score(run, GENERAL_RISE.key)) is not None]
        return summarise(rises) if rises else None

    @property
    def file_bytes(self) -> int | None:
        path = self.cell.folder / ADAPTER
        return path.stat().st_size if path.is_file() else None

    @property
    def median_run(self) -> Run:
        """The run with the median score (of two the lower one): neither the luckiest seed nor chosen for anything else."""
        by_score = sorted(self.runs.values(), key=lambda run: score(run, self.cell.score) or 0.0)
        return by_score[(len(by_score) - 1) // 2]


@dataclass(frozen=True)
class Answer:
    """A comparison's rows in the order asked for, and every pair's difference with its corrected p.

    metric: the main score. reference: the row that differences are shown from. constant: score of one answer to every row, None
    for texts; learnt: each row's difference from it (of texts from the untuned model). test_rows: 0 if every run diverged.
    """

    title: str
    metric: str
    rows: tuple[Row, ...]
    pairs: Mapping[tuple[str, str], Difference]
    reference: str
    constant: float | None
    learnt: Mapping[str, Difference]
    test_rows: int

    @cached_property
    def best(self) -> Row:
        return max(self.row_trained, key=lambda row: row.mean.mean)

    @property
    def row_trained(self) -> list[Row]:
        return [row for row in self.rows if row.trained] or [*self.rows]

    @property
    def diverged(self) -> bool:
        """Whether every training diverged, so that there is nothing to compare."""
        return not any(run.trained for row in self.row_trained for run in row.runs.values())

    def from_reference(self, row: Row) -> Difference | None:
        return self.pairs.get((row.name, self.reference))

    def better(self, ours: Row, theirs: Row) -> bool:
        """Whether `ours` is shown to be better than `theirs`, by the module's rule."""
        gap = self.pairs.get((ours.name, theirs.name))
        sure = gap is not None and gap.n > 1 and gap.mean > 0 and gap.p < LEVEL
        return sure and not (ours.doubt or theirs.doubt)

    @property
    def rivals(self) -> list[Row]:
        """The trained rows that the best one is not shown to be better than, the one with the fewest trained values first."""
        others = [row for row in self.row_trained if row is not self.best and not self.better(self.best, row)]
        return sorted(others, key=lambda row: (row.trained, row.step_ms or 0.0))

    @property
    def nothing_learnt(self) -> bool:
        """Whether no row is shown to do better than a constant answer (of texts: than the untuned model)."""
        return bool(self.learnt) and not any(difference.mean > 0 and difference.p < LEVEL for difference in self.learnt.values())

    def frame(self) -> pandas.DataFrame:
        """A line for each row: its scores, differences, costs and rate."""
        return pandas.DataFrame([self._line(row) for row in self.rows])

    def _line(self, row: Row) -> dict[str, Any]:
        gap = self.from_reference(row)
        stats = {} if gap is None else {"difference": gap.mean, "low": gap.low, "high": gap.high, "p": gap.p,
                                        "detectable": None if math.isnan(gap.detectable) else gap.detectable}  # fmt: skip
        scores = {
            f"{name}{end}": getattr(mean, key)
            for name, mean in row.scores.items()
            for end, key in (("", "mean"), ("_sd", "sd"))
        }
        return {
            "row": row.name,
            "label": row.label,
            "n": len(row.runs),
            **scores,
            "reference": self.reference,
            **{key: stats.get(key) for key in ("difference", "low", "high", "p", "detectable")},
            "trained": row.trained,
            "step_ms": row.step_ms,
            "memory_mb": row.memory_mb,
            "general_rise": row.rise.mean if row.rise else None,
            "file_bytes": row.file_bytes,
            "lr": row.rate,
            "first_guess": row.guess.rate if row.guess and row.trained else None,
            "doubt": row.doubt or None,
            "best": row is self.best and not self.diverged,
            "folder": str(row.median_run.cell.folder),
        }


def answer(
    title: str,
    cells: Sequence[Cell],
    store: Store,
    guesses: Mapping[str, Guess],
    metric_filter: Callable[[str], bool],
) -> Answer | None:
    """What the records of these cells say; None unless two rows have one. metric_filter: whether a metric is shown."""
    all_runs = list(runs(cells, store))
    by_row = grouped(all_runs, lambda run: run.cell.row.name)
    if len(by_row) < 2:
        return None
    rows = [_row(runs, guesses, metric_filter) for runs in by_row]
    metric = rows[0].cell.score
    names = [row.name for row in rows]
    reference = next(
        (name for name in names if name == FULL), next((name for name in names if name == UNTUNED), names[0])
    )
    pairs = _pairs(rows, metric)
    constant, learnt = _learnt(rows, metric)
    trained_runs = [run for run in all_runs if run.trained]
    inputs = max((len(load_predictions(run.predictions)) for run in trained_runs), default=0)
    label = score_label(rows[0].cell).replace(" rouge score", "").replace("rouge", "ROUGE-")
    return Answer(title, label, tuple(rows), pairs, reference, constant, learnt, inputs)


def _row(runs: Sequence[Run], guesses: Mapping[str, Guess], metric_filter: Callable[[str], bool]) -> Row:
    cell = runs[0].cell
    names = [name for name in runs[0].record["measured"].get("scores") or {cell.score: 0} if metric_filter(name)]
    scores = {}
    for name in dict.fromkeys([cell.score, *names]):
        fractions = [score(run, name) for run in runs]
        if name == cell.score:  # a correlation of equal answers is undefined
            fractions = [worst(name) if value is None else value for value in fractions]
        values = [100 * value for value in fractions if value is not None]
        if len(values) == len(runs):
            scores[name] = summarise(values)
    early = unsettled(cell.row.label, [run.record for run in runs])
    doubt = f"{cell.row.label}: {cell.rate_doubt}" if cell.rate_doubt else early.note if early else ""
    return Row(
        cell.row.name,
        cell.row.label,
        {run.cell.seed: run for run in runs},
        scores[cell.score],
        scores,
        guesses.get(cell.row.name),
        doubt,
    )


def worst(metric: str) -> float:
    """What an undefined score counts as."""
    return METRICS[metric].worst if metric in METRICS else 0.0


def _pairs(rows: Sequence[Row], metric: str, against: str = "") -> dict[tuple[str, str], Difference]:
    """(a, b) -> a minus b, for all ordered pairs (or those with one row); p corrected for all unordered ones of these."""
    differences = {}
    for ours, theirs in itertools.combinations(rows, 2):
        if (
            against in ("", ours.name, theirs.name)
            and metric in METRICS
            and (both := paired(ours.runs, theirs.runs))
            and (gap := difference([(both, metric)]))
        ):
            differences[ours.name, theirs.name] = gap
    pairs = dict(zip(differences, holm([*differences.values()]), strict=True))
    return pairs | {(b, a): _reversed(difference) for (a, b), difference in pairs.items()}


def _reversed(gap: Difference) -> Difference:
    return Difference(-gap.mean, -gap.high, -gap.low, gap.n, gap.error, gap.p)


def _learnt(rows: Sequence[Row], metric: str) -> tuple[float | None, dict[str, Difference]]:
    """(the constant answer's score in per cent, each trained row's difference from it); of texts (None, from untuned).

    p is corrected for as many differences as there are trained rows.
    """
    methods = [row for row in rows if row.trained]
    if baseline := next((row for row in rows if row.name == UNTUNED), None):
        pairs = _pairs([baseline, *methods], metric, against=baseline.name)
        return None, {row.name: pairs[row.name, UNTUNED] for row in methods if (row.name, UNTUNED) in pairs}
    config: Any = OmegaConf.create(rows[0].cell.asked)
    task, data = build(config.task), build(config.data)
    splits = task.load(config.paths.data)
    test = subset(splits.test, data.n_test, data.subset_seed)
    ((usual, _),) = Counter(example.target for example in splits.train).most_common(1)
    scores = task.score([usual] * len(test), test)
    value = scores.values.get(metric, math.nan)
    return from_constant(methods, metric, value if math.isfinite(value) else worst(metric), scores.per_input)


def from_constant(
    rows: Sequence[Row], metric: str, value: float, constant: Sequence[Mapping[str, object]]
) -> tuple[float, dict[str, Difference]]:
    """(the constant answer's score in per cent, each row's difference from it). constant: its statistics by test row."""
    differences = {}
    for row in rows:
        predictions = [load_predictions(run.predictions) if run.trained else None for run in row.runs.values()]
        if metric in METRICS and any(predictions):
            bootstrap = paired_draws(predictions, [list(constant)] * len(predictions), metric=metric)
            low, high = interval(bootstrap.resamples)
            error, p = standard_error(bootstrap.resamples), p_of(bootstrap.difference, [bootstrap])
            differences[row.name] = Difference(
                100 * bootstrap.difference, 100 * low, 100 * high, len(predictions), 100 * error, p
            )
    return 100 * value, dict(zip(differences, holm([*differences.values()]), strict=True))


def decided_by(answer: Answer, ours: Row, theirs: Row) -> str:
    """What would decide the difference of two rows if it stays as it is; empty where that cannot be told.

    So many seeds (`verdict.outlook`), or so many test rows where seeds alone would not: their part of the interval's half width,
    1.96 sqrt(shared), falls with the square root of their number, and has to be less than the difference.
    """
    gap, both = answer.pairs.get((ours.name, theirs.name)), paired(ours.runs, theirs.runs)
    if gap is None or not gap.mean:
        return ""
    bootstrap = resampled(list(zip(*both, strict=True)), ours.cell.score, 0)
    shared, seed_variance = InputVariance.of(bootstrap.each)
    inputs = InputVariance(100**2 * shared, 100**2 * seed_variance)
    by_rows = float(ndtri(1 - LEVEL / 2)) * math.sqrt(inputs.shared)
    if by_rows >= abs(gap.mean):
        rows = math.ceil(answer.test_rows * (by_rows / gap.mean) ** 2 / 100) * 100
        return f"more than {rows:,} test rows like these {answer.test_rows:,} would decide it, and no number of seeds alone"
    return outlook(Region(floor=0), abs(gap.mean), len(both), bootstrap.error.times(100), inputs, LEVEL, len(both) + 1)


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None

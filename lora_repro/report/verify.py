"""Finished runs against published ones, cell by cell, and all that results/ says of itself; `commands/verify.py` has the rules.

Of results/ each file's hash is checked, each record's seal, name and files, and its scores. These are computed again from the
statistics of its predictions where a sum over inputs gives them (`score_mismatch`): all but NIST and rank correlations.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import stdtrit

from lora_repro import console
from lora_repro.config.compose import profile_of
from lora_repro.config.paths import ROOT
from lora_repro.config.signature import signature
from lora_repro.costs import measures
from lora_repro.errors import UserError
from lora_repro.files import SEAL, sha256
from lora_repro.metrics.corpus import METRICS, columns
from lora_repro.planning.cells import Cell, unique
from lora_repro.records import manifest
from lora_repro.records.record import load_predictions, read
from lora_repro.records.run_folder import PREDICTIONS, UPDATES
from lora_repro.report import show
from lora_repro.report.captions import alike, machine
from lora_repro.report.columns import place_label, score_label
from lora_repro.report.numbers import Metric, score, summarise
from lora_repro.report.pivot import Pivot
from lora_repro.report.table import EMPTY, Table, signed
from lora_repro.report.terminal import terminal
from lora_repro.results import (
    Run,
    Store,
    backbone_name,
    by_place,
    declared_cells,
    grouped,
    own,
    published,
    runs,
    runs_folder,
)
from lora_repro.stats.comparable import check_same_origin
from lora_repro.stats.intervals import LEVEL

REPRODUCED, DIFFERS, NOT_RUN, UNDECIDED, UNSCORED = "reproduced", "differs", "not run", "undecided", "not compared"
LEAST = 3  # the fewest differences of other rows that give a spread over machines
STATUS = {REPRODUCED: 0, DIFFERS: 1, NOT_RUN: 2, UNDECIDED: 2, UNSCORED: 2}
COLOUR = {REPRODUCED: console.GREEN, DIFFERS: console.RED}
Values = dict[int, float]


@dataclass(frozen=True)
class Spread:
    """A standard deviation in printed units with its degrees of freedom. of: `seeds` or `machines`."""

    of: str
    sd: float
    freedom: int

    def allows(self, times: float, level: float) -> float:
        """The largest difference that is not significant at `level`, if its standard error is `times` this spread."""
        return float(stdtrit(self.freedom, 1 - level / 2)) * times * self.sd


@dataclass(frozen=True)
class Compared:
    """One metric of a row at one place: seed -> value in printed units, published (`theirs`) and in this checkout (`ours`).

    trains: whether the row trains anything; if not, its value hardly depends on the machine.
    """

    cell: Cell
    metric: Metric
    theirs: Values
    ours: Values
    trains: bool = True
    shared: list[float] = field(init=False)

    def __post_init__(self) -> None:
        both = sorted(self.theirs.keys() & self.ours.keys())
        object.__setattr__(self, "shared", [self.ours[seed] - self.theirs[seed] for seed in both])

    @property
    def difference(self) -> float:
        """This checkout minus published: the mean over shared seeds, or the difference of means if no seed is shared."""
        if self.shared:
            return statistics.fmean(self.shared)
        return statistics.fmean(self.ours.values()) - statistics.fmean(self.theirs.values())

    @property
    def pool(self) -> tuple[str, str, str]:
        """(task, backbone, metric): the values compared under the same key share one spread."""
        return (self.cell.task, backbone_name(self.cell), self.metric.key)


@dataclass(frozen=True)
class Verdict:
    found: Compared
    verdict: str
    allowed: float | None = None
    by: str = ""


def compare(cells: Sequence[Cell], ours: Store, theirs: Store, metrics: Sequence[Metric] = ()) -> list[Compared]:
    """Every published row at all coordinates, by its own score or by `metrics` if given; a run at several of them counts once.

    Raises UserError if the two stores saw different data or weights at the same coordinates.
    """
    comparisons = []
    for at_coordinates in by_place(unique(cells)):
        for row_cells in grouped(at_coordinates, lambda cell: cell.row.name):
            by_seed = [{run.cell.seed: run for run in runs(row_cells, store)} for store in (theirs, ours)]
            check_same_origin([run.record for seeds in by_seed for run in seeds.values()])
            for metric in metrics or [Metric(row_cells[0].score, score_label(row_cells[0]))]:
                reference, reproduction = (_values(seeds, metric) for seeds in by_seed)
                if reference:
                    trains = any(map(_trains, by_seed[0].values()))
                    comparisons.append(Compared(row_cells[0], metric, reference, reproduction, trains))
    return comparisons


def _trains(run: Run) -> bool:
    counts = run.record["measured"].get("parameters") or {}
    return bool(counts.get("method", 0) + counts.get("head", 0))


def _values(seeds: dict[int, Run], metric: Metric) -> Values:
    scores = {seed: score(run, metric.key) for seed, run in seeds.items()}
    return {seed: metric.scale * value for seed, value in scores.items() if value is not None}


def judge(comparisons: Sequence[Compared]) -> list[Verdict]:
    """One verdict each, at Bonferroni's share of the level over all that can be compared."""
    level = LEVEL / max(1, sum(bool(compared.ours) for compared in comparisons))
    return [_judged(compared, [other for other in comparisons if other.pool == compared.pool], level) for compared in comparisons]


def _judged(compared: Compared, pool: Sequence[Compared], level: float) -> Verdict:
    if not compared.ours:
        return Verdict(compared, NOT_RUN)
    digit = 0.5 * 10**-compared.metric.digits
    if (seeds := _over_seeds(pool)) is None:
        return Verdict(compared, REPRODUCED if abs(compared.difference) <= digit else UNDECIDED)
    runs_each = (1 / len(compared.shared),) * 2 if compared.shared else (1 / len(compared.ours), 1 / len(compared.theirs))
    tolerance, by = seeds.allows(math.sqrt(sum(runs_each)), level), seeds.of
    others = [gap for other in pool if other is not compared and other.trains for gap in other.shared]
    if compared.shared and len(others) >= LEAST:
        machines = Spread("machines", math.sqrt(statistics.fmean(gap * gap for gap in others)), len(others))
        tolerance, by = min((tolerance, by), (machines.allows(math.sqrt(1 / len(compared.shared)), level), machines.of))
    return Verdict(compared, REPRODUCED if abs(compared.difference) <= max(tolerance, digit) else DIFFERS, tolerance, by)


def _over_seeds(pool: Sequence[Compared]) -> Spread | None:
    """The standard deviation over seeds, pooled over rows and over published and own runs; None if no row has two seeds."""
    several = [list(values.values()) for compared in pool for values in (compared.theirs, compared.ours) if len(values) > 1]
    freedom = sum(len(values) - 1 for values in several)
    if not freedom:
        return None
    squares = sum((len(values) - 1) * statistics.variance(values) for values in several)
    return Spread("seeds", math.sqrt(squares / freedom), freedom)


def table(name: str, profile: str, verdicts: Sequence[Verdict], notes: Sequence[str] = ()) -> Table:
    rows = []
    for verdict in verdicts:
        comparison, digits = verdict.found, verdict.found.metric.digits
        off = signed(comparison.difference, digits) if comparison.ours else EMPTY
        tolerance = EMPTY if verdict.allowed is None else f"±{verdict.allowed:.{digits}f} ({verdict.by})"
        means = [summarise(list(v.values())).text(digits) if v else EMPTY for v in (comparison.theirs, comparison.ours)]
        cell = comparison.cell
        rows.append((cell.row.label, place_label(cell), comparison.metric.title, *means, off, tolerance, verdict.verdict))
    header = ("Method", "Where", "Score", "Published", "This checkout", "Difference", "Allowed", "Verdict")
    level = f"at {100 * LEVEL:g} % for all cells together"
    footnotes = (f"Allowed: the difference that the spread over seeds, or of one seed over machines, explains, {level}.", *notes)
    return Table((f"{name}, profile {profile}: this checkout against what is published",), header, "lllrrrrl", tuple(rows),
                 footnotes, ("Allowed", "Difference"), keys=2)  # fmt: skip


def machines(ours: Sequence[Run], theirs: Sequence[Run]) -> list[str]:
    """A note if the two stores computed on different machines, as far as records tell, or in different precision."""
    arithmetics = [{_arithmetic(run) for run in side} for side in (theirs, ours)]
    if not arithmetics[1] or (_within(*arithmetics) and _within(*reversed(arithmetics))):
        return []
    their_machine, our_machine = (
        "; ".join(f"{where}, {precision}" for where, precision in sorted(arithmetic)) for arithmetic in arithmetics
    )
    return [f"Published on {their_machine}; here {our_machine}: one seed may differ as much as two seeds do."]


def _arithmetic(run: Run) -> tuple[str, str]:
    environment = run.record["where"]
    return machine(environment), str(environment.get("precision", "unknown precision"))


def _within(some: Set[tuple[str, str]], others: Set[tuple[str, str]]) -> bool:
    """Whether each (machine, precision) of `some` may be one of `others`."""
    return all(any(one[1] == other[1] and alike(one[0], other[0]) for other in others) for one in some)


def verify(name: str, overrides: Sequence[str], root: Path = ROOT) -> list[str]:
    """Print an experiment's table, or a line if it has no scores; nothing if nothing is published. Returns a verdict per cell."""
    profile, extra = profile_of(overrides)
    cells, experiment = declared_cells(name, profile, extra), show.declaration(name)
    theirs, ours = published(root / "results" / profile), own(runs_folder(cells, root, profile))
    metrics = experiment.metrics if isinstance(experiment, Pivot) and experiment.by == "metric" else ()
    verdicts = judge(compare(cells, ours, theirs, metrics))
    if verdicts:
        print(terminal([table(name, profile, verdicts, machines(runs(cells, ours), runs(cells, theirs)))]))
    elif runs(cells, theirs) or measures.load(theirs.folder, name):
        by_eye = f"lora-repro render {name} profile={profile}"
        print(f"{name}: not compared, it has no scores; to compare by eye: {by_eye}\n")
        return [UNSCORED]
    return [verdict.verdict for verdict in verdicts]


def check_published(results: Path) -> int:
    """Print what is wrong with the published files, and how many there are; returns the exit status.

    Raises UserError if the manifest is damaged.
    """
    faults = manifest.faults(results)
    paths = sorted(results.glob("*/records/*.json"))
    for path in paths:
        faults += [f"{path}: {fault}" for fault in _faults(path)]
    for fault in faults:
        print(console.paint("wrong:", console.RED), fault)
    counts = f"{len(manifest.read_manifest(results) or ())} files and {len(paths)} records under {results}"
    print(f"{counts}: {f'{len(faults)} faults' if faults else 'all are what was published'}")
    return int(bool(faults))


def _faults(path: Path) -> Iterator[str]:
    """What is wrong with a record and the files that belong to it."""
    try:
        record = read(path)
    except UserError as error:
        yield str(error)
        return
    if missing := [key for key in (SEAL, "files", "signature", "asked", "where", "measured") if key not in record]:
        yield f"it has no {', '.join(missing)}"
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

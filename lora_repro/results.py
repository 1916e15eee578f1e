"""Everything measured as one long table: one line per declared run and metric. Tables, figures, claims and notebooks read it.

    from lora_repro.results import frame
    frame("e2e", profile="laptop").query("main").groupby("label").value.agg(["mean", "count"])

Runs are found by the signature of their cell, never by a label or a folder, so that an ad-hoc run cannot slip into a row. A cell
that was not run, or a metric that was not measured, has no line; it is never 0. A collapsed run has its lines and counts in a
mean. A diverged run has no score; the tables give it the worst possible one. Nothing here needs torch.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from lora_repro.config.paths import CONF, INSTALLED, ROOT
from lora_repro.config.signature import check_same_config
from lora_repro.errors import UserError
from lora_repro.files import SEAL
from lora_repro.planning.cells import Cell, cells, unique
from lora_repro.records import manifest, record
from lora_repro.records.record import defect, load_records
from lora_repro.records.run_folder import PREDICTIONS, UPDATES

if TYPE_CHECKING:
    import pandas

PUBLISHED, OWN = "published", "this checkout"
FINISHED = "finished"
COLUMNS = ("row", "label", "backbone", "task", "seed", "metric", "value", "main", "source", "status", "signature",
           "method_parameters", "head_parameters", "note")  # fmt: skip


@dataclass(frozen=True, eq=False)
class Store:
    """Records by signature, from one of two places that are never mixed.

    PUBLISHED: results/<profile>/records/<signature>.json, predictions/<signature>.jsonl, updates/<signature>.safetensors.
    OWN, what this checkout ran: runs/<profile>/<signature>/{record.json, predictions.jsonl, updates.safetensors}.
    """

    source: str
    folder: Path
    records: dict[str, dict[str, Any]] = field(repr=False)
    origin: Store | None = field(default=None, repr=False)  # the store that this one is a view of
    spreads: dict[tuple[str, str], object] = field(default_factory=dict, init=False, repr=False)  # what `comparable.spread` told
    _agreed: set[str] = field(default_factory=set, init=False, repr=False, compare=False)

    @cached_property
    def tables(self) -> frozenset[str]:
        """The experiments for which runs were made."""
        return frozenset(str(record["row"]["table"] or "") for record in dict.values(self.records))

    def record(self, cell: Cell) -> dict[str, Any]:
        """The record of a cell. Raises UserError if the record was asked for something else than the cell."""
        entry = self.records[cell.signature]
        if cell.signature not in self._agreed:
            check_same_config(entry, cell.asked)
            self._agreed.add(cell.signature)
        return entry

    def predictions(self, key: str) -> Path:
        """The file of a run's per-input outputs."""
        return self.folder / ("predictions" if self.source == PUBLISHED else key) / self._file(key, PREDICTIONS)

    def updates(self, key: str) -> Path:
        """The file of the arrays that a probe measured."""
        return self.folder / ("updates" if self.source == PUBLISHED else key) / self._file(key, UPDATES)

    def _file(self, key: str, name: str) -> str:
        return f"{key}{Path(name).suffix}" if self.source == PUBLISHED else name


def own(folder: Path) -> Store:
    """This checkout's records. Raises UserError if predictions or arrays of a run differ from the hashes in its record."""
    for name, entry in (records := load_records(folder)).items():
        if wrong := defect(folder / name, entry, [PREDICTIONS, UPDATES]):
            raise UserError(f"{folder / name / wrong} has changed since its run wrote it: start the run again to remake it")
    return Store(OWN, folder, records)


def published(folder: Path) -> Store:
    """The published records. Raises UserError if the files are not those that were published, or a record has no hashes."""
    manifest.check_evidence(folder)
    records = load_records(folder / "records")
    for name, entry in records.items():
        if missing := [key for key in (SEAL, "files") if key not in entry]:
            raise UserError(f"{folder / 'records' / name}.json has no {missing[0]}: restore it, or publish its run again")
    return Store(PUBLISHED, folder, records)


@dataclass(frozen=True)
class Run:
    """A declared cell that has a record, whatever its status, in one of the two stores."""

    cell: Cell
    record: dict[str, Any] = field(repr=False)
    source: str
    predictions: Path
    updates: Path
    store: Store | None = field(default=None, repr=False)

    @property
    def signature(self) -> str:
        return self.cell.signature

    @property
    def finished(self) -> bool:
        return bool(self.record["status"] == FINISHED)

    @property
    def trained(self) -> bool:
        """Whether it went through its training, and so has answers: a collapsed run does, a diverged one does not."""
        return bool(self.record["status"] != "diverged")


def runs(all_cells: Sequence[Cell], store: Store) -> list[Run]:
    """The cells that have a record in `store`, in their order; a run at two places of the axes is listed at both."""
    return [
        Run(cell, store.record(cell), store.source, store.predictions(cell.signature), store.updates(cell.signature), store)
        for cell in all_cells
        if cell.signature in store.records
    ]


def long(all_runs: Sequence[Run]) -> pandas.DataFrame:
    """The long table of these runs: `COLUMNS`, plus a column before `metric` for every other swept axis."""
    axes = list(dict.fromkeys(axis for run in all_runs for axis in run.cell.axes if axis not in COLUMNS))
    lines = []
    for run in all_runs:
        cell, measurements = run.cell, run.record["measured"]
        run_columns = {
            "row": cell.row.name,
            "label": cell.row.label,
            "backbone": backbone_name(cell),
            "task": cell.task,
            "seed": cell.seed,
            **{axis: cell.axes.get(axis) for axis in axes},
            "source": run.source,
            "status": run.record["status"],
            "signature": cell.signature,
            "method_parameters": measurements["parameters"]["method"],
            "head_parameters": measurements["parameters"]["head"],
            "note": measurements.get("note") or "",
        }
        main = cell.score
        numbers = dict(_numbers(measurements))
        lines += [{**run_columns, "metric": name, "value": value, "main": name == main} for name, value in numbers.items()]
    import pandas  # slow to import, and a table of scores needs none

    place = COLUMNS.index("metric")
    return pandas.DataFrame(lines, columns=[*COLUMNS[:place], *axes, *COLUMNS[place:]])


def frame(
    experiment: str, profile: str = "mini", overrides: Sequence[str] = (), *, root: Path = ROOT
) -> pandas.DataFrame:
    """Every run of an experiment that is published or was made here, as a long table: one line per run and metric.

    row, label      the table's row; backbone, task, seed, and every other axis that is swept (`row.rank`, `data.n_train`)
    metric, value   as measured (bleu 0.683, not 68.3); `main` marks the score that stands for its task
    source          `published` or `this checkout`; status: a collapsed run counts in a mean, a diverged one as the worst score
    signature       names the run; method_parameters, head_parameters: what it trained; note: what the run said of itself

    overrides: those of the training command (`row/e2e=lora`, `seed=0`, `train.lr=1e-3`) narrow or change what is asked for.
    root: the folder that holds runs/ and results/. Raises UserError for what conf/ does not declare.
    """
    all_cells = unique(declared_cells(experiment, profile, overrides))
    stores = [published(root / "results" / profile), own(runs_folder(all_cells, root, profile))]
    return long([run for store in stores for run in runs(all_cells, store)])


def declared_cells(experiment: str, profile: str, overrides: Sequence[str] = ()) -> list[Cell]:
    """Every row x seed x place of an experiment, rows in their order. Raises UserError where nothing is asked for."""
    rows = [] if any(item.startswith(f"row/{experiment}=") for item in overrides) else [f"row/{experiment}=glob(*)"]
    all_cells = cells([f"experiment={experiment}", f"profile={profile}", *rows, *overrides], every_seed=True)
    if not all_cells:
        raise UserError(f"{experiment} has no run with {' '.join(overrides) or f'profile={profile}'}: change these settings")
    return sorted(all_cells, key=lambda cell: (cell.row.order, cell.row.name))


def runs_folder(all_cells: Sequence[Cell], root: Path, profile: str) -> Path:
    """Where this checkout's runs lie: below the current folder, where `run` writes them, or below another `root` if given."""
    return (Path.cwd() if root == ROOT else root) / str(all_cells[0].asked["paths"]["runs"]) / profile


def backbone_name(cell: Cell) -> str:
    """The backbone's name, marked if it is the untrained twin of that name."""
    backbone = cell.asked["backbone"]
    return str(backbone["name"]) + ("" if backbone.get("pretrained", True) else " (random weights)")


def _numbers(measurements: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """Every number by name: scores under their own names, other nested ones below their parent's (`parameters/method`).

    A run that answers nothing has its dev loss as a score too, under the same name.
    """
    for key, value in measurements.items():
        if isinstance(value, dict):
            yield from _numbers(value, "" if key == "scores" else f"{prefix}{key}/")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield f"{prefix}{key}", value


T = TypeVar("T")


def grouped(items: Iterable[T], key: Callable[[T], Hashable]) -> list[list[T]]:
    """The items grouped by key, in the order in which the keys first occur."""
    groups: dict[Hashable, list[T]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return list(groups.values())


def place(cell: Cell, *without: str) -> Hashable:
    """A cell's coordinates on all axes except `without`; cells of other rows and seeds are compared at equal coordinates."""
    axes = {**cell.axes, "backbone": backbone_name(cell), "task": cell.task}
    return tuple((axis, str(axes[axis])) for axis in sorted(axes) if axis not in without)


def by_place(all_cells: Sequence[Cell], *without: str) -> list[list[Cell]]:
    """The cells grouped by their coordinates on all axes except `without`."""
    return grouped(all_cells, lambda cell: place(cell, *without))


def published_records(profile: str) -> dict[str, dict[str, Any]]:
    """signature -> the published record of a run of a profile; none in an installed package, which brings searches alone."""
    results = CONF.parent / "results"
    if INSTALLED and not (results / profile / "records").is_dir():
        return {}
    manifest.check(results, [f"{profile}/records"])
    return record.load_records(results / profile / "records")

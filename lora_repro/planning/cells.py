"""The one list of runs that a command line asks for, each with its coordinates, its name and the runs that it starts from.

Sweeps, plans, the doctor, tables, claims and the page all take their runs from here. The axes are whatever the experiment
(`hydra.sweeper.params`) and the command line (comma lists) sweep: only rows and seeds are known by name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from lora_repro.config import file_hashes, signature
from lora_repro.config.compose import (
    cached_values,
    compose,
    readings,
    resolved,
    starts_of,
    sweep_jobs,
    unresolved,
)
from lora_repro.config.paths import choices
from lora_repro.config.schema import class_name
from lora_repro.config.validation import check_root
from lora_repro.errors import UserError
from lora_repro.records import rates, record

OWN_FILES = ("task.train=", "task.dev=", "task.test=")  # where the user's files lie
SHOWN = ("task", "method")  # axes that a table of runs has a column for


@dataclass(frozen=True)
class Row:
    """A row of a table, or a method on its own. `seeds`: how many it asks for, counted from 0.

    paper, reruns: backbone -> printed numbers and their source.
    compare: whether its texts are scored against the same references as those of the other rows.
    """

    name: str
    label: str
    order: int
    seeds: int
    compare: bool
    paper: dict[str, dict[str, Any]]
    reruns: dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Cell:
    """One run, at one place of a sweep.

    axes: what is swept besides row and seed, in the sweep's order: {"task": "rte", "row.rank": 8}.
    overrides: those that compose it. asked: its resolved configuration. folder: where its record lies.
    starts: the runs that it starts from. guess: where a search of its learning rate begins; None if the rate is given.
    """

    row: Row
    seed: int
    axes: dict[str, Any]
    overrides: tuple[str, ...]
    signature: str
    asked: dict[str, Any]
    folder: Path
    starts: tuple[Cell, ...] = ()
    guess: float | None = None

    @property
    def task(self) -> str:
        return str(self.asked["task"]["name"])

    @cached_property
    def setting(self) -> str:
        """The name of its setting: all seeds share the search of a learning rate."""
        return rates.setting_signature(self.asked)

    @property
    def score(self) -> str:
        """The task's main metric."""
        return record.main_metric(self.asked)

    @property
    def search(self) -> dict[str, Any] | None:
        """The trials that chose this run's learning rate; None if there were none or the rate is given."""
        if not self.guess:
            return None
        config = self.asked
        runs = config.get("paths", {}).get("runs", "runs")
        return rates.load_trials(str(config["profile_name"]), self.setting, runs)

    @property
    def unsearched(self) -> bool:
        """Whether it trains at a first guess: its learning rate is neither given nor searched."""
        return bool(self.guess) and self.search is None

    @property
    def rate_doubt(self) -> str:
        """Why no verdict rests on this cell's learning rate; empty if one may."""
        if self.unsearched:
            return "rate not searched"
        count = rates.stopped(search["searches"][-1]) if (search := self.search) else 0
        return f"its search stopped at chance after {count} rates" if count else ""

    def titled(self, axes: Iterable[str]) -> str:
        """The row and its values on the swept `axes`: `lora_q row.rank=4`. `axes`: those to show (`varying_axes`)."""
        settings = [f"{key}={self.axes[key]}" for key in axes if key in self.axes and key not in SHOWN]
        return " ".join([self.row.name, *settings])


def cells(arguments: Sequence[str], every_seed: bool = False) -> list[Cell]:
    """Every cell of `lora-repro run <arguments>`, in the order in which they run.

    Two cells may be the same run (`unique`). every_seed: all seeds that the rows ask for, unless the command line names some; a
    table shows more seeds than a sweep at a small profile runs. Raises UserError for a command line that no run could follow.
    """
    overrides = [item for item in arguments if not item.startswith("-")]
    swept, jobs = sweep_jobs(overrides)
    _check_rows(overrides)
    every_seed = every_seed and not any(item.startswith("seed=") for item in overrides)
    all_cells: list[Cell] = []
    commands = set()
    for job in jobs:
        seed = next((item.removeprefix("seed=") for item in job if item.startswith("seed=")), None)
        command = tuple(item for item in job if not item.startswith("seed="))
        if every_seed and command in commands:
            continue
        commands.add(command)
        run = _run(command, _view())
        first = run.asked["seed"] if seed is None else seed
        seeds = range(run.row.seeds) if every_seed else [whole(first)]
        axes = {key.lstrip("+"): run.at(key, command) for key in swept if key != "seed" and not key.startswith("row/")}
        all_cells += [run.cell(number, axes) for number in seeds if number < run.row.seeds]
    return all_cells


def unique(group: Iterable[Cell]) -> list[Cell]:
    """Each run once, with only the axes on which all its cells agree: a run without a rank keeps no rank axis."""
    runs: dict[Path, Cell] = {}
    for cell in group:
        twin = runs.get(cell.folder, cell)
        runs[cell.folder] = replace(twin, axes={k: v for k, v in twin.axes.items() if cell.axes.get(k) == v})
    return list(runs.values())


def with_starts(group: Sequence[Cell]) -> list[Cell]:
    """Each run once, preceded by the runs that they start from."""
    first = [start for cell in group for start in with_starts(cell.starts)]
    return unique([*first, *group])


def varying_axes(group: Sequence[Cell]) -> list[str]:
    """The axes on which these cells differ."""
    keys = dict.fromkeys(key for cell in group for key in cell.axes)
    return [key for key in keys if len({str(cell.axes[key]) for cell in group if key in cell.axes}) > 1]


def cell_of(config: DictConfig, overrides: Sequence[str]) -> Cell:
    """The cell of one composed configuration. Raises UserError, as `cells` does."""
    run = _of(_plain(config, overrides), tuple(overrides))
    return run.cell(whole(config.seed), {})


def row_has_seed(config: DictConfig) -> bool:
    """Whether the row asks for this seed. Raises UserError for a seed that is no whole number, or an experiment without rows."""
    _check_named(config)
    return bool(whole(config.seed) < config.row.seeds)


def own_title(method: str, command: Sequence[str]) -> str:
    """The title of a run outside a table: its method and the other settings asked for (`lora method.rank=8`)."""
    return " ".join([method, *asked_otherwise(command)])


def asked_otherwise(command: Sequence[str]) -> list[str]:
    """The settings of a command line without those that a title shows anyway and those of where or how the run runs."""
    prefixes = ("method=", "task=", "seed=", "profile=", "device=", "experiment=", "row/")
    return [item for item in command if not item.startswith(("hydra", "paths.", "tracker", "launch.", *OWN_FILES, *prefixes))]


def chosen_settings(cell: Cell) -> list[str]:
    """What the line about a run adds to its row's label: the settings asked for, without an axis that the row lacks.

    A row declares its axes by their defaults, so full fine-tuning in a sweep over `row.rank` has no rank to tell.
    """

    def lacks(item: str) -> bool:
        rest = tuple(word for word in cell.overrides if word != item and not word.startswith("seed="))
        return item.startswith("row.") and _run(rest, _view()).at(item.partition("=")[0], (item,)) is None

    return [item for item in asked_otherwise(cell.overrides) if not lacks(item)]


def whole(seed: object) -> int:
    try:
        number = int(str(seed))
    except ValueError:
        number = -1
    if number < 0:
        raise UserError(f"seed must be a whole number of at least 0, not {seed!r}")
    return number


@dataclass(frozen=True)
class _Run:
    """What a command line asks for without its seed. Nothing in conf/ refers to the seed, so it can be set after composing."""

    command: tuple[str, ...]
    row: Row
    asked: dict[str, Any]
    starts: tuple[tuple[_Run, int | None], ...]  # each with a seed of its own, if it has one
    guess: float | None

    @cached_property
    def named(self) -> dict[str, Any]:
        """What the signatures of its cells have in common."""
        return signature.named(self.asked)

    def cell(self, seed: int, axes: dict[str, Any]) -> Cell:
        starts = tuple(start.cell(seed if other is None else other, {}) for start, other in self.starts)
        extra: dict[str, Any] = {"seed": seed}
        if starts:
            extra["starts_from"] = [start.signature for start in starts]
        config, name = {**self.asked, **extra}, signature.digest({**self.named, **extra})
        folder = Path(config["paths"]["runs"]) / config["profile_name"] / name
        return Cell(self.row, seed, axes, (*self.command, f"seed={seed}"), name, config, folder, starts, self.guess)

    def at(self, axis: str, command: Sequence[str]) -> Any:
        """This run's coordinate on an axis, spelled as on the command line (`++train.lr`): a value, or a chosen file's name."""
        choice = next(item.partition("=")[2] for item in command if item.startswith(f"{axis}="))
        value: Any = self.asked
        for key in axis.lstrip("+").split("."):
            value = value.get(key) if isinstance(value, dict) else None
        return choice if isinstance(value, dict) else value


def _view() -> object:
    """What tells apart runs that one command line asked for at different times: by which rates and which configuration."""
    return rates.view(), readings()


@cache
def _run(command: tuple[str, ...], view: object) -> _Run:
    """The run of a command line; its rate is that of today's trials. view: `_view()`."""

    def plain() -> dict[str, Any]:
        return _plain(compose(list(command)), command)

    def lasting() -> dict[str, Any] | None:
        """What a later command may take over; None if it depends on a model's folder, which may hold another model by then."""
        values = plain()
        backbone = values["asked"]["backbone"]
        return None if backbone.get("path") or backbone.get("source") == "folder" else values

    # A temporary folder is not worth remembering, and an environment variable may have changed.
    passing = any(item.startswith("paths.runs=") or "${oc.env" in item for item in command)
    return _of((None if passing else cached_values(("run", *command), lasting)) or plain(), command)


def _plain(config: DictConfig, command: Sequence[str]) -> dict[str, Any]:
    """A run as plain values, to be cached: what it asks for, the first guess of its rate, commands and seeds of its starts."""
    _check_named(config)
    settings, starts = resolved(config), []
    for item, (_, words) in zip(config.get("starts") or (), starts_of(config, command), strict=True):
        starts.append([[word for word in words if not word.startswith("seed=")], item.get("seed")])
    return {"asked": settings, "guess": rates.first_guess(config), "starts": starts}


def _of(plain: dict[str, Any], command: tuple[str, ...]) -> _Run:
    config, guess = plain["asked"], plain["guess"]
    check_root(config)  # cached values must suit today's code
    if config["task"].get("sha256"):  # and today's files
        config["task"]["sha256"] = file_hashes.current(config["task"])
    if guess is not None:
        config["train"]["lr"] = rates.chosen_rate(config, guess)  # and follow today's trials
    row = config["row"]
    if not row["table"]:
        row["name"], row["label"] = config["method"]["name"], own_title(config["method"]["name"], command)
    name, label = row["name"], row["label"]
    numbers = (row.get("paper") or {}, row.get("reruns") or {})
    table_row = Row(str(name), str(label), int(row["order"]), int(row["seeds"]), bool(row.get("compare", True)), *numbers)
    starts = tuple((_run(tuple(words), _view()), seed) for words, seed in plain["starts"])
    return _Run(command, table_row, config, starts, guess)


@unresolved()
def _check_named(config: DictConfig) -> None:
    table = config.row.table
    if table and not config.row.label:
        timed = "bench" in config  # a table of measurements
        advice = f"trains nothing: use its verb {table}" if timed else f"needs its rows: run it as experiment={table}, without -m"
        raise UserError(f"experiment {table} {advice}")


def _check_rows(overrides: Sequence[str]) -> None:
    """Raise UserError for an unknown row, by its name (Hydra would name the missing file), or for another method in its place."""
    table = next((item.removeprefix("experiment=") for item in overrides if item.startswith("experiment=")), "")
    if table and (method := next((item for item in overrides if item.startswith("method=")), "")):
        raise UserError(f"a row of {table} has its own method, so {method} would stand under another's name: leave out either")
    for key, _, value in (item.partition("=") for item in overrides):
        if key.startswith("row/") and "(" not in value:
            stems = choices(key)
            if unknown := [name for name in value.split(",") if name.strip() not in stems]:
                table = key.removeprefix("row/")
                raise UserError(f"no row {unknown[0]!r} in table {table}; choose from {', '.join(stems)}")


def data_hint(task: Mapping[str, Any]) -> list[str]:
    """`paths.data=/path/to/e2e` for a task that reads a folder or files of the user's, which no record names; else nothing."""
    if task.get("members"):  # a mixture reads what its members read
        return data_hint(task["members"][0])
    if hashes := task.get("sha256"):
        return [f"task.{split}=/path/to/{split}" for split in ("train", "dev", "test") if hashes.get(split)]
    home = class_name(str(task["_target_"])).lower()
    if task.get("folder") == home:  # a subfolder of its own inside the named folder
        home = "data"
    return [f"paths.data=/path/to/{home}"] if task.get("source") == "folder" else []

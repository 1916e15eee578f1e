"""The command that runs a recorded cell again: overrides that compose to the record's signature."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from lora_repro.config import paths
from lora_repro.config.compose import compose, sweep_jobs
from lora_repro.config.hydra_internals import override_value
from lora_repro.config.schema import defaults
from lora_repro.config.signature import class_of, identity
from lora_repro.errors import UserError
from lora_repro.planning.cells import Cell, cell_of, cells, data_hint

GROUPS = ("backbone", "task", "method")  # chosen by name, not value by value
PROGRAM = "lora-repro run"


@dataclass(frozen=True)
class Command:
    """How to run one record again.

    overrides: compose to the record's signature, unless `problem` says why this checkout cannot compose it.
    extra: those of the overrides that no declared row asks for; () for a cell of a table. order: the row's place in its table.
    options: what finds the user's own classes and yaml files, for a record that has any.
    """

    overrides: tuple[str, ...]
    extra: tuple[str, ...]
    problem: str
    order: int
    data: tuple[str, ...] = ()
    options: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The command for a shell. The reader fills in the folders of data and yaml files, which no signature has."""
        return f"{PROGRAM} {shlex.join([*self.options, *self.overrides, *self.data])}"


def command(record: dict[str, Any], profile: str) -> Command:
    """Derive the command of `record`, and check it by composing it and comparing the signatures.

    The command asks for the record's cell of its table, or else for the nearest cell plus the overrides in which they differ.
    """
    config, row = record["asked"], record["row"]
    data, options = tuple(data_hint(config["task"])), _options(config, record["row"]["table"])
    seed = f"seed={config['seed']}"
    base = [f"profile={profile}"]
    if row["table"]:
        base = [f"experiment={row['table']}", *base, f"row/{row['table']}={row['name']}"]
    try:
        near = min(_declared((*base, *_held(tuple(base), config))), key=lambda cell: len(_apart(cell, config)))
        overrides = near.overrides[:-1]  # all but its seed
        extra = _extra(overrides, config) if _apart(near, config) else ()
        cell = _cell((*overrides, *extra), config["seed"])
    except UserError as error:
        return Command((*base, seed), (), f"this checkout refuses it: {error}", 99, data, options)
    same = cell.signature == record["signature"]
    problem = "" if same else "this checkout composes another signature: its configuration has changed since"
    return Command((*overrides, *extra, seed), extra, problem, cell.row.order, data, options)


def command_of(cell: Cell, table: str) -> Command:
    """The command of a cell that `table` declares."""
    data, options = tuple(data_hint(cell.asked["task"])), _options(cell.asked, table)
    return Command(cell.overrides, (), "", cell.row.order, data, options)


def trust(config: Mapping[str, Any]) -> tuple[str, ...]:
    """`--trust PACKAGE,...` for the packages of others whose classes a run was built from; () if there are none."""
    packages = {target.partition(".")[0] for target in _targets(config)} - {"lora_repro"}
    return ("--trust", ",".join(sorted(packages))) if packages else ()


def _targets(node: Any) -> Iterator[str]:
    if isinstance(node, Mapping):
        yield from filter(None, [node.get("_target_")])
    for part in node.values() if isinstance(node, Mapping) else node if isinstance(node, list) else ():
        yield from _targets(part)


def _options(config: Mapping[str, Any], table: str | None) -> tuple[str, ...]:
    """The options with which `run` finds a record's classes and yaml files outside this project."""
    choices = [(group, config[group]["name"]) for group in GROUPS] + [("experiment", table)]
    outside = paths.own() and any((Path(paths.own()) / group / f"{name}.yaml").is_file() for group, name in choices)
    return (*(("--config-dir", "/path/to/yours") if outside else ()), *trust(config))


NO_STARTS: dict[str, Any] = {"starts": None}  # no record keeps this key


@cache
def _swept(base: tuple[str, ...]) -> list[str]:
    return sweep_jobs(base)[0]


def _held(base: tuple[str, ...], config: dict[str, Any]) -> list[str]:
    """The swept axes, each fixed at the record's value. `row.*` axes are left out: a record has what they set, not the axes."""
    overrides = []
    for axis in _swept(base):
        group, _, key = axis.partition(".")
        if group in config and axis != "seed":
            overrides.append(f"{axis}={override_value(config[group][key] if key else config[group]['name'])}")
    return overrides


@cache
def _declared(base: tuple[str, ...]) -> list[Cell]:
    """The cells of a row, whatever the seed."""
    return cells([*base, "seed=0"])


def _apart(cell: Cell, goal: dict[str, Any]) -> list[str]:
    """The values, apart from the seed, in which a cell differs from the run that was asked for."""
    config = {key: value for key, value in identity(cell.asked).items() if key != "starts_from"}
    return _differences(NO_STARTS | config | {"seed": goal["seed"]}, NO_STARTS | goal)


def _cell(overrides: tuple[str, ...], seed: int) -> Cell:
    config = compose([*overrides, f"seed={seed}"])
    return cell_of(config, overrides)


def _extra(overrides: tuple[str, ...], goal: dict[str, Any]) -> tuple[str, ...]:
    """The further overrides with which `overrides` compose to `goal`: groups first, then single values."""
    keys = {item.partition("=")[0] for item in overrides}
    config = _cell(overrides, goal["seed"]).asked
    groups = [
        f"{group}={goal[group]['name']}"
        for group in GROUPS
        if group not in keys and goal[group]["name"] != config[group]["name"]
    ]
    extras = list(groups)
    while True:  # one value may change another: a searched learning rate depends on the setting
        config = dict(_cell((*overrides, *extras), goal["seed"]).asked)
        config.pop("starts_from", None)  # follows from the other values
        more = [item for item in _differences(NO_STARTS | identity(config), NO_STARTS | goal) if item not in extras]
        if not more:
            return tuple(extras)
        extras += more


def _differences(config: dict[str, Any], goal: dict[str, Any], prefix: str = "") -> list[str]:
    """`key=value` for every value of `goal` that differs in `config`. A constructor's field missing in `goal` is its default.

    Any other key that only one of them has is ignored.
    """
    if "_target_" in config and "_target_" in goal:
        if class_of(config["_target_"]) == class_of(goal["_target_"]):  # it may have moved since
            goal = {**goal, "_target_": config["_target_"]}
        goal = {**defaults(goal["_target_"]), **goal}
    overrides = []
    for key in sorted(config.keys() & goal.keys()):
        ours, theirs = config[key], goal[key]
        if isinstance(ours, dict) and isinstance(theirs, dict):
            overrides += _differences(ours, theirs, f"{prefix}{key}.")
        elif plain(ours) != plain(theirs):
            overrides.append(f"{prefix}{key}={override_value(theirs)}")
    return overrides


def plain(value: Any) -> Any:
    """`value` with a tuple, which a default may be, as the list that yaml has."""
    return list(value) if isinstance(value, tuple) else value

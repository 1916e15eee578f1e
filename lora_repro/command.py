"""The command that runs a recorded cell again: overrides that compose to the record's signature."""

from __future__ import annotations

import itertools
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from lora_repro.compose import CONF, asked_of, compose, composed
from lora_repro.errors import UserError
from lora_repro.record import identity, signature
from lora_repro.tables.rows import SIZE, data_hint

GROUPS = ("backbone", "task", "method")  # chosen by name, not value by value
PROGRAM = "python -m lora_repro.run"


@dataclass(frozen=True)
class Command:
    """How to run one record again.

    overrides: compose to the record's signature, unless `problem` says why this checkout has none that do.
    extra: those among them that no declared row asks for; () for a cell of a table. order: the row's place in its table.
    """

    overrides: tuple[str, ...]
    extra: tuple[str, ...]
    problem: str
    order: int
    data: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """For a shell. Where the files lie is the reader's to fill in: it is no part of the signature."""
        return f"{PROGRAM} {shlex.join([*self.overrides, *self.data])}"


def command(record: dict[str, Any], profile: str) -> Command:
    """Derive the command of `record`, checked by composing it: the signature is compared, not assumed."""
    asked, row = record["asked"], record["row"]
    data = tuple(data_hint(asked["task"]))
    base = [f"profile={profile}"]
    if row["table"]:
        base = [f"experiment={row['table']}", *base, f"row/{row['table']}={row['name']}"]
    tried: list[tuple[str, ...]] = []
    try:
        for axes in _axes(row["table"] or "", profile, asked):
            tried.append((*base, *axes))
            config = _resolved(tried[-1], asked["seed"])
            if signature(config) == record["signature"]:
                return Command((*tried[-1], f"seed={asked['seed']}"), (), "", config["row"]["order"], data)
        extra = _extra(tried[0], asked)
        whole = (*tried[0], *extra)
        config = _resolved(whole, asked["seed"])
    except UserError as error:
        return Command((*base, f"seed={asked['seed']}"), (), f"this checkout refuses it: {error}", 99, data)
    same = signature(config) == record["signature"]
    problem = "" if same else "this checkout composes another signature: its configuration has changed since"
    return Command((*whole, f"seed={asked['seed']}"), extra, problem, config["row"]["order"], data)


def _resolved(overrides: tuple[str, ...], seed: int) -> dict[str, Any]:
    """What the overrides and the seed resolve to. Setting seed and row.size is the same as composing with them, at a
    fraction of the time."""
    sizes = [item for item in overrides if item.startswith(f"{SIZE}=")]
    config = composed(tuple(item for item in overrides if item not in sizes)).copy()
    config.seed = seed
    for item in sizes:
        config.row.size = int(item.partition("=")[2])
    return asked_of(config, overrides)


@cache
def _swept(table: str, profile: str) -> dict[str, str]:
    row = next((CONF / "row" / table).glob("*.yaml"), None)
    chosen = [f"row/{table}={row.stem}"] if row else []
    config = compose([f"experiment={table}", f"profile={profile}", *chosen], hydra_node=True)
    return {str(axis): str(values) for axis, values in (config.hydra.sweeper.params or {}).items()}


def _axes(table: str, profile: str, asked: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    """What the experiment would sweep, each axis held at the record's value.

    `row.*` is no part of a record's identity (what it sets is), so all of its declared values are candidates.
    """
    choices = []
    for axis, values in _swept(table, profile).items() if table else ():
        if axis in (f"row/{table}", "seed"):
            continue
        group, _, rest = axis.partition(".")
        if group in asked:
            value = asked[group][rest] if rest else asked[group]["name"]
            choices.append([f"{axis}={override_value(value)}"])
        else:
            choices.append([f"{axis}={value.strip()}" for value in values.split(",")])
    yield from itertools.product(*choices)


def _extra(overrides: tuple[str, ...], asked: dict[str, Any]) -> tuple[str, ...]:
    """Overrides that turn what `overrides` compose to into `asked`: groups first, then single values."""
    given = {item.partition("=")[0] for item in overrides}
    config = _resolved(overrides, asked["seed"])
    groups = [
        f"{group}={asked[group]['name']}"
        for group in GROUPS
        if group not in given and asked[group]["name"] != config[group]["name"]
    ]
    config = _resolved((*overrides, *groups), asked["seed"])
    config.pop("starts_from", None)  # what a run starts from follows from the rest
    return (*groups, *_differences(identity(config), asked))


def _differences(composed: dict[str, Any], asked: dict[str, Any], prefix: str = "") -> list[str]:
    """`key=value` for every value of `asked` that `composed` has otherwise; `~key` for a setting of the training that only
    `composed` has (`train.steps`). Any other key that only one has stays."""
    found = [f"~{prefix}{key}" for key in sorted(composed.keys() - asked.keys())] if prefix == "train." else []
    for key in sorted(composed.keys() & asked.keys()):
        ours, theirs = composed[key], asked[key]
        if isinstance(ours, dict) and isinstance(theirs, dict):
            found += _differences(ours, theirs, f"{prefix}{key}.")
        elif ours != theirs:
            found.append(f"{prefix}{key}={override_value(theirs)}")
    return found


def override_value(value: object) -> str:
    """`value` in Hydra's override grammar."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, str):
        word = re.fullmatch(r"[A-Za-z_][\w./-]*", value) and value.lower() not in ("null", "true", "false", "nan", "inf")
        return value if word else "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
    if isinstance(value, list | tuple):
        return f"[{','.join(map(override_value, value))}]"
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}:{override_value(item)}" for key, item in value.items()) + "}"
    return repr(value)

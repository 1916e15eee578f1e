"""The cells a table declares in conf/ (experiment, rows, seeds), each with the signature it is looked up by.

A record is never chosen by its label or folder, so an ad-hoc run cannot slip into a row.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig, OmegaConf

from lora_repro.compose import CONF, asked_of, compose
from lora_repro.errors import UserError
from lora_repro.record import signature

AXES = ("backbone", "task", "data.n_train")  # what a table may sweep beside its rows and seeds
SIZE = "row.size"  # and this: a rank, a bottleneck, a prefix length, as the row makes of it


@dataclass(frozen=True)
class Row:
    """A declared row.

    asked: seed -> (signature, resolved configuration).
    paper, reruns: backbone -> printed numbers and their source.
    compare: whether its texts are scored against the same references as the other rows'.
    """

    name: str
    label: str
    order: int
    compare: bool
    paper: dict[str, dict[str, Any]]
    reruns: dict[str, dict[str, Any]]
    asked: dict[int, tuple[str, dict[str, Any]]]


@dataclass(frozen=True)
class Block:
    """The rows at one place of the other axes: a backbone (its name in conf/backbone), a task, an amount of data, a size.

    `config`: a resolved cell, for what all share.
    """

    backbone: str
    config: dict[str, Any]
    rows: tuple[Row, ...]

    @property
    def task(self) -> str:
        return str(self.config["task"]["name"])


def declared(table: str, profile: str, overrides: Sequence[str] = ()) -> list[Block]:
    """Compose every declared row x seed of conf/experiment/<table>.yaml, one block per place of the other axes (`AXES`).

    `overrides` are those of the training command: row/<table>=, seed= and the axes (comma lists) narrow the
    table, all others change every cell. Raises UserError for a row or profile that does not exist.
    """
    given = dict(item.split("=", 1) for item in overrides if "=" in item)
    narrowing = (f"row/{table}", *AXES, SIZE, "seed", "profile")
    rest = [item for item in overrides if item.split("=", 1)[0] not in narrowing]
    stems = sorted(path.stem for path in (CONF / "row" / table).glob("*.yaml"))
    wanted = _split(given.get(f"row/{table}")) or stems
    if unknown := sorted(set(wanted) - set(stems)):
        raise UserError(f"no row {unknown[0]!r} in table {table}; choose from {', '.join(stems)}")
    seeds = _whole("seed", given)
    blocks = []
    fixed = [f"task={given['task']}"] if "," not in given.get("task", ",") else []
    axes = [
        [f"{axis}={value}" for value in _split(given.get(axis)) or swept(table, profile, axis, fixed)] or [""]
        for axis in AXES
    ]
    sizes: list[int | None] = [*_whole(SIZE, given)] or [int(n) for n in swept(table, profile, SIZE, fixed)]
    for choice in itertools.product(*axes):
        base = [f"experiment={table}", f"profile={profile}", *filter(None, choice), *rest]
        commands = [[*base, f"row/{table}={stem}"] for stem in wanted]
        composed = [compose(command) for command in commands]
        for size in sizes or [None]:
            rows = [_declare(*pair, seeds, size) for pair in zip(composed, commands, strict=True)]
            configs = [config for row in rows for _, config in row.asked.values()]
            if not configs:
                raise UserError(f"no row of table {table} asks for seed {given.get('seed')}")
            ordered = tuple(sorted(rows, key=lambda row: (row.order, row.name)))
            blocks.append(Block(str(configs[0]["backbone"]["name"]), configs[0], ordered))
    return blocks


def data_hint(task: Mapping[str, Any]) -> list[str]:
    """`paths.data=/path/to/e2e` for a task that reads the reader's own folder (where it lies is in no record), else nothing."""
    home = str(task["_target_"]).split(".")[-2]  # lora_repro.tasks.glue.Glue: glue
    return [f"paths.data=/path/to/{home}"] if task.get("source") == "folder" else []


def _split(value: str | None) -> list[str]:
    return [part.strip() for part in value.split(",") if part.strip()] if value else []


def _whole(key: str, given: Mapping[str, str]) -> list[int]:
    """The numbers of a comma list. Raises UserError for anything else: Hydra takes range(3), a table names its cells."""
    try:
        return [int(value) for value in _split(given.get(key))]
    except ValueError:
        raise UserError(f"{key} takes whole numbers with commas between them, not {given[key]!r}") from None


def swept(table: str, profile: str, axis: str, overrides: Sequence[str] = ()) -> list[str]:
    """What the training command sweeps on one axis (`backbone`, `task`, `seed`) of a table at a profile; a task may matter."""
    stem = next((CONF / "row" / table).glob("*.yaml")).stem
    composed = compose([f"experiment={table}", f"profile={profile}", f"row/{table}={stem}", *overrides], hydra_node=True)
    return _split(str(composed.hydra.sweeper.params.get(axis) or ""))


def _declare(config: DictConfig, command: list[str], seeds: list[int], size: int | None) -> Row:
    """A composed row. Setting size and seed is the same as composing with them, at a fraction of the time."""
    if size is not None:
        config.row.size = size
    row = OmegaConf.to_container(config.row, resolve=True)
    assert isinstance(row, dict)
    asked = {}
    for seed in range(int(row["seeds"])):
        if seeds and seed not in seeds:
            continue
        config.seed = seed
        named = asked_of(config, command)
        asked[seed] = (signature(named), named)
    return Row(
        str(row["name"]),
        str(row["label"]),
        int(row["order"]),
        bool(row.get("compare", True)),
        row.get("paper") or {},
        row.get("reruns") or {},
        asked,
    )

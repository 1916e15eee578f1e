"""What an experiment shows of published records, kept on disk with a digest of each thing that it was made from.

One file per experiment and profile in .cache/tables. It is valid while the code, conf/, the packages, the measurements and the
searches are the same, and each record that was looked up, with its predictions and updates, and the spread over seeds of all rows
that were trained alike. A damaged file is made again. If nothing can be written, everything is computed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, NoReturn

from lora_repro.config import disk_cache, paths
from lora_repro.config.paths import CACHE, CONF, LIBRARY
from lora_repro.files import sha256
from lora_repro.planning.rerun_command import Command
from lora_repro.records import manifest
from lora_repro.report.exhibit import Exhibit
from lora_repro.report.table import Count, Number, Origin, Remark, Reproduce, Source, Table
from lora_repro.results import Store
from lora_repro.stats.comparable import spread

MOST = 400  # files; the two published profiles need some fifty
PACKAGES = ("numpy", "scipy", "matplotlib", "pillow", "hydra-core", "omegaconf")
CELLS = {kind.__name__: kind for kind in (Number, Count, Source, Remark, Reproduce)}
REPORT = LIBRARY / "report"
SHOWING = {REPORT / "page", REPORT / "html.py", REPORT / "terminal.py"}  # show what is kept, and make none of it
BESIDE = {"records": "json", "predictions": "jsonl", "updates": "safetensors"}  # a run's published files
Plain = Any


@dataclass(frozen=True)
class Shown:
    """What the experiment `name` shows of a profile, and its part of report.json.

    exhibits: those that were kept draw nothing. commands: `<row> <signature>` of each declared cell -> how to run it.
    files: what was rendered, path below results/ -> hash; empty if nothing was.
    """

    name: str
    exhibits: tuple[Exhibit, ...]
    answer: dict[str, Any] | None
    commands: Mapping[str, Command]
    files: Mapping[str, str] = field(default_factory=dict)

    def stands(self, results: Path) -> bool:
        """Whether all that was rendered lies under results/ as it was, and is published so."""
        listing = manifest.read_manifest(results) or {}
        return bool(self.files) and all(
            listing.get(name) == frozenset({digest}) and (results / name).is_file() and sha256(results / name) == digest
            for name, digest in self.files.items()
        )


class Traced(dict[str, dict[str, Any]]):
    """Records by signature that remember which were looked up, whether there or not."""

    def __init__(self, records: Mapping[str, dict[str, Any]]) -> None:
        super().__init__(records)
        self.asked: set[str] = set()

    def __getitem__(self, key: str) -> dict[str, Any]:
        self.asked.add(key)
        return super().__getitem__(key)

    def __contains__(self, key: object) -> bool:
        self.asked.add(str(key))
        return super().__contains__(key)

    def _whole(self, *_: object) -> NoReturn:
        raise TypeError("what an experiment shows may depend only on records that it looks up by their signature")

    __iter__ = get = items = keys = values = _whole


def traced(store: Store) -> Store:
    """The store with records that remember which were looked up."""
    return replace(store, records=Traced(store.records), origin=store)


def read(name: str, store: Store) -> Shown | None:
    """What is kept of an experiment, if all that it was made from is as it was."""
    if paths.own():
        return None
    try:
        entry = disk_cache.read(_place(name, store))
    except (OSError, ValueError):
        return None
    now = _evidence(store)
    if entry["basis"] != _basis(name, store) or entry["read"] != {key: now.get(key, "") for key in entry["read"]}:
        return None
    if any(repr(spread(store, training, metric)) != spread_text for training, metric, spread_text in entry["spreads"]):
        return None
    commands = {key: _command(command) for key, command in entry["commands"].items()}
    return Shown(name, tuple(map(_exhibit, entry["exhibits"])), entry["answer"], commands, entry["files"])


def write(store: Store, report: Shown) -> None:
    """Keep what an experiment shows. store: the view of `traced` that it was made from."""
    if paths.own():  # a folder of the user's, whose files the digests leave out
        return
    now, records = _evidence(store), store.records
    assert isinstance(records, Traced)
    entry = {
        "basis": _basis(report.name, store),
        "read": {key: now.get(key, "") for key in sorted(records.asked)},
        "spreads": [[*key, repr(pool)] for key, pool in store.spreads.items()],
        "exhibits": [_plain(exhibit) for exhibit in report.exhibits],
        "answer": report.answer,
        "commands": {key: vars(command) for key, command in report.commands.items()},
        "files": dict(report.files),
    }
    place = _place(report.name, store)
    disk_cache.write(place, entry)
    disk_cache.drop_oldest(place.parent, MOST)


def _place(name: str, store: Store) -> Path:
    return CACHE / "tables" / f"{disk_cache.digest(str(store.folder.resolve()))[:12]}-{name}.json"


def _basis(name: str, store: Store) -> str:
    """A digest of what every exhibit of a profile depends on, and of whether a run was made for this one."""
    results = store.folder.parent
    listing = manifest.read_manifest(results) or {}
    measures = sorted((path, *digests) for path, digests in listing.items() if path.split("/")[1:2] in (["measures"], ["trials"]))
    return disk_cache.digest([_code(), measures, name in store.tables])


def _evidence(store: Store) -> dict[str, str]:
    """Signature -> the hashes of its record and of the files beside it."""
    profile, listing = store.folder.name, manifest.read_manifest(store.folder.parent) or {}
    return {
        key: " ".join(sorted(item for kind, end in BESIDE.items() for item in listing.get(f"{profile}/{kind}/{key}.{end}", ())))
        for key in dict.keys(store.records)
    }


@cache
def _code() -> str:
    code = [path for path in LIBRARY.rglob("*.py") if not SHOWING & {path, *path.parents}]
    texts = disk_cache.texts([*code, *disk_cache.conf_files(), *(CONF.parent / "experiments").glob("*.py")])
    return disk_cache.digest([*map(version, PACKAGES), *texts])


def _plain(exhibit: Exhibit) -> Plain:
    """An exhibit as JSON has it, without the function that draws it."""
    tables = [
        {**vars(table), "facts": _cells(table.facts), "rows": [_cells(row) for row in table.rows]} for table in exhibit.tables
    ]
    return {**vars(exhibit), "tables": tables, "draw": None}


def _cells(cells: Sequence[str]) -> list[Plain]:
    """A cell that knows more than its text becomes [its class, the text, what it knows]."""
    return [
        cell if type(cell) is str else [type(cell).__name__, str(cell), {
            key: value.value if isinstance(value, Origin) else value for key, value in vars(cell).items()}]
        for cell in cells
    ]  # fmt: skip


def _exhibit(fields: Plain) -> Exhibit:
    tables = []
    for table in fields["tables"]:
        texts = {key: tuple(table[key]) for key in ("header", "footnotes", "minor")}
        numbers = None if table["numbers"] is None else tuple(table["numbers"])
        rows = tuple(tuple(map(_cell, row)) for row in table["rows"])
        tables.append(Table(**{**table, **texts, "facts": tuple(map(_cell, table["facts"])), "rows": rows, "numbers": numbers}))
    return Exhibit(**{**fields, "tables": tuple(tables), "draw": lambda stem: [], "words": tuple(fields["words"])})


def _command(fields: dict[str, Plain]) -> Command:
    parts: dict[str, Plain] = {key: tuple(part) if isinstance(part, list) else part for key, part in fields.items()}
    return Command(**parts)


def _cell(entry: Plain) -> str:
    if isinstance(entry, str):
        return entry
    kind, text, attributes = entry
    if "seeds" in attributes:
        attributes["seeds"] = tuple(attributes["seeds"])
    if "origin" in attributes:
        attributes["origin"] = Origin(attributes["origin"])
    cell: str = str.__new__(CELLS[kind], text)
    vars(cell).update(attributes)
    return cell

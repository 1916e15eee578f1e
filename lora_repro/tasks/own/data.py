"""The user's files as they are used: read, their columns found, their rows divided into splits.

A split that is missing is held out of the training rows. Which rows are held out depends on their inputs alone, not on their
order or place: inputs are ranked by a hash, class by class. Rows with the same input stay together, so that what is held out was
not trained on.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from lora_repro.config.file_hashes import HUB, content_hash
from lora_repro.errors import UserError
from lora_repro.tasks._files import is_number
from lora_repro.tasks.base import SPLITS
from lora_repro.tasks.own import columns as finding
from lora_repro.tasks.own import tables
from lora_repro.tasks.own.columns import Columns, Row

TASKS = {"class": "own_labels", "number": "own_numbers", "text": "own_texts", "chat": "own_texts"}
SHARE = 0.2  # of the training rows, for a test split that is missing; at most, for a dev split


@dataclass(frozen=True)
class Parts:
    """The rows of each split, in file order. said: what was held out or left out, one line each."""

    train: tuple[Row, ...]
    dev: tuple[Row, ...]
    test: tuple[Row, ...]
    said: tuple[str, ...]


def content(row: Row) -> str:
    """The input of a row, as one text."""
    return row.input if row.second is None else f"{row.input}\n{row.second}"


def rank(row: Row, purpose: str) -> str:
    """Where a row stands among those that may be chosen for `purpose`."""
    return hashlib.sha256(f"{purpose}\n{content(row)}".encode()).hexdigest()


def divide(
    files: Mapping[str, Sequence[Row]], stratified: bool, held_out: int, max_train: int | None = None, max_test: int | None = None
) -> Parts:
    """The splits from `files` (train, and maybe dev and test).

    stratified: hold out as many of each answer as its share. held_out: dev rows at most, if there is no dev file. max_train,
    max_test: rows at most, chosen by rank. Raises UserError if nothing is left to train on, to choose by or to test on.
    """
    train, notes = list(files["train"]), []
    test = list(files.get("test", ()))
    if not test:
        train, test = hold_out(train, SHARE, "test", stratified)
        notes.append(f"no test file: {len(test):,} of the training rows are held out to test on")
    train, train_surplus = at_most(train, max_train, "train")
    test, test_surplus = at_most(test, max_test, "test")
    notes += [
        f"{n:,} {name} rows are left out (task.max_{name})"
        for n, name in ((train_surplus, "train"), (test_surplus, "test"))
        if n
    ]
    dev = list(files.get("dev", ()))
    if not dev:
        train, dev = hold_out(train, min(SHARE, held_out / len(train)), "dev", stratified, held_out)
        notes.append(f"no dev file: {len(dev):,} of the training rows are held out to choose epoch and rate by")
    if not train or not dev or not test:
        n = len({content(row) for row in files["train"]})
        advice = "give more, or --dev and --test (of run: task.dev and task.test)"
        raise UserError(f"{n} different training inputs are too few to hold some out: {advice}")
    return Parts(tuple(train), tuple(dev), tuple(test), tuple(notes))


def hold_out(
    rows: Sequence[Row], share: float, purpose: str, stratified: bool, most: int | None = None
) -> tuple[list[Row], list[Row]]:
    """(kept, held out), in file order: about `share` of the different inputs, of each answer if `stratified`, at least one.

    most: rows to hold out at most, but for the rows of a single input; then not every answer may have one.
    """
    groups: dict[str, dict[str, str]] = {}  # answer -> input -> rank
    inputs = set()
    for row in rows:
        if (text := content(row)) not in inputs:
            inputs.add(text)
            groups.setdefault(row.answer if stratified else "", {})[text] = rank(row, purpose)
    candidates: list[tuple[int, str, str]] = []
    for ranks in groups.values():
        n = max(1, round(share * len(ranks))) if len(ranks) > 1 else 0
        candidates += [(place, ranks[text], text) for place, text in enumerate(sorted(ranks, key=ranks.__getitem__)[:n])]
    counts, total = Counter(map(content, rows)), 0
    sample: set[str] = set()
    for _, _, text in sorted(candidates):  # by place, so that a frequent answer gives up its rows before a rare one does
        if most is None or not sample or total + counts[text] <= most:
            sample.add(text)
            total += counts[text]
    return [row for row in rows if content(row) not in sample], [row for row in rows if content(row) in sample]


def at_most(rows: Sequence[Row], most: int | None, purpose: str) -> tuple[list[Row], int]:
    """(the `most` rows of lowest rank, in file order; how many others there are)."""
    if most is None or len(rows) <= most:
        return list(rows), 0
    places = set(sorted(range(len(rows)), key=lambda place: rank(rows[place], purpose))[:most])
    return [row for place, row in enumerate(rows) if place in places], len(rows) - most


@dataclass(frozen=True)
class OwnData:
    """sources: split -> file. names: split -> what messages call it. sha256: split -> hash of its content.

    classes: all answers of the training file, sorted (as numbers if they are); empty but for classes.
    empty: split -> places of rows without an input or an answer, which are left out. unit: split -> what a place counts.
    """

    sources: Mapping[str, str]
    names: Mapping[str, str]
    sha256: Mapping[str, str]
    columns: Columns
    classes: tuple[str, ...]
    parts: Parts
    empty: Mapping[str, Sequence[int]]
    unit: Mapping[str, str]

    @property
    def rarest(self) -> str:
        """The class with the fewest training rows; of equal ones the last."""
        counts = Counter(row.answer for row in self.parts.train)
        return min(reversed(self.classes), key=lambda label: counts[label])

    @property
    def settings(self) -> dict[str, object]:
        """The settings of a run on these data: `task`, its files as absolute paths, and its columns."""
        files = {f"task.{split}": str(Path(source).expanduser().absolute()) if not HUB.fullmatch(source) else source
                 for split, source in self.sources.items()}  # fmt: skip
        columns = {f"task.columns.{role}": column for role, column in self.columns.roles.items()}
        return {"task": TASKS[self.columns.kind], **files, **columns}


def read(
    sources: Mapping[str, str | None],
    column_names: Mapping[str, str | None] | None = None,
    kind: str | None = None,
    held_out: int = 200,
    max_train: int | None = None,
    max_test: int | None = None,
) -> OwnData:
    """The data in the files of `sources` (train, and maybe dev and test).

    column_names: role -> column; kind: what is wanted, None to go by the columns (`columns.find`). The other arguments: `divide`.
    Raises UserError for whatever cannot be used, or NotAvailable without the hub.
    """
    files = tuple((split, str(sources[split])) for split in SPLITS if sources.get(split))
    if "train" not in dict(files):
        raise UserError("name the training file: task.train=reviews.csv (or .tsv, .json, .jsonl, .parquet, a datasets folder)")
    digests = tuple(content_hash(source) for _, source in files)
    roles = tuple((role, column) for role, column in (column_names or {}).items() if column is not None)
    return _read(files, digests, roles, kind, held_out, max_train, max_test)


@lru_cache(maxsize=4)  # a run builds its task several times
def _read(
    sources: tuple[tuple[str, str], ...],
    digests: tuple[str | None, ...],
    roles: tuple[tuple[str, str], ...],
    kind: str | None,
    held_out: int,
    max_train: int | None,
    max_test: int | None,
) -> OwnData:
    read = {split: tables.read(source, split) for split, source in sources}
    columns = finding.find(read["train"], dict(roles), kind)
    splits = {split: finding.rows_of(table, columns) for split, table in read.items()}
    files = {split: rows for split, (rows, _) in splits.items()}
    classes = _classes(files, read) if columns.kind == "class" else ()
    parts = divide(files, columns.kind == "class", held_out, max_train, max_test)
    return OwnData(
        dict(sources),
        {split: table.name for split, table in read.items()},
        {split: table.sha256 for split, table in read.items()},
        columns,
        classes,
        parts,
        {split: empty for split, (_, empty) in splits.items()},
        {split: table.unit for split, table in read.items()},
    )


def _classes(files: Mapping[str, Sequence[Row]], read: Mapping[str, tables.Table]) -> tuple[str, ...]:
    """The classes of the training file. Raises UserError if it has only one, or another file has one that it lacks."""
    classes = {row.answer for row in files["train"]}
    if len(classes) < 2:
        raise UserError(f"{read['train'].name} has only the class {min(classes)!r}: classes need rows of two at least")
    for split in ("dev", "test"):
        for row in files.get(split, ()):
            if row.answer not in classes:
                some = ", ".join(sorted(classes)[:6])
                problem = f"no training row has the class {row.answer[:40]!r} (they have {some})"
                raise UserError(f"{read[split].at(row.place)}: {problem}: correct it, or add rows of it to the training file")
    return tuple(sorted(classes, key=(lambda text: (float(text), text)) if all(map(is_number, classes)) else None))


def rows_sha256(rows: Sequence[Row]) -> str:
    """One hash of the rows of a split, in order, whatever file they came from."""
    lines = [json.dumps([row.input, row.second, row.answer], ensure_ascii=False) for row in rows]
    return hashlib.sha256("\n".join(lines).encode("utf-8")).hexdigest()

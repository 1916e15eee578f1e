"""Training, dev and test rows from the files that there are. A split that is missing is held out of the training rows.

Which rows are held out depends on their inputs alone, not on their order or place: inputs are ranked by a hash, class by class.
Rows with the same input stay together, so that what is held out was not trained on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lora_repro.errors import UserError
from lora_repro.tasks.own.columns import Row

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
    train, said = list(files["train"]), []
    test = list(files.get("test", ()))
    if not test:
        train, test = hold_out(train, SHARE, "test", stratified)
        said.append(f"no test file: {len(test):,} of the training rows are held out to test on")
    train, lost = at_most(train, max_train, "train")
    test, lost_too = at_most(test, max_test, "test")
    said += [f"{n:,} {name} rows are left out (task.max_{name})" for n, name in ((lost, "train"), (lost_too, "test")) if n]
    dev = list(files.get("dev", ()))
    if not dev:
        train, dev = hold_out(train, min(SHARE, held_out / len(train)), "dev", stratified)
        said.append(f"no dev file: {len(dev):,} of the training rows are held out to choose epoch and rate by")
    if not train or not dev or not test:
        n = len({content(row) for row in files["train"]})
        how = "give more, or --dev and --test (of run: task.dev and task.test)"
        raise UserError(f"{n} different training inputs are too few to hold some out: {how}")
    return Parts(tuple(train), tuple(dev), tuple(test), tuple(said))


def hold_out(rows: Sequence[Row], share: float, purpose: str, stratified: bool) -> tuple[list[Row], list[Row]]:
    """(kept, held out), in file order: about `share` of the different inputs, of each answer if `stratified`, at least one."""
    groups: dict[str, dict[str, str]] = {}  # answer -> input -> rank
    seen = set()
    for row in rows:
        if (text := content(row)) not in seen:
            seen.add(text)
            groups.setdefault(row.answer if stratified else "", {})[text] = rank(row, purpose)
    chosen = set()
    for ranks in groups.values():
        n = max(1, round(share * len(ranks))) if len(ranks) > 1 else 0
        chosen |= set(sorted(ranks, key=ranks.__getitem__)[:n])
    return [row for row in rows if content(row) not in chosen], [row for row in rows if content(row) in chosen]


def at_most(rows: Sequence[Row], most: int | None, purpose: str) -> tuple[list[Row], int]:
    """(the `most` rows of lowest rank, in file order; how many others there are)."""
    if most is None or len(rows) <= most:
        return list(rows), 0
    chosen = set(sorted(range(len(rows)), key=lambda place: rank(rows[place], purpose))[:most])
    return [row for place, row in enumerate(rows) if place in chosen], len(rows) - most

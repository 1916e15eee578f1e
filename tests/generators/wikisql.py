"""The generated WikiSQL-shaped set: tables and questions.

As in WikiSQL each split has its own tables. Every question has an answer. A kind of table (concerts, ferries ...) is in training
with other rows and another order of columns; one kind is kept for dev and test.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

from lora_repro.metrics.sql import AGGREGATES, OPERATORS, Query, Table, execute
from tests.generators.draw import Draw

Row = tuple[dict[str, Any], str, dict[str, Any]]  # table, question, query

SEED = 20210617
TABLES = {"train": 120, "dev": 10, "test": 10}
QUESTIONS = 5  # per table
UNSEEN = 0.3  # share of dev and test tables of the kind that is not in train


class Column(NamedTuple):
    """A column's name and its values: words, or the whole numbers from `low` to `high`."""

    name: str
    words: tuple[str, ...] = ()
    low: int = 0
    high: int = 0


PEOPLE = ("Ada Brook", "Ben Castle", "Cara Dunn", "Elif Sahin", "Femi Obi", "Greta Holm", "Hugo Lind", "Ines Prado",
          "Kofi Mensah", "Lena O'Hara", "Marek Nowak", "Nina Rossi")  # fmt: skip
TOWNS = ("Ashford", "Brockham", "Castle Hill", "Dunmore", "Eastwick", "Fenton", "Glenbay", "Harrow (North)")
KINDS: dict[str, tuple[Column, ...]] = {
    "concert": (
        Column("Hall", ("Opera House", "Town Hall", "River Stage", "Old Mill")), Column("City", TOWNS),
        Column("Conductor", PEOPLE), Column("Visitors", low=120, high=2400), Column("Year", low=1985, high=2019),
    ),
    "ferry": (
        Column("Ship", ("Sea Pearl", "Northern Star", "Blue Gull", "Albatross", "Ocean Maid")), Column("From", TOWNS),
        Column("Captain", PEOPLE), Column("Length (m)", low=40, high=210), Column("Cars/trucks", low=10, high=300),
    ),
    "match": (
        Column("Player", PEOPLE), Column("No.", low=1, high=40), Column("Home team", TOWNS), Column("Goals", low=0, high=9),
        Column("Position", ("goalkeeper", "defender", "midfielder", "striker")),
    ),
    "bridge": (
        Column("Bridge", ("Long Span", "King's Bridge", "Iron Arch", "Miller's Crossing")), Column("Town", TOWNS),
        Column("Engineer", PEOPLE), Column("Opened", low=1850, high=1999), Column("Height (m)", low=8, high=90),
    ),
    "film": (
        Column("Title", ("The Lighthouse Keeper", "Two Winters", "A Quiet Street", "Paper Boats")), Column("Director", PEOPLE),
        Column("Country", ("Norway", "Ghana", "Peru", "Japan", "Portugal")), Column("Minutes", low=70, high=190),
        Column("Awards", low=0, high=12),
    ),
}  # fmt: skip
KEPT = "bridge"  # the kind that training never sees

ASKED = {  # aggregate -> wordings
    "": ("What is the {}", "Tell me the {}", "Which {} is listed"),
    "MAX": ("What is the highest {}", "Name the largest {}"),
    "MIN": ("What is the lowest {}", "Name the smallest {}"),
    "COUNT": ("How many entries have a {}", "Count the entries for {}"),
    "SUM": ("What is the total {}", "Add up the {}"),
    "AVG": ("What is the average {}", "What is the mean {}"),
}
SAID = {
    "=": ("{} is {}", "the {} is {}"),
    ">": ("{} is more than {}", "{} is over {}"),
    "<": ("{} is less than {}", "{} is under {}"),
}


def _table(draw: Draw, kind: str) -> Table:
    columns = draw.shuffled(KINDS[kind])
    rows = tuple(
        tuple(draw.uniform(c.words) if c.words else c.low + draw.index(c.high - c.low + 1) for c in columns)
        for _ in range(5 + draw.index(4))
    )
    return Table(tuple(c.name for c in columns), tuple("text" if c.words else "real" for c in columns), rows)


def _question(draw: Draw, table: Table) -> tuple[str, Query]:
    """A question and its query, which has a result: its conditions hold for a row that is drawn first."""
    assert table.rows is not None
    select, *others = draw.shuffled(range(len(table.header)))
    real = table.types[select] == "real"
    aggregate = draw.weighted(("", *AGGREGATES[1:]) if real else ("", "COUNT"), (5, 2, 2, 1, 1, 1) if real else (5, 1))
    row, conditions, clauses = draw.uniform(table.rows), [], []
    for column in others[: draw.weighted((1, 2, 3), (5, 3, 1))]:
        cell = row[column]
        operator = draw.weighted(OPERATORS, (3, 1, 1)) if isinstance(cell, int) else "="
        value = cell + {"=": 0, ">": -1, "<": 1}[operator] * (1 + draw.index(5)) if isinstance(cell, int) else cell
        conditions.append((column, OPERATORS.index(operator), str(value)))
        clauses.append(draw.uniform(SAID[operator]).format(table.header[column].lower(), value))
    start = draw.uniform(ASKED[aggregate]).format(table.header[select].lower())
    return f"{start} when {' and '.join(clauses)}?", Query(select, AGGREGATES.index(aggregate), tuple(conditions))


def _kinds(draw: Draw, split: str) -> Sequence[str]:
    return [KEPT] if split != "train" and draw.chance(UNSEEN) else [kind for kind in KINDS if kind != KEPT]


def generate() -> dict[str, list[Row]]:
    """(table, question, query) rows of train (600), dev (50) and test (50): the same on every Python version."""
    draw = Draw(SEED)
    splits: dict[str, list[Row]] = {}
    for split, n in TABLES.items():
        splits[split] = []
        for _ in range(n):
            table, questions = _table(draw, draw.uniform(_kinds(draw, split))), dict[str, Query]()
            while len(questions) < QUESTIONS:
                question, query = _question(draw, table)
                assert execute(query, table)
                questions.setdefault(question, query)
            splits[split] += [_row(table, question, query) for question, query in questions.items()]
    return splits


def _row(table: Table, question: str, query: Query) -> Row:
    """The row as in WikiSQL's files, with its table in place of the table's id."""
    conditions = [list(condition) for condition in query.conditions]
    return asdict(table), question, {"sel": query.select, "agg": query.aggregate, "conds": conditions}

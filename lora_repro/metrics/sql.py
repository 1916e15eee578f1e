"""WikiSQL's queries: SQL text to and from logical form, when two queries are equal, and their results on a table.

The rules are those of salesforce/WikiSQL 7857cfd (`lib/query.py`, `lib/dbengine.py`, `evaluate.py`; Zhong et al. 2017): a logical
form is the selected column, its aggregate and a *set* of conditions (column, operator, value as a lower-case string). That
scorer never reads SQL text, so the text form is ours: standard SQL with the header's column names.

    SELECT COUNT("School/Club Team") FROM table WHERE "No." = '3' AND "Player" = 'D''Angelo'
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation

from lora_repro.errors import UserError

AGGREGATES = ("", "MAX", "MIN", "COUNT", "SUM", "AVG")
OPERATORS = ("=", ">", "<")  # the official list has a fourth one, OP, which no row uses
TYPES = ("text", "real")
Condition = tuple[int, int, str]  # column, operator, value

_NAME = r'"((?:[^"]|"")*)"'
_HEAD = re.compile(rf"\s*SELECT\s+(?:(MAX|MIN|COUNT|SUM|AVG)\s*\(\s*{_NAME}\s*\)|{_NAME})\s+FROM\s+table\b", re.I)
_CONDITION = re.compile(rf"\s*\b(WHERE|AND)\s+{_NAME}\s*([=<>])\s*(?:'((?:[^']|'')*)'|([-+]?\d[\d.,]*))", re.I)
_NUMBER = re.compile(r"[-+]?\d*\.\d+|\d+")  # the official pattern, so that "1,5-7" is read as there


@dataclass(frozen=True)
class Query:
    """SELECT aggregate(column) FROM table WHERE conditions: positions in the header, `AGGREGATES` and `OPERATORS`."""

    select: int
    aggregate: int
    conditions: tuple[Condition, ...]

    @property
    def logical_form(self) -> tuple[int, int, frozenset[Condition]]:
        """The form by which queries are compared: order and repetition of conditions and the case of values do not count."""
        return self.select, self.aggregate, frozenset((c, o, value.lower()) for c, o, value in self.conditions)


def from_json(sql: object, columns: int) -> Query:
    """The query of the official `{"sel": 3, "agg": 0, "conds": [[5, 0, "Butler"]]}`. Raises UserError if it is malformed.

    columns: the number of columns of its table.
    """
    try:
        assert isinstance(sql, Mapping)
        query = Query(sql["sel"], sql["agg"], tuple((c, o, str(value)) for c, o, value in sql["conds"]))
        places = [query.select, query.aggregate, *(place for c, o, _ in query.conditions for place in (c, o))]
        assert all(type(place) is int for place in places)
        assert all(isinstance(value, str | int | float) for _, _, value in sql["conds"])
        within = all(0 <= c < columns and 0 <= o < len(OPERATORS) for c, o, _ in query.conditions)
        if not within or not 0 <= query.select < columns or not 0 <= query.aggregate < len(AGGREGATES):
            raise UserError(f"{sql} names a column, aggregate or operator that is not there ({columns} columns)")
    except (AssertionError, KeyError, TypeError, ValueError):
        raise UserError(f"{str(sql)[:80]!r} is no WikiSQL query: expected sel, agg and conds") from None
    return query


def named(column: str) -> str:
    """A column's name as in prompts and queries: every run of white space becomes one blank."""
    return " ".join(column.split())


def write(query: Query, header: Sequence[str]) -> str:
    """The query as SQL text. `read` inverts it if column names differ in more than case and white space."""

    def name(column: int) -> str:
        return '"' + named(header[column]).replace('"', '""') + '"'

    aggregate = AGGREGATES[query.aggregate]
    text = f"SELECT {f'{aggregate}({name(query.select)})' if aggregate else name(query.select)} FROM table"
    for number, (column, operator, value) in enumerate(query.conditions):
        literal = value.replace("'", "''")
        text += f" {'AND' if number else 'WHERE'} {name(column)} {OPERATORS[operator]} '{literal}'"
    return text


def read(text: str, header: Sequence[str]) -> Query:
    """The query of an SQL text. Keywords may be in any case, numbers without quotes, and a final `;` is ignored.

    A column is the first of the header with that name, ignoring case and white space (as `Query.from_sequence` of WikiSQL).
    Raises UserError if the text is not such a query.
    """
    plain = ["".join(column.lower().split()) for column in header]

    def column(name: str) -> int:
        key = "".join(name.replace('""', '"').lower().split())
        if key not in plain:
            raise UserError(f"no column {name[:40]!r}")
        return plain.index(key)

    head = _HEAD.match(text)
    if head is None:
        raise UserError('not SELECT "column" FROM table')
    aggregate, inner, bare = head.groups()
    select = column(bare if inner is None else inner)
    conditions: list[Condition] = []
    end = head.end()
    while match := _CONDITION.match(text, end):
        word, name, operator, literal, number = match.groups()
        if (word.upper() == "WHERE") != (not conditions):
            break
        value = number if literal is None else literal.replace("''", "'")
        conditions.append((column(name), OPERATORS.index(operator), value))
        end = match.end()
    if text[end:].strip() not in ("", ";"):
        raise UserError(f"cannot read {text[end:].strip()[:40]!r}")
    return Query(select, AGGREGATES.index((aggregate or "").upper()), tuple(conditions))


@dataclass(frozen=True, eq=False)
class Table:
    """A table's columns and, if at hand, the columns' types (`TYPES`) and the rows."""

    header: tuple[str, ...]
    types: tuple[str, ...] = ()
    rows: tuple[tuple[object, ...], ...] | None = None


def _fill(database: sqlite3.Connection, table: Table) -> None:
    if table.rows is None or len(table.types) != len(table.header) or not {*table.types} <= {*TYPES}:
        raise UserError(f"a table of {len(table.header)} columns without its rows, or types other than text and real")
    database.execute(f"CREATE TABLE t ({', '.join(f'col{n} {kind}' for n, kind in enumerate(table.types))})")
    marks = ", ".join("?" * len(table.header))
    lower = [[cell.lower() if isinstance(cell, str) else cell for cell in row] for row in table.rows]
    database.executemany(f"INSERT INTO t VALUES ({marks})", lower)


def _bound(value: str, kind: str) -> str | float:
    """A condition's value as the official engine binds it: lower-case text; in a real column the number, or the first in it."""
    if kind == "text":
        return value.lower()
    try:
        return float(Decimal(value.replace(",", "")))
    except InvalidOperation:
        return float(_NUMBER.findall(value)[0])


def execute(query: Query, table: Table) -> list[object]:
    """The results of the query, row by row. Raises UserError if it cannot be run.

    As in the official engine a value is bound to its column, so two conditions on one column both get the last one's value.
    """
    aggregate = AGGREGATES[query.aggregate]
    expression = f"{aggregate}(col{query.select})" if aggregate else f"col{query.select}"
    clauses = [f"col{c} {OPERATORS[o]} :col{c}" for c, o, _ in query.conditions]
    where = f" WHERE {' AND '.join(clauses)}" if clauses else ""
    try:
        values = {f"col{c}": _bound(value, table.types[c]) for c, _, value in query.conditions}
        with closing(sqlite3.connect(":memory:")) as database:
            _fill(database, table)
            return [result for (result,) in database.execute(f"SELECT {expression} FROM t{where}", values)]
    except (IndexError, ValueError, OverflowError, sqlite3.Error) as error:
        raise UserError(f"the query cannot be run: {error}") from None


def score(output: str, gold: str, table: Table) -> dict[str, object]:
    """The scores of one output: `readable`, `logical_form` and, if the table's rows are at hand, `execution`; each 0 or 1.

    A text that is no query scores 0 in all of them, a query that cannot be run in `execution`. Raises UserError if `gold` is no
    query of this table or cannot be run.
    """
    right = read(gold, table.header)
    result = None if table.rows is None else execute(right, table)
    statistics: dict[str, object] = {"readable": 0, "logical_form": 0}
    if result is not None:
        statistics["execution"] = 0
    try:
        query = read(output, table.header)
    except UserError:
        return statistics
    statistics["readable"] = 1
    statistics["logical_form"] = int(query.logical_form == right.logical_form)
    if result is not None:
        try:
            statistics["execution"] = int(execute(query, table) == result)
        except UserError:
            return statistics
    return statistics

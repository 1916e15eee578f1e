"""Which columns of a table hold the inputs and the answers: as named, else by their usual names, else a question to the user.

A prompt may be made of several columns, `instruction+input`: their texts with a blank line between them, without empty ones.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lora_repro.errors import UserError
from lora_repro.tasks._files import is_number
from lora_repro.tasks.own.tables import Cell, Table

ROLES = ("text", "text_pair", "label", "prompt", "completion", "messages")
TEXTS = ("text", "sentence", "review", "content", "body", "comment", "tweet", "title")
PAIRS = (("text", "text_pair"), ("text_a", "text_b"), ("sentence1", "sentence2"), ("sentence_a", "sentence_b"),
         ("premise", "hypothesis"), ("question1", "question2"), ("first", "second"))  # fmt: skip
LABELS = ("label", "labels", "class", "category", "target", "sentiment", "stars", "rating", "score", "y")
ANSWERED = (("prompt", "completion"), ("prompt", "response"), ("instruction", "output"), ("instruction", "response"),
            ("input", "output"), ("question", "answer"), ("source", "target"), ("document", "summary"), ("dialogue", "summary"),
            ("article", "highlights"), ("context", "completion"))  # fmt: skip
BESIDE = ("system", "system_prompt", "instruction", "input", "context", "passage", "document")  # often one part of a prompt
WRITTEN = ("text", "chat")  # kinds whose answer is written
CLASSES = 20  # more different whole numbers than this are a number to predict, not classes
MANY = 1000  # more different labels than this are no classes


@dataclass(frozen=True)
class Columns:
    """kind: `class`, `number`, `text` (a completion of a prompt) or `chat` (the last message answers those before it).

    input, second, answer: names of columns, a prompt's maybe several with + between them; second None but for pairs, answer None
    in a chat. said: how they were found.
    """

    kind: str
    input: str
    second: str | None
    answer: str | None
    said: str

    @property
    def roles(self) -> dict[str, str]:
        """The columns as `task.columns` names them."""
        names = {"text": ("prompt", None, "completion"), "chat": ("messages", None, None)}.get(self.kind, ROLES[:3])
        pairs = zip(names, (self.input, self.second, self.answer), strict=True)
        return {role: column for role, column in pairs if role and column}


@dataclass(frozen=True)
class Row:
    """An input and its answer. place: its line or number in the file. A chat's input is JSON: the messages before the last."""

    place: int
    input: str
    second: str | None
    answer: str


def find(table: Table, column_names: Mapping[str, str | None], kind: str | None = None) -> Columns:
    """The columns of a table. column_names: role (of `ROLES`) -> column. kind: what the task needs, None to go by the columns.

    Raises UserError, with the choice, if no or several columns could be meant, or those found do not hold what is needed.
    """
    roles = {role: column for role, column in column_names.items() if column is not None}
    names = [name for role, column in roles.items() for name in (_parts(column, table) if role == "prompt" else [column])]
    if bad := [name for name in names if name not in table.header]:
        raise UserError(f"{table.name} has no column {bad[0]!r}; it has {', '.join(table.header)}")
    plain = {name.strip().lower().replace(" ", "_").replace("-", "_"): name for name in table.header}
    candidates = [_chat(plain, roles), *_texts(table, plain, roles), _labelled(plain, roles)]
    fitting = [
        candidate
        for candidate in candidates
        if candidate and (kind is None or (candidate.kind in WRITTEN) == (kind in WRITTEN))
        and {*roles} <= {*candidate.roles}  # a named column decides
    ]  # fmt: skip
    if len(fitting) != 1:
        raise UserError(_question(table, fitting, kind, roles))
    (columns,) = fitting
    return columns if columns.kind != "class" else _of_labels(table, columns, kind)


def _chat(plain: Mapping[str, str], roles: Mapping[str, str]) -> Columns | None:
    column = roles.get("messages") or plain.get("messages")
    return Columns("chat", column, None, None, f"chats in {column!r}, answered by their last message") if column else None


def _texts(table: Table, plain: Mapping[str, str], roles: Mapping[str, str]) -> list[Columns]:
    """Prompts with completions: every pair that could be meant and, unless the prompt is named, all of its columns together."""
    pairs = [(plain[a], plain[b]) for a, b in ANSWERED if a in plain and b in plain]
    if "prompt" in roles and not pairs:
        rest = [name for name in table.header if name not in _parts(roles["prompt"], table)]
        pairs = [(roles["prompt"], name) for name in rest[:1] if "completion" in roles or len(rest) == 1]
    pairs = [(roles.get("prompt", a), roles.get("completion", b)) for a, b in pairs]
    answers = {answer for _, answer in pairs}
    if "prompt" not in roles and len(answers) == 1:
        several = {prompt for prompt, _ in pairs} | {plain[name] for name in BESIDE if name in plain} - answers
        together = "+".join(name for name in table.header if name in several)
        pairs += [(together, answer) for answer in answers]
    candidates = []
    for prompt, answer in dict.fromkeys(pairs):
        parts = _parts(prompt, table)
        joint = " with a blank line between" if len(parts) > 1 else ""
        if answer not in parts:
            candidates.append(Columns("text", prompt, None, answer, f"prompts in {prompt!r}{joint}, completions in {answer!r}"))
    return candidates


def _parts(column: str, table: Table) -> list[str]:
    """The columns of which a prompt is made."""
    return [column] if column in table.header else column.split("+")


def _labelled(plain: Mapping[str, str], roles: Mapping[str, str]) -> Columns | None:
    """Texts with a label, of which only one column each could be meant; the last column left over counts as meant."""
    label = roles.get("label") or _only([plain[name] for name in LABELS if name in plain and plain[name] not in roles.values()])
    both = () if "text" in roles else next(((plain[a], plain[b]) for a, b in PAIRS if a in plain and b in plain), ())
    text, second = roles.get("text"), roles.get("text_pair")
    if both:
        text, second = both[0], second or both[1]
    text = text or _only([plain[name] for name in TEXTS if name in plain and plain[name] not in (label, second)])
    rest = [name for name in plain.values() if name not in (text, second, label)]
    if len(rest) == 1 and bool(text) != bool(label):
        text, label = text or rest[0], label or rest[0]
    if not text or not label or len({text, second, label}) < 3:
        return None
    pair = f" and {second!r}" if second else ""
    return Columns("class", text, second, label, f"texts in {text!r}{pair}, labels in {label!r}")


def _only(names: Sequence[str]) -> str | None:
    return names[0] if len(names) == 1 else None


def _question(table: Table, fitting: Sequence[Columns], kind: str | None, column_names: Mapping[str, str]) -> str:
    roles = ("prompt", "completion"), ("text", "label")
    prompt_hint, label_hint = (f"--columns {one}=...,{other}=... (of run: task.columns.{one}=... task.columns.{other}=...)"
                               for one, other in roles)  # fmt: skip
    if fitting:
        problem = f"could be read as {' or as '.join(candidate.said for candidate in fitting)}"
        items = [item for candidate in fitting for item in candidate.roles.items()]
        telling = [next((item for item in candidate.roles.items() if items.count(item) == 1), items[0]) for candidate in fitting]
        advice = " or ".join(f"--columns {role}={name} (of run: task.columns.{role}={name})" for role, name in telling)
    else:
        clause = f" beside {', '.join(column_names)}" if column_names else ""
        problem = f"has the columns {', '.join(table.header)}, and which are meant{clause} is not clear"
        advice = prompt_hint if kind in WRITTEN else label_hint if kind else f"{label_hint} or {prompt_hint}"
    return f"{table.name} {problem}: name them, {advice}"


def _of_labels(table: Table, columns: Columns, kind: str | None) -> Columns:
    """The columns with their kind: classes or numbers. Raises UserError if the labels are neither, or not what `kind` says."""
    assert columns.answer
    values = [str(row.get(columns.answer, "")).strip() for row in table.rows]
    values = [value for value in values if value]
    different, numeric = set(values), all(map(is_number, values))
    integers = numeric and all(float(value).is_integer() for value in different)
    label_kind = kind or ("number" if numeric and (not integers or len(different) > CLASSES) else "class")
    if label_kind == "number" and not numeric:
        cells = [(place, str(row.get(columns.answer, "")).strip()) for place, row in zip(table.places, table.rows, strict=True)]
        place, bad = next((place, cell) for place, cell in cells if cell and not is_number(cell))
        raise UserError(f"{table.at(place)}: {columns.answer} is {bad[:40]!r}, not a number: correct it, or use task=own_labels")
    if label_kind == "class" and len(different) > min(MANY, max(CLASSES, len(values) // 2)):
        advice = (
            "task=own_numbers"
            if numeric
            else f"name another column, or task=own_texts task.columns.completion={columns.answer}"
        )
        many = f"{len(different):,} different values in {len(values):,} rows"
        raise UserError(f"{table.name}: {columns.answer} has {many}, which are no classes: {advice}")
    summary = f"{len(different)} classes" if label_kind == "class" else "a number"
    return Columns(label_kind, columns.input, columns.second, columns.answer, f"{columns.said} ({summary})")


def rows_of(table: Table, columns: Columns) -> tuple[list[Row], list[int]]:
    """(the rows, the places of those without an input or an answer). Raises UserError for a cell that holds something else."""
    inputs = _parts(columns.input, table)
    names = [name for name in (*inputs, columns.second, columns.answer) if name]
    if missing := [name for name in names if name not in table.header]:
        raise UserError(f"{table.name} has no column {missing[0]!r}, as the training file has; it has {', '.join(table.header)}")
    rows, empty = [], []
    for place, cells in zip(table.places, table.rows, strict=True):
        row = _read(cells, columns, inputs, place, table.at(place))
        if not row.answer or not row.input or row.second == "":
            empty.append(place)
        elif columns.kind == "number" and not is_number(row.answer):
            raise UserError(f"{table.at(place)}: {columns.answer} is {row.answer[:40]!r}, not a number: correct it")
        else:
            rows.append(row)
    if not rows:
        raise UserError(f"{table.name} has no row with both an input and an answer: fill the columns {', '.join(names)}")
    return rows, empty


def _read(cells: Mapping[str, Cell], columns: Columns, inputs: Sequence[str], place: int, location: str) -> Row:
    if columns.kind == "chat":
        return _turns(cells.get(columns.input, ""), place, location)

    def text(name: str) -> str:
        cell = cells.get(name, "")
        if isinstance(cell, list | dict):
            raise UserError(f"{location}: {name} is {json.dumps(cell)[:40]}, not a text: write it as one")
        return cell.strip()

    second = text(columns.second) if columns.second else None
    return Row(place, "\n\n".join(filter(None, map(text, inputs))), second, text(columns.answer) if columns.answer else "")


def _turns(cell: Cell, place: int, location: str) -> Row:
    """A chat as what is asked (JSON of all messages but the last) and the assistant's last message."""
    value: Any = cell
    try:
        value = json.loads(cell) if isinstance(cell, str) and cell.strip() else cell or []
        turns = [{"role": str(turn["role"]), "content": turn["content"]} for turn in value]
        if not all(isinstance(turn["content"], str) for turn in turns):
            raise TypeError
    except (ValueError, KeyError, TypeError, RecursionError):
        raise UserError(f'{location}: its messages are no list of {{"role": "user", "content": "..."}}: write them so') from None
    if turns and (turns[-1]["role"] != "assistant" or len(turns) < 2):
        raise UserError(f"{location}: a chat must end with an assistant's message after another one: add it, or remove the row")
    prompt, answer = turns[:-1], turns[-1]["content"].strip() if turns else ""
    return Row(place, json.dumps(prompt, ensure_ascii=False) if prompt else "", None, answer)

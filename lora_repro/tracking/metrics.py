"""Step metrics: always a JSON-lines file, and a mirror of it elsewhere if asked.

Whatever a mirror does (fail, hang, lose its process), the run and its files are the same as without one.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

from lora_repro import console
from lora_repro.errors import Preempted
from lora_repro.files import write_text

EVERY = 1.0  # seconds between two measurements of speed
Plain = str | int | float | bool


@dataclass(frozen=True)
class Ending:
    """How an attempt at a run ended: its status, its numbers by flat name (`scores/bleu`), its predictions, if any.

    starts: the runs that it started from, by their signatures.
    """

    status: str
    summary: dict[str, Plain] = field(default_factory=dict)
    predictions: list[dict[str, Any]] = field(default_factory=list)
    starts: tuple[str, ...] = ()

    @classmethod
    def of(cls, record: dict[str, Any], predictions: list[dict[str, Any]]) -> Ending:
        """What a mirror shows of a record.

        The predictions are left out if the run has no model, since its answers are the data's own texts, or if the data's licence
        forbids publishing even a model's outputs.
        """
        environment = {key: record["where"].get(key) for key in ("git_sha", "dirty", "device", "precision")}
        numbers = dict(flat({**record["measured"], "where": environment}))
        private = not record["where"]["backbone"]["sha256"] or record["where"].get("data", {}).get("outputs_private")
        lines = [] if private else predictions
        return cls(record["status"], numbers, lines, tuple(record["measured"].get("started_from", ())))


def flat(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Plain]]:
    """Nested values by path: `scores/bleu`. Lists and None are left out."""
    for key, value in values.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{key}/")
        elif isinstance(value, Plain):
            yield f"{prefix}{key}", value


class Mirror(Protocol):
    """A second place for what one attempt at a run logs."""

    def log(self, step: int, values: dict[str, float]) -> None: ...

    def finish(self, ending: Ending) -> None: ...


class Metrics:
    """`metrics.jsonl` of one run; on resume the steps after the checkpoint are dropped, since they are repeated.

    As a context manager it tells the mirror if the run was stopped or failed. What differs between machines (tokens per second,
    and what `machine` measures) goes to the mirror only: the file is the same wherever the run ran.
    """

    def __init__(
        self, path: Path, mirror: Mirror | None = None, machine: Callable[[], dict[str, float]] = dict
    ) -> None:
        self.path, self.mirror, self._resumed = path, mirror, False
        self._machine, self._since = machine, (0.0, 0.0)  # time of the last speed measurement, and the tokens by then
        self._tokens = 0.0  # by the last step that was logged

    def _drop_from(self, step: int) -> None:
        if not self.path.exists():
            return
        *lines, _ = self.path.read_text(encoding="utf-8", errors="replace").split("\n")  # the last: empty, or cut by a kill
        steps = list(map(_step, lines))
        if None in steps:
            console.warn(f"{self.path} is damaged: dropping {steps.count(None)} unreadable lines")
        earlier_lines = [line for line, number in zip(lines, steps, strict=True) if number is not None and number < step]
        write_text(self.path, "".join(line + "\n" for line in earlier_lines))

    def log(self, step: int, values: dict[str, float]) -> None:
        if not self._resumed:
            self._drop_from(step)
            self._resumed = True
        entry = {key: value if math.isfinite(value) else None for key, value in values.items()}  # JSON has no NaN
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **entry}) + "\n")
        if self.mirror:
            # Without NaN, which would stay a dashboard's maximum for good.
            numbers = {key: value for key, value in entry.items() if value is not None}
            self.mirror.log(step, {**numbers, **self._speed(values)})

    def _speed(self, values: dict[str, float]) -> dict[str, float]:
        """Tokens per second since the last measurement, without the time of evaluations on the dev set."""
        (start, before), now = self._since, time.monotonic()
        if "tokens" not in values:
            self._since = (now, self._tokens)
            return {}
        self._tokens = values["tokens"]
        if start and now - start < EVERY:
            return {}
        self._since = (now, values["tokens"])
        tokens = values["tokens"] - before
        return {**({"tokens_per_second": tokens / (now - start)} if start and tokens > 0 else {}), **self._machine()}

    def finish(self, record: dict[str, Any], predictions: list[dict[str, Any]]) -> None:
        """Pass the mirror a record that has been written to disk."""
        if self.mirror:
            self.mirror.finish(Ending.of(record, predictions))

    def __enter__(self) -> Metrics:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.mirror and error is not None:
            stopped = isinstance(error, (Preempted, KeyboardInterrupt, SystemExit))
            self.mirror.finish(Ending("preempted" if stopped else "failed"))


def _step(line: str) -> int | None:
    """The step of a line of metrics.jsonl; None if the line is damaged."""
    try:
        return int(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return None


class NoTracker:
    """No mirror: only the run's own files."""

    def start(self, signature: str, config: dict[str, Any], folder: Path) -> Mirror | None:
        return None

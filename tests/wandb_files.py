"""W&B's files on disk, read with W&B's own reader."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any


def inspect(path: Path) -> list[dict[str, Any]]:
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(path)]
    process = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "WANDB_ERROR_REPORTING": "false"})
    assert process.returncode == 0, process.stderr
    return [json.loads(line) for line in process.stdout.splitlines()]


def parts(records: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [item[kind] for item in records if item["type"] == kind]


def summary(records: list[dict[str, Any]]) -> dict[str, Any]:
    return {key: value for item in parts(records, "summary") for key, value in item["update"].items()}


def history(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    items = [item["item"] for item in parts(records, "history")]
    return [{key: value for key, value in item.items() if not key.startswith("_")} for item in items]


def history_whole(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """History with nested values put together: the reader prints them by dotted name."""
    rows = []
    for line in history(records):
        groups: dict[str, Any] = {}
        for key, value in line.items():
            head, _, rest = key.partition(".")
            if rest:
                groups.setdefault(head, {})[rest] = value
        rows.append({**line, **groups})
    return rows

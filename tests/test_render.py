"""`python -m lora_repro render` is `table --published`, `claims` and `report`, in that order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lora_repro.commands import claims, render, table
from lora_repro.commands import report as pages


def test_all_three_in_their_order_and_a_failure_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    done: list[tuple[str, list[str], Path]] = []

    def stands_for(name: str, status: int) -> Any:
        return lambda given, root: done.append((name, given, root)) or status

    for module, status in ((table, 0), (claims, 2), (pages, 0)):
        monkeypatch.setattr(module, "main", stands_for(module.__name__.removeprefix("lora_repro."), status))
    assert render.main([], tmp_path) == 2
    names = [("commands.table", ["--published"]), ("commands.claims", []), ("commands.report", [])]
    assert done == [(*each, tmp_path) for each in names]

"""How long a sweep has still to go."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from lora_repro.sweep import time_left
from lora_repro.sweep.time_left import Pace


def cell(name: str) -> Any:
    return cast(Any, SimpleNamespace(signature=name))


def test_it_is_told_after_each_doubling_by_the_weight_of_what_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(time_left.time, "monotonic", lambda: now[0])
    made = Pace([cell(name) for name in "abcdefghi"], {"a": 60.0, "b": 180.0, "z": 1.0})  # the others: 120 s, their mean
    told = []
    for name in "abcdefghi":
        now[0] += 30
        told.append(made.ended(cell(name)))
    assert told[0] == "1 of 9 runs done, about 8 min left"  # 30 s for 60: 1,020 are left, 510 s
    assert told[1] == "2 of 9 runs done, about 4 min left"  # 60 s for 240: 840 are left, 210 s
    assert told[3] == "4 of 9 runs done, about 2 min left"  # 120 s for 480: 600 are left, 150 s
    assert told[7] == "8 of 9 runs done, about 30 s left"
    assert [bool(text) for text in told] == [True, True, False, True, False, False, False, True, False]


def test_without_published_times_runs_weigh_alike_and_one_that_is_foreign_counts_for_nothing() -> None:
    made = Pace([cell("a"), cell("b"), cell("c")], {})
    assert made.ended(cell("x")) == "" and made.ended(cell("a")).startswith("1 of 3 runs done, about 0 s")


def test_a_failed_run_is_neither_done_nor_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time_left.time, "monotonic", iter((0.0, 60.0, 120.0)).__next__)
    made = Pace([cell(name) for name in "abcd"], {})
    assert made.ended(cell("a")) == "1 of 4 runs done, about 3 min left"
    assert made.ended(cell("b"), failed=True) == ""
    assert made.ended(cell("c")) == "2 of 4 runs done, about 60 s left"  # one is left, not two

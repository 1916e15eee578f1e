"""What a caption says of the data: each task's source, and how much of it the runs draw."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from lora_repro.report import captions
from lora_repro.report.numbers import Difference
from lora_repro.stats.spread import UNKNOWN, Error


def record(caption: str, n_train: int | None, n_test: int | None = None) -> dict[str, Any]:
    return {"where": {"data": {"caption": caption}}, "asked": {"data": {"n_train": n_train, "n_test": n_test}}}


def test_a_model_trained_with_its_own_and_with_random_weights_is_named_once() -> None:
    labels = ("B (its training)", f"B (its training){captions.DRAWN}", f"C{captions.DRAWN}", "A", "A")
    records = [{"where": {"backbone": {"label": label, "sha256": "x"}}} for label in labels]
    nothing = {"where": {"backbone": {"label": "human", "sha256": None}}}
    assert captions.models([*records, nothing]) == ["A", "B (its training), also with random weights", f"C{captions.DRAWN}"]


def test_a_sentence_task_in_a_text_table_is_not_decoded() -> None:
    cell: Any = SimpleNamespace(asked={"decode": {"batch_size": 64}})
    assert captions.decoding(cell) == "the likeliest answer"


def test_how_much_of_the_data_is_drawn_is_said_task_by_task(monkeypatch: Any) -> None:
    monkeypatch.setattr(captions, "task_label", lambda cell: cell.label)
    cells: Any = [SimpleNamespace(label=name) for name in ("RTE", "SST-2", "WikiSQL")]
    records = [record("RTE (GLUE)", None), record("SST-2 (GLUE)", 6000), record("WikiSQL (its files)", 512, 250)]
    assert captions.data_of_tasks(cells, records) == (
        "RTE (GLUE); SST-2 (GLUE; drawn: 6,000 training rows); "
        "WikiSQL (its files; drawn: 512 training rows, 250 test inputs)"
    )
    assert captions.data_of_tasks(cells[:1], records[:1]) == "RTE: GLUE"


def test_an_axis_of_training_rows_is_a_range_and_a_run_without_test_inputs_draws_none() -> None:
    assert captions.drawn([record("x", n) for n in (400, 100, 1600)]) == "; drawn: 100-1,600 training rows"
    assert captions.drawn([record("x", None, 0)]) == ""


@pytest.mark.parametrize("over_seeds, alone", [(UNKNOWN, True), (Error(0.4, float("inf")), False)])
def test_one_seed_s_interval_is_of_the_inputs_alone_unless_a_task_s_spread_is_known(over_seeds: Error, alone: bool) -> None:
    result: Any = SimpleNamespace(n=1, differences={"mean": Difference(1, 0, 2, 1, over_seeds=over_seeds)})
    main: Any = SimpleNamespace(key="mean", metric=SimpleNamespace(label="mean"))
    assert ("inputs alone" in " ".join(captions.of_table([], [result], [], main, "full"))) == alone

"""What an interval means in words, and the table of a grid of one's own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from lora_repro.planning.cells import cells
from lora_repro.report import sweep_tables
from lora_repro.report.captions import Caption
from lora_repro.report.columns import Column
from lora_repro.report.numbers import Difference, Mean, Metric
from lora_repro.report.scores import Result
from lora_repro.report.sheet import Scores, in_words
from lora_repro.results import OWN, PUBLISHED

SCORE = Column(Metric("sentiment", "SENTIMENT"), "accuracy")


def row(name: str, label: str, values: int, one: Difference | None = None, source: str = OWN, head: int = 770) -> Result:
    differences = {} if one is None else {"sentiment": one}
    return Result(name, label, source, {"sentiment": Mean(88.0, 1.0, 3)}, 3, values, head, differences=differences)


def table(*rows: Result) -> Scores:
    full = row("full", "Full fine-tuning", 22_700_000)
    caption = Caption("T", "p", ("b",), "d", "1")
    return Scores("T", "full FT", "p", "b", caption, (full, *rows), (), (SCORE,), SCORE, True, "Score", reference_row="full")


def test_each_interval_is_a_sentence() -> None:
    same = row("lora", "LoRA", 73_728, Difference(-2.3, -5.0, 0.4, 3, 1.4, 0.1))
    worse = row("linear_probe", "Linear probing", 0, Difference(-24.1, -28.0, -20.0, 3, 2.0, 0.001))
    bitfit = row("bitfit", "BitFit", 30_000, Difference(-4.0, -7.9, -0.1, 3, 2.0, 0.09))  # corrected for the others it is open
    opening, *lines = in_words(table(same, worse, bitfit, row("lora", "LoRA", 73_728, worse.differences["sentiment"], PUBLISHED)))
    assert "SENTIMENT; 3 seeds" in opening and len(lines) == 3
    assert lines[0] == (
        "LoRA trains 0.32 % as many values and scores 2.3 points lower [−5.0, +0.4]: these runs cannot tell it from full "
        "fine-tuning; they would have shown a difference of 3.9."
    )
    assert lines[1] == (
        "Linear probing trains its new head alone and scores 24.1 points lower [−28.0, −20.0]: worse than full fine-tuning here."
    )
    assert lines[2].endswith("worse than full fine-tuning if it were the only comparison, open among all of these.")


def test_where_less_is_better_lower_is_better() -> None:
    column = replace(SCORE, metric=replace(SCORE.metric, direction=-1))
    lora = row("lora", "LoRA", 73_728, Difference(-2.0, -3.0, -1.0, 3, 0.5, 0.01))
    loss_table = replace(table(lora), columns=(column,), compared=column)
    assert in_words(loss_table)[1].endswith("scores 2.0 points lower [−3.0, −1.0]: better than full fine-tuning here.")


def test_one_seed_ranks_nothing_and_says_so() -> None:
    (sentence,) = in_words(table(row("lora", "LoRA", 73_728, Difference(-2.3, -5.0, 0.4, 1, 1.4, 0.1))))
    assert "One seed cannot rank methods" in sentence
    assert in_words(table()) == []


def test_the_runs_of_a_grid_are_rows_over_seeds(tmp_path: Path) -> None:
    grid = ["-m", "profile=smoke", "task=sentiment", "method=lora", "method.rank=1,2", "seed=0,1"]
    runs = cells([*grid, f"paths.runs={tmp_path}"])
    rows = sweep_tables.as_rows(runs)
    assert [(cell.row.label, cell.seed) for cell in rows] == [
        ("lora method.rank=1", 0), ("lora method.rank=2", 0), ("lora method.rank=1", 1), ("lora method.rank=2", 1),
    ]  # fmt: skip
    assert [cell.row.order for cell in rows] == [0, 10, 0, 10] and all("method.rank" not in cell.axes for cell in rows)

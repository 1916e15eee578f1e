"""An experiment of the user's own: its task, its table without a declaration, and what would refuse it after the training."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from lora_repro.config import compose, paths
from lora_repro.errors import UserError
from lora_repro.planning import cells as planned
from lora_repro.planning.cells import cells
from lora_repro.report import show
from lora_repro.report.pivot import Pivot
from lora_repro.sweep.launch import check_shown

HEAD = "# @package _global_\n"
TABLE = """defaults: [_self_, /row/mine: null, override /task: {task}]
row: {{table: mine}}
hydra: {{mode: MULTIRUN, sweeper: {{params: {{row/mine: glob(*){more}}}}}}}
"""


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv(paths.OWN, str(tmp_path))
    for folder in ("experiment", "row", "task"):
        (tmp_path / folder).mkdir()
    (tmp_path / "row/mine.yaml").write_text(f"{HEAD}a: {{defaults: [/row/glue/lora]}}\nb: {{defaults: [/row/glue/full]}}\n")
    reviews = (paths.CONF / "task/sentiment.yaml").read_text()
    (tmp_path / "task/reviews.yaml").write_text(reviews.replace("name: sentiment", "name: reviews"))
    clear()
    yield tmp_path
    clear()


def clear() -> None:
    planned._run.cache_clear()
    for function in (compose._axes, compose._chosen, compose._hydra):  # they keep what they read
        function.cache_clear()


def declare(folder: Path, task: str, more: str = "") -> set[str]:
    """The tasks that are run if an experiment chooses `task`."""
    (folder / "experiment/mine.yaml").write_text(HEAD + TABLE.format(task=task, more=more))
    clear()
    return {cell.task for cell in cells(["experiment=mine", "profile=smoke"])}


def test_an_experiment_s_own_task_is_not_replaced_by_its_family_s(mine: Path) -> None:
    """It trained on three generated tasks in place of the user's one, and said nothing."""
    assert declare(mine, "reviews") == {"reviews"}
    family = {"sentiment", "entailment", "similarity"}
    assert declare(mine, "rte") == family  # generated tasks stand for GLUE's
    assert declare(mine, "reviews", ", task: sentiment") == {"sentiment"}  # the experiment's own axis
    assert {cell.task for cell in cells(["experiment=mine", "profile=smoke", "task=entailment"])} == {"entailment"}


def test_an_experiment_without_a_declaration_shows_its_scores_by_task(mine: Path) -> None:
    declare(mine, "reviews")
    pivot = show.declaration("mine")
    assert isinstance(pivot, Pivot) and (pivot.by, pivot.reference, pivot.paper) == ("task", "a", {})
    with pytest.raises(UserError, match=r"no experiments/others\.py"):
        show.declaration("others")


def test_a_table_that_the_task_cannot_fill_is_refused_before_the_training() -> None:
    runs = cells(["experiment=e2e", "profile=smoke", "row/e2e=lora,full", "seed=0"])
    check_shown(runs)
    others = cells(["experiment=e2e", "profile=smoke", "row/e2e=lora", "seed=0", "task=wikisql"])
    with pytest.raises(UserError, match="the table of e2e compares bleu, which task wikisql does not measure"):
        check_shown(others)
    orphan = cast(Any, SimpleNamespace(asked={"row": {"table": "nobody"}}))
    with pytest.raises(UserError, match=r"no experiments/nobody\.py"):
        check_shown([orphan])


def test_tables_of_an_experiment_whose_name_begins_with_another_s_are_its_own(mine: Path, tmp_path: Path) -> None:
    (mine / "experiment/e2e_short.yaml").write_text(HEAD)
    tables = [tmp_path / "tables" / f"{stem}.md" for stem in ("e2e", "e2e_cost", "e2e_short", "e2e_short_cost")]
    tables[0].parent.mkdir()
    for path in tables:
        path.touch()
    assert show.stale(tmp_path, "e2e", tables[:1]) == [tables[1]]
    assert show.stale(tmp_path, "e2e_short", [tables[2]]) == [tables[3]]

"""Tables as Hydra sees them: a file with a block a row, a user's own rows and tables beside it; the paper's values as CSV."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from lora_repro.config import paper_values, paths
from lora_repro.config.compose import CONF, compose
from lora_repro.config.paths import choices
from lora_repro.errors import UserError
from lora_repro.planning import cells as planned_runs
from lora_repro.planning.cells import Cell, cells
from lora_repro.report.exhibit import ReportRequest
from lora_repro.report.pivot import Pivot
from lora_repro.report.subjects import latency, update_norms
from lora_repro.results import OWN, Store, declared_cells

E2E = ["experiment=e2e", "profile=smoke", "seed=0"]
HEAD = "# @package _global_\n"


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of configurations of a user's own: rows of E2E's table, and a table."""
    monkeypatch.setenv(paths.OWN, str(tmp_path))
    write(tmp_path / "row/e2e/strong.yaml", f"{HEAD}defaults: [/row/e2e/bitfit, _self_]\nrow: {{label: Strong, order: 35}}\n")
    write(tmp_path / "row/e2e/weak.yaml", f"{HEAD}defaults: [override /method: bitfit]\nrow: {{label: Weak, seeds: 1}}\n")
    table = ["defaults: [_self_, /row/mine: null, override /task: e2e]", "row: {table: mine}"]
    table += ["hydra: {mode: MULTIRUN, sweeper: {params: {row/mine: glob(*)}}}"]
    write(tmp_path / "experiment/mine.yaml", HEAD + "\n".join(table) + "\n")
    rows = "b: {defaults: [/row/e2e/lora]}\na: {defaults: [/row/e2e/lora, _self_], row: {label: A}}\n"
    write(tmp_path / "row/mine.yaml", HEAD + rows)
    planned_runs._run.cache_clear()  # as if this were another process
    yield tmp_path
    planned_runs._run.cache_clear()


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def placed(found: list[Cell]) -> list[tuple[str, int]]:
    return [(cell.row.name, cell.row.order) for cell in found]


def refused(*overrides: str) -> str:
    with pytest.raises(UserError) as error:
        cells([*E2E, *overrides])
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_row_is_named_and_placed_by_its_block() -> None:
    row_cells = declared_cells("e2e", "smoke", ["seed=0"])
    keys = paths.blocks_in(CONF / "row" / "e2e.yaml")
    assert [cell.row.name for cell in row_cells] == keys and sorted(keys) == choices("row/e2e")
    assert placed(cells([*E2E, "row/e2e=lora,full"])) == [("lora", 30), ("full", 10)]
    assert placed(cells(["experiment=fusion", "profile=smoke", "task=sentiment", "seed=0", "row/fusion=lora"])) == [("lora", 20)]


def test_rows_of_a_user_s_own_stand_beside_the_file_s(mine: Path) -> None:
    assert {"strong", "weak", "lora"} < {*choices("row/e2e")}
    row_cells = cells([*E2E, "row/e2e=glob(*)"])
    assert len(row_cells) == 16 and {cell.row.name for cell in row_cells} == {*choices("row/e2e")}
    rows = [cell.row.name for cell in declared_cells("e2e", "smoke", ["seed=0"])]
    assert rows.index("lora") + 1 == rows.index("strong") == rows.index("adapter_l_small") - 1 and rows[-1] == "weak"
    strong, lora = cells([*E2E, "row/e2e=strong,lora"])
    assert (strong.row.name, strong.row.label, strong.row.seeds) == ("strong", "Strong", 3)
    assert strong.asked["method"]["name"] == "bitfit" and lora.row.paper and not strong.row.paper
    assert "weak" in refused("row/e2e=wek") and "lora" in refused("row/e2e=lor")


def test_a_table_of_a_user_s_own_is_a_file_too(mine: Path) -> None:
    write(mine / "paper/mine.csv", "row,backbone,bleu,source\na,gpt2_medium,60,theirs\n")
    a, b = cells(["experiment=mine", "profile=smoke", "seed=0"])
    assert placed([a, b]) == [("a", 20), ("b", 10)] and (a.row.label, b.row.label) == ("A", "LoRA")
    assert a.row.paper["gpt2_medium"]["bleu"] == 60 and b.row.paper["gpt2_medium"]["bleu"] == 70.4  # what it inherits
    assert a.signature == cells([*E2E, "row/e2e=lora"])[0].signature


def test_printed_values_of_a_row_that_is_not_there_are_refused(mine: Path) -> None:
    write(mine / "paper/mine.csv", "row,backbone,bleu,source\nc,gpt2_medium,60,theirs\n")
    with pytest.raises(UserError, match=r"paper/mine.csv: .* no row 'c'") as error:
        compose(["experiment=mine", "row/mine=b"])
    assert "\n" not in str(error.value)


def test_a_table_is_no_row() -> None:
    assert "'row'" in refused("row=e2e")


def test_a_file_that_changes_is_read_again(mine: Path) -> None:
    assert choices("row/mine") == ["a", "b"]
    write(mine / "row/mine.yaml", f"{HEAD}c: {{defaults: [/row/e2e/lora]}}\n")
    os.utime(mine / "row/mine.yaml", ns=(1, 1))
    assert choices("row/mine") == ["c"]


def test_printed_values_are_read_as_they_stand(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    write(path, '# a note\nrow,backbone,bleu,n,source\nlora,m,70.4 ± 0.1,3,"Table 3, LoRA"\nfull,m,46,,T\n')
    lora = {"source": "Table 3, LoRA", "bleu": 70.4, "bleu_sd": 0.1, "n": 3}
    assert paper_values.of_row(path, "lora") == {"paper": {"m": lora}}
    assert paper_values.of_row(path, "full") == {"paper": {"m": {"source": "T", "bleu": 46}}}
    assert paper_values.of_row(path, "bitfit") == {} == paper_values.of_row(tmp_path / "none.csv", "lora")
    write(path, "row,backbone,at,{at},t.{at},k.{at}.x,source\nl,m,r_1,5,0.5,,T\nl,m,0,,,2,T\nl,m,1,,,3,T\n")
    assert paper_values.of_row(path, "l")["paper"]["m"] == {"source": "T", "r_1": 5, "t": {"r_1": 0.5}, "k": [{"x": 2}, {"x": 3}]}


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("row,backbone,bleu,source\nlora,m,70.4±0.1,T", "bleu"),
        ("row,backbone,bleu,source\nlora,m,70.4,", "source"),
        ("row,backbone,bleu,source\n,m,70.4,T", "row"),
        ("row,backbone,bleu,source\nlora,m,70.4,Table 3, LoRA", "cells"),
        ("row,backbone,bleu,source\nlora,m,70.4", "cells"),
        ("row,backbone,bleu,source\nlora,m,70,T\nlora,m,71,T", "bleu"),
        ("row,backbone,bleu,bleu,source\nlora,m,70,71,T", "title"),
        ("row,backbone,at,{at},source\nlora,m,,71,T", "at"),
        ("row,backbone,task,bleu,source\nlora,m,,71,T", "task"),
    ],
)
def test_a_value_that_cannot_be_placed_is_refused(text: str, named: str, tmp_path: Path) -> None:
    write(tmp_path / "x.csv", text)
    with pytest.raises(UserError, match=rf"x\.csv.*{named}") as error:
        paper_values.read(tmp_path / "x.csv")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("table", sorted(path.stem for path in (CONF / "paper").glob("*.csv")))
def test_every_printed_value_is_shown_by_its_table(table: str) -> None:
    paper_values.check_rows(CONF / "paper" / f"{table}.csv", choices(f"row/{table}"))
    subject = importlib.import_module(f"experiments.{table}").TABLE
    if isinstance(subject, Pivot):
        subject.check_printed(table)
    else:
        pattern = {"latency": latency.PRINTED, "delta_w": update_norms.PRINTED}[table]
        paper_values.check_columns(table, pattern, ("gpt2_medium", "gpt3_175b"))


@pytest.mark.parametrize(
    ("backbone", "column", "wrong"),
    [("gpt2_medium", "bleu", ""), ("gpt2_medum", "bleu", "gpt2_medum"), ("gpt2_medium", "bleo", "bleo")],
)
def test_a_misspelt_column_or_backbone_stops_the_table(
    backbone: str, column: str, wrong: str, mine: Path, tmp_path: Path
) -> None:
    write(mine / "paper/e2e.csv", f"row,backbone,{column},source\nstrong,{backbone},60.5,theirs\n")
    ask = ReportRequest("e2e", "smoke", ("row/e2e=strong", "seed=0"))
    table = importlib.import_module("experiments.e2e").TABLE
    if not wrong:
        assert "60.5" in str(table.exhibits(ask, [Store(OWN, tmp_path, {})])[0].tables)
        return
    with pytest.raises(UserError, match=rf"paper/e2e\.csv.*{wrong}") as error:
        table.exhibits(ask, [Store(OWN, tmp_path, {})])
    assert "\n" not in str(error.value)


def test_a_user_s_own_choices_stand_beside_those_of_a_file(mine: Path) -> None:
    write(mine / "decode/mine.yaml", "defaults: [greedy, _self_]\nmax_new_tokens: 7\n")
    write(mine / "tracker.yaml", "short: {_target_: lora_repro.tracking.metrics.NoTracker}\n")
    assert "mine" in choices("decode") and {"none", "short"} <= {*choices("tracker")}
    config = compose(["profile=smoke", "task=wikisql", "decode=mine", "tracker=short"])
    assert (config.decode.beam, config.decode.max_new_tokens, list(config.tracker)) == (1, 7, ["_target_"])

"""Which runs a command starts: exactly those that it would, each with its signature, and the ones that they start from."""

from __future__ import annotations

from pathlib import Path

import pytest

from lora_repro.config.compose import CONF, compose, resolved, resolved_with_starts
from lora_repro.config.signature import signature
from lora_repro.errors import UserError
from lora_repro.planning.cells import cells, unique, varying_axes, with_starts
from lora_repro.results import ROOT, declared_cells, frame, runs_folder


def test_a_table_is_its_declared_cells() -> None:
    runs = cells(["experiment=e2e", "profile=smoke", "row/e2e=lora,full"])
    assert {cell.row.name for cell in runs} == {"lora", "full"} and len(runs) == 2  # smoke asks for seed 0 alone
    one = next(cell for cell in runs if cell.row.name == "lora")
    assert one.folder.name == signature(resolved(compose(["experiment=e2e", "profile=smoke", "row/e2e=lora", "seed=0"])))


def test_seeds_and_axes_narrow_or_widen_a_table() -> None:
    wide = cells(["experiment=glue", "profile=smoke", "row/glue=lora", "task=sentiment", "seed=0,1", "train.lr=1e-3,2e-3"])
    assert len(wide) == 4 and {(cell.asked["seed"], cell.asked["train"]["lr"]) for cell in wide} == {
        (0, 1e-3), (0, 2e-3), (1, 1e-3), (1, 2e-3),
    }  # fmt: skip
    assert {cell.asked["task"]["name"] for cell in wide} == {"sentiment"}


def test_a_grid_is_its_product_and_options_are_not_overrides() -> None:
    runs = cells(["-m", "method=lora,full", "seed=0,1", "profile=smoke", "train.lr=1e-3"])
    pairs = sorted((cell.row.name, cell.asked["seed"]) for cell in runs)
    assert pairs == [("full", 0), ("full", 1), ("lora", 0), ("lora", 1)]
    twice = cells(["method=lora,full", "method.name=same"])
    assert len(twice) == 2


def test_an_axis_that_is_added_by_force_has_its_values() -> None:
    runs = cells(["profile=smoke", "method=lora", "++train.lr=1e-3,2e-3"])
    assert [cell.axes for cell in runs] == [{"train.lr": 1e-3}, {"train.lr": 2e-3}]


def test_a_run_brings_the_run_that_it_starts_from() -> None:
    overrides = ["experiment=glue", "row/glue=lora", "profile=paper", "backbone=roberta_base", "seed=0"]
    (rte,) = cells([*overrides, "task=rte"])
    assert [start.task for start in rte.starts] == ["mnli"] and rte.asked["starts_from"] == [rte.starts[0].signature]
    assert rte.asked == resolved_with_starts(compose(list(rte.overrides)), rte.overrides)
    chain = with_starts([rte])
    assert [cell.asked["task"]["name"] for cell in chain] == ["mnli", "rte"]
    assert chain[0].folder in {cell.folder for cell in cells([*overrides, "task=mnli"])}
    assert chain[1].asked["starts"] == [{"task": "mnli"}] and chain[0].asked["starts"] is None
    both = with_starts(cells([*overrides, "task=mnli,rte"]))
    assert {cell.folder for cell in both} == {cell.folder for cell in chain}


def test_a_cell_is_what_its_overrides_compose_to_at_every_place() -> None:
    runs = cells(["experiment=low_data", "profile=paper", "row/low_data=lora,full", "paths.runs=/r"], every_seed=True)
    assert {(cell.row.name, cell.seed) for cell in runs} == {(row, seed) for row in ("lora", "full") for seed in (0, 1, 2)}
    assert list(runs[0].axes) == ["backbone", "task", "data.n_train"] and varying_axes(runs) == ["data.n_train"]
    for cell in runs[::5]:
        config = resolved(compose(list(cell.overrides)))
        assert cell.asked == config and str(cell.folder) == f"/r/paper/{signature(config)}"
        assert cell.axes == {"backbone": "roberta_base", "task": "mnli", "data.n_train": config["data"]["n_train"]}


def test_a_run_met_at_several_places_is_one_and_told_by_none_of_them() -> None:
    places = cells(["experiment=rank", "profile=smoke", "row/rank=lora_q,full"])
    assert len(places) == 4 and len(runs := unique(places)) == 3 and varying_axes(runs) == ["row.rank"]
    assert sorted(run.titled(varying_axes(runs)) for run in runs) == ["full", "lora_q row.rank=1", "lora_q row.rank=32"]


def test_seeds_are_those_of_the_command_line_then_the_sweep_s_or_all_that_a_row_asks_for() -> None:
    overrides = ["experiment=e2e", "profile=smoke", "row/e2e=lora,human"]  # the sweep's is 0; human has one
    assert [cell.seed for cell in cells(overrides)] == [0, 0]
    assert sorted((cell.row.name, cell.seed) for cell in cells(overrides, every_seed=True)) == [
        ("human", 0), ("lora", 0), ("lora", 1), ("lora", 2),
    ]  # fmt: skip
    assert [cell.seed for cell in cells([*overrides, "seed=1,9"], every_seed=True)] == [1]


def test_nothing_in_conf_depends_on_the_seed() -> None:
    """So one composition stands for all seeds of a cell."""
    assert not [path for path in CONF.rglob("*.yaml") if "${seed" in path.read_text(encoding="utf-8")]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["method=lora,lroa"], "lroa"),
        (["experiment=e3e"], "e3e"),
        (["experiment=e2e", "row/e2e=lora,nope"], "no row 'nope' in table e2e; choose from adapter_h, "),
        (["-m", "experiment=e2e,glue", "profile=smoke"], "needs its rows"),
        (["experiment=e2e", "row/e2e=lora", "method=dora"], "a row of e2e has its own method, so method=dora would stand under"),
        (["experiment=e2e", "seed=one"], "whole number"),
        (["experiment=e2e", "seed=-1"], "of at least 0"),
        (["experiment=e2e", "++seed=3"], r"\+\+seed=3: the experiment already sets it; write seed=3"),
        (["method"], "method"),
    ],
)
def test_what_does_not_compose_is_one_line(arguments: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        cells(arguments)
    assert "\n" not in str(error.value)


def test_the_long_table_has_one_line_a_run_and_metric() -> None:
    """A run that answers nothing has its loss as a score, too: it must not count twice."""
    table = frame("delta_w", "mini")
    assert len(table) and not table.duplicated(["source", "signature", "metric"]).any()


def test_tables_read_where_runs_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    runs = declared_cells("glue", "smoke", ["row/glue=lora", "task=sentiment"])
    assert runs_folder(runs, ROOT, "smoke") == runs[0].folder.parent.absolute() == tmp_path / "runs" / "smoke"

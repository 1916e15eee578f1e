"""Which runs a command starts: exactly those that it would, each with its signature, and the ones that they start from."""

from __future__ import annotations

import pytest

from lora_repro.compose import compose, resolved
from lora_repro.errors import UserError
from lora_repro.forecast.cells import cells
from lora_repro.record import signature


def test_a_table_is_its_declared_cells() -> None:
    found = cells(["experiment=e2e", "profile=smoke", "row/e2e=lora,full"])
    assert {cell.row for cell in found} == {"lora", "full"} and len(found) == 2  # smoke asks for seed 0 alone
    one = next(cell for cell in found if cell.row == "lora")
    assert one.folder.name == signature(resolved(compose(["experiment=e2e", "profile=smoke", "row/e2e=lora", "seed=0"])))


def test_seeds_and_axes_narrow_or_widen_a_table() -> None:
    wide = cells(["experiment=glue", "profile=smoke", "row/glue=lora", "task=sentiment", "seed=0,1", "train.lr=1e-3,2e-3"])
    assert len(wide) == 4 and {(cell.config["seed"], cell.config["train"]["lr"]) for cell in wide} == {
        (0, 1e-3), (0, 2e-3), (1, 1e-3), (1, 2e-3),
    }  # fmt: skip
    assert {cell.config["task"]["name"] for cell in wide} == {"sentiment"}


def test_a_grid_is_its_product_and_options_are_not_overrides() -> None:
    found = cells(["-m", "method=lora,full", "seed=0,1", "profile=smoke", "train.lr=1e-3"])
    pairs = sorted((cell.row, cell.config["seed"]) for cell in found)
    assert pairs == [("full", 0), ("full", 1), ("lora", 0), ("lora", 1)]
    twice = cells(["method=lora,full", "method.name=same"])
    assert len(twice) == 2


def test_a_run_brings_the_run_that_it_starts_from() -> None:
    asked = ["experiment=glue", "row/glue=lora", "profile=paper", "backbone=roberta_base", "seed=0"]
    alone = cells([*asked, "task=rte"])
    assert [cell.config["task"]["name"] for cell in alone] == ["mnli", "rte"]
    assert alone[0].folder in {cell.folder for cell in cells([*asked, "task=mnli"])}
    assert alone[1].config["starts"] == [{"task": "mnli"}] and alone[0].config["starts"] is None
    both = cells([*asked, "task=mnli,rte"])
    assert {cell.folder for cell in both} == {cell.folder for cell in alone}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["method=lora,lroa"], "lroa"),
        (["experiment=e3e"], "e3e"),
        (["method"], "method"),
    ],
)
def test_what_does_not_compose_is_one_line(arguments: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        cells(arguments)
    assert "\n" not in str(caught.value)

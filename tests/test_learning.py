"""Losses by step beside a table on texts: what is drawn of which seeds, what the title says, and of old records nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lora_repro.commands.render import main
from lora_repro.planning.cells import Cell, Row
from lora_repro.report import exhibit
from lora_repro.report.exhibit import belonging
from lora_repro.report.figures import curves
from lora_repro.results import Run, declared_cells

CURVE = [[4, 3.0], [8, 2.0], [12, 1.5], [16, 1.25]]


def run(name: str, seed: int, **measured: Any) -> Run:
    row = Row(name, name.upper(), 1, 3, True, {}, {})
    config = {"task": {"name": "e2e"}, "backbone": {"name": "small"}, "method": {"name": name}}
    record = {"status": "finished", "measured": measured, "where": {"backbone": {"label": "B"}}}
    return Run(Cell(row, seed, {}, (), f"{name}{seed}", config, Path()), record, "published", Path(), Path())


def test_a_row_is_the_mean_of_the_seeds_that_have_a_curve() -> None:
    offset_curve = [[step, loss + 0.5] for step, loss in CURVE]
    runs = [
        run("lora", 0, train_losses=CURVE, dev_losses=[[8, 1.0], [16, 0.5]]),
        run("lora", 1, train_losses=offset_curve, dev_losses=[[8, 1.5], [16, 0.5]]),
        run("full", 0, train_losses=CURVE[:1], dev_losses=[]),
    ]
    training, dev = curves._losses(runs)
    (lora,), (train_curve,) = dev.curves, training.curves
    assert [(spot.x, spot.y) for spot in train_curve.spots] == [(step, loss + 0.25) for step, loss in CURVE]
    assert [(spot.x, spot.y) for spot in lora.spots] == [(8, 1.25), (16, 0.5)]
    assert lora.spots[0].sd == pytest.approx(0.125**0.5) and (lora.look, lora.method) == (train_curve.look, train_curve.method)
    assert training.absent == ("FULL (diverged)",) and dev.ticks == ((8.0, "8"), (16.0, "16"))
    # A seed that stopped early is compared at the steps that it has.
    cut = curves._losses([runs[0], run("lora", 1, train_losses=offset_curve[:2], dev_losses=[[8, 1.5]])])
    assert [[spot.x for spot in curve.spots] for plot in cut for curve in plot.curves] == [[4, 8]]  # one dev loss is no curve


def test_the_title_says_whose_training_loss_still_falls_most_and_lora_s_beside_it() -> None:
    slow = [[step, loss - step / 100] for step, loss in CURVE]
    series = [run(name, 0, train_losses=curve, dev_losses=[[16, 1.0]]) for name, curve in (("lora", CURVE), ("prelayer", slow))]
    title = curves.learning_statement("E2E", curves._losses(series)[0].curves)
    assert title == (
        "E2E: from the third to the last quarter of the steps, the training loss of PRELAYER falls most, from 1.380 to 1.090 "
        "(LORA from 1.500 to 1.250)"
    )
    assert "LORA goes from 1.500 to 1.250" in curves.learning_statement("E2E", curves._losses(series[:1])[0].curves)
    # Of 14 steps in parts of 4 and a last one of 2 the third quarter is 7 to 10, the last one 11 to 14.
    uneven = curves._losses([run("lora", 0, train_losses=[*CURVE[:3], [14, 1.25]], dev_losses=[[14, 1.0]])])[0].curves
    third, last = (2.0 * 1 + 1.5 * 2) / 3, (1.5 * 2 + 1.25 * 2) / 4
    assert f"LORA goes from {third:.3f} to {last:.3f}" in curves.learning_statement("E2E", uneven)
    short = curves._losses([run("lora", 0, train_losses=CURVE[:1], dev_losses=[[4, 1.0]])])[0].curves
    assert curves.learning_statement("E2E", short) == "E2E: training and dev loss by step"
    for steps, title in ((2, "E2E: training and dev loss by step"), (3, "E2E: from the third to the last quarter of the steps")):
        each = [[step, 2.0] for step in range(1, steps + 1)]  # at smoke a run has two steps, and each its own loss
        series = curves._losses([run("lora", 0, train_losses=each, dev_losses=[[steps, 1.0]])])[0].curves
        assert curves.learning_statement("E2E", series).startswith(title)


def test_of_records_without_a_curve_nothing_is_drawn(tmp_path: Path) -> None:
    assert curves.learning([run("lora", 0, dev_losses=[[16, 1.0]])], "t", "c", tmp_path / "x") == []
    assert not list(tmp_path.iterdir())


def test_a_published_table_on_texts_has_the_figure_of_its_records_to_the_byte(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from test_e2e_experiment import fill

    cells = declared_cells("e2e", "mini", ["row/e2e=full,lora"])
    monkeypatch.setattr(exhibit, "declared_cells", lambda name, profile, extra=(): cells)
    contents = []
    figures = tmp_path / "results/mini/figures"
    for losses in (CURVE, CURVE, None):
        fill(tmp_path, cells, {"lora": 2, "full": 1}, published=True, losses=losses)
        assert main(["tables", "e2e"], tmp_path) == 0
        contents.append([path.read_bytes() for path in sorted(figures.glob("e2e_learning.*"))])
    assert len(contents[0]) == 2 and contents[0] == contents[1]
    assert b"E2E NLG: from the third to the last quarter of the steps" in contents[0][1]
    assert belonging(["e2e", "rank_e2e"], ["e2e", "e2e_learning"])["e2e"] == ["e2e", "e2e_learning"]  # on the page
    assert contents[2] == [] and (figures / "e2e.svg").is_file()  # what is drawn no longer is removed

"""The ablation tables: what conf/ declares, which cells they share, a column a rank, and their curves."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import plant_record, rows_and_profiles
from planted import noted

from lora_repro.config.compose import build, compose
from lora_repro.config.paths import choices
from lora_repro.methods.base import AbstractMethod, Shape
from lora_repro.planning.cells import Cell
from lora_repro.records import record
from lora_repro.report import show
from lora_repro.report.captions import Caption
from lora_repro.report.columns import Column
from lora_repro.report.exhibit import ReportRequest
from lora_repro.report.figures import curves
from lora_repro.report.figures.scored import _curve, curve_plot, printed_plots
from lora_repro.report.numbers import Metric
from lora_repro.report.pivot import Pivot
from lora_repro.report.scores import Result
from lora_repro.report.sheet import Scores
from lora_repro.report.table import markdown
from lora_repro.results import declared_cells
from lora_repro.run.stages import backbone_of
from lora_repro.sweep import tune

TABLES = ["rank", "which_weights", "params_vs_quality", "rank_e2e", "subspace", "delta_w"]
CELLS = [(table, row, profile) for table in TABLES for row, profile in rows_and_profiles(table)]
MINILM = Shape(6, 384, 384, dict.fromkeys(("query", "key", "value", "output"), ((384, 384),)), 0, 0, 0, 0, 0)


def pivot(name: str) -> Pivot:
    declaration = show.declaration(name)
    assert isinstance(declaration, Pivot)
    return declaration


def scores_of(name: str, folder: Path, *overrides: str) -> list[Scores]:
    """What a table shows of the records in `folder`."""
    ask = ReportRequest(name, "smoke", overrides)
    return pivot(name).scores(ask, ask.cells, [noted(folder)])


def drawn_of(name: str, scores: Scores) -> curves.Plot:
    return curve_plot(scores, pivot(name).over, pivot(name).axis)


@pytest.mark.parametrize("table, row, profile", CELLS)
def test_every_row_and_every_profile_compose_and_build(table: str, row: str, profile: str) -> None:
    config = compose([f"experiment={table}", f"row/{table}={row}", f"profile={profile}"])
    assert config.row.table == table and config.row.label
    if profile != "smoke":  # where the random backbone is narrower than the default size
        backbone_of(config)


def test_which_weights_spends_the_same_number_of_parameters_in_every_row() -> None:
    counts = set()
    for row in choices("row/which_weights"):
        method: AbstractMethod = build(compose(["experiment=which_weights", f"row/which_weights={row}"]).method)
        counts.add(method.count(MINILM))
    assert counts == {6 * 8 * 2 * 384}  # q at rank 8; q,v at 4; all four at 2


def test_a_row_without_a_size_is_one_run_and_tables_share_their_cells() -> None:
    def keys(table: str, row: str, profile: str = "mini") -> list[str]:
        return [cell.signature for cell in declared_cells(table, profile, [f"row/{table}={row}", "seed=0"])]

    assert len(set(keys("rank", "full_q_v"))) == 1 and len(keys("rank", "full_q_v")) == 4
    assert len(set(keys("rank", "lora_q_v"))) == 4
    assert set(keys("which_weights", "q_v")) < set(keys("rank", "lora_q_v"))
    assert set(keys("params_vs_quality", "lora")) & set(keys("rank", "lora_q_v"))
    assert set(keys("params_vs_quality", "full")) == set(keys("rank", "full"))
    assert set(keys("rank_e2e", "lora", "laptop")) & set(keys("e2e", "lora", "laptop"))


def size_of(cell: Cell) -> int | None:
    return next((value for axis, value in cell.axes.items() if axis.startswith("row.")), None)


def fabricate(folder: Path, table: str, scores: dict[tuple[str, int | None], float], metric: str) -> None:
    """A finished record for each (row, size); size None: whatever the size."""
    for cell in declared_cells(table, "smoke", ["seed=0,1"]):
        row, size = cell.row, size_of(cell)
        value = scores.get((row.name, size), scores.get((row.name, None)))
        if value is None:
            continue
        method = 7 if (row.name, None) in scores else 100 * (size or 1)
        plant_record(folder / "records" / f"{cell.signature}.json", {
            "schema": record.SCHEMA, "signature": cell.signature, "status": "finished", "asked": cell.asked,
            "row": {"table": table, "name": row.name, "label": row.label},
            "measured": {"scores": {metric: value + 0.02 * cell.seed}, "dev_loss": 1.5, "wall_seconds": 1,
                         "parameters": {"method": method, "head": 2, "total": 9}},
            "where": {"backbone": {"label": "tiny", "sha256": "a"}, "data": {"caption": "synthetic", "hashes": {}}},
        })  # fmt: skip


def test_the_rank_table_has_a_column_a_rank_and_one_for_rows_without(tmp_path: Path) -> None:
    scores = {("lora_q", 1): 0.5, ("lora_q", 32): 0.7, ("full_q", None): 0.8}
    fabricate(tmp_path, "rank", scores, "accuracy")
    (table,) = scores_of("rank", tmp_path)
    assert [column.metric.label for column in table.columns] == ["r 1", "r 32", "no r"]
    lines = {line.row: line for line in table.results if line.source == "published"}
    assert [lines["lora_q"].cells[f"rank_{n}"].mean for n in (1, 32)] == pytest.approx([51, 71])
    assert "any" not in lines["lora_q"].cells and list(lines["full_q"].cells) == ["any"]
    assert lines["lora_q"].sizes == {"rank_1": 100, "rank_32": 3200} and lines["lora_q"].method_parameters is None
    assert lines["lora_q"].cells["rank_1"].n == 2 and not lines["lora_q_v"].cells
    plot = drawn_of("rank", table)
    spots = {curve.label: curve.spots for curve in plot.curves}
    assert [spot.x for spot in spots["LoRA on W_q"]] == [1, 32] and [spot.x for spot in spots["W_q in full"]] == [None]


def test_lora_with_prefixes_looks_unlike_the_prefixes_alone(tmp_path: Path) -> None:
    """lora_q and full_q are one matrix and one colour; lora_prefix_embedding is another method than prefix_embedding."""
    names = ("lora_q", "full_q", "lora_q_v", "lora_prefix_embedding", "prefix_embedding")
    results = tuple(Result(name, name, "published", {}) for name in names)
    caption = Caption("T", "mini", ("b",), "d", "1")
    scores = Scores("T", "full", "mini", "b", caption, results, (), (), Column(Metric("m", "m"), "m"), True, "m")
    families = [_curve(result, [], scores).family for result in results]
    assert families == ["q", "q", "lora_q_v", "lora_prefix_embedding", "prefix_embedding"]


def test_one_panel_of_the_paper_stands_once_and_needs_no_name(tmp_path: Path) -> None:
    fabricate(tmp_path, "rank", {("lora_q", 1): 0.5, ("full_q", None): 0.8}, "accuracy")
    (table,) = scores_of("rank", tmp_path)
    over, axis = pivot("rank").over, pivot("rank").axis
    (once,) = printed_plots([(table, "STS-B"), (table, "SST-2")], over, axis)
    assert once.title == "" and once.curves
    less = replace(table, results=tuple(result for result in table.results if result.row != "lora_q"))
    assert [plot.title for plot in printed_plots([(table, "STS-B"), (less, "SST-2")], over, axis)] == ["STS-B", "SST-2"]


def test_quality_is_drawn_over_the_parameters_of_each_size(tmp_path: Path) -> None:
    fabricate(tmp_path, "params_vs_quality", {("lora", 1): 0.5, ("lora", 2): 0.6, ("full", None): 0.9}, "accuracy")
    plot = drawn_of("params_vs_quality", scores_of("params_vs_quality", tmp_path)[0])
    counts = {curve.label: [spot.x for spot in curve.spots] for curve in plot.curves}
    assert counts["LoRA"] == [102, 202] and counts["Full fine-tuning"] == [9]


def test_the_e2e_ranks_have_a_second_table_for_the_dev_loss(tmp_path: Path) -> None:
    fabricate(tmp_path, "rank_e2e", {("lora", 1): 0.5, ("lora", 16): 0.6, ("full", None): 0.9}, "bleu")
    second = scores_of("rank_e2e", tmp_path)[1]
    line = next(line for line in second.results if line.source == "published" and line.row == "lora")
    assert line.cells["dev_loss_rank_1"].mean == 1.5 and second.columns[0].metric.direction == -1
    (exhibit,) = pivot("rank_e2e").exhibits(ReportRequest("rank_e2e", "smoke"), [noted(tmp_path)])
    show.write(exhibit, tmp_path)
    rows = list(csv.DictReader((tmp_path / "tables" / "rank_e2e.csv").read_text(encoding="utf-8").splitlines()))
    assert {row["dev_loss_rank_1"] for row in rows if row["row"] == "lora" and row["source"] == "published"} == {"", "1.5"}
    full = [(row["any"], row["dev_loss_any"]) for row in rows if row["row"] == "full" and row["source"] == "published"]
    assert full == [("91", ""), ("", "1.5")]  # a line a table; its column without a rank is not that of the other


def test_the_paper_s_ranks_are_beside_ours() -> None:
    paper = compose(["experiment=rank_e2e", "row/rank_e2e=lora"]).row.paper.gpt2_medium
    assert (paper.rank_1, paper.rank_4, paper.rank_1024) == (68.72, 70.38, 69.37)
    assert (paper.dev_loss_rank_1, paper.dev_loss_rank_1024) == (1.23, 1.17)


def test_the_paper_s_tables_5_and_6_are_in_the_rows() -> None:
    """MultiNLI accuracies as printed, by matrix and by rank 1, 2, 4, 8, 64; Table 5 with WikiSQL's beside them."""

    def paper(table: str, row: str) -> Any:
        return compose([f"experiment={table}", f"row/{table}={row}"]).row.paper.gpt3_175b

    table_5 = {"q": (91.0, 70.4), "k": (90.8, 70.0), "v": (91.0, 73.0), "o": (91.3, 73.2),
               "q_k": (91.3, 71.4), "q_v": (91.3, 73.7), "q_k_v_o": (91.7, 73.7)}  # fmt: skip
    assert {row: (paper("which_weights", row).mnli, paper("which_weights", row).wikisql) for row in table_5} == table_5
    table_6 = {"lora_q": [90.7, 90.9, 91.1, 90.7, 90.7], "lora_q_v": [91.3, 91.4, 91.3, 91.6, 91.4],
               "lora_q_k_v_o": [91.2, 91.7, 91.7, 91.5, 91.4]}  # fmt: skip
    assert {row: [paper("rank", row)[f"rank_{n}"] for n in (1, 2, 4, 8, 64)] for row in table_6} == table_6


def test_every_ablation_cell_has_a_rate_of_its_own_to_search() -> None:
    # At one alpha the update is scaled by alpha / r: one rate for all sets of matrices would favour the small ranks.
    searches = tune.searches(["experiment=which_weights", "profile=laptop", "task=stsb"])
    assert len(searches) == 7 and {search.length for search in searches} == {1}
    assert len({cell.seed for cell in declared_cells("which_weights", "laptop", ["row/which_weights=v", "task=stsb"])}) == 5


def test_one_task_has_no_average_in_table_csv_or_figure(tmp_path: Path) -> None:
    first = declared_cells("which_weights", "smoke")[0]
    fabricate(tmp_path, "which_weights", {("q", None): 0.5, ("q_v", None): 0.6}, first.score)
    (table,) = scores_of("which_weights", tmp_path, f"task={first.task}")
    assert [column.key for column in table.columns] == [first.task] and table.compared == table.columns[0]
    ask = ReportRequest("which_weights", "smoke", (f"task={first.task}",))
    (exhibit,) = pivot("which_weights").exhibits(ask, [noted(tmp_path)])
    show.write(exhibit, tmp_path)
    for suffix in ("md", "csv", "tex"):
        assert "verage" not in (tmp_path / "tables" / f"which_weights.{suffix}").read_text(encoding="utf-8")
    (curve,) = drawn_of("which_weights", table).curves
    assert [spot.y for spot in curve.spots] == pytest.approx([51, 61])


def test_a_collapsed_seed_is_counted_in_the_table_and_marked_in_the_figure(tmp_path: Path) -> None:
    fabricate(tmp_path, "params_vs_quality", {("lora", 1): 0.5, ("lora", 2): 0.6, ("adapter_h", 1): 0.4}, "accuracy")
    for cell in declared_cells("params_vs_quality", "smoke", ["seed=0,1"]):
        if (cell.row.name, size_of(cell), cell.seed) in (("lora", 2, 1), ("adapter_h", 1, 0), ("adapter_h", 1, 1)):
            path = tmp_path / "records" / f"{cell.signature}.json"
            plant_record(path, record.read(path) | {"status": "collapsed"})
    table = scores_of("params_vs_quality", tmp_path)[0]
    text = markdown([table.table()])
    assert "| 61.0 ± 1.4 |" in text and "size 1: 2 collapsed" in text and "size 2: 1 collapsed" in text
    plot = drawn_of("params_vs_quality", table)
    marks = {curve.label: [spot.mark for spot in curve.spots] for curve in plot.curves}
    assert marks == {"LoRA": ["", "1 of 2 collapsed"], "AdapterH": ["2 of 2 collapsed"]} and not plot.absent

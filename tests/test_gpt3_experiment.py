"""Table 4: what conf/ declares: rows that build at every profile, the paper's numbers and sizes, each task's lengths."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import plant_record, rows_and_profiles
from planted import noted

from experiments.gpt3 import SAMSUM, TABLE
from lora_repro.config.compose import build, compose, resolved
from lora_repro.config.paths import choices
from lora_repro.metrics import rouge
from lora_repro.metrics.sql import Query, Table
from lora_repro.planning.cells import Cell, cells
from lora_repro.records import record
from lora_repro.report import captions, report_json, show
from lora_repro.report.exhibit import Exhibit, ReportRequest
from lora_repro.results import Run, declared_cells
from lora_repro.run.stages import backbone_of
from lora_repro.tasks.wikisql.task import WikiSQL

ROWS = choices("row/gpt3")
TASKS = {"wikisql": (384, 128), "mnli_text": (768, 4), "samsum": (2048, 128)}
PAPER = {  # Table 4; LoRA + PE and LoRA + PL: Table 15
    "few_shot": (0, None, 40.6, None),
    "full": (175255.8, 73.8, 89.5, 52.0), "bitfit": (14.2, 71.3, 91.0, 51.3), "prefix_embedding": (3.2, 63.1, 88.6, 48.3),
    "prefix_layer": (20.2, 70.1, 89.5, 50.8), "adapter_h_small": (7.1, 71.9, 89.8, 53.0),
    "adapter_h_large": (40.1, 73.2, 91.5, 53.2), "lora_small": (4.7, 73.4, 91.7, 53.8), "lora_large": (37.7, 74.0, 91.6, 53.4),
    "lora_prefix_embedding": (37.8, 75.0, 91.4, None), "lora_prefix_layer": (52.8, 72.9, 90.2, None),
}  # fmt: skip
ROUGE = {  # Table 4: ROUGE-2 and -L
    "full": (28.0, 44.5), "bitfit": (27.4, 43.5), "prefix_embedding": (24.2, 40.5), "prefix_layer": (27.3, 43.5),
    "adapter_h_small": (28.9, 44.8), "adapter_h_large": (29.0, 45.1), "lora_small": (29.8, 45.9), "lora_large": (29.2, 45.1),
}  # fmt: skip


@pytest.mark.parametrize("row, profile", rows_and_profiles("gpt3"))
def test_every_row_and_every_profile_compose_and_build(row: str, profile: str) -> None:
    config = compose(["experiment=gpt3", f"row/gpt3={row}", f"profile={profile}"])
    assert config.row.table == "gpt3" and config.row.name == row and config.row.label
    assert config.task.source == ("embedded" if profile in ("smoke", "mini") else "folder")
    for group in ("method", "task", "train", "decode"):
        build(config[group])
    backbone_of(config)


def test_the_rows_hold_the_paper_s_numbers() -> None:
    assert set(ROWS) == set(PAPER)
    for row, (params, wikisql, mnli, samsum) in PAPER.items():
        paper = resolved(compose(["experiment=gpt3", f"row/gpt3={row}"]))["row"]["paper"]["gpt3_175b"]
        numbers = [paper.get(key) for key in ("params_m", "wikisql", "mnli_text", "samsum", "samsum_rouge2", "samsum_rougeL")]
        assert numbers == [params, wikisql, mnli, samsum, *ROUGE.get(row, (None, None))]


@pytest.mark.parametrize("task", TASKS)
def test_each_task_has_the_paper_s_length_and_room_for_its_answers(task: str) -> None:
    config = compose(["experiment=gpt3", "row/gpt3=full", f"task={task}", "profile=mini", "decode=greedy_answer"])
    assert (config.data.max_length, config.decode.max_new_tokens) == TASKS[task]
    assert (config.decode.beam, config.decode.no_repeat_ngram, config.train.weight_decay) == (1, 0, 0.1)


def test_gpt2_has_half_of_gpt3_s_positions() -> None:
    config = compose(["experiment=gpt3", "row/gpt3=full", "task=samsum", "profile=paper"])
    assert config.backbone.name == "gpt2_medium" and config.data.max_length == 1024


def test_each_column_shows_its_own_score() -> None:
    metrics = {cell.asked["task"]["name"]: cell.score for cell in cells(["experiment=gpt3", "profile=smoke"])}
    assert metrics == {"wikisql": "logical_form_accuracy", "mnli_text": "accuracy", "samsum": "rouge1_rouge_score"}


def test_combined_rows_are_lora_and_a_prefix_of_8_and_4() -> None:
    for row, other in (("lora_prefix_embedding", "prompt_tuning"), ("lora_prefix_layer", "prelayer")):
        lora, prefix = build(compose(["experiment=gpt3", f"row/gpt3={row}"]).method).methods
        assert (lora.name, lora.rank, lora.alpha, list(lora.targets)) == ("lora", 8, 32, ["query", "value"])
        assert (prefix.name, prefix.prefix, prefix.infix) == (other, 8, 4)


def test_table_15_s_sizes_and_table_16_s_rows_are_declared() -> None:
    """A few of the paper's cells, and what a size is."""
    for row, task, size, score, setting in (
        ("lora", "wikisql", 64, 73.6, "rank"), ("adapter_h", "mnli_text", 4, 91.0, "bottleneck"),
        ("prefix_layer", "wikisql", 8, 69.8, "prefix"), ("lora_q_k_v_o", "mnli_text", 2, 91.7, "rank"),
    ):  # fmt: skip
        config = resolved(compose(["experiment=gpt3_sizes", f"row/gpt3_sizes={row}", f"task={task}", f"row.size={size}"]))
        paper = config["row"]["paper"]["gpt3_175b"]
        assert paper[f"size_{size}"] == score and paper["source"] and config["method"][setting] == size
    both = resolved(compose(["experiment=gpt3_sizes", "row/gpt3_sizes=lora_prefix_layer", "row.size=32"]))
    assert [part.get("rank") for part in both["method"]["methods"]] == [32, None]
    # The table of a task of another family has all rows, so every row must compose with it; running few-shot there is refused.
    assert "few_shot" in {cell.row.name for cell in declared_cells("gpt3", "mini", ["task=sentiment"])}
    signatures = {cell.signature for cell in cells(["experiment=gpt3_sizes", "profile=smoke"])}
    assert len(signatures) == 16  # seven rows at two sizes, two that have none
    steps = {
        cell.asked["data"]["n_train"]: cell.asked["train"]["steps"]
        for cell in cells(["experiment=low_data_mnli", "profile=laptop", "row/low_data_mnli=lora"])
    }
    assert steps == {100: 200, 1000: 500, 10000: 1250}
    row = resolved(compose(["experiment=low_data_mnli", "row/low_data_mnli=lora"]))["row"]["paper"]["gpt3_175b"]
    assert (row["rows_100"], row["rows_1000"], row["rows_10000"]) == (63.8, 85.6, 89.2)


def shown(folder: Path, task: str, scores: dict[tuple[str, int], dict[str, float | None]], caption: str) -> list[Exhibit]:
    """The exhibits of two rows and two tasks, of which `task` has records: (row, seed) -> its scores."""
    ask = ReportRequest("gpt3", "smoke", ("row/gpt3=full,lora_large", "task=samsum,wikisql"))
    for cell in ask.cells:
        if cell.task == task and (cell.row.name, cell.seed) in scores:
            plant_record(folder / "records" / f"{cell.signature}.json", {
                "schema": record.SCHEMA, "signature": cell.signature, "status": "finished", "asked": cell.asked,
                "row": {"table": "gpt3", "name": cell.row.name, "label": cell.row.label},
                "measured": {"scores": scores[cell.row.name, cell.seed], "wall_seconds": 1, "test_rows_cut": 3,
                             "parameters": {"method": 7, "head": 0, "total": 9}},
                "where": {"backbone": {"label": "tiny", "sha256": "a"}, "data": {"caption": caption, "hashes": {}}},
            })  # fmt: skip
    return TABLE.exhibits(ask, [noted(folder)])


def printed(exhibit: Exhibit, row: str, source: str) -> dict[str, str]:
    """Column title -> cell of one line of an exhibit's first table."""
    table = exhibit.tables[0]
    label, lines = "", {}
    for line in table.rows:
        label = line[0] or label
        lines[label, line[1]] = dict(zip(table.header, line, strict=True))
    return lines[row, source]


def test_samsum_has_a_table_of_six_scores_that_name_their_tool(tmp_path: Path) -> None:
    tools = {"rouge_score": "rouge_score", "py_rouge": "py-rouge"}
    names = [f"rouge{kind}_{tool}" for tool in tools for kind in "12L"]
    titles = [f"ROUGE-{kind} ({tool}) ↑" for tool in tools.values() for kind in "12L"]
    assert set(names) == set(rouge.METRICS) == {metric.key for metric in SAMSUM.metrics}
    scores: dict[tuple[str, int], dict[str, float | None]] = {
        ("lora_large", seed): {name: 0.1 * (i + 1) + 0.02 * seed for i, name in enumerate(names)} for seed in (0, 1)
    }
    overview, samsum = exhibits = shown(tmp_path, "samsum", scores, "SAMSum (from local files)")
    assert [one.stem for one in exhibits] == ["gpt3", "gpt3_samsum"]  # WikiSQL has no run, so no table of its own
    ours, paper = (printed(samsum, "LoRA (large)", source) for source in ("published", "paper (GPT-3 175B)"))
    assert [ours[title] for title in titles] == [f"{10 * (i + 1) + 1}.0 ± 1.4" for i in range(6)] and ours["n"] == "2"
    assert [paper[title] for title in titles] == ["53.4", "29.2", "45.1", "—", "—", "—"]
    assert printed(overview, "LoRA (large)", "published")["SAMSUM ↑"] == ours[titles[0]]
    assert all("3 test inputs (all methods)" in " ".join(one.tables[0].footnotes) for one in exhibits)
    show.write(samsum, tmp_path)
    lines = list(csv.DictReader((tmp_path / "tables" / "gpt3_samsum.csv").read_text(encoding="utf-8").splitlines()))
    line = next(line for line in lines if line["row"] == "lora_large" and line["source"] == "published")
    assert line["rougeL_py_rouge"] == "61" and len(lines) == 4
    ask = ReportRequest("gpt3", "smoke", ("row/gpt3=full,lora_large", "task=samsum,wikisql"))
    entries = report_json.experiment_entry(TABLE, ask, noted(tmp_path), exhibits)["cells"]
    (cell,) = [one for one in entries if one["column"] == "rougeL_py_rouge"]
    assert (cell["value"], cell["n"], cell["metric"], len(cell["records"])) == (61.0, 2, "ROUGE-L (py-rouge)", 2)


def test_execution_accuracy_is_shown_or_said_to_be_missing(tmp_path: Path) -> None:
    titles = ("Logical form ↑", "Execution ↑")

    def table(folder: Path, execution: float | None, rows: tuple[tuple[Any, ...], ...] | None) -> tuple[list[str], str]:
        query = (Table(("a",), ("text",), rows), "which a?", Query(0, 0, ()))
        scores: dict[str, float | None] = {"logical_form_accuracy": 0.5, "execution_accuracy": execution}
        caption = WikiSQL("folder").caption({"train": [], "dev": [query], "test": [query]})
        _, exhibit = shown(folder, "wikisql", {("full", 0): scores}, caption)
        assert exhibit.stem == "gpt3_wikisql" and printed(exhibit, "Full fine-tuning", "paper (GPT-3 175B)")[titles[0]] == "73.8"
        line = printed(exhibit, "Full fine-tuning", "published")
        return [line[title] for title in titles], exhibit.tables[0].caption

    cells, caption = table(tmp_path / "with", 0.625, (("x",),))
    assert cells == ["50.0†", "62.5†"] and "not at hand" not in caption
    cells, caption = table(tmp_path / "without", None, None)
    assert cells == ["50.0†", "—"] and "the tables' rows are not at hand: no execution accuracy" in caption


def cut_run(cell: Cell, label: str, task: str, **cut: int) -> Run:
    config = {**cell.asked, "task": {**cell.asked["task"], "name": task}}
    variant = replace(cell, asked=config, row=replace(cell.row, label=label))
    return Run(variant, {"measured": cut}, "published", Path(), Path())


def test_a_table_says_how_many_inputs_were_cut_by_task_and_row() -> None:
    (cell,) = declared_cells("gpt3", "smoke", ["row/gpt3=full", "task=wikisql", "seed=0"])
    none = [cut_run(cell, "LoRA", "wikisql"), cut_run(cell, "PL", "wikisql")]
    assert captions.on_cut_inputs(none) == []
    alike = [cut_run(cell, label, "samsum", rows_cut=12, test_rows_cut=3) for label in ("LoRA", "LoRA", "PL")]
    some = [cut_run(cell, "PL", "mnli", rows_cut=2), cut_run(cell, "PL", "mnli", rows_cut=5), cut_run(cell, "LoRA", "mnli")]
    assert captions.on_cut_inputs([*none, *alike, *some]) == [
        "SAMSUM: inputs cut to data.max_length in each run: 12 training and dev rows and 3 test inputs (all methods).",
        "MNLI: inputs cut to data.max_length in each run: 2-5 training and dev rows (PL).",
    ]

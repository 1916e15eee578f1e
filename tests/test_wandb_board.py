"""The workspace as W&B's own objects, and the run that carries its tables and figures, read back offline."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.image import imsave
from wandb_files import inspect, parts, summary

from lora_repro.tracking import wandb_board
from lora_repro.tracking.wandb_run import WandbTracker

workspaces = pytest.importorskip("wandb_workspaces.workspaces")

PANELS = [
    {"kind": "table_bar", "table": "tables/e2e", "label": "line", "value": "bleu", "title": "a"},
    {"kind": "table_scatter", "table": "tables/e2e", "x": "parameters", "y": "bleu", "title": "b"},
    {"kind": "scatter", "x": "method.rank", "y": "scores/bleu", "title": "c"},
    {"kind": "line", "x": "step", "y": "dev_loss", "title": "e"},
    {"kind": "bar", "metric": "train_seconds", "group": "row.label", "title": "f"},
    {"kind": "image", "key": "figures/e2e", "title": "g"},
    {"kind": "table", "table": "claims", "title": "h"},
    {"kind": "compare", "title": "i"},
    {"kind": "parallel", "title": "j",
     "columns": [{"where": "config", "key": "train.lr"}, {"where": "summary", "key": "scores/bleu"}]},
]
SPEC = {
    "name": "lora_repro smoke",
    "filter": {"profile_name": "smoke"},
    "group_by": ["row.table", "row.label"],
    "sections": [{"name": "All", "panels": PANELS}],
}


def test_every_kind_of_panel_becomes_one_of_w_and_b_s() -> None:
    board = wandb_board.build(SPEC, "someone", "lora_repro")
    (section,) = board.sections
    kinds = ["CustomChart", "CustomChart", "ScatterPlot", "LinePlot", "BarPlot", "MediaBrowser"]
    kinds += ["WeavePanelSummaryTable", "RunComparer", "ParallelCoordinatesPlot"]
    assert [type(panel).__name__ for panel in section.panels] == kinds
    bar, cloud, rank, line, time, figure, verdicts, _, lines = section.panels
    assert verdicts.table_name == "claims" and [column.metric.name for column in lines.columns] == ["train.lr", "scores/bleu"]
    assert bar.chart_fields == {"label": "line", "value": "bleu"} and bar.chart_name == "wandb/bar/v0"
    assert bar.query == {"summaryTable": {"tableKey": "tables/e2e"}} and cloud.chart_fields == {"x": "parameters", "y": "bleu"}
    assert rank.x.name == "method.rank" and rank.log_x and line.x == "step"
    assert time.metrics == ["train_seconds"] and figure.media_keys == ["figures/e2e"]
    assert [key.name for key in board.runset_settings.groupby] == ["row.table", "row.label"]


def test_the_tables_and_figures_travel_in_one_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CONFIG", "CACHE", "DATA"):
        monkeypatch.setenv(f"WANDB_{name}_DIR", str(tmp_path / "home"))
    imsave(tmp_path / "e2e.png", np.zeros((3, 4, 3)))
    lines: list[dict[str, Any]] = [{"line": "LoRA, published", "bleu": 50.5}, {"line": "LoRA, paper", "bleu": None}]
    tracker = WandbTracker(mode="offline")
    wandb_board.upload(tracker, SPEC, {"tables/e2e": lines}, {"figures/e2e": tmp_path / "e2e.png"}, tmp_path / "runs")
    (folder,) = (tmp_path / "runs/wandb").glob("offline-run-*")
    records = inspect(folder)
    (run,) = parts(records, "run")
    assert (run["run_id"], run["job_type"], run["config"]["update"]["profile_name"]) == ("lora_repro-smoke", "report", "smoke")
    fields = summary(records)
    assert (fields["tables/e2e.nrows"], fields["figures/e2e.width"], fields["figures/e2e.height"]) == (2, 4, 3)
    (table,) = (folder / "files/media/table").rglob("*.json")
    artifacts = {item["type"]: item for item in parts(records, "artifact")}
    assert artifacts["figures"]["name"] == "figures-lora_repro-smoke"
    (content,) = artifacts["figures"]["manifest"]["contents"]
    assert content["path"] == "figures/e2e.png" and content["size"] == str((tmp_path / "e2e.png").stat().st_size)
    assert json.loads(table.read_text())["data"] == [["LoRA, published", 50.5], ["LoRA, paper", None]]


def test_offline_the_run_is_kept_for_later_and_needs_no_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CONFIG", "CACHE", "DATA"):
        monkeypatch.setenv(f"WANDB_{name}_DIR", str(tmp_path / "home"))
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_PROJECT", "theirs")
    message = wandb_board.save(SPEC, {"tables/e2e": [{"line": "LoRA"}]}, {}, tmp_path / "runs")
    (folder,) = (tmp_path / "runs/wandb").glob("offline-run-*")
    assert message.startswith("offline") and f"wandb sync {tmp_path}/runs/wandb/offline-run-*" in message
    assert parts(inspect(folder), "run")[0]["project"] == "theirs"


def test_the_workspace_is_that_of_the_runs_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a key of `wandb login` and the usual variables; W&B itself is stood in for."""

    class Saved(Exception):
        pass

    def build(spec: dict[str, Any], entity: str, project: str) -> None:
        raise Saved(entity, project)

    for name, value in {"PROJECT": "theirs", "ENTITY": "them"}.items():
        monkeypatch.setenv(f"WANDB_{name}", value)
    for name in ("MODE", "API_KEY"):
        monkeypatch.delenv(f"WANDB_{name}", raising=False)
    monkeypatch.setattr(wandb_board, "build", build)
    monkeypatch.setattr(wandb_board, "key_known", lambda: True)
    with pytest.raises(Saved) as error:
        wandb_board.save(SPEC, {}, {}, tmp_path)
    assert error.value.args == ("them", "theirs")

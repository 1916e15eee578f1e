"""The dashboard's sections follow from a profile's tables, figures and records; printed without a key."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from lora_repro.errors import UserError
from lora_repro.tracking import dashboard

ROOT = Path(__file__).resolve().parents[1]
CSV = """profile,backbone,row,label,source,method_parameters,head_parameters,printed_parameters_m,bleu,bleu_sd,nist,n,notes
mini,tiny,lora,LoRA,published,100,20,,50.5,,1.25,1,
mini,tiny,lora,LoRA,paper (GPT-2 M),,,0.35,70.4,0.1,,3,"Table 3, authors"
mini,tiny,human,Human,published,0,,,,,,1,
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for place in ("tables", "figures", "records"):
        (tmp_path / "results/mini" / place).mkdir(parents=True)
    (tmp_path / "results/mini/tables/e2e.csv").write_text(CSV)
    for stem in ("e2e", "rank", "subspace_ranks", "low_data", "latency", "something"):
        (tmp_path / f"results/mini/figures/{stem}.png").write_bytes(b"")
    record = {"schema": 1, "signature": "s", "measured": {"scores": {"bleu": 0.5, "nist": None}}}
    (tmp_path / "results/mini/records/s.json").write_text(json.dumps(record))
    return tmp_path


def panels(root: Path) -> dict[str, list[dict[str, Any]]]:
    found = dashboard.sections(dashboard.find(root, "mini"))
    return {section["name"]: section["panels"] for section in found}


def test_every_score_of_a_table_has_its_bars_and_its_cloud(root: Path) -> None:
    found = panels(root)
    bars = [item for item in found["Scores by method, beside the paper's"] if item["kind"] == "table_bar"]
    assert [(item["table"], item["label"], item["value"]) for item in bars] == [
        ("tables/e2e", "line", "bleu"),
        ("tables/e2e", "line", "nist"),
    ]
    clouds = [item for item in found["Quality against parameters"] if item["kind"] == "table_scatter"]
    assert [(item["x"], item["y"]) for item in clouds] == [("parameters", "bleu"), ("parameters", "nist")]
    without = CSV.replace(",100,20,", ",,,").replace(",0.35,", ",,")
    (root / "results/mini/tables/e2e.csv").write_text(without)
    assert [item["kind"] for item in panels(root)["Quality against parameters"]] == ["image"]


def test_rank_losses_and_time_come_from_the_runs(root: Path) -> None:
    found = panels(root)
    ranks = [item for item in found["Rank"] if item["kind"] == "scatter"]
    assert [(item["x"], item["y"]) for item in ranks] == [("method.rank", "scores/bleu"), ("method.rank", "scores/nist")]
    assert [item["y"] for item in found["Training"]] == ["train_loss", "dev_loss", "lr"]
    assert "train_seconds" in [item.get("metric") for item in found["Latency and memory"]]


def test_each_figure_stands_in_one_section(root: Path) -> None:
    places = {
        item["key"]: name for name, items in panels(root).items() for item in items if item["kind"] == "image"
    }
    assert places == {
        "figures/e2e": "Quality against parameters",
        "figures/rank": "Rank",
        "figures/subspace_ranks": "Subspaces",
        "figures/low_data": "Scores by method, beside the paper's",
        "figures/latency": "Latency and memory",
        "figures/something": "Other figures",
    }


def test_this_checkout_s_files_go_before_the_published(root: Path) -> None:
    (root / "runs/mini/tables").mkdir(parents=True)
    (root / "runs/mini/tables/e2e.csv").write_text(CSV)
    assert dashboard.find(root, "mini").tables == {"e2e": root / "runs/mini/tables/e2e.csv"}


def test_a_table_s_lines_are_numbers_with_a_name_and_all_their_parameters(root: Path) -> None:
    ours, paper, human = dashboard.rows(root / "results/mini/tables/e2e.csv")
    assert ours["line"] == "LoRA, published" and ours["bleu"] == 50.5 and ours["parameters"] == 120
    assert paper["line"] == "LoRA, paper (GPT-2 M)" and paper["parameters"] == 350_000 and paper["nist"] is None
    assert human["parameters"] == 0 and paper["notes"] == "Table 3, authors"


def test_a_table_of_another_shape_has_no_bars(root: Path) -> None:
    (root / "results/mini/tables/latency.csv").write_text("method,milliseconds\nlora,3\n")
    assert dashboard.score_columns(root / "results/mini/tables/latency.csv") == []
    assert dashboard.rows(root / "results/mini/tables/latency.csv")[0]["milliseconds"] == 3
    (root / "results/mini/tables/empty.csv").write_text("")
    assert dashboard.score_columns(root / "results/mini/tables/empty.csv") == []


def test_a_profile_with_nothing_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nothing of profile mini"):
        dashboard.find(tmp_path, "mini")


@pytest.mark.parametrize("by", ["flag", "variable"])
def test_a_dry_run_prints_the_workspace_and_needs_no_key(
    root: Path, by: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("DRY_RUN", "1" if by == "variable" else "0")
    assert dashboard.main(["profile=mini", *(["--dry-run"] if by == "flag" else [])], root) == 0
    spec = json.loads(capsys.readouterr().out)
    assert spec == dashboard.workspace(dashboard.find(root, "mini"), "mini")
    assert spec["filter"] == {"profile_name": "mini"}


def test_without_a_key_it_says_what_is_missing(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("WANDB_MODE", "DRY_RUN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("lora_repro.tracking.wandb_board.key_known", lambda: False)
    assert dashboard.main(["profile=mini"], root) == 3
    assert capsys.readouterr().err.startswith("error: no W&B key: set WANDB_API_KEY")
    assert dashboard.main(["mini"], root) == dashboard.main(["profile=../x"], root) == 2


@pytest.mark.parametrize("profile", ["mini", "laptop"])
def test_what_is_published_has_a_dashboard(profile: str) -> None:
    found = dashboard.find(ROOT, profile)
    names = [section["name"] for section in dashboard.sections(found)]
    assert {"Scores by method, beside the paper's", "Quality against parameters", "Training"} <= set(names)
    assert "e2e" in found.tables and "bleu" in found.scores
    for path in found.tables.values():  # a column's name finds one column
        header = next(csv.reader(path.read_text(encoding="utf-8").splitlines()))
        assert len(set(header)) == len(header), path

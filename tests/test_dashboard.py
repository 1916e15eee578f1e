"""The dashboard's sections follow from a profile's tables, figures and records; printed without a key."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from conftest import plant_record
from planted import note

from lora_repro.commands import dashboard as dashboard_command
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
    plant_record(tmp_path / "results/mini/records/s.json", record)
    note(tmp_path / "results")
    return tmp_path


def find(root: Path) -> dashboard.Artefacts:
    note(root / "results")
    return dashboard.find(root, "mini")


def panels(root: Path) -> dict[str, list[dict[str, Any]]]:
    sections = dashboard.sections(find(root))
    return {section["name"]: section["panels"] for section in sections}


def test_a_table_that_was_run_has_a_bar_and_a_cloud_of_its_main_score(root: Path) -> None:
    unrun = CSV.replace("lora,LoRA,published,100,20,,50.5,,1.25,1,", "lora,LoRA,published,,,,,,,,")
    unrun = unrun.replace("published,0,,,,,,1", "published,,,,,,,")
    (root / "results/mini/tables/glue.csv").write_text(unrun)
    charts = panels(root)["Scores by method, beside the paper's"]
    assert [(item["kind"], item["table"]) for item in charts] == [("table_bar", "tables/e2e"), ("table_scatter", "tables/e2e")]
    assert (charts[0]["label"], charts[0]["value"], charts[1]["x"], charts[1]["y"]) == ("line", "bleu", "parameters", "bleu")


def test_curves_rates_ranks_predictions_and_speed_come_from_the_runs(root: Path) -> None:
    sections = panels(root)
    assert [item["y"] for item in sections["Training"]] == ["train/loss", "train/lr", "train/grad_norm"]
    assert [item["y"] for item in sections["Validation"]] == ["eval/loss", "eval/score"]
    lines, rate, rank = sections["Rate and rank"]
    assert lines["kind"] == "parallel" and rate["x"] == "train.lr" and (rank["x"], rank["y"]) == ("method.rank", "scores/bleu")
    assert [column["key"] for column in lines["columns"]] == ["train.lr", "method.rank", "method.alpha", "scores/bleu"]
    assert [item.get("table") for item in sections["Predictions"]] == ["predictions", None]
    assert "train/tokens_per_second" in [item.get("y") for item in sections["Speed and memory"]]


def test_the_verdicts_open_it_with_the_picture_of_ours_and_the_paper_s(root: Path) -> None:
    (root / "results/mini/figures/e2e_beside_paper.png").write_bytes(b"")
    first = dashboard.sections(find(root))[0]
    assert [item.get("table") or item["key"] for item in first["panels"]] == ["claims", "figures/e2e_beside_paper"]
    report = {"claims": [{"statement": "S", "figure": "70", "source": "Table 3", "profiles": {"mini": {"verdict": "tested"}}}]}
    (root / "results/report.json").write_text(json.dumps(report))
    note(root / "results")
    assert dashboard.claims(root, "mini") == [{"claim": "S", "verdict": "tested", "told": "70 (Table 3)"}]
    assert dashboard.claims(root, "laptop") == []


def test_what_somebody_altered_is_not_shown(root: Path) -> None:
    (root / "results/mini/tables/e2e.csv").write_text(CSV.replace("50.5", "99.9"))
    with pytest.raises(UserError, match=r"e2e\.csv differs from what was published"):
        dashboard.find(root, "mini")


def test_this_checkout_s_files_go_before_the_published(root: Path) -> None:
    (root / "runs/mini/tables").mkdir(parents=True)
    (root / "runs/mini/tables/e2e.csv").write_text(CSV)
    assert find(root).tables == {"e2e": root / "runs/mini/tables/e2e.csv"}


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
    with pytest.raises(UserError, match="profile mini has nothing"):
        dashboard.find(tmp_path, "mini")


@pytest.mark.parametrize("by", ["flag", "variable"])
def test_a_dry_run_prints_the_workspace_and_needs_no_key(
    root: Path, by: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("DRY_RUN", "1" if by == "variable" else "0")
    assert dashboard_command.main(["profile=mini", *(["--dry-run"] if by == "flag" else [])], root) == 0
    spec = json.loads(capsys.readouterr().out)
    assert spec == dashboard.workspace(find(root), "mini")
    assert spec["filter"] == {"profile_name": "mini"}


def test_without_a_key_it_says_what_is_missing(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("WANDB_MODE", "DRY_RUN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("lora_repro.tracking.wandb_board.key_known", lambda: False)
    assert dashboard_command.main(["profile=mini"], root) == 3
    assert capsys.readouterr().err.startswith("error: no W&B key: set WANDB_API_KEY")
    assert dashboard_command.main(["mini"], root) == dashboard_command.main(["profile=../x"], root) == 2


@pytest.mark.parametrize(("profile", "table", "score"), [("mini", "e2e", "bleu"), ("laptop", "which_weights", "pearson")])
def test_what_is_published_has_a_dashboard(profile: str, table: str, score: str) -> None:
    artefacts = dashboard.find(ROOT, profile)
    sections = {section["name"]: section["panels"] for section in dashboard.sections(artefacts)}
    assert {"Verdicts on the paper's claims", "Training", "Rate and rank", "Predictions"} <= set(sections)
    assert 14 <= sum(map(len, sections.values())) <= 30  # what a person reads
    assert table in artefacts.tables and score in artefacts.scores and len(dashboard.claims(ROOT, profile)) > 30
    for path in artefacts.tables.values():  # a column's name finds one column
        header = next(csv.reader(path.read_text(encoding="utf-8").splitlines()))
        assert len(set(header)) == len(header), path

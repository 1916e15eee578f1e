"""GLUE end to end: what conf/ declares, the line from sentence to record at smoke scale, runs that start from runs, the table."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import tiny_backbone
from omegaconf import DictConfig
from safetensors.torch import load_file

from experiments import glue, glue_dagger, low_data
from lora_repro import present, record, run
from lora_repro.adapt import begin_from
from lora_repro.artefact import Artefact
from lora_repro.compose import CONF, build, compose, resolved
from lora_repro.errors import UserError
from lora_repro.methods.lora import Lora
from lora_repro.parts import Parts
from lora_repro.rows import declared
from lora_repro.stores import published

TABLES: dict[str, Artefact] = {"glue": glue.GLUE, "glue_dagger": glue_dagger.DAGGER, "low_data": low_data.LOW_DATA}
PROFILES = ["smoke", "mini", "laptop", "paper"]
CELLS = [(table, path.stem) for table in TABLES for path in sorted((CONF / "row" / table).glob("*.yaml"))]
TASKS = ["mnli", "sst2", "mrpc", "cola", "qnli", "qqp", "rte", "stsb"]


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("table, row", CELLS)
def test_every_row_composes_and_builds_at_every_profile(table: str, row: str, profile: str) -> None:
    task = ["task=sentiment"] if profile in ("smoke", "mini") else []
    n = ["data.n_train=100"] if table == "low_data" else []
    large = ["backbone=roberta_large"] if (table, profile) == ("glue_dagger", "paper") else []  # as its sweep says
    config = compose([f"experiment={table}", f"row/{table}={row}", f"profile={profile}", *task, *n, *large])
    assert config.row.table == table and config.row.label
    Parts.of(config)


@pytest.mark.parametrize(
    "overrides, expected",
    [
        ("backbone=roberta_base task=rte", (5e-4, 80, 32, 0.06, 0.1, 512, 8, 8, "mnli", "best")),
        ("backbone=roberta_base task=rte recipe=scripts", (5e-4, 80, 256, 0.06, 0.1, 512, 8, 16, "mnli", "last")),
        ("backbone=roberta_base task=cola", (4e-4, 80, 32, 0.06, 0.1, 512, 8, 8, None, "best")),
        ("backbone=roberta_large task=cola", (2e-4, 20, 4, 0.06, 0.1, 128, 8, 16, None, "best")),
        ("backbone=deberta_v2_xxlarge task=stsb", (2e-4, 10, 4, 0.1, 0.1, 128, 8, 8, "mnli", "best")),
        ("backbone=deberta_v2_xxlarge task=mnli recipe=scripts", (1e-4, 5, 64, 1000, 0, 256, 16, 32, None, "last")),
    ],
)
def test_lora_has_the_printed_and_the_scripts_hyper_parameters(overrides: str, expected: tuple[object, ...]) -> None:
    asked = resolved(compose(["experiment=glue", "row/glue=lora", "profile=paper", *overrides.split()]))
    train, method = asked["train"], asked["method"]
    got = (train["lr"], train["epochs"], train["batch_size"], train["warmup"], train["weight_decay"])
    got += (asked["data"]["max_length"], method["rank"], method["alpha"], asked["init_from"], train["select"])
    assert got == expected
    assert train["select_by"] == "score" and asked["task"].get("held_out", 0) == 0  # the paper chooses on dev


def test_dagger_rows_never_start_from_mnli() -> None:
    for row in ("lora", "adapter_p_small", "adapter_h_large"):
        for task in TASKS:
            cell = ["experiment=glue_dagger", f"row/glue_dagger={row}", f"task={task}", "backbone=roberta_large"]
            asked = resolved(compose([*cell, "profile=paper"]))
            assert asked["init_from"] is None and asked["data"]["max_length"] == 128
    assert {block.backbone for block in declared("glue_dagger", "paper", ["row/glue_dagger=lora"])} == {"roberta_large"}


def smoke(tmp_path: Path, *overrides: str, row: str = "lora") -> DictConfig:
    return compose(["experiment=glue", f"row/glue={row}", "profile=smoke", f"paths.runs={tmp_path}", *overrides])


@pytest.mark.parametrize("row", sorted(path.stem for path in (CONF / "row" / "glue").glob("*.yaml")))
@pytest.mark.parametrize("task", ["entailment", "similarity"])
def test_every_row_runs_and_counts_its_head_apart(tmp_path: Path, row: str, task: str) -> None:
    found = run.run(smoke(tmp_path, f"task={task}", row=row))
    head = 33 if task == "similarity" else 66  # 32 d + 1 a output
    assert found["measured"]["parameters"]["head"] == head
    assert (found["measured"]["parameters"]["method"] == 0) == (row == "linear_probe")
    lines = record.load_predictions(tmp_path / "smoke" / found["signature"] / "predictions.jsonl")
    assert len(lines) == 8 and {"key", "output", "gold"} <= set(lines[0])
    assert not {"input", "second"} & set(lines[0])


@pytest.mark.parametrize("row", ["lora", "adapter_h", "adapter_drop", "prelayer"])
@pytest.mark.parametrize("backbone", ["random_gpt2", "random_llama"])
def test_a_decoder_classifies_too(tmp_path: Path, backbone: str, row: str) -> None:
    found = run.run(smoke(tmp_path, f"backbone={backbone}", "task=sentiment", row=row))
    assert found["measured"]["parameters"]["head"] == 64 and "accuracy" in found["measured"]["scores"]


def test_an_encoder_writes_no_text_and_a_number_has_no_classes(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="writes no text"):
        run.run(compose(["task=e2e", "profile=smoke", "backbone=random_bert", f"paths.runs={tmp_path}"]))
    with pytest.raises(UserError, match="one number"):
        config = smoke(tmp_path, "task=similarity", "+backbone.n_labels=2")
        Parts.of(config)
    with pytest.raises(UserError, match="answers with a class"):
        Parts.of(smoke(tmp_path, "task=sentiment", "decode=beam"))


def test_a_constant_answer_is_a_collapsed_run(tmp_path: Path) -> None:
    found = run.run(smoke(tmp_path, "task=sentiment", "train.lr=1e-12"))
    assert found["status"] == "collapsed"


def test_the_checkpoint_with_the_best_score_is_kept(tmp_path: Path) -> None:
    base = ("task=similarity", "train.eval_every=1", "train.epochs=6", "train.lr=3e-2")
    by_score = run.run(smoke(tmp_path, *base, "train.select_by=score"))
    text = (tmp_path / "smoke" / by_score["signature"] / "metrics.jsonl").read_text()
    logged = [json.loads(line) for line in text.splitlines()]
    scores = {line["step"]: line["dev_score"] for line in logged if "dev_score" in line}
    assert by_score["measured"]["best_step"] == max(scores, key=lambda step: scores[step])
    by_loss = run.run(smoke(tmp_path, *base))
    losses = dict(by_loss["measured"]["dev_losses"])
    assert by_loss["measured"]["best_step"] == min(losses, key=lambda step: losses[step])


def test_a_run_starts_from_the_run_it_names(tmp_path: Path) -> None:
    overrides = ["experiment=glue", "row/glue=lora", "profile=smoke", f"paths.runs={tmp_path}", "train.lr=1e-2"]
    overrides.append("task=entailment")
    config = compose([*overrides, "init_from=similarity"])
    found = run.run(config, [*overrides, "init_from=similarity"])
    source = compose([*overrides[:-1], "task=similarity"])
    name = record.signature(resolved(source))
    assert found["measured"]["started_from"] == name
    assert record.read(tmp_path / "smoke" / name / "record.json")["asked"]["task"]["name"] == "similarity"
    before = run.run(source)["where"]["finished_at"]
    again = run.run(compose([*overrides, "init_from=similarity", "seed=0"]), overrides)
    assert again == found and run.run(source)["where"]["finished_at"] == before  # nothing was trained twice
    plain = run.run(compose(overrides), overrides)
    assert plain["signature"] != found["signature"] and "started_from" not in plain["measured"]


def test_a_start_copies_a_and_b_drops_the_head_and_refuses_what_does_not_fit(tmp_path: Path) -> None:
    run_folder = tmp_path / "source"
    found = run.run(smoke(tmp_path / "runs", "task=entailment", "train.lr=1e-2"))
    run_folder = tmp_path / "runs" / "smoke" / found["signature"]
    kept = load_file(run_folder / "adapter.safetensors")
    torch.manual_seed(1)
    backbone = tiny_backbone("bert")
    trainable = Lora(rank=8, alpha=8, dropout=0.0).apply(backbone)
    head = {name: parameter.detach().clone() for name, parameter in trainable.head.items()}
    begin_from(run_folder, trainable)
    assert all(torch.equal(parameter, kept[name]) for name, parameter in trainable.method.items())
    assert all(torch.equal(parameter, head[name]) for name, parameter in trainable.head.items())
    other = Lora(rank=2, alpha=8, dropout=0.0).apply(tiny_backbone("bert"))
    with pytest.raises(UserError, match="does not fit"):
        begin_from(run_folder, other)
    with pytest.raises(UserError, match="all zero"):
        zero = {name: torch.zeros_like(parameter) if name.endswith(".B") else parameter for name, parameter in kept.items()}
        folder = tmp_path / "zero"
        folder.mkdir()
        from lora_repro.checkpoint import save_tensors

        save_tensors(folder / "adapter.safetensors", zero)
        begin_from(folder, Lora(rank=8, alpha=8, dropout=0.0).apply(tiny_backbone("bert")))


def fabricate(
    root: Path, table: str, profile: str, scores: dict[tuple[str, str], list[int]], collapsed: Any = ()
) -> None:
    """Published records of `table`, seed 0, with the given right (1) and wrong (0) answers by (row, column)."""
    folder = root / "results" / profile
    for block in declared(table, profile):
        column = block.task if table != "low_data" else f"rows_{block.config['data']['n_train']}"
        for row in block.rows:
            if (row.name, column) not in scores:
                continue
            name, asked = row.asked[0]
            right = scores[row.name, column]
            metric = asked["task"]["metrics"][0]
            status = "collapsed" if (row.name, column) in collapsed else "finished"
            found = {
                "schema": 1,
                "signature": name,
                "status": status,
                "asked": record.identity(asked),
                "row": {"table": table},
                "measured": {
                    "scores": {metric: sum(right) / len(right)},
                    "parameters": {"method": 10, "head": 2, "total": 99},
                    "wall_seconds": 1.0,
                },
                "where": {
                    "backbone": {"label": "B", "sha256": "1"},
                    "data": {"caption": f"{asked['task']['label']}, synthetic (generated by us)", "hashes": {}},
                },
            }
            record.write_json(folder / "records" / f"{name}.json", found)
            lines = [json.dumps({"key": str(i), "correct": x, "output": str(x), "gold": "1"}) for i, x in enumerate(right)]
            record.write_text(folder / "predictions" / f"{name}.jsonl", "\n".join(lines) + "\n")


def test_the_table_has_a_column_a_task_their_average_and_differences(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lora_repro.rows.swept", lambda table, profile, axis: {"task": ["sentiment", "entailment"]}.get(axis, []))
    half, most, none = [0, 1] * 20, [1, 1, 1, 0] * 10, [0] * 40
    given = {("full", "sentiment"): half, ("full", "entailment"): half, ("lora", "sentiment"): most, ("lora", "entailment"): half}
    given |= {("bitfit", "sentiment"): none, ("bitfit", "entailment"): half, ("adapter_p", "sentiment"): half}
    fabricate(tmp_path, "glue", "mini", given, collapsed={("bitfit", "sentiment")})
    present.render_published(glue.GLUE, tmp_path)
    text = (tmp_path / "results" / "mini" / "tables" / "glue.csv").read_text()
    lines = {line["row"]: line for line in csv.DictReader(text.splitlines()) if line["source"] == "published"}
    lora = lines["lora"]
    assert (lora["sentiment"], lora["entailment"], lora["average"]) == ("75", "50", "62.5")
    assert (lora["sentiment_difference"], lora["entailment_difference"], lora["average_difference"]) == ("25", "0", "12.5")
    assert float(lora["average_low"]) < 12.5 < float(lora["average_high"])
    assert lines["bitfit"]["sentiment"] == "" and "Sentiment: 1 collapsed" in lines["bitfit"]["notes"]
    assert lines["bitfit"]["average"] == lines["adapter_p"]["average"] == ""  # never over fewer tasks
    assert lines["adapter_p"]["entailment"] == "" and lines["bitfit"]["difference"] == ""
    markdown = (tmp_path / "results" / "mini" / "tables" / "glue.md").read_text()
    assert "collapsed" in next(line for line in markdown.splitlines() if line.startswith("| BitFit"))
    assert "Data: Sentiment, Entailment: synthetic (generated by us)" in markdown
    first = {path: path.read_bytes() for path in (tmp_path / "results").rglob("*") if path.is_file()}
    present.render_published(glue.GLUE, tmp_path)
    assert first == {path: path.read_bytes() for path in (tmp_path / "results").rglob("*") if path.is_file()}


def test_the_low_data_table_has_a_column_a_size(tmp_path: Path) -> None:
    half, most = [0, 1] * 20, [1, 1, 1, 0] * 10
    given = {(row, f"rows_{n}"): most if row == "lora" else half for row in ("full", "lora") for n in (16, 32)}
    fabricate(tmp_path, "low_data", "smoke", given)
    present.render_published(low_data.LOW_DATA, tmp_path)
    text = (tmp_path / "results" / "smoke" / "tables" / "low_data.csv").read_text()
    lora = next(line for line in csv.DictReader(text.splitlines()) if (line["row"], line["source"]) == ("lora", "published"))
    assert lora["difference"] == lora["rows_32_difference"]
    assert (lora["rows_16"], lora["rows_32"], lora["rows_16_difference"]) == ("75", "75", "25")


def test_the_paper_s_average_is_of_its_eight_tasks() -> None:
    block = declared("glue", "paper", ["task=mnli", "backbone=roberta_base"])[0]
    for row in block.rows:
        for printed in row.paper.values():
            assert abs(sum(printed[task] for task in TASKS) / 8 - printed["average"]) < 0.06


def test_published_glue_records_are_the_declared_cells() -> None:
    root = Path(glue.__file__).resolve().parents[1]
    for profile in ("mini", "laptop"):
        store = published(root / "results" / profile)
        for signature, found in store.records.items():
            assert record.signature(found["asked"]) == signature


@pytest.mark.parametrize("name", sorted(path.stem for path in (CONF / "task").glob("*.yaml")))
def test_every_task_builds_on_its_own_family(name: str) -> None:
    config = compose([f"task={name}", "profile=smoke"])
    assert build(config.task).name == name
    assert (config.decode._target_ == "lora_repro.classify.Labeller") == (name != "e2e")

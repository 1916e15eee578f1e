"""What a run leaves in W&B's own files, read back with W&B's own reader (`wandb leet inspect`). No login, no network."""

from __future__ import annotations

import json
import os
import random
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from wandb_files import history, history_whole, inspect, parts, summary

from lora_repro.config.compose import build, compose
from lora_repro.errors import Preempted, UserError
from lora_repro.tracking import wandb_run
from lora_repro.tracking.background import one_line, unfinished
from lora_repro.tracking.metrics import Ending, Metrics
from lora_repro.tracking.redaction import describe, table
from lora_repro.tracking.wandb_run import WandbTracker

ROOT = Path(__file__).resolve().parents[1]
ASKED = {
    "row": {"table": "e2e", "name": "lora", "label": "LoRA", "order": 3, "seeds": 3, "paper": {"gpt2": {"bleu": 70}}},
    "method": {"name": "lora", "rank": 4, "targets": ["query", "value"]},
    "task": {"name": "e2e"},
    "backbone": {"name": "tiny", "label": "tiny", "source": "folder", "hub_id": "/home/someone/models/tiny"},
    "profile_name": "smoke",
    "seed": 3,
    "paths": {"data": "/home/someone/data", "runs": "runs"},
    "tracker": {"project": "x"},
    "printed": {"lr": [1, 2]},
}
PREDICTIONS = [
    {"key": f"k{i}", "output": f"text {i}", "gold": "their answer", "references": ["theirs"], "matches": [i, 0], "hyp_len": i}
    for i in range(5)
]
MEASURED = {"scores": {"bleu": 0.25, "nist": None}, "parameters": {"method": 64, "head": 0}, "steps": 6, "dev_losses": [[3, 2.0]]}


def record(status: str, **measured: Any) -> dict[str, Any]:
    where = {"git_sha": "abc", "dirty": False, "device": "cpu", "precision": "fp32", "backbone": {"sha256": "00"}}
    return {"status": status, "measured": {**MEASURED, **measured}, "where": where}


def tracked(tracker: WandbTracker, signature: str, folder: Path) -> Metrics:
    folder.mkdir(exist_ok=True)
    return Metrics(folder / "metrics.jsonl", tracker.start(signature, ASKED, folder))


def settle() -> None:
    """Wait for the mirrors, as a program does at its end, but for as long as it takes."""
    for mirror in list(unfinished):
        assert mirror.join(300)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, list[dict[str, Any]]]]:
    """One process: a run stopped after step 4 and resumed from step 3, and a run that diverges."""
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("CONFIG", "CACHE", "DATA"):  # nothing goes to the home folder
            patch.setenv(f"WANDB_{name}_DIR", str(folder / name.lower()))
        for name in ("WANDB_MODE", "WANDB_API_KEY"):
            patch.delenv(name, raising=False)
        tracker = WandbTracker(predictions=3)
        random.seed(1)
        np.random.seed(1)
        states = random.getstate(), np.random.get_state()[1].tolist()
        with pytest.raises(Preempted), tracked(tracker, "aaaa", folder / "a") as metrics:
            for step in (1, 2, 3, 4):
                metrics.log(step, {"train_loss": 1 / step, "lr": 0.1})
            metrics.log(4, {"dev_loss": 2.0})
            raise Preempted("stopped", 15)
        settle()
        first = next((folder / "a/wandb").glob("offline-run-*"))
        (folder / "a/adapter.safetensors").write_bytes(b"x" * 100)
        (folder / "b").mkdir()
        (folder / "b/adapter.safetensors").write_bytes(b"x" * 100)
        with tracked(tracker, "aaaa", folder / "a") as metrics:
            for step in (3, 4, 5, 6):
                metrics.log(step, {"train_loss": 1 / step, "lr": 0.1})
            metrics.finish(record("finished"), PREDICTIONS)
        small = WandbTracker(adapter_mb=1e-5)
        with tracked(small, "bbbb", folder / "b") as metrics:  # beside the first, which is still being written
            metrics.log(1, {"train_loss": float("nan")})
            metrics.finish(record("diverged", scores={}), [])
        with tracked(small, "cccc", folder / "c") as metrics:
            metrics.log(1, {"train_loss": 1.0})
            metrics.finish(record("collapsed"), PREDICTIONS)
        untrained = record("finished", started_from=["aaaa"])
        del untrained["measured"]["steps"]
        with tracked(small, "dddd", folder / "d") as metrics:
            metrics.finish(untrained, PREDICTIONS)
        settle()
        assert (random.getstate(), np.random.get_state()[1].tolist()) == states
        second = next(path for path in (folder / "a/wandb").glob("offline-run-*") if path != first)
        yield {
            "stopped": inspect(first),
            "resumed": inspect(second),
            "diverged": inspect(next((folder / "b/wandb").glob("offline-run-*"))),
            "collapsed": inspect(next((folder / "c/wandb").glob("offline-run-*"))),
            "untrained": inspect(next((folder / "d/wandb").glob("offline-run-*"))),
        }


def test_a_run_is_found_by_its_signature_group_job_and_tags(runs: dict[str, list[dict[str, Any]]]) -> None:
    (run,) = parts(runs["resumed"], "run")
    assert (run["run_id"], run["run_group"], run["job_type"]) == ("aaaa", "e2e", "train")
    assert run["display_name"] == "lora e2e seed 3" and sorted(run["tags"]) == ["e2e", "lora", "smoke", "tiny"]
    assert run["resume"] is True and run["project"] == "lora_repro"
    assert parts(runs["diverged"], "run")[0]["run_id"] == "bbbb"


def test_the_configuration_is_there_without_paths_or_printed_tables(runs: dict[str, list[dict[str, Any]]]) -> None:
    config = parts(runs["resumed"], "run")[0]["config"]["update"]
    assert config["method"] == ASKED["method"] and config["signature"] == "aaaa" and config["seed"] == 3
    assert config["row"] == {"table": "e2e", "name": "lora", "label": "LoRA"}
    assert not {"paths", "printed", "tracker"} & set(config)
    everything = json.dumps(runs["resumed"])
    for private in ("/home/someone", "their answer", "theirs", "code_path", str(ROOT)):
        assert private not in everything, private


def test_every_step_is_logged_and_a_resumed_run_may_go_back(runs: dict[str, list[dict[str, Any]]]) -> None:
    first = history(runs["stopped"])
    assert first == [*({"step": s, "train/loss": 1 / s, "train/lr": 0.1} for s in (1, 2, 3, 4)), {"step": 4, "eval/loss": 2.0}]
    second = [line for line in history(runs["resumed"]) if "train/loss" in line]
    assert [line["step"] for line in second] == [3, 4, 5, 6]
    steps = {item.get("glob_name") or item.get("name"): item["step_metric"] for item in parts(runs["resumed"], "metric")}
    assert steps == {"*": "step", "eval/loss": "step", "eval/score": "step"}


def test_final_scores_and_status_are_in_the_summary(runs: dict[str, list[dict[str, Any]]]) -> None:
    fields = summary(runs["resumed"])
    assert (fields["scores/bleu"], fields["parameters/method"], fields["status"]) == (0.25, 64, "finished")
    assert fields["where/git_sha"] == "abc" and "scores/nist" not in fields
    assert parts(runs["resumed"], "exit")[0].get("exit_code", 0) == 0


@pytest.mark.parametrize(("name", "status"), [("stopped", "preempted"), ("diverged", "diverged")])
def test_a_run_that_did_not_finish_is_marked_so(
    runs: dict[str, list[dict[str, Any]]], name: str, status: str
) -> None:
    assert summary(runs[name])["status"] == status and parts(runs[name], "exit")[0]["exit_code"] == 1
    assert bool([item for item in runs[name] if item["type"] == "preempting"]) == (status == "preempted")


def test_a_collapsed_run_is_a_result_and_one_without_training_an_evaluation(runs: dict[str, list[dict[str, Any]]]) -> None:
    assert summary(runs["collapsed"])["status"] == "collapsed" and parts(runs["collapsed"], "exit")[0].get("exit_code", 0) == 0
    assert [parts(runs[name], "run")[0]["job_type"] for name in ("collapsed", "untrained")] == ["train", "eval"]
    assert summary(runs["untrained"])["status"] == "finished"  # what it started from is unknown offline, and stops nothing


def test_what_a_run_started_from_is_drawn_to_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    calls: list[str] = []

    class Run:
        summary: ClassVar[dict[str, Any]] = {}

        def use_artifact(self, name: str) -> None:
            calls.append(name)
            if "gone" in name:
                raise ValueError("no such artifact")

        def define_metric(self, *_: Any, **__: Any) -> None: ...

        def finish(self, exit_code: int) -> None:
            calls.append(f"exit {exit_code}")

    monkeypatch.setattr(wandb_run, "begin", lambda *_, **__: Run())
    mirror = wandb_run.WandbRun(WandbTracker(mode="online"), "eeee", ASKED, tmp_path)
    mirror.finish(Ending.of(record("finished", started_from=["gone", "aaaa"]), []))
    assert calls == ["adapter-gone:latest", "adapter-aaaa:latest", "exit 0"]


def test_predictions_and_adapter_are_artifacts(runs: dict[str, list[dict[str, Any]]]) -> None:
    artifacts = {item["type"]: item for item in parts(runs["resumed"], "artifact")}
    assert artifacts["run_table"]["name"] == "run-aaaa-predictions" and artifacts["adapter"]["name"] == "adapter-aaaa"
    (content,) = artifacts["adapter"]["manifest"]["contents"]
    assert content["path"] == "adapter.safetensors" and content["size"] == "100"
    assert content["local_path"].endswith("/a/adapter.safetensors")  # in place, not a copy
    (predictions,) = (line["predictions"] for line in history_whole(runs["resumed"]) if "predictions" in line)
    assert predictions["nrows"] == 3
    assert parts(runs["diverged"], "artifact") == []  # larger than this tracker uploads


def test_the_table_has_key_output_and_numbers_only() -> None:
    columns, rows = table(PREDICTIONS, 2)
    assert columns == ["key", "output", "matches", "hyp_len"]
    assert rows == [["k0", "text 0", "[0, 0]", 0], ["k1", "text 1", "[1, 0]", 1]]
    numeric = [{"key": "k", "output": "4.1", "gold": 5.0, "predicted": 4.1}]
    assert table(numeric, 5)[0] == ["key", "output", "predicted"]  # a number may be the data's own answer too
    assert table([], 5) == (["key", "output"], [])


@pytest.mark.parametrize(
    ("mode", "environment", "expected"),
    [
        (None, {}, "offline"),
        (None, {"WANDB_API_KEY": "k"}, "online"),
        (None, {"WANDB_API_KEY": "k", "WANDB_MODE": "offline"}, "offline"),
        (None, {"WANDB_MODE": "online"}, "online"),
        ("offline", {"WANDB_MODE": "online"}, "offline"),
        (None, {"WANDB_MODE": "disabled"}, "disabled"),
        (None, {"WANDB_MODE": "dryrun"}, "offline"),
    ],
)
def test_the_usual_variables_choose_the_mode(
    mode: str | None, environment: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("WANDB_MODE", "WANDB_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert WandbTracker(mode=mode).mode == expected
    with pytest.raises(UserError, match=r"tracker\.mode"):
        WandbTracker(mode="on")
    monkeypatch.setenv("WANDB_MODE", "bogus")
    with pytest.raises(UserError, match=r"WANDB_MODE must be one of offline, .* not 'bogus'"):
        WandbTracker()
    assert WandbTracker(mode="disabled").mode == "disabled"


def test_the_usual_variables_choose_project_and_entity(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WANDB_PROJECT", "WANDB_ENTITY"):
        monkeypatch.delenv(name, raising=False)
    assert (WandbTracker().project, WandbTracker().entity) == ("lora_repro", None)
    monkeypatch.setenv("WANDB_PROJECT", "theirs")
    monkeypatch.setenv("WANDB_ENTITY", "them")
    config = compose(["tracker=wandb"]).tracker
    assert (tracker := build(config)).project == "theirs" and tracker.entity == "them"
    assert WandbTracker(project="mine").project == "mine"


def test_an_ad_hoc_run_has_a_group_too() -> None:
    """By its method and what differs: a group is one setting at several seeds."""
    config = {**ASKED, "row": {"table": None, "name": "lora", "label": "lora method.rank=8"}}
    description = describe("s", config)
    assert description["group"] == "lora method.rank=8" and description["name"].startswith("lora method.rank=8 ")
    ours = {"name": "x", "source": "folder", "hub_id": "/home/me/secret/roberta"}
    title = "lora backbone.source=folder backbone.hub_id=/home/me/secret/roberta"
    config = {**ASKED, "row": {"table": None, "name": "lora", "label": title}, "backbone": {**ASKED["backbone"], **ours}}
    description = describe("s", config)
    assert "secret" not in str(description) and description["group"].endswith("backbone.hub_id=roberta")
    title, backbone = "lora backbone.hub_id=. train.lr=0.003", {"name": "x", "source": "folder", "hub_id": "."}
    config = {**ASKED, "row": {"table": None, "name": "lora", "label": title}, "backbone": {**ASKED["backbone"], **backbone}}
    assert describe("s", config)["group"] == f"lora backbone.hub_id={Path.cwd().name} train.lr=0.003"


def test_no_folder_of_this_machine_is_shown() -> None:
    place = "/home/me/my secret/QUESTIONS"
    row = {"table": None, "name": "lora", "label": f"lora task.folder={place} task.labels=[~/secret/a/b,{place}]"}
    config = {**ASKED, "row": row, "task": {**ASKED["task"], "folder": place, "about": [f"{place}/x.tsv"],
             "url": "https://a.b/c/d", "uri": f"file://{place}"}}  # fmt: skip
    tokens = {"separator": "</s></s>", "eos": "</s>"}
    description = describe("s", {**config, "backbone": {**ASKED["backbone"], **tokens}})
    assert "secret" not in str(description) and description["group"] == "lora task.folder=QUESTIONS task.labels=[b,QUESTIONS]"
    task, backbone = description["config"]["task"], description["config"]["backbone"]
    assert (task["folder"], task["about"], task["url"]) == ("QUESTIONS", ["x.tsv"], "https://a.b/c/d")
    assert {key: backbone[key] for key in tokens} == tokens and task["uri"] == "QUESTIONS"


def test_no_folder_is_shown_that_was_named_from_where_one_works() -> None:
    """As `--model clients/acme/v3` has it, in whatever way the command line quotes it."""
    model, score = "clients/acme corp/v3", "clients/acme/score.py:own"
    for path in (f"'{model}'", model.replace(" ", r"\ ")):
        row = {"table": None, "name": "lora", "label": f"lora backbone=own backbone.path={path} task.function={score}"}
        ours = {"source": "folder", "path": model, "hub_id": f"/home/me/{model}", "name": "v3"}
        config = {"row": row, "backbone": ASKED["backbone"] | ours, "task": ASKED["task"] | {"function": score}}
        description = describe("s", ASKED | config)
        assert "clients" not in str(description) and "acme" not in str(description)
        assert (description["config"]["backbone"]["path"], description["config"]["task"]["function"]) == ("v3", "score.py:own")
        assert description["group"].replace("'", "") == "lora backbone=own backbone.path=v3 task.function=score.py:own"


def test_a_server_s_password_is_not_said() -> None:
    message = one_line(ValueError("Failed to authenticate with http://u:sekret@127.0.0.1:9: no\nmore"))
    assert message == "Failed to authenticate with http://127.0.0.1:9: no"


PROGRAM = """
import sys
from pathlib import Path
sys.path.insert(0, "tests")
from test_wandb_run import PREDICTIONS, record, tracked
from lora_repro.tracking.background import awaited
from lora_repro.tracking.wandb_run import WandbTracker

@awaited()
def main():
    with tracked(WandbTracker(patience=float(sys.argv[2])), "cccc", Path(sys.argv[1])) as metrics:
        for step in (1, 2, 3):
            metrics.log(step, {"train_loss": 1.0})
        KILL
        metrics.finish(record("finished"), PREDICTIONS)
    sys.exit(7)

main()
"""


def program(folder: Path, patience: float, kill: str = "pass", **environment: str) -> subprocess.CompletedProcess[str]:
    for name in ("CONFIG", "CACHE", "DATA"):
        environment[f"WANDB_{name}_DIR"] = str(folder / name.lower())
    command = [sys.executable, "-c", PROGRAM.replace("KILL", kill), str(folder / "run"), str(patience)]
    variables = {key: value for key, value in os.environ.items() if not key.startswith("WANDB_")}
    process = subprocess.run(
        command, cwd=ROOT, env={**variables, **environment}, capture_output=True, text=True, timeout=400
    )
    steps = [json.loads(line)["step"] for line in (folder / "run/metrics.jsonl").read_text().splitlines()]
    assert process.returncode == 7 and steps == [1, 2, 3] and "Traceback" not in process.stderr, process.stderr
    return process


def test_a_network_that_never_answers_costs_the_patience_and_no_more(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:  # takes connections, never says a word
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        process = program(tmp_path, 3, WANDB_BASE_URL=url, WANDB_API_KEY=40 * "0")
    assert "W&B did not answer" in process.stderr or "this run is kept offline" in process.stderr


def test_online_without_a_key_asks_nothing_and_goes_on_offline(tmp_path: Path) -> None:
    process = program(tmp_path, 120, WANDB_MODE="online", HOME=str(tmp_path))
    assert process.stderr.startswith("W&B is not online (no API key: set WANDB_API_KEY); this run is kept offline in ")
    assert list((tmp_path / "run/wandb").glob("offline-run-*/run-cccc.wandb"))


WAIT_AND_KILL = """
import psutil, time
while not list(Path(sys.argv[1]).glob("wandb/offline-run-*/*.wandb")): time.sleep(0.05)
while not (cores := [c for c in psutil.Process().children() if "wandb-core" in c.name()]): time.sleep(0.05)
cores[0].kill()
"""


def test_a_service_that_is_gone_costs_nothing_but_its_dashboard(tmp_path: Path) -> None:
    kill = "exec(" + repr(WAIT_AND_KILL) + ")"
    process = program(tmp_path, 10, kill, WANDB_MODE="offline")
    assert process.stderr.startswith("W&B ") and process.stderr.count("\n") <= 2  # said once, not at every call

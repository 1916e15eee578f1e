"""What runs leave in Trackio's database, read back with Trackio's own reader. No account, no network.

Trackio reads TRACKIO_DIR when it is imported, so each test writes and reads in a process of its own.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from forked import forked

from lora_repro.config.compose import build, compose
from lora_repro.errors import UserError
from lora_repro.tracking import trackio_run

ROOT = Path(__file__).resolve().parents[1]
PROGRAM = """
import json, random, sys
from pathlib import Path
sys.path.insert(0, "tests")
import numpy as np
from test_wandb_run import PREDICTIONS, record, settle, tracked
from lora_repro.errors import Preempted
from lora_repro.tracking.trackio_run import TrackioTracker

folder = Path(sys.argv[1])
random.seed(1), np.random.seed(1)
drawn = random.getstate(), np.random.get_state()[1].tolist()
tracker = TrackioTracker(predictions=3)
try:
    with tracked(tracker, "aaaa", folder / "a") as metrics:
        for step in (1, 2, 3):
            metrics.log(step, {"train_loss": 1 / step})
        raise Preempted("stopped", 15)
except Preempted:
    settle()
with tracked(tracker, "aaaa", folder / "a") as metrics:
    for step in (3, 4):
        metrics.log(step, {"train_loss": 1 / step})
    metrics.finish(record("finished"), PREDICTIONS)
with tracked(tracker, "bbbb", folder / "b") as metrics:  # beside the first, which is still being written
    metrics.log(1, {"train_loss": float("nan")})
    metrics.finish(record("diverged", scores={}), [])
with tracked(tracker, "cccc", folder / "c") as metrics:  # resumed after its training
    metrics.finish(record("finished"), PREDICTIONS)
settle()
assert (random.getstate(), np.random.get_state()[1].tolist()) == drawn
"""
READER = """
import json, sys, trackio
from trackio.sqlite_storage import SQLiteStorage
found = {run.id: {"name": run.name, "config": run.config, "logs": SQLiteStorage.get_logs("lora_repro", run.name, run_id=run.id)}
         for run in trackio.Api().runs("lora_repro")}
json.dump(found, sys.stdout, default=str)
"""


def python(folder: Path, program: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    defaults = {"PATH": "/usr/bin:/bin", "HOME": str(folder), "TRACKIO_DIR": str(folder / "trackio"), "HF_HUB_OFFLINE": "1"}
    return subprocess.run(
        [sys.executable, "-c", program, *arguments],
        cwd=ROOT, env={**defaults, **environment}, capture_output=True, text=True, timeout=400,
    )  # fmt: skip


def read(folder: Path) -> dict[str, Any]:
    process = python(folder, READER)
    assert process.returncode == 0, process.stderr
    records: dict[str, Any] = json.loads(process.stdout)
    return records


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A run stopped after step 3 and resumed from it, and beside it a run that diverges."""
    folder = tmp_path_factory.mktemp("runs")
    process = python(folder, PROGRAM, str(folder))
    assert process.returncode == 0, process.stderr
    assert process.stdout == ""  # it belongs to the tables
    return read(folder)


def test_a_run_is_one_run_of_its_signature_however_often_it_was_resumed(runs: dict[str, Any]) -> None:
    assert set(runs) == {"aaaa", "bbbb", "cccc"} and runs["aaaa"]["name"] == "lora e2e seed 3"
    config = runs["aaaa"]["config"]
    assert config["_Group"] == "e2e" and sorted(config["tags"]) == ["e2e", "lora", "smoke", "tiny"]
    assert config["method"]["rank"] == 4 and not {"paths", "printed", "tracker"} & set(config)


def test_every_step_the_status_and_the_final_scores_are_there(runs: dict[str, Any]) -> None:
    logs = runs["aaaa"]["logs"]
    assert sorted(line["step"] for line in logs if "train/loss" in line) == [1, 2, 3, 3, 4]
    assert [line["status"] for line in logs if "status" in line] == ["preempted", "finished"]
    (final,) = [line for line in logs if "scores/bleu" in line]
    assert final["step"] == 4 and final["scores/bleu"] == 0.25
    assert runs["bbbb"]["logs"][-1]["status"] == "diverged"
    assert [line["step"] for line in runs["cccc"]["logs"] if "scores/bleu" in line] == [6]


def test_predictions_are_a_table_without_the_datas_own_texts(runs: dict[str, Any]) -> None:
    (table,) = [line["predictions"]["_value"] for line in runs["aaaa"]["logs"] if "predictions" in line]
    assert table[0] == {"key": "k0", "output": "text 0", "matches": "[0, 0]", "hyp_len": 0} and len(table) == 3
    everything = json.dumps(runs)
    for private in ("/home/someone", "their answer", "theirs", str(ROOT)):
        assert private not in everything, private


def test_a_real_run_is_the_same_with_it(tmp_path: Path) -> None:
    overrides = ["profile=smoke", "method=lora", "task=sentiment", "seed=0"]
    outputs = {}
    assert "trackio" not in sys.modules
    for tracker in ("none", "trackio"):
        command = ["lora_repro.run", *overrides, f"paths.runs={tmp_path / tracker}", f"tracker={tracker}"]
        process = forked(command, ROOT, tmp_path, TRACKIO_DIR=str(tmp_path / "trackio"), HOME=str(tmp_path))
        assert process.returncode == 0, process.stderr
        (record,) = (tmp_path / tracker / "smoke").glob("*/record.json")
        outputs[tracker] = json.loads(record.read_text())
    one, other = outputs["none"], outputs["trackio"]
    assert one["signature"] == other["signature"] and one["measured"]["scores"] == other["measured"]["scores"]
    run = read(tmp_path)[one["signature"]]
    assert run["logs"][-1]["scores/accuracy"] == one["measured"]["scores"]["accuracy"]


def test_a_broken_installation_costs_nothing_but_the_dashboard(tmp_path: Path) -> None:
    broken = 'import sys\nsys.modules["trackio.run"] = None\n' + PROGRAM
    process = python(tmp_path, broken, str(tmp_path))
    assert process.returncode == 0 and "Trackio did not start" in process.stderr, process.stderr
    steps = [json.loads(line)["step"] for line in (tmp_path / "a/metrics.jsonl").read_text().splitlines()]
    assert steps == [1, 2, 3, 4]


def test_without_the_extra_it_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    node = compose(["tracker=trackio"]).tracker
    assert build(node).project == "lora_repro"
    monkeypatch.setattr(trackio_run.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install .*\[trackio\]"):
        build(node)

"""results/README.md: what was run, with how many seeds and at whose rates, and what it cost."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from lora_repro.files import sealed
from lora_repro.report import render, show
from lora_repro.results import declared_cells

ROOT = Path(__file__).resolve().parents[1]


def test_hours_are_the_sums_of_records_measurements_and_trials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(show, "names", lambda: ["dart", "glue", "latency"])
    monkeypatch.setattr(render, "declared_cells", lambda name, profile: [])  # which are composed for minutes
    folder = tmp_path / "mini"
    (folder / "measures").mkdir(parents=True)
    for kind, count in (("records", 2), ("trials", 1)):
        (folder / kind).mkdir()
        for path in sorted((ROOT / "results" / "mini" / kind).glob("*.json"))[:count]:
            shutil.copy(path, folder / kind)
    runs = [(path, json.loads(path.read_text())) for path in sorted((folder / "records").glob("*.json"))]
    for (path, run), (status, seconds) in zip(runs, (("finished", 3600), ("diverged", 1800)), strict=True):
        run["row"]["table"], run["status"], run["measured"]["wall_seconds"] = "glue", status, seconds
        path.write_text(json.dumps(sealed(run)))
    (path,) = (folder / "trials").glob("*.json")
    search = json.loads(path.read_text())
    search["row"]["table"] = "glue"
    trials = [trial for one in search["searches"] for trial in one["trials"]]
    for trial in trials:
        trial["train_seconds"], trial["status"] = 7200 / len(trials), "finished"
    trials[0]["status"] = "diverged"
    more = [{**trial, "signature": f"more{trial['signature']}", "train_seconds": 3600} for trial in trials[1:3]]
    search["searches"].append({"seeds": 2, "trials": [*trials, *more]})  # the first seed's trials are those of the search before
    path.write_text(json.dumps(search))
    (folder / "measures" / "latency.json").write_text(json.dumps({"where": {"wall_seconds": 360}}))
    removals = tmp_path / "pruned.yaml"
    once = "{why: it was wrong, runs: 10, failed: {diverged: 1, collapsed: 2}, hours: 4.0, trials: 5, trial_hours: 1.0}"
    removals.write_text(f"laptop: {once}\n")

    lines = render.page(tmp_path, removals).splitlines()

    (glue,) = (line for line in lines if line.startswith("| mini | glue |"))
    assert glue.endswith(f" | 2 | 1 diverged | 1.5 | {len(trials) + 2} | 1 diverged | 4.0 |")
    assert "| mini | latency | measured | — | — | 1 | — | 0.1 | — | — | — |" in lines
    assert "| laptop | *no longer published* | — | — | — | 10 | 2 collapsed, 1 diverged | 4.0 | 5 | — | 1.0 |" in lines
    every = f"| **all** |  |  |  |  | 13 | 2 collapsed, 2 diverged | 5.6 | {len(trials) + 7} | 1 diverged | 5.0 |"
    assert every in lines and any("docs/results.md)). At laptop: it was wrong." in line for line in lines)
    assert "- Not run at mini: dart." in lines


def test_a_run_outside_any_table_has_a_line_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(show, "names", lambda: [])
    (tmp_path / "mini" / "records").mkdir(parents=True)
    path = next((ROOT / "results" / "mini" / "records").glob("*.json"))
    run = json.loads(path.read_text())
    run["row"]["table"], run["status"], run["measured"]["wall_seconds"] = None, "finished", 3600
    (tmp_path / "mini" / "records" / path.name).write_text(json.dumps(sealed(run)))
    lines = render.page(tmp_path).splitlines()
    assert "| mini | *outside any table* | — | — | — | 1 | — | 1.0 | — | — | — |" in lines


def test_places_are_counted_once_and_seeds_and_rates_told(unsearched: Path) -> None:
    cells = declared_cells("params_vs_quality", "smoke")
    full = next(cell for cell in cells if cell.row.name == "full")
    lora = [cell for cell in cells if cell.row.name == "lora" and cell.seed < 2]
    assert render.covered(cells, set()) == ("0 of 13", "—", "—")
    assert render.covered(cells, {full.signature}) == ("1 of 13", "1", "0 of 1")  # one run at whatever size
    assert render.covered(cells, {full.signature, *(cell.signature for cell in lora)}) == ("3 of 13", "1-2", "0 of 3")

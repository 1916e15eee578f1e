"""A plan lists what would run, finds what is here, prefers published times, and writes nothing."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import plant_record
from planted import note

from lora_repro.commands import plan as plan_command
from lora_repro.config.paths import CONF
from lora_repro.costs import detectable, hardware, plan
from lora_repro.errors import UserError
from lora_repro.files import write_text
from lora_repro.planning.cells import cells

SMOKE = ["experiment=e2e", "row/e2e=lora,full", "profile=smoke"]


@pytest.fixture(autouse=True)
def _no_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every timed step takes a millisecond."""
    monkeypatch.setattr(hardware, "_known", {})
    monkeypatch.setattr(hardware, "load_or_make", lambda asked, make, *_: make())  # what is measured here is no machine's speed
    monkeypatch.setattr(hardware, "_time", lambda step, device: 1e-3)


def record(folder: Path, signature: str, status: str = "finished", **changes: Any) -> None:
    content = {"schema": 1, "signature": signature, "status": status, "asked": {}, **changes}
    plant_record(folder / "record.json", content)


def test_a_line_a_run_with_what_is_here_and_nothing_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [*SMOKE, f"paths.runs={tmp_path}/runs"]
    folders = {cell.row.name: cell.folder for cell in cells(arguments)}
    assert plan_command.main(arguments) == 0
    output = capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []
    lines = {line.split()[0]: line.split() for line in output.splitlines() if line.startswith(("lora ", "full "))}
    assert lines["lora"][:6] == ["lora", "e2e", "0", "random_llama", "no", "896"]
    (line, *_) = (line for line in plan.plan_runs(cells(arguments)) if line.cell.row.name == "lora")
    assert lines["lora"][6] == f"{line.forecast.tokens:,}" and line.forecast.tokens > 1000
    assert lines["full"][5] == "26,816" and "2 runs, 0 here already" in output and "downloads: none" in output

    record(folders["lora"], folders["lora"].name)
    (folders["full"] / "checkpoints").mkdir(parents=True)
    assert plan_command.main(arguments) == 0
    output = capsys.readouterr().out
    assert " yes " in output and " begun " in output and "2 runs, 1 here already" in output and "to run: 1," in output


def test_a_published_time_of_the_same_device_is_preferred() -> None:
    (cell,) = cells(["experiment=e2e", "row/e2e=lora", "profile=smoke"])
    (line,) = plan.plan_runs([cell])
    assert line.how == "estimated" and line.seconds == line.forecast.seconds
    reference = {"where": {"device": "Some CPU, 2 threads"}, "measured": {"wall_seconds": 12.5}}
    assert plan._time(line.forecast, reference, "Some CPU, 2 threads") == (12.5, "published")
    for other in ("Some CPU, 4 threads", "Other CPU, 2 threads", "NVIDIA H100"):
        assert plan._time(line.forecast, reference, other) == (line.forecast.seconds, "estimated")


def test_published_records_are_found_by_signature(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = cells(["experiment=e2e", "row/e2e=lora", "profile=smoke", "seed=0,1"])
    records = {runs[0].signature: {"where": {"device": "Some CPU"}, "measured": {"wall_seconds": 12.5}}}
    monkeypatch.setattr(plan, "published_records", lambda profile: records)
    monkeypatch.setattr(plan, "device_name", lambda here: "Some CPU")
    assert [line.how for line in plan.plan_runs(runs)] == ["published", "estimated"]


def test_the_paper_s_scale_is_planned_without_weights_or_data(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # A block of this size would take seconds to time.
    monkeypatch.setattr("lora_repro.costs.forecast.speed", lambda *a: hardware.Speed(1e13, 1e12))
    arguments = ["experiment=e2e", "row/e2e=lora", "profile=paper", "backbone=gpt2_medium", "seed=0"]
    assert plan_command.main(arguments) == 0
    output = capsys.readouterr().out
    assert "393,216" in output and "*" in output
    assert "gpt2_medium (hub openai-community/gpt2-medium, about 1.4 GB as float32)" in output
    tokens = 5 * 42061 * 77
    line = next(line for line in output.splitlines() if line.startswith("lora "))
    assert int(line.split()[6].rstrip("*").replace(",", "")) == pytest.approx(tokens, rel=0.01)


@pytest.mark.parametrize("experiment", ["fusion", "intrinsic_dimension", "rivals"])
def test_what_has_no_single_task_or_moves_every_weight_is_planned(experiment: str, capsys: pytest.CaptureFixture[str]) -> None:
    # A mixture of tasks has the data of its members; a parametrised weight computes on the meta device, too.
    assert plan_command.main([f"experiment={experiment}", "profile=smoke"]) == 0
    assert "to run:" in capsys.readouterr().out


def test_qlora_is_planned_with_its_weights_in_four_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lora_repro.costs.forecast.speed", lambda *a: hardware.Speed(1e13, 1e12))
    words = ["experiment=qlora", "row/qlora=lora_all,qlora_all", "profile=paper", "backbone=gpt2_medium", "train.precision=fp32"]
    costs = {line.cell.row.name: line.forecast for line in plan.plan_runs(cells(words))}
    savings = 24 * 12 * 1024**2 * (32 - 4.127) / 8  # the matrices of the blocks, in bits beside float32's
    assert costs["lora_all"].memory - costs["qlora_all"].memory == pytest.approx(savings, rel=1e-3)
    assert costs["lora_all"].total == costs["qlora_all"].total and costs["lora_all"].trained == costs["qlora_all"].trained


def test_seeds_share_a_forecast(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    original = plan.forecast
    monkeypatch.setattr(plan, "forecast", lambda *a: calls.append(a) or original(*a))
    assert len(plan.plan_runs(cells(["-m", "method=lora", "seed=0,1,2", "profile=smoke"]))) == 3 and len(calls) == 1


def test_on_a_narrow_terminal_what_is_the_same_for_all_is_said_once(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = plan.plan_runs(cells(["experiment=e2e", "profile=smoke"]))
    table = plan.table(lines)
    assert max(map(len, table.splitlines())) > 80 and "all: " not in table
    monkeypatch.setenv("COLUMNS", "80")
    narrow = plan.table(lines)
    assert max(map(len, narrow.splitlines())) <= 80 and "all: task e2e, seed 0" in narrow
    assert len(narrow.splitlines()) == len(table.splitlines()) + 1


def test_mistakes_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert plan_command.main(["experiment=e2e", "row/e2e=lroa"]) == 2
    assert "lroa" in (message := capsys.readouterr().err) and message.count("\n") == 1
    assert plan_command.main(["experiment=latency", "profile=smoke"]) == 2
    assert "trains nothing" in capsys.readouterr().err
    with pytest.raises(UserError, match="no such folder"):
        plan.plan_runs(cells(["experiment=e2e", "row/e2e=lora", "profile=laptop", "paths.data=/nowhere"]))
    for task in ("sentiment", "e2e"):  # neither a number nor pairs of sentences
        assert plan_command.main(["method=cosine", f"task={task}"]) == 2
        assert "method=cosine" in (message := capsys.readouterr().err) and message.count("\n") == 1


def test_several_processes_a_run_are_said_not_to_be_counted_in(tmp_path: Path) -> None:
    arguments = ["experiment=e2e", "row/e2e=lora", "profile=smoke", f"paths.runs={tmp_path}"]
    two = plan.totals(plan.plan_runs(cells([*arguments, "launch.processes=2"])))
    assert any("for one process; launch.processes=2 would share" in text for text in two)
    assert not any("for one process" in text for text in plan.totals(plan.plan_runs(cells(arguments))))


def test_what_does_not_fit_the_disk_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = plan.plan_runs(cells(["experiment=e2e", "row/e2e=lora", "profile=smoke", f"paths.runs={tmp_path}"]))
    assert not any("the disk is too small" in text for text in plan.totals(lines))
    free = plan.shutil.disk_usage(".")._replace(free=lines[0].forecast.kept + 1)  # what stays would fit
    monkeypatch.setattr(plan.shutil, "disk_usage", lambda place: free)
    assert any("the disk is too small" in text for text in plan.totals(lines))


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (47, "47 s"), (720, "12 min"), (3 * 3600 + 1440, "3.4 h"), (12 * 86400, "12 d")]
)
def test_times_are_short(seconds: float, text: str) -> None:
    assert plan.clock(seconds) == text


@pytest.mark.parametrize(("n", "text"), [(7, "7 B"), (3584, "4 kB"), (999_600, "1 MB"), (1.42e9, "1.4 GB"), (3e11, "300 GB")])
def test_sizes_are_short(n: float, text: str) -> None:
    assert plan.size(n) == text


def test_a_plan_says_what_its_searches_cost_and_which_differences_it_could_show(
    tmp_path: Path, unsearched: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(detectable, "noise", lambda task, profile: detectable.Noise("mini", 2.3, 52))
    words = ["experiment=glue", "row/glue=full,lora", "profile=laptop", "task=rte", "tune.length=0.333", f"paths.runs={tmp_path}"]
    lines = plan.plan_runs(cells([*words, "seed=0,1,2"]))
    totals = plan.totals(lines)
    (search,) = [text for text in totals if text.startswith("learning rates not searched: ")]
    assert search.startswith("learning rates not searched: 2; 3 to 7 trials each of 0.33 of a training add ")
    once = {line.cell.row.name: line.forecast.train_seconds for line in lines}
    assert f"{plan.clock(3 * 0.333 * sum(once.values()))} to " in search
    assert all(0 < line.forecast.train_seconds < line.forecast.seconds for line in lines)
    (least,) = [text for text in totals if text.startswith("smallest detectable difference of two rows on rte")]
    # 2.8016 sqrt(2 (2.7764 / 1.96 * 2.3)² / 3 + 52² / 277), and with one seed that of the inputs alone
    assert least.endswith(": 11.5 points with 3 seeds, by the runs published at mini")
    (one,) = plan.differences(plan.plan_runs(cells([*words, "seed=0"])))
    assert f": {2.8016 * 52 / 277**0.5:.1f} points with 1 seed (test inputs alone)" in one


def test_more_seeds_and_inputs_show_smaller_differences() -> None:
    noise = detectable.Noise("mini", 2.3, 52)
    differences = [detectable.points(noise, seeds, inputs) for seeds, inputs in ((3, 277), (5, 277), (5, 5000))]
    assert differences == sorted(differences, reverse=True)  # type: ignore[type-var]
    of_inputs = detectable.Noise("mini", None, 52)
    assert detectable.points(of_inputs, 1, 277) == detectable.points(noise, 1, 277)
    assert detectable.points(of_inputs, 3, 277) is None
    assert detectable.points(None, 3, 277) is None and detectable.points(noise, 3, 0) is None


def publish(folder: Path, name: str, task: str, rates: dict[float, list[int]]) -> None:
    """results/<name>/ with a run a seed: learning rate -> right answers of 40 of each seed; -1: it diverged."""
    for rate, counts in rates.items():
        for seed, right in enumerate(counts):
            signature = f"{task}-{rate}-{seed}"
            task_config = {"name": task, "metrics": ["accuracy"]}
            config = {"task": task_config, "seed": seed, "train": {"lr": rate}, "starts_from": f"x{seed}"}
            status, scores = ("diverged", None) if right < 0 else ("finished", {"accuracy": right / 40})
            content = {"signature": signature, "status": status, "asked": config, "measured": {"scores": scores}}
            plant_record(folder / name / "records" / f"{signature}.json", {"schema": 1, **content})
            lines = [json.dumps({"key": str(i), "correct": float(i < right)}) + "\n" for i in range(40) if right >= 0]
            write_text(folder / name / "predictions" / f"{signature}.jsonl", "".join(lines))


def test_the_noise_of_a_task_is_that_of_its_published_runs(tmp_path: Path) -> None:
    publish(tmp_path, "mini", "a", {1.0: [20, 24], 2.0: [30, 30, 36]})
    publish(tmp_path, "laptop", "a", {1.0: [20, 28], 2.0: [20, -1]})
    publish(tmp_path, "laptop", "b", {1.0: [20], 2.0: [30]})
    publish(tmp_path, "laptop", "c", {1.0: [20, 24]})
    note(tmp_path)
    noise = detectable.noise("a", "mini", tmp_path)
    # sample variances in points: 50 of two seeds, 75 of three
    assert noise and noise.profile == "mini" and noise.seed == pytest.approx(((50 + 2 * 75) / 3) ** 0.5)
    assert noise.input == pytest.approx(100 * (0.25 * 0.75) ** 0.5, rel=0.15)  # ten of forty inputs differ
    paper = detectable.noise("a", "paper", tmp_path)  # which has none of its own; a diverged run has the worst score
    assert paper and paper.profile == "laptop" and paper.seed == pytest.approx(((20**2 + 50**2) / 2 / 2) ** 0.5)
    single = detectable.noise("b", "laptop", tmp_path)
    assert single and single.seed is None and single.input == pytest.approx(noise.input)
    assert detectable.noise("c", "laptop", tmp_path) is detectable.noise("d", "laptop", tmp_path) is None  # no two rows; no run
    assert detectable.noise("a", "mini", tmp_path / "none") is None


@pytest.mark.parametrize("task", sorted(path.stem for path in (CONF / "task").glob("*.yaml")))
def test_of_every_task_a_plan_says_what_it_could_show_or_that_nobody_knows(task: str) -> None:
    fields = {"task": task, "asked": {"profile_name": "laptop"}}
    two = [SimpleNamespace(seed=seed, row=SimpleNamespace(name=row), **fields) for row in ("full", "lora") for seed in range(3)]
    lines: Any = [SimpleNamespace(cell=cell, forecast=SimpleNamespace(test_rows=250)) for cell in two]
    (sentence,) = plan.differences(lines)
    noise = detectable.noise(task, "laptop")
    phrase = f"points with 3 seeds, by the runs published at {noise.profile}" if noise and noise.seed else "unknown, too few"
    assert sentence.startswith(f"smallest detectable difference of two rows on {task}: ") and phrase in sentence

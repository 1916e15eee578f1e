"""A sweep as commands for another engine: the same runs, each by a line that composes it."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from lora_repro.commands import run
from lora_repro.config.compose import compose
from lora_repro.errors import UserError
from lora_repro.planning.cells import cell_of, cells, unique
from lora_repro.sweep import emit

GRID = ["profile=smoke", "task=sentiment", "method=lora,bitfit", "seed=0,1"]


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert run.started(list(arguments)) == 0
    return capsys.readouterr().out


def test_a_line_composes_the_run_it_stands_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = f"paths.runs={tmp_path}/some where"
    lines = told(capsys, "--emit=lines", "-m", *GRID, runs).splitlines()
    commands = [shlex.split(line) for line in lines]
    assert all(words[:3] == ["python", "-m", "lora_repro.run"] and words[-1] == "hydra.mode=RUN" for words in commands)
    names = [cell_of(compose(words[3:-1]), words[3:-1]).signature for words in commands]
    assert names == [cell.signature for cell in unique(cells([*GRID, runs]))]


@pytest.mark.parametrize("form", emit.FORMS)
def test_a_command_finds_the_user_s_own_files_and_classes(
    form: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LORA_REPRO_CONFIG_DIR", str(tmp_path))
    monkeypatch.setenv("LORA_REPRO_TRUST", "mine,yours")
    text = told(capsys, "--emit", form, *GRID, f"paths.runs={tmp_path}")
    words = yaml.safe_load(text)["command"] if form == "wandb" else text.split()
    at = words.index("lora_repro.run")
    assert words[at + 1 : at + 5] == ["--config-dir", str(tmp_path), "--trust", "mine,yours"]


def test_starts_come_first_and_once(capsys: pytest.CaptureFixture[str]) -> None:
    overrides = ["experiment=glue", "profile=paper", "row/glue=lora", "backbone=roberta_base", "seed=0", "task=rte,mrpc,mnli"]
    lines = told(capsys, "--emit", "lines", *overrides).splitlines()
    assert len(lines) == 3 and "task=mnli" in lines[0]


def test_a_sweep_of_w_and_b_is_the_grid_of_an_experiment(capsys: pytest.CaptureFixture[str]) -> None:
    sweep = yaml.safe_load(told(capsys, "--emit", "wandb", "experiment=e2e", "profile=smoke", "row/e2e=lora,full", "seed=0,1"))
    assert sweep["method"] == "grid" and sweep["metric"] == {"name": "scores/bleu", "goal": "maximize"}
    assert sweep["parameters"] == {"row/e2e": {"values": ["lora", "full"]}, "seed": {"values": ["0", "1"]}}
    command = sweep["command"]
    assert command[:4] == ["${env}", "python", "-m", "lora_repro.run"] and command[-1] == "${args_no_hyphens}"
    assert {"experiment=e2e", "profile=smoke", "tracker=wandb", "hydra.mode=RUN"} <= set(command[4:-1])
    words = [item for item in command[4:-1] if not item.startswith(("tracker", "hydra"))]
    point = [f"{key}={one['values'][0]}" for key, one in sweep["parameters"].items()]
    names = [cell.signature for cell in cells(["experiment=e2e", "profile=smoke", "row/e2e=lora,full", "seed=0,1"])]
    assert cell_of(compose([*words, *point]), [*words, *point]).signature in names


@pytest.mark.parametrize("form", emit.FORMS)
def test_seeds_that_no_row_has_are_nothing_to_run(form: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run.started(["--emit", form, "profile=smoke", "task=sentiment", "method=lora", "seed=9999"]) == 2
    assert "nothing to run: no row has these seeds" in capsys.readouterr().err


@pytest.mark.parametrize("given", [["--emit", "foo"], ["--emit=", "foo"], ["--emit"]])
def test_an_unknown_form_is_one_line_that_names_the_known(given: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run.started([*GRID, *given]) == 2
    message = "--emit needs one of lines, slurm-array, sky, wandb; see lora-repro run --help"
    assert capsys.readouterr() == ("", f"error: {message}\n")


def test_seeds_that_not_every_row_has_are_left_out_of_a_grid_and_no_grid_is_said() -> None:
    class Point(NamedTuple):
        overrides: tuple[str, ...]
        score: str = "bleu"

    def points(*wanted: str) -> Any:
        return [Point(tuple(item.split())) for item in wanted]

    text = emit.wandb_sweep(points("a=1 seed=0", "a=1 seed=1", "a=2 seed=0"))
    assert yaml.safe_load(text)["parameters"] == {"a": {"values": ["1", "2"]}, "seed": {"values": ["0"]}}
    with pytest.raises(UserError, match="a W&B sweep is a grid, and"):
        emit.wandb_sweep(points("a=1 b=1 seed=0", "a=2 b=2 seed=0"))
    with pytest.raises(UserError, match="a W&B sweep is a grid, and"):
        emit.wandb_sweep(points("a=1 seed=0", "b=1 seed=0"))


@pytest.mark.parametrize("form", ["slurm-array", "sky"])
def test_other_engines_get_whole_scripts(form: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    text = told(capsys, "--emit", form, *GRID)
    if form == "sky":
        task = yaml.safe_load(text)
        assert task["run"].count("lora_repro.run") == 4
        assert task["workdir"] == "." and task["resources"]["accelerators"] == "A100:1"
        return
    assert "--array=0-3 " in text
    path = tmp_path / "python"
    path.write_text('#!/bin/sh\necho "$@"\n')
    path.chmod(0o755)
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("no bash on this machine")
    environment = {"PATH": str(tmp_path), "SLURM_ARRAY_TASK_ID": "2", "SLURM_ARRAY_JOB_ID": "7"}
    process = subprocess.run([bash, "-c", text], env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    expected = emit.line(unique(cells(GRID))[2]).removeprefix("python ")
    assert process.stdout.strip() == " ".join(shlex.split(expected)), process.stderr
    # A run that is told to stop writes its checkpoint and leaves with 75: the task is queued again. Any other status is its own.
    (tmp_path / "scontrol").write_text('#!/bin/sh\necho "$@"\n')
    (tmp_path / "scontrol").chmod(0o755)
    sleep = shutil.which("sleep")
    for status, output in ((75, "requeue 7_2"), (3, "")):
        waits = f"while [ -z $stop ] && [ $i -lt 400 ]; do {sleep} 0.05; i=$((i+1)); done"  # and never for ever
        path.write_text(f"#!/bin/sh\ni=0\ntrap 'stop=1' TERM\necho up\n{waits}\nexit ${{stop:+{status}}}\n")
        with subprocess.Popen([bash, "-c", text], env=environment, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as task:
            assert task.stdout is not None and task.stdout.readline() == "up\n"
            task.terminate()
            assert task.stdout.read().strip() == output
        assert task.returncode == (0 if output else status)

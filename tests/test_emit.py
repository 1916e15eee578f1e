"""A sweep as commands for another engine: the same runs, each by a line that composes it."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from lora_repro.cells import cell_of, cells, unique
from lora_repro.config.compose import compose
from lora_repro.sweep import emit

GRID = ["profile=smoke", "task=sentiment", "method=lora,bitfit", "seed=0,1"]


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert emit.main(list(arguments)) == 0
    return capsys.readouterr().out


def test_a_line_composes_the_run_it_stands_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = f"paths.runs={tmp_path}/some where"
    lines = told(capsys, "-m", *GRID, runs).splitlines()
    found = [shlex.split(line) for line in lines]
    assert all(words[:3] == ["python", "-m", "lora_repro.run"] and words[-1] == "hydra.mode=RUN" for words in found)
    names = [cell_of(compose(words[3:-1]), words[3:-1]).signature for words in found]
    assert names == [cell.signature for cell in unique(cells([*GRID, runs]))]


def test_starts_come_first_and_once(capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["experiment=glue", "profile=paper", "row/glue=lora", "backbone=roberta_base", "seed=0", "task=rte,mrpc,mnli"]
    lines = told(capsys, *asked).splitlines()
    assert len(lines) == 3 and "task=mnli" in lines[0]


@pytest.mark.parametrize("form", ["slurm-array", "sky"])
def test_other_engines_get_whole_scripts(form: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    text = told(capsys, "--emit", form, *GRID)
    if form == "sky":
        task = yaml.safe_load(text)
        assert task["run"].count("lora_repro.run") == 4 and task["resources"]["accelerators"] == "A100:1"
        return
    assert "--array=0-3 " in text
    path = tmp_path / "python"
    path.write_text('#!/bin/sh\necho "$@"\n')
    path.chmod(0o755)
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("no bash on this machine")
    there = {"PATH": str(tmp_path), "SLURM_ARRAY_TASK_ID": "2"}
    done = subprocess.run([bash, "-c", text], env=there, capture_output=True, text=True, check=False)
    expected = emit.line(unique(cells(GRID))[2]).removeprefix("python ")
    assert done.stdout.strip() == " ".join(shlex.split(expected)), done.stderr

"""The Makefile: what `make help` lists, and which commands a target would run (`make -n` runs none of them)."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from lora_repro.planning.cells import cells
from lora_repro.results import published_records

ROOT = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="no make on this machine")


OUTER = ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "PROFILE", "DATA", "ARGS")


@pytest.fixture(autouse=True)
def no_outer_make(monkeypatch: pytest.MonkeyPatch) -> None:
    """Inside `make test` the outer make's variables, flags and depth would leak into that of a test."""
    for name in OUTER:
        monkeypatch.delenv(name, raising=False)


def make(*arguments: str, folder: Path = ROOT, stdin: str = "") -> subprocess.CompletedProcess[str]:
    command = ["make", "--no-print-directory", *arguments]
    return subprocess.run(command, cwd=folder, input=stdin, capture_output=True, text=True, check=False)


def commands(*arguments: str) -> list[str]:
    process = make("-n", *arguments)
    assert process.returncode == 0, process.stderr
    return process.stdout.splitlines()


def test_help_lists_every_public_target() -> None:
    output = make().stdout
    assert output == make("help").stdout
    words = "setup fetch test lint type reproduce-% publish tables claims render dashboard clean report"
    for target in words.split():
        assert f"make {target} " in output
    assert max(map(len, output.splitlines())) <= 80


def test_a_cache_that_make_cannot_name_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LORA_REPRO_CACHE", "/my cache")
    process = make("help")
    assert process.returncode == 2 and "LORA_REPRO_CACHE=/my cache has a space" in process.stderr


def test_what_tells_reproduced_from_not_run_is_not_make() -> None:
    """GNU make exits 2 whatever its recipe exits with, which verify's 1 and 2 would both become."""
    assert "(exit status: lora-repro verify)" in " ".join(make("help").stdout.split())
    assert make("-f", "-", "x", stdin="x:\n\t@exit 1\n").returncode == 2
    command = commands("verify", "EXPERIMENT=low-data")[-1].rstrip()
    assert command.endswith("-m lora_repro verify experiment=low_data profile=mini")


def test_an_image_that_forbids_byte_code_does_not_slow_every_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    rule = "said:\n\t@$(PYTHON) -c 'import sys; print(sys.dont_write_bytecode)'\n"
    process = make("-f", "Makefile", "-f", "-", "said", stdin=rule)
    assert process.stdout.strip() == "False", process.stderr


def test_reproduce_is_one_command_that_prints_its_table_itself() -> None:
    lines = [line for line in commands("reproduce-e2e") if "-m lora_repro" in line and " fetch " not in line]
    calls = [line.partition(" -m ")[2].partition("||")[0].strip() for line in lines]
    assert calls == ["lora_repro.run experiment=e2e profile=mini"]
    assert "experiment=e2e profile=mini all".split() == commands("reproduce-e2e", "ARGS=all")[-1].split()[6:9]


def test_the_first_command_is_one_task_with_seeds() -> None:
    """Every run of it is published, so that the time it announces is known."""
    overrides = commands("try")[-1].partition(" -m lora_repro.run ")[2].partition("||")[0].split()
    runs = cells(overrides)
    assert len(runs) == 15 and {cell.seed for cell in runs} == {0, 1, 2} and len({cell.row.name for cell in runs}) == 5
    assert {cell.signature for cell in runs} <= {*published_records("mini")}


@pytest.mark.parametrize(("ends", "status", "said"), [(130, -signal.SIGINT, ""), (3, 2, "Error 3"), (0, 0, "")])
def test_ctrl_c_ends_make_without_a_line_of_its_own(ends: int, status: int, said: str, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    wait = "try:\n    print('begun', flush=True)\n    time.sleep(60)\nexcept KeyboardInterrupt:\n    pass\n"
    wait = wait if ends == 130 else "print('begun', flush=True)\n"
    program.write_text(f"import sys, time\n{wait}sys.exit({ends})\n")
    rule = f"said:\n\t@$(STOPPABLE) {sys.executable} {program} $(UNLESS_STOPPED)\n"
    command = ["make", "-f", "Makefile", "-f", "-", "said"]
    heard = partial(signal.signal, signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
    with subprocess.Popen(
        command, cwd=ROOT, text=True, stdin=-1, stdout=-1, stderr=-1, start_new_session=True, preexec_fn=heard
    ) as process:
        assert process.stdin and process.stdout and process.stderr
        process.stdin.write(rule)
        process.stdin.close()
        assert process.stdout.readline() == "begun\n"
        if ends == 130:
            os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        error = process.stderr.read()
    assert process.returncode == status and (said in error if said else not error)


def test_reproduce_passes_profile_data_and_arguments() -> None:
    lines = commands("reproduce-e2e", "PROFILE=laptop", "DATA=/some where/e2e", "ARGS=row/e2e=lora seed=0")
    run = next(line for line in lines if "lora_repro.run" in line)
    assert """profile=laptop "paths.data='/some where/e2e'" row/e2e=lora seed=0""" in run


def test_a_backbone_is_fetched_by_name() -> None:
    assert commands("fetch", "BACKBONE=mpnet_base")[-1].endswith("-m lora_repro fetch mpnet_base")


def test_the_dashboard_is_that_of_the_profile() -> None:
    assert commands("dashboard", "PROFILE=laptop")[-1].endswith("-m lora_repro dashboard profile=laptop")


def test_the_authors_adapter_is_analysed_from_a_path_with_spaces() -> None:
    """The explicit target wins over reproduce-%, which would train."""
    (line,) = commands("reproduce-authors-subspace", "ADAPTER=/some where/a.bin")[-1:]
    assert line.endswith('-m lora_repro subspace "/some where/a.bin" --base roberta_base --to results/authors')


def test_a_report_with_data_names_its_profile() -> None:
    assert commands("report")[-1].split()[1:] == ["-m", "lora_repro", "render", "report"]
    with_data = commands("report", "PROFILE=laptop", "DATA=/some where/e2e")[-1]
    assert with_data.endswith("""-m lora_repro render report profile=laptop "paths.data='/some where/e2e'\"""")


def test_costs_are_measured_then_shown_with_the_same_arguments() -> None:
    lines = commands("reproduce-latency", "PROFILE=laptop", "ARGS=device=cpu bench.rounds=9")
    run = next(i for i, line in enumerate(lines) if "-m lora_repro latency profile=laptop" in line)
    assert "device=cpu bench.rounds=9" in lines[run]
    assert "-m lora_repro render latency profile=laptop" in lines[run + 1] and "bench.rounds=9" in lines[run + 1]
    assert not any("lora_repro.run" in line for line in lines)


def test_hyphens_of_a_target_are_underscores_of_an_experiment() -> None:
    lines = "\n".join(commands("reproduce-which-weights"))
    assert "experiment=which_weights" in lines


def test_plan_and_doctor_pass_experiment_profile_data_and_arguments() -> None:
    for command in ("plan", "doctor"):
        arguments = (command, "EXPERIMENT=low-data", "PROFILE=paper", "DATA=/some where/glue", "ARGS=-m seed=0,1")
        line = next(line for line in commands(*arguments) if f"lora_repro {command}" in line)
        assert f"""lora_repro {command} experiment=low_data profile=paper "paths.data='/some where/glue'" -m seed=0,1""" in line
        assert any(f"lora_repro {command}  profile=mini" in line for line in commands(command))


def test_what_was_measured_of_costs_is_shown_even_after_a_failure(tmp_path: Path) -> None:
    for name in ("Makefile", "pyproject.toml", "constraints.txt", "requirements.lock"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "conf" / "backbone").mkdir(parents=True)
    backbones = ("smollm2_135m", "minilm_l6")
    for name in backbones:
        (tmp_path / "conf" / "backbone" / f"{name}.yaml").touch()
    python = tmp_path / ".venv" / "bin" / "python"  # stands in for the interpreter and says what it is asked to run
    python.parent.mkdir(parents=True)
    python.write_text('#!/bin/sh\necho "$3"\n[ "$3" = latency ] && exit 1\nexit 0\n')
    python.chmod(0o755)
    (tmp_path / ".venv" / ".installed").touch()
    for name in backbones:
        manifest = tmp_path / ".cache" / "backbones" / name / "manifest.json"
        manifest.parent.mkdir(parents=True)
        manifest.touch()
    process = make("reproduce-latency", "LORA_REPRO_CACHE=", folder=tmp_path)
    assert process.stdout.split() == ["latency", "render"]
    assert process.returncode == 2, process.stderr


def test_an_old_python_is_refused_in_one_line(tmp_path: Path) -> None:
    for name in ("Makefile", "pyproject.toml", "constraints.txt", "requirements.lock"):
        shutil.copy(ROOT / name, tmp_path)
    old = tmp_path / "python2.7"
    old.write_text('#!/bin/sh\nexec python3 -c "import sys; sys.version_info = (3, 10); $2" 2>&1\n')
    old.chmod(0o755)
    process = make(".venv/.installed", f"PYTHON={old}", folder=tmp_path)
    assert process.returncode != 0 and "needs Python 3.11 or newer" in process.stdout
    assert not (tmp_path / ".venv").exists()


@pytest.mark.parametrize("target", ["reproduce-authors-subspace", "check-authors-adapter"])
def test_an_adapter_is_asked_for_before_anything_is_read(target: str) -> None:
    assert "exit 2" in commands(target)[-1] and "exit 2" not in commands(target, "ADAPTER=/a.bin")[-1]

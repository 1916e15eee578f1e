"""Optuna's search: dev data only, the lowest dev loss, found again, and a trial that fails costs itself."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lora_repro import run
from lora_repro.config.compose import compose
from lora_repro.errors import UserError
from lora_repro.sweep import search, supervise, trial
from lora_repro.tasks.e2e.task import E2E

pytestmark = [
    pytest.mark.skipif(
        importlib.util.find_spec("optuna") is None, reason="hydra-optuna-sweeper is not installed: .[sweeps]"
    ),
    # Optuna 2, which the sweeper pins, uses what newer packages deprecate.
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning"),
]


@pytest.fixture
def command_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., int]:
    """A search in this process whose trials are in this process, too. No test data is looked at."""

    def start(module: str, overrides: list[str], folder: Path, *rest: int) -> int:
        assert module == "lora_repro" and overrides[0] == "search"
        config = compose(list(overrides[1:]))
        trial.trial(config, config.train.lr)
        return 0

    def command(*arguments: str) -> int:
        given = ["search", "profile=smoke", "method=lora", *arguments, f"paths.runs={tmp_path}"]
        monkeypatch.setattr(sys, "argv", given)
        return search.main()

    monkeypatch.setattr(supervise, "start", start)
    monkeypatch.setattr(supervise, "_signals", [])
    monkeypatch.setattr(E2E, "score", lambda *a: pytest.fail("a trial looked at test data"))
    monkeypatch.setattr(run, "measure", lambda *a: pytest.fail("a trial was measured"))
    return command


def trials(tmp_path: Path) -> dict[float, float]:
    found = [json.loads(path.read_text()) for path in tmp_path.glob("smoke/trials/*/trial.json")]
    return {trial["lr"]: trial["dev_loss"] for trial in found}


def test_the_rate_with_the_lowest_dev_loss_is_printed_and_a_second_search_trains_nothing(
    command_line: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    command_line("hydra.sweeper.n_trials=3")
    found = trials(tmp_path)
    assert len(found) == 3 and all(1e-4 <= lr <= 3e-2 for lr in found)
    best = min(found, key=lambda lr: found[lr])
    assert f"best: train.lr={best:.4g}  dev_loss={found[best]:.4g}" in capsys.readouterr().out
    monkeypatch.setattr(supervise, "start", lambda *a: pytest.fail("a trial was started again"))
    command_line("hydra.sweeper.n_trials=3")
    assert trials(tmp_path) == found


def test_a_search_of_no_trial_is_refused(command_line: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line("hydra.sweeper.n_trials=0") == 2
    assert "hydra.sweeper.n_trials must be at least 1, not 0" in capsys.readouterr().err
    assert command_line("hydra.sweeper.n_trials=1", "train.lr=1e-3") == 2
    assert "nothing to search" in capsys.readouterr().err


def test_a_setting_that_is_a_word_is_searched_and_printed(
    command_line: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert not command_line("hydra.sweeper.n_trials=1", "train.lr=1e-3", "backbone.label=choice(A,B)")
    assert re.search(r"best: backbone\.label=[AB]  dev_loss=\d", capsys.readouterr().out)


def test_what_is_swept_is_told_from_a_value_with_brackets(
    command_line: Callable[..., int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    monkeypatch.setattr(search.preflight, "check", lambda asked: seen.append(asked[0]["paths"]["data"]))
    data = f"{tmp_path}/GLUE (v1)"
    assert not command_line("hydra.sweeper.n_trials=2", "method=lora,bitfit", f"paths.data='{data}'")
    assert seen == [data]


def test_a_trial_without_a_loss_does_not_end_the_search(
    command_line: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    inner: Any = supervise.start
    codes = iter([-9, 0])

    def start(module: str, overrides: list[str], folder: Path, *rest: int) -> int:
        if next(codes):
            supervise.note(folder, -9, "was killed by SIGKILL")
            return -9
        return int(inner(module, overrides, folder, *rest))

    monkeypatch.setattr(supervise, "start", start)
    command_line("hydra.sweeper.n_trials=2")
    printed = capsys.readouterr()
    assert "has no dev loss: was killed by SIGKILL" in printed.err and printed.out.count("best:") == 1
    assert len(trials(tmp_path)) == 1


def test_a_search_whose_trials_all_fail_ends_in_one_line(
    command_line: Callable[..., int], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    monkeypatch.setattr(supervise, "start", lambda *a: 1)
    assert command_line("hydra.sweeper.n_trials=2") == UserError.exit_code
    printed = capsys.readouterr().err
    assert printed.count("has no dev loss: it did not start") == 2
    assert printed.endswith("error: every trial failed, for the reasons above\n")


def test_an_experiment_is_refused() -> None:
    config = compose(["experiment=e2e", "row/e2e=lora", "profile=smoke"])
    with pytest.raises(SystemExit), pytest.MonkeyPatch.context() as patch:
        patch.setattr(search, "in_sweep", lambda: False)
        search.objective(config)


def test_a_trial_that_did_not_start_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "job_overrides", list)
    for code, why in {1: "it did not start", 75: "another process is running it"}.items():
        monkeypatch.setattr(supervise, "start", lambda *a, code=code: code)
        with pytest.raises(UserError, match=f"no dev loss: {why}"):
            search.started(compose(["profile=smoke", f"paths.runs={tmp_path}"]))

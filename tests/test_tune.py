"""Learning-rate trials: three of them, on dev data only, found again, and a diverged one never chosen."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from lora_repro.costs import latency
from lora_repro.errors import UserError
from lora_repro.sweep import search, tune
from lora_repro.tasks.e2e.task import E2E
from lora_repro.train.progress import Trained

ROW = ["experiment=e2e", "row/e2e=lora", "profile=smoke"]


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """conf/tuned and results/ of a throw-away project; the test split must not be scored."""
    monkeypatch.setattr(tune, "CONF", tmp_path / "conf")
    monkeypatch.setattr(E2E, "score", lambda *a: pytest.fail("a trial looked at test data"))
    return tmp_path


def test_the_lowest_dev_loss_of_three_trials_is_chosen_and_published(elsewhere: Path) -> None:
    arguments = [*ROW, f"paths.runs={elsewhere / 'runs'}"]
    path, _ = tune.tune(arguments)
    trials = json.loads((elsewhere / "results/smoke/trials/e2e_lora.json").read_text())
    assert [found["lr"] for found in trials["trials"]] == [0.002, 0.006, 0.018]
    best = min(trials["trials"], key=lambda found: found["dev_loss"])
    assert path == elsewhere / "conf/tuned/smoke.yaml" and OmegaConf.load(path).e2e.lora.lr == best["lr"] == trials["chosen"]
    left = {found.name for found in (elsewhere / "runs/smoke/trials").glob("*/*")}
    assert left == {"trial.json", "metrics.jsonl", "lock"}  # no weights, no optimizer
    with pytest.raises(UserError, match="has a rate of lora on e2e already; delete its line"):
        tune.tune(arguments)


def test_a_trial_is_not_run_twice(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = [*ROW, f"paths.runs={elsewhere / 'runs'}"]
    path, trials = tune.tune(arguments)
    path.unlink()
    monkeypatch.setattr(tune, "trained_at", lambda *a: pytest.fail("trained again"))
    assert tune.tune(arguments) == (path, trials) and path.exists()


def test_a_diverged_trial_is_shown_and_never_chosen(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    losses = iter([2.0, 1.5, None])
    common = {"n_train": 16}
    monkeypatch.setattr(tune, "trial", lambda config, lr: {"lr": lr, "dev_loss": next(losses), **common})
    path, trials = tune.tune([*ROW, f"paths.runs={elsewhere / 'runs'}"])
    assert "lr 0.018: diverged" in tune.told(trials) and "lora: {lr: 0.006}" in path.read_text()


def test_what_a_rate_reached_before_it_diverged_does_not_count(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    endings = iter([("finished", 2.0), ("finished", 1.5), ("diverged", 0.5)])

    def trained_at(*a: object) -> tuple[Trained, dict[str, int]]:
        status, loss = next(endings)
        return Trained(status, 4, loss, 4, 100, 1.0, [(4, loss)], code={}), {}  # type: ignore[arg-type]

    monkeypatch.setattr(tune, "trained_at", trained_at)
    path, trials = tune.tune([*ROW, f"paths.runs={elsewhere / 'runs'}"])
    assert "lr 0.018: diverged" in tune.told(trials) and "lora: {lr: 0.006}" in path.read_text()


def test_a_rate_joins_its_task_and_the_rest_of_the_table_stays_as_it_is_written() -> None:
    table = "# @package train\n# head\nrte:\n  # why\n  full: {lr: 1e-4}  # searched\ncola:\n  lora: {lr: 0.006}\n"
    more = tune.with_rate(table, "rte", "lora", 0.002)
    assert more == table.replace("cola:", "  lora: {lr: 0.002}\ncola:")
    assert tune.with_rate(more, "sst2", "lora", 3e-05) == more + "sst2:\n  lora: {lr: 3e-05}\n"
    assert tune.with_rate("# @package train\n", "e2e", "lora", 0.5) == "# @package train\ne2e:\n  lora: {lr: 0.5}\n"
    end = tune.with_rate(table, "cola", "full", 1.0)
    assert end.endswith("  lora: {lr: 0.006}\n  full: {lr: 1}\n")


def test_a_row_that_trains_nothing_has_no_rate(elsewhere: Path) -> None:
    with pytest.raises(UserError, match="trains nothing"):
        tune.tune(["profile=smoke", "experiment=e2e", "row/e2e=untuned", f"paths.runs={elsewhere / 'runs'}"])


def test_a_trial_of_a_run_that_starts_from_another_is_refused(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    row = ["experiment=glue", "row/glue=lora", "profile=smoke", "task=entailment", f"paths.runs={elsewhere}"]
    monkeypatch.setattr(tune, "trained_at", lambda *a: pytest.fail("trained"))
    with pytest.raises(UserError, match=r"starts=.*similarity.*: starts=null"):
        tune.tune([*row, "starts=[{task:similarity}]"])


def test_without_a_row_there_is_nothing_to_tune(elsewhere: Path) -> None:
    with pytest.raises(UserError, match="name one row"):
        tune.tune(["profile=smoke"])


def test_a_tracker_is_not_ignored_in_silence(elsewhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for ask in (tune.tune, search.search):
        with pytest.raises(UserError):
            ask(["profile=huge", "tracker=wandb"])
    assert latency.main(["profile=huge", "tracker=wandb"]) == 2
    assert [line.split()[1] for line in capsys.readouterr().out.splitlines()] == ["trials", "trials", "measurements"]

"""The doctor's report: what a profile needs, its exit code, and ticks that every terminal can show."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from lora_repro.commands import doctor
from lora_repro.sweep import health
from lora_repro.sweep.health import Finding


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No Java, no network, no checksums of half a gigabyte."""
    monkeypatch.setattr(health, "meteor", lambda texts: Finding(True, "METEOR", needed=texts))
    monkeypatch.setattr(health, "hub", lambda needed: Finding(False, "hub", "connect", needed))
    monkeypatch.setattr(health, "backbone", lambda config, reachable: Finding(True, f"backbone {config.backbone.name}"))


def test_the_needs_of_a_profile_are_those_of_its_experiments() -> None:
    requirements = doctor.find_requirements(["profile=mini"])
    assert {config.task.name for config in requirements.tasks} >= {"e2e", "sentiment", "entailment", "similarity"}
    assert {config.backbone.name for config in requirements.backbones} == {"smollm2_135m", "minilm_l6"}
    assert requirements.texts and not requirements.hub


def test_one_experiment_needs_less() -> None:
    requirements = doctor.find_requirements(["profile=paper", "experiment=glue", "backbone=roberta_base", "task=rte"])
    assert [config.task.name for config in requirements.tasks] == ["rte"]
    assert [config.backbone.name for config in requirements.backbones] == ["roberta_base"]
    assert requirements.hub and not requirements.texts


def test_a_grid_of_one_s_own_needs_what_it_names_and_no_experiment() -> None:
    """A backbone has the sizes of its own family's rows only: other tables would not compose with it."""
    requirements = doctor.find_requirements(["profile=smoke", "backbone=random_bert", "task=sentiment,entailment"])
    assert [config.task.name for config in requirements.tasks] == ["sentiment", "entailment"] and requirements.experiment
    assert [config.backbone.name for config in requirements.backbones] == ["random_bert"]


def test_a_row_that_needs_more_than_the_first_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    (config,) = doctor.find_requirements(["profile=mini", "experiment=qlora_glue"]).backbones
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    finding = health.backbone(config, False)
    assert not finding.ok and "quantise=nf4 needs bitsandbytes" in finding.what and finding.mend.endswith("-e '.[qlora]'")


def test_a_seed_that_no_row_asks_for_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert doctor.main(["experiment=e2e", "profile=mini", "seed=99"]) == 2
    assert "error: e2e has no run with experiment=e2e seed=99" in capsys.readouterr().err


@pytest.mark.usefixtures("quick")
def test_ready_is_exit_code_0_and_a_missing_need_is_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["profile=smoke", "experiment=glue", "task=sentiment", f"paths.runs={tmp_path}"]
    assert doctor.main(arguments) == 0
    output = capsys.readouterr().out
    assert output.splitlines()[-1] == "ready" and "– hub\n    connect" in output and "✓ data sentiment" in output
    laptop = ["profile=laptop", "experiment=glue", "task=rte", f"paths.data={tmp_path}", f"paths.runs={tmp_path}"]
    assert doctor.main(laptop) == 1
    output = capsys.readouterr().out
    assert "✗ data rte" in output and "-m lora_repro fetch glue\n" in output and "1 thing missing" in output


@pytest.mark.usefixtures("quick")
def test_no_command_fetches_what_fetch_does_not_have(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    laptop = ["profile=laptop", "experiment=fusion", "task=sick", f"paths.data={tmp_path}", f"paths.runs={tmp_path}"]
    assert doctor.main(laptop) == 1
    output = capsys.readouterr().out
    assert "✗ data sick" in output and "fetch sick" not in output


@pytest.mark.usefixtures("quick")
def test_without_an_experiment_the_data_of_one_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    only, requirements = {"sentiment"}, doctor.find_requirements(["profile=mini"])
    monkeypatch.setattr(doctor, "find_requirements", lambda overrides: requirements)
    monkeypatch.setattr(health, "data", lambda config, *a: Finding(config.task.name in only, f"data {config.task.name}"))
    some = [finding for finding in doctor.run_checks(["profile=mini"]) if finding.what.startswith("data ")]
    assert {finding.kind for finding in some} == {"ready", "note"}
    only.clear()
    none = [finding for finding in doctor.run_checks(["profile=mini"]) if finding.what.startswith("data ")]
    assert {finding.kind for finding in none} == {"missing"}


def test_a_broken_installation_is_told_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "packages", lambda: Finding(False, "packages: torch missing", "make setup"))
    monkeypatch.setattr(doctor, "find_requirements", lambda overrides: pytest.fail("went on"))
    assert [finding.ok for finding in doctor.run_checks([])] == [True, False]


@pytest.mark.parametrize(("encoding", "tick"), [("utf-8", "✓"), ("ascii", "ok"), ("latin-1", "ok")])
def test_ticks_fit_the_terminal(encoding: str, tick: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr(doctor.sys, "stdout", stream)
    line = doctor.shown(Finding(True, "disk — fine"))
    assert line.startswith(tick) and line.encode(encoding)


def test_quiet_shows_what_is_missing_only(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def examine(overrides: Sequence[str]) -> Iterator[Finding]:
        yield from (Finding(True, "one"), Finding(False, "two", "mend two"), Finding(False, "three", needed=False))

    monkeypatch.setattr(doctor, "run_checks", examine)
    monkeypatch.setenv("LORA_REPRO_VERBOSITY", "quiet")
    assert doctor.main([]) == 1
    assert capsys.readouterr().out == "✗ two\n    mend two\n"


@pytest.mark.parametrize(("arguments", "names"), [(["profile=huge"], "huge"), (["experiment=e3e"], "e3e"), (["mini"], "mini")])
def test_mistakes_are_one_line(arguments: list[str], names: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert doctor.main(arguments) == 2
    assert names in (message := capsys.readouterr().err) and message.count("\n") == 1


def test_the_hub_s_cache_is_measured_each_blob_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    snapshot, blobs = tmp_path / "hub" / "m" / "snapshots" / "c", tmp_path / "hub" / "m" / "blobs"
    for folder in (snapshot, blobs):
        folder.mkdir(parents=True)
    (blobs / "b").write_bytes(b"x" * 150_000_000)
    (snapshot / "model.safetensors").symlink_to(blobs / "b")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    (*_, finding) = health.disk("laptop", tmp_path)
    assert finding.ok and finding.what.endswith(f"free in {tmp_path}/hub, 0.2 GB used") and "HF_HOME" in finding.mend
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "none"))
    assert len([*health.disk("laptop", tmp_path)]) == 2 and len([*health.disk("paper", tmp_path)]) == 3

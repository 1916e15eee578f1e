"""What may be published and what is left out, on record folders built by hand."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import refused
from planted import LINE, flipped, left, note, run, seal, without

from lora_repro.commands import publish as publish_command
from lora_repro.commands.publish import main
from lora_repro.config.paths import ROOT
from lora_repro.errors import UserError
from lora_repro.files import SEAL, sealed, write_json
from lora_repro.records import manifest, rates
from lora_repro.report import publish as module
from lora_repro.report import show
from lora_repro.report.publish import NUMBERS, TEXTS
from lora_repro.results import declared_cells


@pytest.fixture
def asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Experiments that ask for the runs `s` and `t`."""
    runs = [SimpleNamespace(signature=name, setting=name) for name in ("s", "t")]
    monkeypatch.setattr(publish_command, "requested_runs", lambda profile: runs)


def publish(runs: Path, results: Path, *given: Any) -> dict[str, str]:
    with manifest.changing(results) as change:
        return module.publish(change, runs, *given)


def outcome(folder: Path, force: bool = False) -> str:
    return publish(folder / "runs" / "mini", folder / "results", force)["s"]


def test_copies_record_and_predictions(tmp_path: Path) -> None:
    place = run(tmp_path)
    assert outcome(tmp_path) == "published"
    results = tmp_path / "results" / "mini"
    assert json.loads((results / "records" / "s.json").read_text()) == json.loads(
        (place / "record.json").read_text()
    )
    assert (results / "predictions" / "s.jsonl").read_bytes() == (place / "predictions.jsonl").read_bytes()
    assert left(results) == ["predictions/s.jsonl", "records/s.json"]
    manifest.check(tmp_path / "results")
    assert outcome(tmp_path) == "published already"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"status": "failed"}, "status is failed"),
        ({"dirty": True}, "uncommitted changes"),
        ({"dirty": None}, "uncommitted changes"),
        ({"scores": {"bleu": float("nan")}}, "measured.scores.bleu is not a finite number"),
        ({"scores": {}}, "no scores"),
        ({"asked": {"backbone": {"source": "folder", "hub_id": "/home/me/model"}}}, "a folder of this machine"),
        ({"lines": []}, "predictions are missing"),
        ({"lines": [{**LINE, "cider": float("inf")}]}, "predictions.cider is not a finite number"),
        *(
            ({"lines": [{**LINE, key: theirs}]}, f"the data's own text ({key})")
            for key in ("input", "target", "references", "source_text", "matches")
            for theirs in ("theirs", ["theirs"], {"a": "theirs"})
        ),
        ({"lines": [{**LINE, "correct": 1.0}], "scores": {"accuracy": 0.5}}, "its predictions give accuracy 1, not 0.5"),
    ],
)
def test_leaves_out_and_says_why(
    tmp_path: Path, change: dict[str, Any], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run(tmp_path, **change)
    assert reason in outcome(tmp_path)
    assert reason in capsys.readouterr().out
    assert left(tmp_path / "results") == []


def test_every_published_field_is_one_that_may_be() -> None:
    """So that a new metric's field is added to the list on purpose."""
    for path in sorted((ROOT / "results").glob("*/predictions/*.jsonl"))[::40]:
        for line in path.read_text(encoding="utf-8").split("\n")[:-1]:
            assert {*json.loads(line)} <= {*TEXTS, *NUMBERS}, path


def linked(path: Path) -> None:
    path.rename(path.with_suffix(".kept"))
    path.symlink_to(path.with_suffix(".kept"))


def another_output(path: Path) -> None:
    path.write_text(path.read_text().replace("a pub", "a bar"))


def other_score(path: Path) -> None:
    record = json.loads(path.read_text())
    record["measured"]["scores"]["nist"] = 9.9  # which no statistics of predictions give
    write_json(path, {key: value for key, value in record.items() if key != SEAL})


@pytest.mark.parametrize(("name", "change"), [
    ("predictions.jsonl", another_output), ("predictions.jsonl", linked), ("predictions.jsonl", Path.unlink),
    ("updates.safetensors", flipped), ("updates.safetensors", linked), ("updates.safetensors", Path.unlink),
    ("metrics.jsonl", flipped), ("metrics.jsonl", Path.unlink), ("record.json", linked),
    ("record.json", without(SEAL)), ("record.json", without("files")), ("record.json", other_score),
])  # fmt: skip
def test_what_its_record_does_not_vouch_for_is_left_out(tmp_path: Path, name: str, change: Any) -> None:
    place = run(tmp_path)
    for other in ("updates.safetensors", "metrics.jsonl"):
        (place / other).write_bytes(b"some bytes")
    seal(place)
    change(place / name)
    message = outcome(tmp_path)
    assert message.startswith("left out: ") and "\n" not in message and left(tmp_path / "results") == []


def test_a_record_that_does_not_match_its_own_hash_stops_everything(tmp_path: Path) -> None:
    path = run(tmp_path) / "record.json"
    path.write_text(path.read_text().replace("0.5", "0.9"))
    refused(lambda: outcome(tmp_path), "record.json", "own hash")
    assert left(tmp_path / "results") == []


def test_arrays_that_the_record_does_not_name_and_a_linked_run_are_left_out(tmp_path: Path) -> None:
    (run(tmp_path) / "updates.safetensors").write_bytes(b"of another run")
    assert "updates.safetensors is not among the files of its record" in outcome(tmp_path)
    place = run(tmp_path / "linked")
    place.rename(tmp_path / "elsewhere")
    place.symlink_to(tmp_path / "elsewhere")
    assert "its folder is a link" in outcome(tmp_path / "linked")


@pytest.mark.parametrize("source, kept", [("folder", False), ("embedded", True)])
def test_human_texts_of_real_data_are_not_published(tmp_path: Path, source: str, kept: bool) -> None:
    run(tmp_path, asked={"method": {"name": "human"}, "task": {"source": source}})
    assert outcome(tmp_path) == "published" and outcome(tmp_path) == "published already"
    (line,) = (tmp_path / "results" / "mini" / "predictions" / "s.jsonl").read_text().splitlines()
    assert ("a pub" in line) == kept and json.loads(line)["matches"] == [1, 0, 0, 0]


def test_what_a_licence_keeps_is_not_published(tmp_path: Path) -> None:
    run(tmp_path, data={"outputs_private": True})
    assert outcome(tmp_path) == "published"
    (line,) = (tmp_path / "results" / "mini" / "predictions" / "s.jsonl").read_text().splitlines()
    assert "output" not in json.loads(line) and json.loads(line)["matches"] == [1, 0, 0, 0]


def test_answers_may_be_missing_only_where_none_were_asked_for(tmp_path: Path) -> None:
    for settings, verdict in (({}, "left out: its predictions are empty"), ({"data": {"n_test": 0}}, "published")):
        (place := run(tmp_path, asked=settings) / "predictions.jsonl").write_text("")
        seal(place.parent)
        assert outcome(tmp_path) == verdict


def test_a_different_record_is_replaced_only_by_force(tmp_path: Path) -> None:
    run(tmp_path)
    outcome(tmp_path)
    target = tmp_path / "results" / "mini" / "records" / "s.json"
    before = target.read_bytes()
    run(tmp_path, scores={"bleu": 0.6})
    assert "a different record is published" in outcome(tmp_path)
    assert target.read_bytes() == before
    assert outcome(tmp_path, force=True) == "replaced"
    assert json.loads(target.read_text())["measured"]["scores"]["bleu"] == 0.6


def test_other_predictions_under_the_same_record_count_as_different(tmp_path: Path) -> None:
    run(tmp_path)
    outcome(tmp_path)
    run(tmp_path, lines=[{**LINE, "output": "another"}])
    assert "a different record is published" in outcome(tmp_path)


def measure(folder: Path, wanted: set[str] | None = None, **change: Any) -> str:
    record = {"schema": 1, "signature": "now", "status": "finished", "latency": [{"ms": [1.0]}], "where": {"dirty": False}}
    record |= change
    path = folder / "runs" / "mini" / "measures" / "latency.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record))
    adhoc = path.parent / "adhoc" / "latency-0.json"
    adhoc.parent.mkdir(exist_ok=True)
    adhoc.write_text(json.dumps(record))
    return publish(folder / "runs" / "mini", folder / "results", False, wanted)["latency"]


def test_a_measurement_is_published_as_it_is_and_replaced_only_by_force(tmp_path: Path) -> None:
    assert measure(tmp_path) == "published"
    target = tmp_path / "results" / "mini" / "measures" / "latency.json"
    assert target.read_bytes() == (tmp_path / "runs" / "mini" / "measures" / "latency.json").read_bytes()
    assert [path.name for path in (tmp_path / "results").rglob("*.json")] == ["latency.json"]  # the ad-hoc one stays
    assert measure(tmp_path) == "published already"
    assert "FORCE=1 replaces it" in measure(tmp_path, latency=[])
    assert json.loads(target.read_text())["latency"] == [{"ms": [1.0]}]
    assert publish(tmp_path / "runs" / "mini", tmp_path / "results", True) == {"latency": "replaced"}


def test_a_measurement_of_earlier_settings_is_left_out(tmp_path: Path) -> None:
    assert measure(tmp_path, {"now"}) == "published"
    assert "measured with other settings" in measure(tmp_path, {"since"})


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"where": {"dirty": True}}, "uncommitted changes"),
        ({"where": {}}, "uncommitted changes"),
        ({"status": "failed"}, "status is failed"),
        ({"latency": [{"ms": [1.0, float("nan")]}]}, "latency.latency.0.ms.1 is not a finite number"),
    ],
)
def test_a_measurement_is_left_out_for_a_record_s_reasons(tmp_path: Path, change: dict[str, Any], reason: str) -> None:
    assert reason in measure(tmp_path, **change)
    assert left(tmp_path / "results") == []


def test_nothing_to_publish_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no record under"):
        publish(tmp_path / "runs", tmp_path / "results")


@pytest.mark.usefixtures("asked_for")
def test_the_command_publishes_notes_the_hashes_and_renders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls: list[tuple[list[str], Path]] = []
    monkeypatch.setattr(show, "render_published", lambda names, root: calls.append((names, root)))
    for signature in ("s", "t"):  # the first makes the manifest, the second adds to it
        run(tmp_path, signature)
        assert main(["profile=mini"], tmp_path) == 0
    assert calls == [(show.names(), tmp_path)] * 2 and "e2e" in calls[0][0]
    manifest.check(tmp_path / "results")
    for wrong in ("mini", "profile=../x", "profile=smoke"):
        assert main([wrong], tmp_path) == 2
    assert "is for tests" in capsys.readouterr().err


@pytest.mark.usefixtures("asked_for")
def test_where_a_published_file_was_changed_nothing_is_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Else the hash of what somebody edited would be noted as that of what was published."""
    monkeypatch.setattr(show, "render_published", lambda names, root: None)
    run(tmp_path)
    main(["profile=mini"], tmp_path)
    (tmp_path / "results" / "mini" / "predictions" / "s.jsonl").write_text("")
    run(tmp_path, "t")
    assert main(["profile=mini", "--force"], tmp_path) == 2 and "differs from what was published" in capsys.readouterr().err
    assert not (tmp_path / "results" / "mini" / "records" / "t.json").exists()


@pytest.mark.usefixtures("asked_for")
def test_force_comes_from_the_environment_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "runs" / "mini").mkdir(parents=True)
    flags: list[bool] = []
    monkeypatch.setattr(module, "publish", lambda change, runs, force, *rest: flags.append(force) or {})
    monkeypatch.setattr(show, "render_published", lambda names, root: None)
    for value in ("", "0", "1"):
        monkeypatch.setenv("FORCE", value)
        main(["profile=mini"], tmp_path)
    main(["profile=mini", "--force"], tmp_path)
    assert flags == [False, False, True, True]


def test_a_run_that_no_experiment_asks_for_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Else `publish` would bring back what `prune` deleted, as long as its run is still in runs/."""
    monkeypatch.setattr(show, "names", lambda: ["rank_e2e"])
    monkeypatch.setattr(show, "render_published", lambda names, root: None)
    table_run = module.requested_runs("mini")[0].signature
    for signature in (table_run, "old"):
        run(tmp_path, signature)
    assert main(["profile=mini"], tmp_path) == 0
    assert [path.stem for path in (tmp_path / "results" / "mini" / "records").iterdir()] == [table_run]
    assert "old  e2e/lora: left out: no experiment asks for it" in (text := capsys.readouterr().out) and "--prune" not in text


def test_publishing_counts_what_a_changed_setting_left_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Else an experiment's earlier runs stay among its published records, and no line says so."""
    monkeypatch.setattr(show, "names", lambda: ["rank_e2e"])
    monkeypatch.setattr(show, "render_published", lambda names, root: None)
    run(tmp_path, module.requested_runs("mini")[0].signature)
    left_behind = tmp_path / "results" / "mini" / "records" / "old.json"
    write_json(left_behind, {})
    note(tmp_path / "results")
    assert main(["profile=mini"], tmp_path) == 0
    text = capsys.readouterr().out
    assert "any more: 1;" in text and "publish profile=mini --prune" in text and left_behind.exists()


def kept_search(root: Path, cell: Any, chosen: float, dirty: bool = False, **more: Any) -> Path:
    """A search of a cell's rate as `tune` keeps it in runs/."""
    trials = [{"lr": chosen * factor, "dev_loss": factor, "dirty": dirty} for factor in (1, 3, 9)]
    search = {"length": 1.0, "seed": 1000, "by": "loss", "chosen": chosen, "edge": None, "trials": trials, **more}
    head = {"schema": 1, "setting": rates.setting_signature(cell.asked), "row": {}, "task": "e2e", "axes": {}}
    path = rates.own_path(root / "runs", "mini", head["setting"])
    before = (rates.own_trials(path) or {"searches": []})["searches"]
    write_json(path, sealed(rates.trials_of(head, [*before, search])))
    return path


@pytest.fixture
def row(unsearched: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The cells that experiments ask for: one run of LoRA, at today's published rate."""
    def cells(profile: str) -> list[Any]:
        return declared_cells("e2e", profile, ["row/e2e=lora", "seed=0"])

    monkeypatch.setattr(publish_command, "requested_runs", cells)
    monkeypatch.setattr(show, "names", lambda: [])
    return lambda: cells("mini")[0]


def test_publishing_brings_a_search_with_the_run_that_adopted_it(tmp_path: Path, row: Any) -> None:
    guess = row().asked["train"]["lr"]
    path = kept_search(tmp_path, row(), 0.125)
    kept_search(tmp_path, row(), 0.25).rename(path.with_stem("0123456789abcdef"))
    kept_search(tmp_path, row(), 0.125)
    assert main(["profile=mini"], tmp_path) == 0  # a search alone may be published, too
    assert [name for name in left(tmp_path / "results") if "trials" in name] == [f"mini/trials/{path.name}"]
    search = json.loads((tmp_path / "results" / "mini" / "trials" / path.name).read_text())
    assert SEAL not in search and search["chosen"] == 0.125 != guess
    manifest.check(tmp_path / "results")
    kept_search(tmp_path, row(), 0.5, seeds=3)  # a better one, and its run
    with rates.published_only(tmp_path / "none"):
        at_125 = row().signature
    run(tmp_path, at_125)
    assert main(["profile=mini"], tmp_path) == 0
    assert not (tmp_path / "results" / "mini" / "records").exists()  # nothing asks for the run at the old rate any more
    with rates.published_only(tmp_path / "nowhere"):
        assert row().asked["train"]["lr"] == 0.5
        run(tmp_path, row().signature)
        assert main(["profile=mini"], tmp_path) == 0
        assert [path.stem for path in (tmp_path / "results" / "mini" / "records").iterdir()] == [row().signature]


def test_a_search_and_the_run_at_its_rate_are_published_together(tmp_path: Path, row: Any) -> None:
    path = kept_search(tmp_path, row(), 0.125)
    with rates.published_only(tmp_path / "staged"):
        target = tmp_path / "staged" / "mini" / "trials" / path.name
        write_json(target, rates.own_trials(path))
        signature = row().signature
    run(tmp_path, signature)
    assert main(["profile=mini"], tmp_path) == 0
    assert f"mini/records/{signature}.json" in left(tmp_path / "results")


@pytest.mark.parametrize("dangling", [False, True])
def test_a_search_that_is_a_link_is_left_out(
    tmp_path: Path, row: Any, capsys: pytest.CaptureFixture[str], dangling: bool
) -> None:
    path = kept_search(tmp_path, row(), 0.125)
    linked(path)
    if dangling:
        path.with_suffix(".kept").unlink()
    assert main(["profile=mini"], tmp_path) == 0
    assert f"trials/{path.stem}: left out: it is a link" in capsys.readouterr().out


@pytest.mark.parametrize(("change", "said"), [
    ({"dirty": True}, "uncommitted changes"), ({"dirty": None}, "uncommitted changes"), ({"by": "dev"}, "different search"),
])  # fmt: skip
def test_a_search_that_may_not_be_published_stays_private(
    tmp_path: Path, row: Any, capsys: pytest.CaptureFixture[str], change: dict[str, Any], said: str
) -> None:
    path = kept_search(tmp_path, row(), 0.125)
    if "by" in change:
        assert main(["profile=mini"], tmp_path) == 0
    before = left(tmp_path / "results")
    kept_search(tmp_path, row(), 0.25, **change)
    assert main(["profile=mini"], tmp_path) == 0
    assert f"trials/{path.stem}: left out: " in (output := capsys.readouterr().out) and said in output
    assert [name for name in left(tmp_path / "results") if "trials" in name] == [name for name in before if "trials" in name]
    assert main(["profile=mini", "--force"], tmp_path) == 0
    assert any("trials" in name for name in left(tmp_path / "results")) == ("by" in change)


def test_what_is_published_is_declared_in_conf_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run(tmp_path)
    monkeypatch.setenv("LORA_REPRO_CONFIG_DIR", str(tmp_path))
    assert main(["profile=mini"], tmp_path) == 2 and "--config-dir" in capsys.readouterr().err
    assert not (tmp_path / "results").exists()


def test_a_lost_run_is_published_and_a_diverged_one_without_scores_or_answers(tmp_path: Path) -> None:
    """It counts against its method: left out, the method would be judged on the seeds that it has not lost."""
    run(tmp_path / "collapsed", status="collapsed")
    assert outcome(tmp_path / "collapsed") == "published"
    place = run(tmp_path, status="diverged", scores={})
    (place / "predictions.jsonl").write_text("", encoding="utf-8")
    seal(place)
    assert outcome(tmp_path) == "published"
    run(tmp_path / "finished", scores={})
    assert "it has no scores" in outcome(tmp_path / "finished")


def test_what_nothing_asks_for_is_found_and_deleted_on_demand_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(show, "names", lambda: ["rank_e2e"])
    runs = module.requested_runs("smoke")
    results, (one, other) = tmp_path / "results", (runs[0], runs[-1])
    trials = f"trials/{rates.setting_signature(one.asked)}.json"
    files = [f"records/{one.signature}.json", f"predictions/{other.signature}.jsonl", trials]
    old = ["predictions/old.jsonl", "records/old.json", f"trials/{one.signature}.json", "updates/old.safetensors"]
    for path in [*files, *old, "measures/latency.json", "trials/.gitkeep"]:
        (results / "smoke" / path).parent.mkdir(parents=True, exist_ok=True)
        (results / "smoke" / path).write_text("{}")
    note(results)
    for options, count in (([], 9), (["--delete"], 5), ([], 5)):
        before = (results / manifest.NAME).stat().st_mtime_ns
        assert main(["profile=smoke", "--prune", *options], tmp_path) == 0
        assert options or (results / manifest.NAME).stat().st_mtime_ns == before  # who only lists writes nothing
        lines = capsys.readouterr().out.splitlines()
        assert len(left(results)) == count
        assert sorted(lines[:-1]) == ([] if count == 5 and not options else [f"results/smoke/{path}" for path in old])
    assert not (results / "smoke" / "updates").exists()
    assert len(manifest.read_manifest(results) or ()) == 5 and "0 records" in lines[-1]
    assert main(["profile=none", "--prune"], tmp_path) == 2 and main(["none", "--prune"], tmp_path) == 2
    assert main(["profile=smoke", "--delete"], tmp_path) == 2 and len(left(results)) == 5


@pytest.mark.parametrize("profile", ["mini", "laptop"])
def test_all_that_is_published_is_asked_for(profile: str) -> None:
    # A change of conf/ that moves a signature leaves its published run behind, and an empty row in its table.
    assert module.leftover(ROOT / "results" / profile, module.requested_runs(profile)) == []


def test_what_runs_start_from_is_asked_for_though_no_table_shows_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(show, "names", lambda: ["fusion"])
    cells = declared_cells("fusion", "smoke")
    starts = {start.signature for cell in cells for start in cell.starts} - {cell.signature for cell in cells}
    assert starts and starts <= {cell.signature for cell in module.requested_runs("smoke")}

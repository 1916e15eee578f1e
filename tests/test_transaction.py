"""results/ changes as a whole: kills and full disks at every write, readers and writers beside, and what recovery refuses."""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import refused
from faults import at_every_write
from planted import left, note, run, seal

from lora_repro.commands import publish as publish_command
from lora_repro.errors import Busy, UserError
from lora_repro.records import manifest, transaction
from lora_repro.report import publish, show
from lora_repro.results import published


def state(results: Path) -> dict[str, bytes]:
    return {name: (results / name).read_bytes() for name in [*left(results), manifest.NAME]}


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Path:
    """A checkout with the run `s` published, and a changed `s` and a new `t` in runs/; no experiment is rendered."""
    names = ("s", "t")
    runs = [SimpleNamespace(signature=name, setting=name) for name in names]
    monkeypatch.setattr(publish_command, "requested_runs", lambda profile: runs)
    monkeypatch.setattr(show, "names", lambda: [])
    root = tmp_path / "root"
    run(root)
    assert publish_command.main(["profile=mini"], root) == 0
    for name in names:
        (run(root, name, scores={"bleu": 0.6}) / "updates.safetensors").write_bytes(b"arrays")
        seal(root / "runs" / "mini" / name)
    capsys.readouterr()
    return root


def test_publish_interrupted_at_any_write_can_be_repeated(root: Path) -> None:
    results = root / "results"
    before = state(results)
    counts = set()

    def after(number: int) -> None:
        """The next command of any kind sees all of it or nothing, and is told to delete nothing."""
        records = published(results / "mini").records
        counts.add(len(records))
        assert manifest.faults(results) == []
        if len(records) == 1:
            assert state(results) == before
        else:
            assert {record["measured"]["scores"]["bleu"] for record in records.values()} == {0.6}

    job = partial(publish_command.main, ["profile=mini", "--force"], root)
    assert at_every_write(job, root, lambda: state(results), after) > 20
    assert counts == {1, 2}


def test_prune_interrupted_at_any_write_can_be_repeated(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert publish_command.main(["profile=mini", "--force"], root) == 0
    cell: Any = SimpleNamespace(signature="s", setting="none")
    monkeypatch.setattr(publish, "requested_runs", lambda profile: [cell])

    def after(number: int) -> None:
        stems = {name.rsplit("/", 1)[1].split(".")[0] for name in left(root / "results") if name.count("/") == 2}
        published(root / "results" / "mini")
        signatures = {name.rsplit("/", 1)[1].split(".")[0] for name in left(root / "results") if name.count("/") == 2}
        assert signatures in ({"s"}, {"s", "t"}) and signatures <= stems

    job = partial(publish_command.main, ["profile=mini", "--prune", "--delete"], root)
    assert at_every_write(job, root, lambda: state(root / "results"), after) > 5


def replacing_slowly(results: Path) -> None:
    """Publish other bytes again and again, with a pause before each file takes its place."""

    def pause(event: str, given: tuple[Any, ...]) -> None:
        if event in ("os.rename", "os.remove"):
            time.sleep(0.01)

    sys.addaudithook(pause)
    for number in range(12):
        with manifest.changing(results) as change:
            for name in ("a", "b", f"c{number}"):
                path = change.staged / "mini" / "measures" / f"{name}.json"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(str(number))
            if number:
                change.remove(results / "mini" / "measures" / f"c{number - 1}.json")


def test_a_reader_beside_a_publish_sees_one_state_or_the_other(tmp_path: Path) -> None:
    writer = multiprocessing.get_context("fork").Process(target=replacing_slowly, args=(tmp_path,))
    writer.start()
    reads = 0
    while writer.is_alive():
        manifest.check(tmp_path, ["mini/measures"])
        assert manifest.faults(tmp_path) == []
        manifest.read_text(tmp_path, "mini/measures/a.json")
        reads += 1
    writer.join()
    assert reads > 3 and writer.exitcode == 0 and left(tmp_path) == [f"mini/measures/{name}.json" for name in ("a", "b", "c11")]


def adding(results: Path, name: str) -> None:
    for number in range(10):
        with manifest.changing(results) as change:
            path = change.staged / "mini" / "trials" / f"{name}{number}.json"
            path.parent.mkdir(parents=True)
            path.write_text(name)


def test_two_that_write_at_once_lose_nothing_of_each_other(tmp_path: Path) -> None:
    both = [multiprocessing.get_context("fork").Process(target=adding, args=(tmp_path, name)) for name in "ab"]
    for one in both:
        one.start()
    for one in both:
        one.join()
    assert len(manifest.read_manifest(tmp_path) or ()) == 20 == len(left(tmp_path))
    manifest.check(tmp_path)


def test_a_block_that_raises_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("a")
    note(tmp_path)
    before = state(tmp_path)
    with pytest.raises(KeyboardInterrupt), manifest.changing(tmp_path) as change:
        (change.staged / "a.md").write_text("b")
        change.remove(tmp_path / "a.md")
        raise KeyboardInterrupt
    assert state(tmp_path) == before and not (tmp_path / transaction.STAGED).exists()


def test_what_is_the_same_is_not_written_again(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("a")
    note(tmp_path)
    times = [(path, path.stat().st_mtime_ns) for path in (tmp_path / "a.md", tmp_path / manifest.NAME)]
    with manifest.changing(tmp_path) as change:
        (change.staged / "a.md").write_text("a")
    assert times == [(path, path.stat().st_mtime_ns) for path, _ in times]


def test_who_finds_another_one_writing_is_told_to_come_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transaction, "WAIT_SECONDS", 0.1)
    with manifest.changing(tmp_path) as change:
        (change.staged / "a.md").write_text("a")
        manifest.check(tmp_path)  # a reader is not held up
        with pytest.raises(Busy, match="another process is writing"), manifest.changing(tmp_path):
            pass
    assert left(tmp_path) == ["a.md"]


@pytest.mark.parametrize("names", [["../outside"], ["/outside"], ["a/../../outside"]])
def test_a_journal_moves_and_removes_nothing_outside(tmp_path: Path, names: list[str]) -> None:
    results = tmp_path / "results"
    for journal in ({"files": dict.fromkeys(names, "0" * 64), "removed": []}, {"files": {}, "removed": names}):
        (results / transaction.STAGED).mkdir(parents=True, exist_ok=True)
        (tmp_path / "outside").write_text("mine")
        (results / transaction.JOURNAL).write_text(json.dumps(journal))
        refused(lambda: manifest.check(results), transaction.JOURNAL, "outside")
        assert (tmp_path / "outside").read_text() == "mine"


@pytest.mark.parametrize("damage", ["journal", "staged"])
def test_a_damaged_change_is_one_line_that_says_how_to_go_on(tmp_path: Path, damage: str) -> None:
    (tmp_path / transaction.STAGED).mkdir()
    (tmp_path / transaction.STAGED / "a.md").write_text("a")
    text = '{"files": {"a.md": "' + "0" * 64 + '"}, "removed": []}'
    (tmp_path / transaction.JOURNAL).write_text(text[:20] if damage == "journal" else text)
    refused(lambda: manifest.check(tmp_path), "git checkout", transaction.JOURNAL)


def test_where_nothing_can_be_written_what_is_whole_can_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.md").write_text("a")
    note(tmp_path)

    def forbidden(*given: Any, **named: Any) -> Any:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(transaction, "FileLock", forbidden)
    (tmp_path / transaction.STAGED).mkdir()
    assert manifest.read_text(tmp_path, "a.md") == "a"
    (tmp_path / transaction.JOURNAL).write_text("{}")
    with pytest.raises(UserError, match="cannot be finished"):
        manifest.read_text(tmp_path, "a.md")
    assert os.listdir(tmp_path)

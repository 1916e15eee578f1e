"""Published results cannot be altered unnoticed: the manifest, and scores against the statistics of each input."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from conftest import refused
from planted import edited, flipped, note, without

from lora_repro.commands import verify as verify_command
from lora_repro.config import signature
from lora_repro.errors import UserError
from lora_repro.files import SEAL, sealed, sha256, write_json, write_text
from lora_repro.records import manifest, rates, record
from lora_repro.report import report_json, verify
from lora_repro.report.verify import score_mismatch
from lora_repro.results import Store, declared_cells, published, runs

RESULTS = Path(__file__).resolve().parents[1] / "results"
NAME = next(path.stem for path in sorted(RESULTS.glob("mini/records/*.json")) if '"bleu": 0.' in path.read_text("utf-8"))


def test_the_manifest_has_one_hash_a_file() -> None:
    paths = [line[66:] for line in (RESULTS / manifest.NAME).read_text(encoding="utf-8").splitlines()]
    assert len(set(paths)) == len(paths)  # sha256sum -c reads it, to which a second hash is a failure


def test_verify_all_finds_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert verify_command.main(["--all"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert "all are what was published" in line


def test_of_two_hashes_that_no_merge_gave_none_counts(results: Path) -> None:
    """Else whoever changes a record would append its hash."""
    name = f"mini/records/{NAME}.json"
    edited('"bleu": 0.', '"bleu": 1.')(results / name)
    with (results / manifest.NAME).open("a") as file:
        file.write(f"{sha256(results / name)}  {name}\n")
    refused(lambda: published(results / "mini"), name, "2 hashes")
    assert len([fault for fault in manifest.faults(results) if name in fault]) == 1


def git(folder: Path, *words: str) -> None:
    who = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", *who, *words], cwd=folder, check=True, capture_output=True)


@pytest.mark.parametrize("conflict", [True, False])
def test_after_a_merge_of_two_branches_that_published_render_settles_it(results: Path, conflict: bool) -> None:
    """As documented: both sides' lines of the manifest stay, then `make render` writes anew what both have rendered."""
    root = results.parent
    (root / ".gitattributes").write_text("results/manifest.sha256 merge=union\n")
    (results / "a.md").write_text("".join(f"{number}\n" for number in range(9)))
    note(results)
    git(root, "init", "--initial-branch=main")
    git(root, "add", ".")
    git(root, "commit", "-m", "start")
    for branch, line in (("one", "0"), ("two", "0" if conflict else "8")):
        git(root, "checkout", "-b", branch, "main")
        with manifest.changing(results) as change:
            (change.staged / "a.md").write_text((results / "a.md").read_text().replace(line, branch))
            trials = change.staged / "mini" / "trials" / f"{branch}.json"
            trials.parent.mkdir(parents=True)
            trials.write_text("{}")
        git(root, "add", ".")
        git(root, "commit", "-m", branch)
    with suppress(subprocess.CalledProcessError):
        git(root, "merge", "one")
    assert (root / ".git" / "MERGE_HEAD").exists() == conflict
    published(results / "mini")  # what render reads
    refused(lambda: manifest.read_text(results, "a.md"), "a.md", "make render")
    assert any("make render" in fault for fault in manifest.faults(results))
    with manifest.changing(results) as change:
        (change.staged / "a.md").write_text("rendered")
    assert manifest.faults(results) == [] and len(manifest.read_manifest(results) or ()) == 5


def test_without_its_manifest_nothing_published_is_read(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (results / manifest.NAME).unlink()
    (results / "report.json").write_text("{}")
    trials = results / "mini" / "trials" / f"{'0' * 16}.json"
    trials.parent.mkdir(exist_ok=True)
    trials.write_text('{"schema": 1, "chosen": 0.5, "searches": []}')
    monkeypatch.setattr(rates, "RESULTS", results)
    for read in (
        lambda: published(results / "mini"),
        lambda: report_json.read(results),
        lambda: manifest.check(results),
        lambda: manifest.changing(results).__enter__(),
        lambda: rates.published_trials("mini", "0" * 16),
    ):
        refused(read, f"{manifest.NAME} is missing", "git checkout -- ")
    assert manifest.faults(results)


@pytest.mark.parametrize("key", [SEAL, "files"])
def test_a_record_without_its_hashes_is_refused_whatever_the_manifest_says(
    key: str, results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = results / "mini" / "records" / f"{NAME}.json"
    without(key)(path)
    with manifest.changing(results) as change:
        shutil.copytree(path.parent, change.staged / "mini" / "records")
        path.unlink()
    refused(lambda: published(results / "mini"), path.name, "hash")
    assert verify.check_published(results) == 1
    assert any(key in line for line in capsys.readouterr().out.splitlines() if line.startswith("wrong:"))


def damaged_everywhere(results: Path) -> list[str]:
    """Change a score, an output and a stray file, and give each the hash that the manifest asks for; what must be found."""
    with manifest.changing(results) as change:
        run = json.loads((results / "mini" / "records" / f"{NAME}.json").read_text(encoding="utf-8"))
        run["measured"]["scores"]["bleu"] += 0.1
        write_json(change.staged / "mini" / "records" / f"{NAME}.json", sealed(run))
        lines = record.load_predictions(results / "mini" / "predictions" / f"{NAME}.jsonl")
        text = "".join(json.dumps({**line, "output": "another"}) + "\n" for line in lines)
        write_text(change.staged / "mini" / "predictions" / f"{NAME}.jsonl", text)
        other = sealed({**run, "asked": {**run["asked"], "seed": 99}})
        write_json(change.staged / "mini" / "records" / "0123456789abcdef.json", other)
    (results / "stray.md").write_text("by hand")
    return ["give bleu", "is not what its run wrote", "another signature", "stray.md was not published"]


def test_verify_all_has_a_line_for_each_fault(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    faults = damaged_everywhere(results)
    assert verify_command.main(["--all"], results.parent) == 1
    *lines, last = capsys.readouterr().out.splitlines()
    assert all(sum(fault in line for line in lines) >= 1 for fault in faults) and f"{len(lines)} faults" in last
    assert verify_command.main(["--all", "profile=mini"], results.parent) == 2


@pytest.mark.parametrize("change", [
    lambda text: text.replace('"inconclusive"', '"replicated"'), lambda text: text.replace("0.", "1."), lambda text: text[:-9],
])  # fmt: skip
def test_an_altered_report_is_read_by_nobody(tmp_path: Path, change: Callable[[str], str]) -> None:
    shutil.copy(RESULTS / "report.json", tmp_path)
    note(tmp_path)
    assert report_json.read(tmp_path)["claims"]
    path = tmp_path / "report.json"
    path.write_text(change(path.read_text(encoding="utf-8")), encoding="utf-8")
    refused(lambda: report_json.read(tmp_path), "report.json", "git checkout")


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """A copy of one published run, with a manifest of its own."""
    folder = tmp_path / "results"
    for kind, end in (("records", "json"), ("predictions", "jsonl")):
        (folder / "mini" / kind).mkdir(parents=True)
        shutil.copy(RESULTS / "mini" / kind / f"{NAME}.{end}", folder / "mini" / kind)
    note(folder)
    return folder


CHANGES: dict[str, tuple[str, Callable[[Path], object]]] = {
    "a digit": ("records", edited('"bleu": 0.', '"bleu": 1.')),
    "another rate": ("records", edited('"lr": ', '"lr": 9')),
    "a key twice": ("records", edited('"schema": 1,', '"schema": 1, "schema": 1,')),
    "line ends": ("records", edited("\n", "\r\n")),
    "a bit of predictions": ("predictions", flipped),
    "predictions cut": ("predictions", lambda path: path.write_bytes(path.read_bytes()[:-100])),
    "no predictions": ("predictions", lambda path: path.write_bytes(b"")),
    "predictions deleted": ("predictions", Path.unlink),
    "record deleted": ("records", Path.unlink),
}


@pytest.mark.parametrize(("kind", "change"), CHANGES.values(), ids=CHANGES)
def test_a_changed_file_is_one_line_that_brings_it_back(kind: str, change: Callable[[Path], object], results: Path) -> None:
    published(results / "mini")
    (path,) = (results / "mini" / kind).iterdir()
    change(path)
    with pytest.raises(UserError, match=rf"git checkout -- {path}$"):
        published(results / "mini")


def test_a_second_file_and_a_damaged_manifest_are_said(results: Path) -> None:
    other = results / "mini" / "records" / "zzz.json"
    shutil.copy(results / "mini" / "records" / f"{NAME}.json", other)
    with pytest.raises(UserError, match=r"zzz.json was not published"):
        published(results / "mini")
    note(results)
    with pytest.raises(UserError, match=f"belongs to run {NAME}"):
        published(results / "mini")
    other.unlink()
    with manifest.changing(results) as change:
        (change.staged / "a.md").write_text("a")
    with pytest.raises(UserError, match=r"zzz.json is missing"):  # a change of something else forgets nothing
        published(results / "mini")
    with manifest.changing(results) as change:
        change.remove(other)
    published(results / "mini")
    (results / manifest.NAME).write_text("x")
    with pytest.raises(UserError, match="is damaged"):
        published(results / "mini")


def test_the_manifest_is_sorted_and_notes_what_was_written_and_nothing_else(results: Path) -> None:
    edited('"bleu": 0.', '"bleu": 1.')(results / "mini" / "records" / f"{NAME}.json")
    (results / ".a.md.1.tmp").write_text("left by a kill")
    with manifest.changing(results) as change:
        (change.staged / "a.md").write_text("a")
    lines = (results / manifest.NAME).read_text().splitlines()
    assert [line[66:] for line in lines] == ["a.md", f"mini/predictions/{NAME}.jsonl", f"mini/records/{NAME}.json"]
    with pytest.raises(UserError, match="differs from what was published"):
        manifest.check(results)


def test_a_record_that_asked_for_something_else_than_its_name_says_is_refused() -> None:
    (cell,) = declared_cells("e2e", "mini", ["row/e2e=lora", "seed=0"])
    run = {"signature": cell.signature, "asked": signature.identity(cell.asked)}
    assert runs([cell], Store("published", RESULTS / "mini", {cell.signature: run}))
    for group, key, value in (("train", "lr", 9), ("task", "source", "folder"), ("", "seed", 7)):
        variant = json.loads(json.dumps(run))
        (variant["asked"][group] if group else variant["asked"])[key] = value
        with pytest.raises(UserError, match=f"{key}={value!r}"):
            runs([cell], Store("published", RESULTS / "mini", {cell.signature: variant}))


def test_multi_bleu_s_zero_is_what_outputs_without_a_match_give() -> None:
    """E2E's scorer puts a tiny number in place of 0, by which the predictions are scored again."""
    lines = [{"key": "0", "matches": [3, 1, 0, 0], "totals": [5, 4, 3, 2], "hyp_len": 5, "ref_len": 5}]
    assert score_mismatch({"measured": {"scores": {"bleu": 0.0}}}, lines) is None
    assert "bleu" in str(score_mismatch({"measured": {"scores": {"bleu": 0.01}}}, lines))
    lines[0]["matches"] = [3, 1, 1, 1]
    assert "bleu" in str(score_mismatch({"measured": {"scores": {"bleu": 0.0}}}, lines))


@pytest.mark.parametrize("change", [lambda bleu: 0.9, lambda bleu: 100 * bleu, lambda bleu: -3, lambda bleu: bleu + 1e-4])
def test_a_score_that_the_predictions_do_not_give_is_named(change: Callable[[float], float]) -> None:
    run = record.read(RESULTS / "mini" / "records" / f"{NAME}.json")
    lines = record.load_predictions(RESULTS / "mini" / "predictions" / f"{NAME}.jsonl")
    assert score_mismatch(run, lines) is None
    run["measured"]["scores"]["bleu"] = change(run["measured"]["scores"]["bleu"])
    assert "bleu" in str(score_mismatch(run, lines))
    assert score_mismatch(record.read(RESULTS / "mini" / "records" / f"{NAME}.json"), lines[::-1][1:]) is not None

"""Published results cannot be altered unnoticed: the manifest, and scores against the statistics of each input."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from lora_repro.errors import UserError
from lora_repro.records import manifest, record
from lora_repro.report.rescoring import score_mismatch
from lora_repro.results import Store, declared_cells, published, runs

RESULTS = Path(__file__).resolve().parents[1] / "results"
NAME = next(path.stem for path in sorted(RESULTS.glob("mini/records/*.json")) if '"bleu": 0.' in path.read_text("utf-8"))


def test_what_is_published_is_what_the_manifest_says() -> None:
    manifest.check(RESULTS)
    paths = [line[66:] for line in (RESULTS / manifest.NAME).read_text(encoding="utf-8").splitlines()]
    assert len(set(paths)) == len(paths)  # sha256sum -c reads it, to which a second hash is a failure


@pytest.mark.parametrize(("text", "left"), [(b"a", {hashlib.sha256(b"a").hexdigest()}), (b"edited", {"0" * 64, "1" * 64})])
def test_of_two_hashes_that_a_merge_left_the_file_s_own_stays(text: bytes, left: set[str], results: Path) -> None:
    (results / "a.md").write_bytes(text)
    with (results / manifest.NAME).open("a") as file:
        file.writelines(f"{digest}  a.md\n" for digest in (*left, "0" * 64))
    manifest.record_files(results, [])
    assert (manifest.read_manifest(results) or {})["a.md"] == left


def test_every_published_score_is_what_its_predictions_give() -> None:
    compared = 0
    for path in sorted(RESULTS.glob("*/records/*.json")):
        found = record.whole(record.read(path), path)
        lines = record.load_predictions(path.parents[1] / "predictions" / f"{path.stem}.jsonl")
        assert score_mismatch(found, lines) is None, path
        compared += len(lines)
    assert compared


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """A copy of one published run, with a manifest of its own."""
    folder = tmp_path / "results"
    for kind, end in (("records", "json"), ("predictions", "jsonl")):
        (folder / "mini" / kind).mkdir(parents=True)
        shutil.copy(RESULTS / "mini" / kind / f"{NAME}.{end}", folder / "mini" / kind)
    manifest.begin(folder)
    return folder


def edited(old: str, new: str) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        text = path.read_text(encoding="utf-8")
        assert old in text
        path.write_text(text.replace(old, new, 1), encoding="utf-8", newline="")

    return change


def flipped(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


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
    manifest.record_files(results, [other])
    with pytest.raises(UserError, match=f"belongs to run {NAME}"):
        published(results / "mini")
    other.unlink()
    manifest.record_files(results, [])
    with pytest.raises(UserError, match=r"zzz.json is missing"):  # a note of something else forgets nothing
        published(results / "mini")
    manifest.record_files(results, [], removed=[other])
    published(results / "mini")
    (results / manifest.NAME).write_text("x")
    with pytest.raises(UserError, match="is damaged"):
        published(results / "mini")


def test_the_manifest_is_sorted_and_notes_what_was_written_and_nothing_else(results: Path) -> None:
    edited('"bleu": 0.', '"bleu": 1.')(results / "mini" / "records" / f"{NAME}.json")
    (results / "a.md").write_text("a")
    (results / ".a.md.1.tmp").write_text("left by a kill")
    manifest.record_files(results, [results / "a.md"])
    lines = (results / manifest.NAME).read_text().splitlines()
    assert [line[66:] for line in lines] == ["a.md", f"mini/predictions/{NAME}.jsonl", f"mini/records/{NAME}.json"]
    manifest.begin(results)  # which makes the first one and no second
    with pytest.raises(UserError, match="differs from what was published"):
        manifest.check(results)


def noting(results: Path, name: str) -> None:
    for number in range(10):
        path = results / "mini" / "trials" / f"{name}{number}.json"
        path.write_text(name)
        manifest.record_files(results, [path])


def test_two_that_write_at_once_lose_no_line_of_each_other(tmp_path: Path) -> None:
    (tmp_path / "mini" / "trials").mkdir(parents=True)
    manifest.begin(tmp_path)
    both = [multiprocessing.get_context("fork").Process(target=noting, args=(tmp_path, name)) for name in "ab"]
    for one in both:
        one.start()
    for one in both:
        one.join()
    assert len(manifest.read_manifest(tmp_path) or ()) == 20
    manifest.check_evidence(tmp_path / "mini")


def test_a_record_that_asked_for_something_else_than_its_name_says_is_refused() -> None:
    (cell,) = declared_cells("e2e", "mini", ["row/e2e=lora", "seed=0"])
    found = {"signature": cell.signature, "asked": record.identity(cell.asked)}
    assert runs([cell], Store("published", RESULTS / "mini", {cell.signature: found}))
    for group, key, value in (("train", "lr", 9), ("task", "source", "folder"), ("", "seed", 7)):
        changed = json.loads(json.dumps(found))
        (changed["asked"][group] if group else changed["asked"])[key] = value
        with pytest.raises(UserError, match=f"{key}={value!r}"):
            runs([cell], Store("published", RESULTS / "mini", {cell.signature: changed}))


def test_multi_bleu_s_zero_is_what_outputs_without_a_match_give() -> None:
    """E2E's scorer puts a tiny number in place of 0, by which the predictions are scored again."""
    lines = [{"key": "0", "matches": [3, 1, 0, 0], "totals": [5, 4, 3, 2], "hyp_len": 5, "ref_len": 5}]
    assert score_mismatch({"measured": {"scores": {"bleu": 0.0}}}, lines) is None
    assert "bleu" in str(score_mismatch({"measured": {"scores": {"bleu": 0.01}}}, lines))
    lines[0]["matches"] = [3, 1, 1, 1]
    assert "bleu" in str(score_mismatch({"measured": {"scores": {"bleu": 0.0}}}, lines))


@pytest.mark.parametrize("change", [lambda bleu: 0.9, lambda bleu: 100 * bleu, lambda bleu: -3, lambda bleu: bleu + 1e-4])
def test_a_score_that_the_predictions_do_not_give_is_named(change: Callable[[float], float]) -> None:
    found = record.read(RESULTS / "mini" / "records" / f"{NAME}.json")
    lines = record.load_predictions(RESULTS / "mini" / "predictions" / f"{NAME}.jsonl")
    assert score_mismatch(found, lines) is None
    found["measured"]["scores"]["bleu"] = change(found["measured"]["scores"]["bleu"])
    assert "bleu" in str(score_mismatch(found, lines))
    assert score_mismatch(record.read(RESULTS / "mini" / "records" / f"{NAME}.json"), lines[::-1][1:]) is not None

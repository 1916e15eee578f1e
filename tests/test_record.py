"""Identity, atomic files and locks."""

from __future__ import annotations

import json
import math
import multiprocessing
import platform
import subprocess
import time
from multiprocessing.synchronize import Event
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from lora_repro.config import paths, signature
from lora_repro.config.schema import class_name, defaults
from lora_repro.errors import Busy, UserError
from lora_repro.records import provenance, record

RECORDS = sorted((Path(__file__).resolve().parents[1] / "results").glob("*/records/*.json"))

ASKED = {
    "backbone": {"_target_": "lora_repro.backbone.spec.BackboneSpec", "name": "b", "label": "B", "sizes": {}, "dropout": 0.0},
    "method": {"_target_": "lora_repro.methods.lora.Lora", "name": "lora", "rank": 8, "targets": ["query", "value"]},
    "train": {"_target_": "lora_repro.train.loop.TrainConfig", "lr": 1e-3, "micro_batch_size": None, "warmup": 500},
    "decode": {"_target_": "lora_repro.decode.beam.BeamSearch", "beam": 10, "batch_size": 16},
    "tracker": {"_target_": "lora_repro.tracking.metrics.NoTracker"},
    "seed": 0,
    "row": {"label": "x"},
    "paths": {"runs": "runs"},
    "device": "cpu",
}


def changed(path: str, value: object) -> dict[str, Any]:
    settings = json.loads(json.dumps(ASKED))
    node, _, leaf = path.rpartition(".")
    (settings[node] if node else settings)[leaf] = value
    return settings


@pytest.mark.parametrize(
    "path",
    ["row", "paths", "device", "tracker.mode", "backbone.label", "backbone.sizes", "decode.batch_size", "train.micro_batch_size",
     "train.recompute"],
)  # fmt: skip
def test_what_cannot_change_a_result_does_not_change_the_signature(path: str) -> None:
    assert signature.signature(changed(path, "other")) == signature.signature(ASKED)


@pytest.mark.parametrize("path", ["seed", "train.lr", "decode.beam", "backbone.name", "method.rank", "method.dropout"])
def test_everything_else_does(path: str) -> None:
    assert signature.signature(changed(path, 3)) != signature.signature(ASKED)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("method.dropout", 0.1),  # written out or left to the constructor
        ("method.alpha", 32.0),  # whole floats are integers
        ("train.clip", None),  # null where nothing is the default
        ("method._target_", "lora_repro.elsewhere.Lora"),
        ("probe", None),
        ("something_new", {"tables": 1}),  # no component
    ],
)
def test_an_option_at_its_default_and_a_class_that_moved_rename_nothing(
    path: str, value: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = signature.defaults
    monkeypatch.setattr(signature, "defaults", lambda target: usual(target.replace("elsewhere", "methods.lora")))
    assert signature.signature(changed(path, value)) == signature.signature(ASKED)


def test_a_class_of_another_package_is_no_class_of_ours_by_the_same_name(monkeypatch: pytest.MonkeyPatch) -> None:
    usual, ours = signature.defaults, ASKED["method"]["_target_"]
    monkeypatch.setattr(signature, "defaults", lambda target: usual(ours if target.endswith(".Lora") else target))
    asked = [changed("method._target_", f"{place}.Lora") for place in ("lora_repro.elsewhere", "mine.lora", "yours.lora")]
    assert len({signature.signature(one) for one in asked}) == 3
    earlier = {"signature": "s", "asked": signature.identity(ASKED)}
    signature.check_same_config(earlier, asked[0])
    with pytest.raises(UserError, match=r"method\._target_='mine.lora.Lora'"):
        signature.check_same_config(earlier, asked[1])


@pytest.mark.parametrize(("path", "value"), [("train.warmup", None), ("train.compile", 0)])  # by default 500 and false
def test_what_only_resembles_a_default_is_not_that_default(path: str, value: object) -> None:
    assert signature.signature(changed(path, value)) != signature.signature(ASKED)


def test_a_record_that_was_asked_otherwise_is_refused(tmp_path: Path) -> None:
    record.save(tmp_path, {"schema": 1, "signature": "s", "status": "finished", "asked": signature.identity(ASKED)}, [])
    assert record.find(tmp_path, ASKED) is not None
    assert record.find(tmp_path, changed("train.new_option", 7)) is not None  # the record is older than the option
    with pytest.raises(UserError, match=r"s was made with train.warmup=500, .* now has train.warmup=100"):
        record.find(tmp_path, changed("train.warmup", 100))


def test_the_defaults_that_published_runs_are_named_by_do_not_change() -> None:
    """A run is named by what differs from these: to change one is to give its name to another run. A new field is added here."""
    snapshot = json.loads((Path(__file__).parent / "defaults.json").read_text(encoding="utf-8"))
    targets = {node["_target_"] for path in RECORDS for node in record.read(path)["asked"].values() if isinstance(node, dict)}
    assert {class_name(target) for target in targets} <= set(snapshot)
    for target in targets:
        entry, today = snapshot[class_name(target)], json.loads(json.dumps(defaults(target)))
        assert today == entry, f"{target}: a default changed, or a new field is missing in tests/defaults.json"


def test_every_published_record_is_named_by_what_it_asked() -> None:
    assert RECORDS
    for path in RECORDS:
        content = record.read(path)
        assert signature.signature(content["asked"]) == content["signature"] == path.stem


def test_find_returns_done_records_and_leaves_failed_ones_to_be_repeated(tmp_path: Path) -> None:
    assert record.find(tmp_path) is None
    for status, found in (("finished", True), ("diverged", True), ("collapsed", True), ("failed", False)):
        record.save(tmp_path, {"schema": 1, "signature": "s", "status": status}, [{"key": "k", "output": "é"}])
        assert (record.find(tmp_path) is not None) == found
    assert record.load_predictions(tmp_path / "predictions.jsonl") == [{"key": "k", "output": "é"}]


def test_code_is_dirty_where_what_computes_is_not_its_commit_s_or_git_says_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def git(*words: str) -> str:
        who = ["-c", "user.name=x", "-c", "user.email=x"]
        return subprocess.run(["git", *who, *words], cwd=tmp_path, check=True, capture_output=True, text=True).stdout.strip()

    for name in ("lora_repro", "conf", "docs"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "one").write_text("1")
    monkeypatch.setattr(paths, "INSTALLED", False)
    monkeypatch.setattr(paths, "LIBRARY", tmp_path / "lora_repro")
    unknown = {"git_sha": None, "dirty": True}
    assert provenance._look() == unknown
    git("init")
    git("add", ".")
    git("commit", "-m", "x")
    clean = {"git_sha": git("rev-parse", "HEAD"), "dirty": False}
    (tmp_path / "docs" / "one").write_text("2")  # which changes no number
    assert provenance._look() == clean
    (tmp_path / "conf" / "one").write_text("2")
    assert provenance._look() == {**clean, "dirty": True}
    git("checkout", "conf")
    (tmp_path / "lora_repro" / "new").write_text("")  # tracked or not
    assert provenance._look() == {**clean, "dirty": True}
    (tmp_path / "lora_repro" / "new").unlink()
    # A run forked from a server imports its method long after the server looked: what changed by then counts, committed or not.
    for name, dirty in (("docs", False), ("conf", True)):
        monkeypatch.setattr(provenance, "_IMPORTED", provenance._look())
        (tmp_path / name / "one").write_text("3")
        git("commit", "-am", name)
        provenance.recheck()
        assert provenance.code()["dirty"] == dirty
    monkeypatch.setattr(provenance, "_IMPORTED", provenance._look())
    (tmp_path / "conf" / "new.yaml").write_text("")
    provenance.recheck()
    assert provenance.code()["dirty"]
    monkeypatch.setattr(paths, "INSTALLED", True)  # inside somebody else's repository
    assert provenance._look() == unknown


@pytest.mark.parametrize("flags, units", [
    ("fpu avx2 avx512f", " no BF16"), ("fpu avx512_bf16", " BF16"), ("fpu avx512_bf16 amx_bf16 amx_tile", " AMX BF16"),
])  # fmt: skip
def test_the_class_of_arithmetic_tells_by_which_units_a_cpu_multiplies_bf16(
    flags: str, units: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """AMD's and Intel's of one vector width are one to torch; in bf16 they parted one seed by 6 BLEU."""
    monkeypatch.setattr(provenance, "CPUINFO", tmp_path / "cpuinfo")
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    plain = f"{platform.machine()} AVX512"
    assert provenance.kernels(torch.device("cpu")) == plain  # no such file on another system
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\nmodel name\t: Some CPU\nflags\t\t: {flags}\n")
    assert provenance.kernels(torch.device("cpu")) == plain + units
    assert provenance.device_name(torch.device("cpu")).startswith("Some CPU, ")
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    assert provenance.kernels(torch.device("cpu")) == f"{platform.machine()} AVX2"  # which has none


def test_nan_never_reaches_a_file_and_the_old_record_survives_with_its_predictions(tmp_path: Path) -> None:
    content = record.save(tmp_path, {"schema": 1, "signature": "s", "status": "finished"}, [{"key": "a"}])
    for more, row in (({"bleu": math.nan}, {"key": "b"}), ({}, {"key": "b", "cider": math.nan})):
        with pytest.raises(ValueError):
            record.save(tmp_path, {"schema": 1, **more}, [row])
    assert record.find(tmp_path) == content and record.defect(tmp_path, content, record.FILES) is None
    assert {path.name for path in tmp_path.iterdir()} == {"record.json", "predictions.jsonl"}


@pytest.mark.parametrize("key", ["status", "asked"])
def test_a_record_that_does_not_say_what_it_is_of_is_named(key: str, tmp_path: Path) -> None:
    content = {"schema": 1, "signature": "s", "status": "finished", "asked": {}}
    record.save(tmp_path, {name: value for name, value in content.items() if name != key}, [])
    with pytest.raises(UserError, match=f"record.json has no {key}; delete it"):
        record.find(tmp_path, ASKED)


@pytest.mark.parametrize("change", [('"bleu": 0.5', '"bleu": 0.6'), ('"seed": 0', '"seed": 1'), ('"schema": 1', '"schema":1')])
def test_a_record_with_a_changed_digit_is_refused(change: tuple[str, str], tmp_path: Path) -> None:
    content = {"schema": 1, "signature": "s", "status": "finished", "asked": {"seed": 0}, "measured": {"scores": {"bleu": 0.5}}}
    record.save(tmp_path, content, [])
    path = tmp_path / "record.json"
    path.write_text(path.read_text().replace(*change))
    if change[0] == '"schema": 1':  # another form of the same
        assert record.read(path)["measured"] == content["measured"]
    else:
        with pytest.raises(UserError, match="does not match its own hash"):
            record.read(path)


@pytest.mark.parametrize("name", record.FILES)
def test_a_file_beside_a_record_that_is_not_the_run_s_is_named(name: str, tmp_path: Path) -> None:
    for other in record.FILES:
        (tmp_path / other).write_bytes(b"x")
    content = record.save(tmp_path, {"schema": 1, "signature": "s", "status": "finished", "asked": {}}, [])
    assert record.defect(tmp_path, content, record.FILES) is None and record.find(tmp_path, {})
    (tmp_path / name).write_bytes(b"y")
    assert record.defect(tmp_path, content, record.FILES) == name
    assert (record.find(tmp_path, {}) is None) == (name != "metrics.jsonl")  # which nothing is computed from
    (tmp_path / name).unlink()
    assert record.defect(tmp_path, content, record.FILES) == name


def test_a_refused_command_leaves_nothing_and_others_folders_stay(tmp_path: Path) -> None:
    with record.lock(tmp_path / "runs" / "mini" / "s"):
        record.vacate(tmp_path / "runs" / "mini" / "s")
    assert not list(tmp_path.iterdir())
    with record.lock(tmp_path / "runs" / "mini" / "s"):
        (tmp_path / "runs" / "mini" / "s" / "metrics.jsonl").touch()
        record.vacate(tmp_path / "runs" / "mini" / "s")
    assert (tmp_path / "runs" / "mini" / "s" / "metrics.jsonl").exists()


def hold(folder: Path, held: Event) -> None:
    with record.lock(folder):
        held.set()
        time.sleep(600)


def test_a_second_process_is_told_to_leave_and_a_dead_one_leaves_no_lock(tmp_path: Path) -> None:
    fork = multiprocessing.get_context("fork")
    holder = fork.Process(target=hold, args=(tmp_path, event := fork.Event()))
    holder.start()
    assert event.wait(60)
    with pytest.raises(Busy, match=f"{holder.pid} on") as error, record.lock(tmp_path):
        pass
    assert error.value.exit_code == 75
    holder.kill()
    holder.join()
    with record.lock(tmp_path):
        pass


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"paths.runs"), record.lock(tmp_path / "file" / "run"):
        pass


@pytest.mark.parametrize("platform", ["linux", "darwin"])
def test_peak_memory_where_there_is_no_proc_is_in_mib(platform: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance.os, "getpid", lambda: 0)  # of which /proc has nothing
    monkeypatch.setattr(provenance.sys, "platform", platform)
    usage = SimpleNamespace(ru_maxrss=300 * 2**20 if platform == "darwin" else 300 * 1024)
    monkeypatch.setattr(provenance.resource, "getrusage", lambda who: usage)
    assert provenance.peak_memory_mb(torch.device("cpu")) == 300

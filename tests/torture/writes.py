"""A fault at every write of every command that writes, as SQLite is tested: the process dies, the disk is full, a write fails.

After it, what is published must be whole; then the same command, undisturbed, must leave the bytes of one that never was
disturbed, and no temporary file.
"""

from __future__ import annotations

import csv
import hashlib
import importlib
import io
import json
import os
import shutil
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from omegaconf import DictConfig

from lora_repro import cli, console
from lora_repro.backbone import fetch as backbones
from lora_repro.commands import publish, render, verify
from lora_repro.config import paths
from lora_repro.config.compose import compose
from lora_repro.records import manifest, rates
from lora_repro.records.record import read
from lora_repro.records.transaction import JOURNAL, STAGED
from lora_repro.report import show
from lora_repro.report.render import MARKS
from lora_repro.run import run as line
from lora_repro.sources import data
from lora_repro.sweep import tune
from lora_repro.sweep.supervise import PRELOADED
from tests.faults import FAULTS, KILLED, counted, interrupted
from tests.forked import SERVER
from tests.planted import note
from tests.torture.machine import forks
from tests.torture.runs import SETTINGS, Bench, left_in, wrong

RESULTS = Path(__file__).resolve().parents[2] / "results"
EXPERIMENT = "e2e"
RUN = [*SETTINGS, "task=entailment", "backbone=random_bert", "method=lora"]
TUNE = ["profile=smoke", "experiment=e2e", "row/e2e=lora", "tune.most=3", "train.checkpoint_every=4"]
COMPARE = [
    *"--model random_bert --train train.csv --test train.csv --methods lora,linear_probe --seeds 1 profile=smoke".split(),
    *"task.held_out=10 data.n_train=null data.n_dev=null data.n_test=null".split(),
    *"tune.most=3 train.epochs=1 launch.together=1".split(),
]
AGAIN = 20  # seconds until what a killed parent started has let go


@dataclass
class Command:
    """job: what it does in a folder. prepare: fills that folder. look: what it is to leave, by name."""

    job: Callable[[Path], int]
    prepare: Callable[[Path], object]
    look: Callable[[Path], dict[str, str]]
    done: str = "\0"  # what it says where it was done already and will not do it twice


def files(folder: Path) -> dict[str, str]:
    """The hash of every file of a folder but locks."""
    entries = [
        path
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.endswith(("lock", ".marker"))
    ]
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in entries
    }


def trials(folder: Path) -> dict[str, str]:
    """What searches chose and measured, without seconds and dates."""
    summaries = {}
    for path in sorted(folder.rglob("trials/*.json")):
        entry = read(path)
        each = [[(one["lr"], one["dev_loss"]) for one in search["trials"]] for search in entry["searches"]]
        summaries[path.name] = json.dumps([entry["chosen"], each])
    return summaries


def of_runs(folder: Path) -> dict[str, str]:
    return {
        path.parent.name: str(left_in(path.parent)) for path in sorted(folder.glob("smoke/*/record.json"))
    }


def some_runs() -> list[Path]:
    """Four published records of one experiment; two of them are put into results/ by `published`, all into runs/ by `runs`."""
    records = [
        path
        for path in sorted((RESULTS / "mini" / "records").glob("*.json"))
        if read(path)["row"]["table"] == EXPERIMENT
    ]
    return records[:4]


def published(root: Path) -> None:
    for record in some_runs()[:2]:
        for path in (record, record.parents[1] / "predictions" / f"{record.stem}.jsonl"):
            place = root / "results" / path.relative_to(RESULTS)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, place)
    note(root / "results")
    (root / "README.md").write_text("".join(MARKS))


def unpublished(root: Path) -> None:
    """As `published`, and all four in runs/."""
    published(root)
    for record in some_runs():
        place = root / "runs" / "mini" / record.stem
        place.mkdir(parents=True)
        shutil.copyfile(record, place / "record.json")
        shutil.copyfile(
            record.parents[1] / "predictions" / f"{record.stem}.jsonl", place / "predictions.jsonl"
        )


@contextmanager
def one_experiment() -> Iterator[None]:
    """Within it there is one experiment, which asks for four runs."""
    cells = [SimpleNamespace(signature=path.stem, setting=path.stem) for path in some_runs()]
    with (
        patch.object(show, "names", lambda *given: [EXPERIMENT]),
        patch.object(publish, "requested_runs", lambda profile: cells),
    ):
        yield


@one_experiment()
def publishing(root: Path) -> int:
    return publish.main(["profile=mini"], root)


@one_experiment()
def rendering(root: Path) -> int:
    return render.main([], root)


def rendered(fill: Callable[[Path], None], job: Callable[[Path], int]) -> Callable[[Path], None]:
    """`fill`, and the job done once in a folder beside, so that its forks find every configuration composed."""

    def prepare(root: Path) -> None:
        fill(root)
        shutil.copytree(root, copy := root.with_name("beside"))
        with redirect_stdout(io.StringIO()):
            job(copy)
        shutil.rmtree(copy)

    return prepare


def sources(root: Path) -> None:
    """A backbone in a wheel, and data in a file and in an archive, as a server would have them; nothing fetched."""
    server, cache = root / "served", root / "cache" / "wheels"
    for folder in (server, cache, root / "conf" / "backbone"):
        folder.mkdir(parents=True)
    (server / "train.csv").write_bytes(b"a,b\n" * 20_000)
    with zipfile.ZipFile(server / "all.zip", "w") as archive:
        archive.writestr(zipfile.ZipInfo("dev.csv"), b"c,d\n" * 20_000)
    wheel = cache / "tiny-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name in ("model.safetensors", "config.json", "tokenizer.json"):
            archive.writestr(zipfile.ZipInfo(f"tiny/{name}"), name.encode() * 9_000)
    lines = [
        "label: Tiny",
        "source: wheel",
        "wheel:",
        "  package: tiny",
        "  version: '1.0'",
        "  file: tiny/model.safetensors",
    ]
    inside = hashlib.sha256(b"model.safetensors" * 9_000).hexdigest()
    lines += [
        f"  sha256: '{hashlib.sha256(wheel.read_bytes()).hexdigest()}'",
        f"  weights_sha256: '{inside}'",
    ]
    (root / "conf" / "backbone" / "tiny.yaml").write_text("\n".join(lines) + "\n")


@console.command
def fetching(arguments: Any, root: Path) -> int:
    """What `fetch` does with each name, from a server that is a folder."""
    os.environ["LORA_REPRO_CACHE"] = str(root / "cache")
    url = (root / "served").as_uri()
    source = {
        "a/train.csv": {"url": f"{url}/train.csv"},
        "a/dev.csv": {"url": f"{url}/all.zip", "member": "dev.csv"},
    }
    data.fetch(data.Source("a", "a title", "a licence", source), root / "data")
    backbones.fetch("tiny", conf=root / "conf")
    return 0


def tabling(root: Path) -> int:
    return render.main(["tables", EXPERIMENT], root)


def judging(root: Path) -> int:
    return render.main(["claims"], root)


def reporting(root: Path) -> int:
    return render.main(["report"], root)


@lru_cache(maxsize=1)
def configuration(root: Path) -> DictConfig:
    return compose([*RUN, f"paths.runs={root / 'runs'}"])


@console.command
def running(arguments: Any, root: Path) -> int:
    """What `run` does once Hydra has composed, which takes most of a tiny run's time."""
    line.run(configuration(root), [*RUN, f"paths.runs={root / 'runs'}"])
    return 0


def run(root: Path) -> int:
    return running([], root)


def tuning(root: Path) -> int:
    return cli.main(["tune", *TUNE, f"paths.runs={root / 'runs'}"])


def ran(root: Path) -> None:
    configuration(root)
    assert interrupted(lambda: run(root), root, 0, log=root.with_name("log")) == 0, root.with_name(
        "log"
    ).read_text()


def exporting(root: Path) -> int:
    (folder,) = (path.parent for path in (root / "runs").glob("smoke/*/record.json"))
    return cli.main(["export", str(folder), "--to", str(root / "out"), "--format", "merged"])


def comparing(root: Path) -> int:
    forks()
    os.chdir(root)
    os.environ.pop(paths.OWN, None)
    rates._view = None  # the rates that it searches itself
    return cli.main(["compare", *COMPARE])


def compared(root: Path) -> None:
    """The data, and every trial and run of the comparison; its configuration and its answer are not there."""
    with (root / "train.csv").open("w", newline="") as file:
        rows = [
            (f"It was {word} dish {n}.", label)
            for n in range(20)
            for word, label in (("a good", "yes"), ("a bad", "no"))
        ]
        csv.writer(file).writerows([("text", "label"), *rows])
    assert interrupted(lambda: comparing(root), root, 0, log=root.with_name("log")) == 0, root.with_name(
        "log"
    ).read_text()
    place = root / "compare-train"
    for name in ("conf", "best"):
        shutil.rmtree(place / name, ignore_errors=True)
    for path in place.glob("comparison.*"):
        path.unlink()


def answered(root: Path) -> dict[str, str]:
    """The comparison's files, but for the time that it took."""
    return files(root)


COMMANDS = {
    "run": Command(run, configuration, lambda root: of_runs(root / "runs")),
    "tune": Command(tuning, lambda root: tune.searches([*TUNE, f"paths.runs={root / 'runs'}"]), trials),
    "publish": Command(publishing, rendered(unpublished, publishing), files),
    "render tables": Command(tabling, rendered(published, tabling), files),
    "render": Command(rendering, rendered(published, rendering), files),
    "render report": Command(reporting, rendered(published, reporting), files),
    "render claims": Command(judging, rendered(published, judging), files),
    "export": Command(exporting, ran, lambda root: files(root / "out"), "is not empty"),
    "fetch": Command(lambda root: fetching([], root), sources, files),
    "compare": Command(comparing, compared, answered),
}


READERS: dict[str, Callable[[Path], int]] = {
    "verify": lambda root: verify.main(["--all"], root),
    "render tables": tabling,
    "render": rendering,
    "publish": publishing,
}


def preloaded() -> None:
    """Import what commands import, once and not in each fork."""
    for module in set(PRELOADED) - {SERVER}:
        importlib.import_module(module)


class Writes(Bench):
    """Trials of one command after another."""

    def damaged_results(self) -> str:
        """Damage a file of results/, then a command that reads there: it says so in a line, or makes the file anew from records.

        `verify` names it, whichever it is.
        """
        original = self.folder / "results_of_all"
        if not original.exists():
            preloaded()
            unpublished(original)
            with redirect_stdout(io.StringIO()):
                rendering(original)
        root = self.new() / "root"
        shutil.copytree(original, root)
        path = self.random.choice([root / "results" / name for name in sorted(files(root / "results"))])
        what, (name, job) = f"{self.damage(path)} {path.name}", self.random.choice(list(READERS.items()))
        left = path.read_bytes() if path.exists() else None
        log = root.with_name("log")
        code = interrupted(lambda: job(root), root, 0, log=log)
        output, faults = log.read_text(errors="replace"), damaged(root / "results") if code != 2 else ""
        errors = [line for line in output.splitlines() if line.startswith("error:")]
        now = path.read_bytes() if path.exists() else None
        shutil.rmtree(root.parent)
        codes = (1, 2) if name == "verify" else (0, 2)
        if "Traceback" in output or code not in codes or (code == 2 and len(errors) != 1):
            return f"{what}, {name}: exit code {code}: {output[-300:]}"
        if code == 2:
            return "" if path.name in errors[0] or path.name == manifest.NAME else f"{what}, {name}: {errors[0]}"
        if name == "verify":
            return "" if path.name in output else f"{what}, verify: exit code {code}: {output[-300:]}"
        evidence = path.parent.name in manifest.EVIDENCE
        return f"{what}, {name}: nothing said" if evidence or (now == left and path.name not in faults) else ""

    def places(self, name: str, every: int) -> Iterator[str]:
        """What went wrong at each `every`-th write of a command, each fault in turn; empty if nothing."""
        preloaded()
        command, root, start = COMMANDS[name], self.new() / "root", self.new() / "start"
        log = root.with_name("log")
        start.mkdir()
        root.mkdir()
        command.prepare(root)  # where it will be, since some files hold their place
        shutil.copytree(root, start, dirs_exist_ok=True)
        code, writes = counted(lambda: command.job(root), root, 0, "kill", log)
        reference = command.look(root)
        assert code == 0 and reference and writes, log.read_text()
        self.writes[name] = writes
        for number in range(1, writes + 1):
            for place, fault in enumerate(FAULTS):
                if (number + place) % every == 0:
                    bad = self.at(command, root, start, reference, number, fault)
                    yield f"{name}, {fault} at write {number} of {writes}: {bad}" if bad else ""
        shutil.rmtree(start)

    def at(
        self, command: Command, root: Path, start: Path, whole: dict[str, str], number: int, fault: str
    ) -> str:
        """What goes wrong if the command meets a fault at one write; empty if nothing."""
        log = root.with_name("log")
        shutil.rmtree(root)
        shutil.copytree(start, root)
        code = interrupted(lambda: command.job(root), root, number, fault, log)
        if code == 0:
            return "" if command.look(root) == whole else "no line, and not what an undisturbed one leaves"
        output = log.read_text(errors="replace")
        bad = (
            ""
            if code == KILLED
            else wrong(code, f"error: {output}" if "runs are done" in output else output, (0, 1, 2, 75))
        )
        if bad or (bad := damaged(root / "results")):
            return bad
        until = time.monotonic() + AGAIN
        while (
            code := interrupted(lambda: command.job(root), root, 0, log=log)
        ) == 75 and time.monotonic() < until:
            time.sleep(1)
        output = log.read_text(errors="replace")
        if bad := "" if command.done in output else wrong(code, output, (0,)):
            return f"then {bad}"
        state = command.look(root)
        if state != whole:
            return f"then other results: {sorted(key for key in {*state, *whole} if state.get(key) != whole.get(key))}"
        rest = [
            path.name for path in root.rglob("*") if path.suffix == ".tmp" or path.name in (STAGED, JOURNAL)
        ]
        return f"then it leaves {rest}" if rest else ""


def damaged(results: Path) -> str:
    """What of results/ is not what was published, once the next command has settled it."""
    return "; ".join(manifest.faults(results)) if results.is_dir() else ""

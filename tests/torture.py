"""Kill, damage and mislead the suite, and count what survived: `make torture` (QUICK=1: two minutes), `python -m tests.torture`.

Every trial is drawn from one seed. It survives if the work ends with the bits of an undisturbed run or with one line that says
what is wrong; lost work, other bits, silence, a traceback or a leftover fail it. The last counts are kept in results/torture/.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lora_repro import cli, run
from lora_repro.config.compose import build, compose, resolved
from lora_repro.config.kinds import COMPONENTS
from lora_repro.config.schema import fields
from lora_repro.errors import UserError
from lora_repro.exchange.restore import configuration
from lora_repro.records import manifest, record
from lora_repro.records.disk import sha256, write_json
from lora_repro.results import own

RESULTS = Path(__file__).resolve().parents[1] / "results"
SETTINGS = ["profile=smoke", "train.lr=1e-2", "train.checkpoint_every=1", "train.eval_every=2", "device=cpu"]
JOBS = [
    ["task=entailment", "backbone=random_bert", "method=lora"],
    ["task=sentiment", "backbone=random_bert", "method=full"],
    ["task=similarity", "backbone=random_gpt2", "method=bitfit"],
    ["task=entailment", "backbone=random_llama", "method=adapter_h"],
]
LEFT = ("adapter.safetensors", "predictions.jsonl")
JUNK = "abc null nan inf -inf 1.5 -1 1e400 true [] [1,x] {a:1} '' 100000000000 ${foo} '${oc.env:HOME}'".split()
Trial = Callable[[], str]  # what went wrong; empty if nothing


def child(arguments: list[str], log: Path) -> multiprocessing.process.BaseProcess:
    """`python -m lora_repro.run <arguments>` in a fork of this process, which has imported everything; output to `log`."""

    def body() -> None:
        handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(handle, 1)
        os.dup2(handle, 2)
        cli.heed_signals()
        sys.argv[1:] = arguments
        run.main(arguments)

    process = multiprocessing.get_context("fork").Process(target=body)
    process.start()
    return process


def finish(arguments: list[str], log: Path) -> tuple[int, str]:
    """Exit code and output of a run that nobody disturbs."""
    process = child(arguments, log)
    process.join(240)
    if process.exitcode is None:
        process.kill()
        return -1, "hangs"
    return process.exitcode, log.read_text(errors="replace")


def left(runs: Path) -> dict[str, str]:
    """What a finished run left: hashes, and scores; why it is not clean, if it is not."""
    (folder,) = (path.parent for path in runs.glob("smoke/*/record.json"))
    found = {name: sha256(folder / name) for name in LEFT}
    extra = {path.name for path in folder.iterdir()} - {*record.FILES, "record.json", "lock", "attempts.json"}
    scores = json.dumps(record.read(folder / "record.json")["measured"]["scores"])
    return {**found, "scores": scores, "leftovers": ",".join(sorted(extra))}


def wrong(code: int, said: str, codes: tuple[int, ...]) -> str:
    """Why an ending is not a clean one: a traceback, an undocumented code, or a failure that says nothing."""
    if "Traceback" in said:
        return f"traceback: {said.strip().splitlines()[-1][:200]}"
    if code not in codes:
        return f"exit code {code}: {said[-200:]}"
    return "" if code == 0 or "error:" in said else f"exit code {code} and no line"


class Bench:
    """The trials of one seed, each in a folder of its own."""

    def __init__(self, seed: int, folder: Path) -> None:
        self.random, self.folder, self.whole, self.seconds = random.Random(seed), folder, {}, 1.0  # type: ignore[var-annotated]

    def job(self) -> tuple[list[str], dict[str, str]]:
        """A command without its runs folder, and what it leaves undisturbed."""
        job = self.random.choice(JOBS)
        if (name := " ".join(job)) not in self.whole:
            runs, began = self.new(), time.monotonic()
            code, said = finish([*SETTINGS, *job, f"paths.runs={runs}"], runs / "log")
            assert code == 0, said
            self.whole[name], self.seconds = left(runs), time.monotonic() - began
        return [*SETTINGS, *job], self.whole[name]

    def new(self) -> Path:
        return Path(tempfile.mkdtemp(dir=self.folder))

    def stopped(self, number: int) -> str:
        """Stop a run at random moments, up to three times; then let it end."""
        job, whole = self.job()
        runs = self.new()
        command = [*job, f"paths.runs={runs}"]
        for _ in range(self.random.randint(1, 3)):
            process = child(command, runs / "log")
            process.join(self.random.random() * self.seconds)
            if process.exitcode is None and process.pid:
                os.kill(process.pid, number)
                process.join()
                if number != signal.SIGKILL and (bad := wrong(process.exitcode or 0, (runs / "log").read_text(), (0, 75, 130))):
                    return bad
        code, said = finish(command, runs / "log")
        return wrong(code, said, (0,)) or ("" if left(runs) == whole else f"other results: {left(runs)}, not {whole}")

    def damage(self, path: Path) -> str:
        """Flip, cut, zero, empty or delete a file; the word for it."""
        data = bytearray(path.read_bytes())
        kind = self.random.choice(["flip", "cut", "zero", "empty", "delete"] if data else ["delete"])
        place = self.random.randrange(len(data)) if data else 0
        if kind == "flip":
            data[place] ^= 1 << self.random.randrange(8)
        changed = {"cut": data[:place], "zero": bytes(len(data)), "empty": b""}.get(kind, data)
        path.unlink() if kind == "delete" else path.write_bytes(changed)
        return kind

    def damaged_run(self, finished: bool) -> str:
        """Damage one file of a run, killed or finished; the same command ends as undisturbed, or refuses in a line."""
        job, whole = self.job()
        runs = self.new()
        command = [*job, f"paths.runs={runs}"]
        process = child(command, runs / "log")
        process.join(None if finished else (0.3 + 0.6 * self.random.random()) * self.seconds)
        if process.exitcode is None:
            process.kill()
            process.join()
        files = [path for path in sorted(runs.glob("smoke/*/**/*")) if path.is_file() and path.name != "lock"]
        if not files:
            return ""
        path = self.random.choice(files)
        what = f"{self.damage(path)} {path.name}"
        if finished and path.name in ("predictions.jsonl", "record.json") and path.exists():
            try:
                own(path.parents[1])
                return f"{what}: a table would have shown it"
            except UserError:
                pass
        code, said = finish(command, runs / "log")
        if bad := wrong(code, said, (0, 2)):
            return f"{what}: {bad}"
        return "" if code or left(runs) == whole else f"{what}: other results"

    def damaged_results(self) -> str:
        """Damage one published file, in a copy of its folder: the check names it."""
        path = self.random.choice([RESULTS / line[66:] for line in (RESULTS / manifest.NAME).read_text().splitlines()])
        copy = self.new() / "results"
        target = copy / path.relative_to(RESULTS)
        shutil.copytree(path.parent, target.parent)
        inside = str(target.parent.relative_to(copy))
        keep = [line for line in (RESULTS / manifest.NAME).read_text().splitlines() if line[66:].rpartition("/")[0] == inside]
        (copy / manifest.NAME).write_text("".join(f"{line}\n" for line in keep))
        what = self.damage(target)
        try:
            manifest.check(copy, [inside] if inside != "." else [""])
        except UserError as error:
            return "" if path.name in str(error) and "\n" not in str(error) else f"{what} {path.name}: {error}"
        return f"{what} {path.name}: nothing said"

    def bad_setting(self) -> str:
        """Junk in a field of a component: built, or refused in one line."""
        group = self.random.choice([*COMPONENTS, "seed", "launch.tries", "paths.runs", "row"])
        key = group
        config = compose([])
        if group in COMPONENTS:
            key = f"{group}.{self.random.choice(fields(str(config[group]._target_)) or ('x',))}"
        override = f"{key}={self.random.choice(JUNK)}"
        try:
            asked = resolved(compose([override]))
            for name in ("method", "train", "decode", "task", "data"):
                build(asked[name])
        except UserError as error:
            return "" if "\n" not in str(error) else f"{override}: several lines"
        except Exception as error:
            return f"{override}: {type(error).__name__}: {error}"
        return ""

    def hostile_record(self) -> str:
        """A record with one value replaced: read as it is or refused in one line, and it never says what this machine keeps."""
        os.environ["TORTURE_SECRET"] = secret = "verysecretkey"
        found = json.loads(self.random.choice(sorted(RESULTS.glob("*/records/*.json"))).read_text())
        node: Any = found
        while isinstance(node, dict) and node:
            parent, key = node, self.random.choice(sorted(node))
            node = node[key]
        junk = [None, [], {}, "x", 1e300, -1, "${oc.env:TORTURE_SECRET}", "../../x", {"_target_": "os.system"}]
        parent[key] = self.random.choice(junk)
        path = self.new() / "record.json"
        path.write_text(json.dumps(found))
        try:
            config = configuration(record.whole(record.read(path), path))
            for group in ("task", "method", "train"):
                if secret in repr(build(config[group])):
                    return f"{key}: the environment was read"
        except UserError as error:
            return "" if "\n" not in str(error) and secret not in str(error) else f"{key}: {error}"
        except Exception as error:
            return f"{key}={parent[key]!r}: {type(error).__name__}: {error}"
        return ""

    def crowd(self, size: int) -> str:
        """Several processes at one run: it ends as undisturbed, the others say in a line that it goes on."""
        job, whole = self.job()
        runs = self.new()
        command = [*job, f"paths.runs={runs}"]
        processes = [child(command, runs / f"log{i}") for i in range(size)]
        for process in processes:
            process.join()
        for i, process in enumerate(processes):
            if bad := wrong(process.exitcode or 0, (runs / f"log{i}").read_text(), (0, 75)):
                return bad
        return "" if left(runs) == whole else "other results"


def trials(bench: Bench, quick: bool) -> list[tuple[str, Trial, int]]:
    """(kind, a trial, how many)."""
    few = quick
    return [
        ("damage in results/", bench.damaged_results, 20 if few else 400),
        ("bad setting", bench.bad_setting, 60 if few else 500),
        ("hostile record", bench.hostile_record, 60 if few else 500),
        ("kill -9 of a run", lambda: bench.stopped(signal.SIGKILL), 4 if few else 100),
        ("SIGTERM of a run", lambda: bench.stopped(signal.SIGTERM), 3 if few else 40),
        ("Ctrl-C of a run", lambda: bench.stopped(signal.SIGINT), 2 if few else 20),
        ("damage in an unfinished run", lambda: bench.damaged_run(False), 4 if few else 60),
        ("damage in a finished run", lambda: bench.damaged_run(True), 4 if few else 40),
        ("2 processes at one run", lambda: bench.crowd(2), 1 if few else 10),
        ("8 processes at one run", lambda: bench.crowd(8), 1 if few else 5),
    ]


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.torture")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)
    deadline = time.monotonic() + (150 if given.quick else 1800)
    counts: dict[str, Any] = {}
    failures: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(given.seed, Path(folder))
        for kind, trial, times in trials(bench, given.quick):
            tried = survived = 0
            while tried < times and (time.monotonic() < deadline or not tried):
                tried += 1
                if bad := trial():
                    failures.append(f"{kind}, trial {tried}: {bad}")
                else:
                    survived += 1
            counts[kind] = {"survived": survived, "tried": tried}
            print(f"{kind:<30}{survived} / {tried}", flush=True)
    print(*failures, sep="\n")
    if not given.quick:
        path = RESULTS / "torture" / "last.json"
        write_json(path, {"seed": given.seed, "counts": counts, "failures": failures})
        manifest.note(RESULTS, [path])
    return int(bool(failures))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

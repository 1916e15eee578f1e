"""Runs to be disturbed: started in forks of this process, and what they leave compared with what undisturbed ones leave."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path

from lora_repro import cli
from lora_repro.commands import run
from lora_repro.files import sha256
from lora_repro.records import record

SETTINGS = ["profile=smoke", "train.lr=1e-2", "train.checkpoint_every=1", "train.eval_every=2", "device=cpu"]
JOBS = [
    ["task=entailment", "backbone=random_bert", "method=lora"],
    ["task=sentiment", "backbone=random_bert", "method=full"],
    ["task=similarity", "backbone=random_gpt2", "method=bitfit"],
    ["task=entailment", "backbone=random_llama", "method=adapter_h"],
]
LEFT = ("adapter.safetensors", "predictions.jsonl")


def child(arguments: Sequence[str], log: Path, first: Callable[[], object] = lambda: None) -> BaseProcess:
    """`lora-repro run <arguments>` in a fork of this process, which has imported everything; output to `log`.

    `first` is called in it before: what is to be otherwise there. Returns once it heeds signals, as a program does that a shell
    started: before, it is the fork's, not the run's.
    """
    log.unlink(missing_ok=True)

    def body() -> None:
        cli.install_signal_handlers()
        handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(handle, 1)
        os.dup2(handle, 2)
        sys.argv[1:] = arguments
        first()
        try:
            run.main(list(arguments))
        finally:  # a fork leaves without what a program does at its end: joblib's idle workers would keep it for minutes
            if loky := sys.modules.get("joblib.externals.loky.process_executor"):
                loky._python_exit()

    process = multiprocessing.get_context("fork").Process(target=body)
    process.start()
    while process.is_alive() and not log.exists():
        time.sleep(0.001)
    return process


def finish(arguments: Sequence[str], log: Path, first: Callable[[], object] = lambda: None) -> tuple[int, str]:
    """Exit code and output of a run that nobody kills."""
    process = child(arguments, log, first)
    process.join(240)
    if process.exitcode is None:
        process.kill()
        return -1, "hangs"
    return process.exitcode, log.read_text(errors="replace")


def left(runs: Path) -> dict[str, str]:
    """What the one finished run of a folder left: hashes, and scores; why it is not clean, if it is not."""
    (folder,) = (path.parent for path in runs.glob("smoke/*/record.json"))
    return left_in(folder)


def left_in(folder: Path) -> dict[str, str]:
    hashes = {name: sha256(folder / name) for name in LEFT}
    extra = {path.name for path in folder.iterdir()} - {*record.FILES, "record.json", "lock", "attempts.json"}
    scores = json.dumps(record.read(folder / "record.json")["measured"]["scores"])
    return {**hashes, "scores": scores, "leftovers": ",".join(sorted(extra))}


def wrong(code: int, said: str, codes: tuple[int, ...]) -> str:
    """Why an ending is not a clean one: a traceback, an undocumented code, or a failure that says nothing."""
    if "Traceback" in said:
        return f"traceback: {' / '.join(said.partition('Traceback')[2].strip().splitlines()[-4:])[-300:]}"
    if code not in codes:
        return f"exit code {code}: {said[-200:]}"
    return "" if code == 0 or "error:" in said else f"exit code {code} and no line"


class Bench:
    """The trials of one seed, each in a folder of its own."""

    def __init__(self, seed: int, folder: Path) -> None:
        self.random, self.folder, self.seconds = random.Random(seed), folder, 1.0
        self.whole: dict[str, dict[str, str]] = {}
        self.stops: Counter[str] = Counter()  # signals that met a run
        self.writes: dict[str, int] = {}  # by a command, undisturbed

    def job(self) -> tuple[list[str], dict[str, str]]:
        """A command without its runs folder, and what it leaves undisturbed."""
        job = self.random.choice(JOBS)
        return [*SETTINGS, *job], self.undisturbed(job)

    def undisturbed(self, job: Sequence[str]) -> dict[str, str]:
        """What the run of a job leaves; it is run once."""
        if (name := " ".join(job)) not in self.whole:
            runs, began = self.new(), time.monotonic()
            code, output = finish([*SETTINGS, *job, f"paths.runs={runs}"], runs / "log")
            assert code == 0, output
            self.whole[name], self.seconds = left(runs), time.monotonic() - began
        return self.whole[name]

    def new(self) -> Path:
        return Path(tempfile.mkdtemp(dir=self.folder))

    def damage(self, path: Path) -> str:
        """Flip, cut, zero, empty or delete a file; the word for it."""
        data = bytearray(path.read_bytes())
        kind = self.random.choice(["flip", "cut", "zero", "empty", "delete"] if data else ["delete"])
        place = self.random.randrange(len(data)) if data else 0
        if kind == "flip":
            data[place] ^= 1 << self.random.randrange(8)
        content = {"cut": data[:place], "zero": bytes(len(data)), "empty": b""}.get(kind, data)
        path.unlink() if kind == "delete" else path.write_bytes(content)
        return kind

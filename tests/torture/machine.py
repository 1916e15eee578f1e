"""What a machine does to runs: a full or read-only disk, a clock set back, workers killed, two sweeps over the same runs."""

from __future__ import annotations

import atexit
import multiprocessing
import os
import resource
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.process import BaseProcess
from pathlib import Path

import psutil
from hydra.core.global_hydra import GlobalHydra

from tests.torture.runs import SETTINGS, Bench, child, finish, left, left_in, wrong

YEAR = 365 * 86400.0
GRID = ["task=entailment", "backbone=random_bert"]
METHODS = ("lora", "bitfit")


def mounts() -> bool:
    """Whether this process may mount a disk of its own."""
    return sys.platform == "linux" and os.geteuid() == 0


@contextmanager
def disk(folder: Path, size: int) -> Iterator[Callable[[str], None]]:
    """A disk of so many bytes at `folder`; call the result with mount's options to change it."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], check=True)
    try:
        yield lambda options: subprocess.run(["mount", "-o", f"remount,{options}", str(folder)], check=True) and None
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def set_back() -> None:
    """This process's clock tells the time of a year ago."""
    now = time.time
    time.time = lambda: now() - YEAR


def forks() -> None:
    """What this process would fork from a server that imports for seconds, it forks from itself."""
    atexit._clear()  # a supervised run ends by calling these: the trials' folder would go with the first
    os.register_at_fork(after_in_child=GlobalHydra.instance().clear)
    warnings.filterwarnings("ignore", ".*found in sys.modules", RuntimeWarning, "runpy")  # as in lora_repro.sweep.fork_server
    context = multiprocessing.get_context("fork")
    multiprocessing.get_context = lambda method=None: context  # type: ignore[assignment,misc]


class Machine(Bench):
    """Trials of the machine."""

    def again(self, command: list[str], runs: Path, whole: dict[str, str]) -> str:
        """The same command, undisturbed, ends as if it had always been."""
        code, output = finish(command, runs / "log")
        return wrong(code, output, (0,)) or ("" if left(runs) == whole else f"other results: {left(runs)}, not {whole}")

    def full_disk(self) -> str:
        """Too small a disk, or (not root) too small a file: one line; then with room the same results."""
        job, reference = self.job()
        size = int(4096 * 2 ** (9 * self.random.random()))
        room = self.new()
        command = [*job, f"paths.runs={room}"]
        log = self.new() / "log"
        if not mounts():
            code, output = finish(command, log, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size)))
            return wrong(code, output, (0, 2)) or self.again(command, room, reference)
        with disk(room, size) as change:
            code, output = finish(command, log)
            change("size=64m")
            return wrong(code, output, (0, 2)) or self.again(command, room, reference)

    def killed(self, command: list[str], log: Path) -> None:
        """The run of this command, killed at some moment."""
        process = child(command, log)
        process.join((0.3 + 0.7 * self.random.random()) * self.seconds)
        process.kill()
        process.join()

    def read_only(self) -> str:
        """A folder that nothing can be written to any more: one line; then writable again the same results."""
        job, reference = self.job()
        room, log = self.new(), self.new() / "log"
        command = [*job, f"paths.runs={room}"]
        if not mounts():
            self.killed(command, log)
            room.chmod(0o500)
            code, output = finish(command, log)
            room.chmod(0o700)
            return wrong(code, output, (0, 2)) or self.again(command, room, reference)
        with disk(room, 2**26) as change:
            self.killed(command, log)
            change("ro")
            code, output = finish(command, log)
            change("rw")
            return wrong(code, output, (0, 2)) or self.again(command, room, reference)

    def clock_back(self) -> str:
        """Killed, then continued a year earlier, beside files from what is then the future: the same results."""
        job, reference = self.job()
        runs = self.new()
        command = [*job, f"paths.runs={runs}"]
        self.killed(command, runs / "log")
        for path in runs.rglob("*"):
            os.utime(path, (time.time() + YEAR, time.time() + YEAR))
        code, output = finish(command, runs / "log", set_back)
        return wrong(code, output, (0,)) or ("" if left(runs) == reference else "other results")

    def sweeps(self) -> str:
        """Two sweeps of the same runs at once, one of them killed perhaps; a third finds or makes what is missing."""
        runs = self.new()
        words = ["-m", *SETTINGS, *GRID, f"method={','.join(METHODS)}", "launch.together=1", f"paths.runs={runs}"]
        both = [child(words, runs / f"log{i}", forks) for i in range(2)]
        if dies := self.random.random() < 0.5:
            both[0].join(2 * len(METHODS) * self.seconds * self.random.random())
            both[0].kill()
        for number, process in enumerate(both):
            process.join()
            # What the killed one was at may be let go of too late for the other, which then says that it is missing.
            codes = (0, 1, 75) if dies else (0, 75)
            if not (dies and number == 0) and (bad := wrong(process.exitcode or 0, self.said(runs / f"log{number}"), codes)):
                return bad
        return self.collected(words, runs, forks)

    def workers(self) -> str:
        """A worker of a joblib sweep, or what it started, is killed: one line; the same command ends with every run."""
        words, runs = self.parallel("joblib")
        process = self.begun(words, runs)
        with suppress(psutil.NoSuchProcess):  # it was faster
            below = psutil.Process(process.pid).children(recursive=True)
            # Python's own book-keeper of semaphores is no worker, and its heir prints tracebacks.
            if victims := [each for each in below if not any("resource_tracker" in word for word in each.cmdline())]:
                self.random.choice(victims).kill()
        process.join()
        if bad := wrong(process.exitcode or 0, self.said(runs / "log"), (0, 1, 2, 75)):
            return bad
        return self.collected(words, runs, lambda: None)

    def ray_workers(self) -> str:
        """A worker of a sweep on Ray is killed: another one goes on, and the sweep itself ends with every run. Where it is one
        of Ray's own processes, the sweep says so in a line, and the same command ends with every run.
        """
        words, runs = self.parallel("ray")
        process = self.begun(words, runs)
        codes: tuple[int, ...] = (0,)
        with suppress(psutil.NoSuchProcess):  # it was faster
            below = psutil.Process(process.pid).children(recursive=True)
            titles = {each: each.cmdline()[:1] for each in below if each.status() != psutil.STATUS_ZOMBIE}
            works = [each for each, title in titles.items() if title == ["ray::work"]]
            agents = [each for each, title in titles.items() if title and title[0].endswith("Agent")]
            if victims := works if self.random.random() < 0.7 else agents:
                victim = self.random.choice(victims)
                codes = (0,) if victim in works else (0, 1, 75)
                victim.kill()
        process.join()
        return wrong(process.exitcode or 0, self.said(runs / "log"), codes) or self.collected(words, runs, lambda: None)

    def parallel(self, launcher: str) -> tuple[list[str], Path]:
        """A sweep of two runs at once, and its folder. Ray's has a second try; joblib's begins anew."""
        runs = self.new()
        how = [f"hydra/launcher={launcher}", "hydra.launcher.n_jobs=2", f"launch.tries={2 if launcher == 'ray' else 1}"]
        return ["-m", *SETTINGS, *GRID, f"method={','.join(METHODS)}", *how, f"paths.runs={runs}"], runs

    def begun(self, words: list[str], runs: Path) -> BaseProcess:
        """Its process, once a run has made a step."""
        process = child(words, runs / "log")
        deadline = time.monotonic() + 120
        while process.is_alive() and not list(runs.glob("smoke/*/metrics.jsonl")) and time.monotonic() < deadline:
            time.sleep(0.05)
        return process

    @staticmethod
    def said(log: Path) -> str:
        """What a sweep said. Where runs are missing its table is the line that says so."""
        text = log.read_text(errors="replace")
        return f"error: see the table\n{text}" if "runs are done" in text else text

    def collected(self, words: list[str], runs: Path, first: Callable[[], object]) -> str:
        """The same sweep, until those that were stopped have let go, ends with the results of runs that nobody disturbed."""
        for _ in range(20):
            code, output = finish(words, runs / "log", first)
            if code != 75:
                break
            time.sleep(1)
        if bad := wrong(code, output, (0,)):
            return bad
        results = [left_in(path.parent) for path in runs.glob("smoke/*/record.json")]
        references = [self.undisturbed([*GRID, f"method={name}"]) for name in METHODS]
        return "" if sorted(map(str, results)) == sorted(map(str, references)) else f"other results: {results}, not {references}"

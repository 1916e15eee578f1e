"""Kill, damage and mislead the suite, and count what survived: `make torture` (QUICK=1: two minutes), `python -m tests.torture`.

Every trial is drawn from one seed. It survives if the work ends with the bits of an undisturbed run or with one line that says
what is wrong; lost work, other bits, silence, a traceback or a leftover fail it. Each kind's counts go into results/torture/ when
it ends: `--only fetch publish` tries the kinds that hold one of these words again and leaves the other lines as they are.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from lora_repro.config.compose import build, compose, resolved
from lora_repro.config.schema import fields
from lora_repro.config.validation import COMPONENTS
from lora_repro.errors import UserError
from lora_repro.exchange.restore import configuration
from lora_repro.files import sealed
from lora_repro.records import provenance, record
from lora_repro.results import own
from tests import test_any_input as any_input
from tests.faults import FAULTS
from tests.torture import table
from tests.torture.foreign import Foreign
from tests.torture.machine import Machine
from tests.torture.properties import Properties
from tests.torture.runs import child, finish, left, wrong
from tests.torture.strangers import Strangers
from tests.torture.writes import COMMANDS, Writes

RESULTS = Path(__file__).resolve().parents[2] / "results"
JUNK = "abc null nan inf -inf 1.5 -1 1e400 true [] [1,x] {a:1} '' 100000000000 ${foo} '${oc.env:HOME}'".split()
RAY = "a Ray worker killed"
AT_WRITES = "a fault at a write of "
QUICK = {"run": 60, "fetch": 20, "export": 15}  # every n-th write; the other commands take a minute to prepare
SHARES = {"kill -9 of a run": 5}  # of the time, where a kind takes more than one
Trial = Callable[[], str]  # what went wrong; empty if nothing


class Faults(Machine, Foreign, Strangers, Properties, Writes):
    """Kills, damage and bad input."""

    def stopped(self, number: int) -> str:
        """Stop a run at random moments, up to three times; then let it end."""
        job, reference = self.job()
        runs = self.new()
        command = [*job, f"paths.runs={runs}"]
        for _ in range(self.random.randint(1, 3)):
            process = child(command, runs / "log")
            process.join(self.random.random() * self.seconds)
            if process.exitcode is None and process.pid:
                os.kill(process.pid, number)
                process.join()
                self.stops[signal.Signals(number).name] += 1
                if number != signal.SIGKILL and (bad := wrong(process.exitcode or 0, (runs / "log").read_text(), (0, 75, 130))):
                    return bad
        code, output = finish(command, runs / "log")
        return wrong(code, output, (0,)) or ("" if left(runs) == reference else f"other results: {left(runs)}, not {reference}")

    def damaged_run(self, finished: bool) -> str:
        """Damage one file of a run, killed or finished; the same command ends as undisturbed, or refuses in a line."""
        job, reference = self.job()
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
        code, output = finish(command, runs / "log")
        if bad := wrong(code, output, (0, 2)):
            return f"{what}: {bad}"
        return "" if code or left(runs) == reference else f"{what}: other results"

    def bad_setting(self) -> str:
        """Junk in a field of a component: built, or refused in one line."""
        group = self.random.choice([*COMPONENTS, "seed", "launch.tries", "paths.runs", "row"])
        key = group
        config = compose([])
        if group in COMPONENTS:
            key = f"{group}.{self.random.choice(fields(str(config[group]._target_)) or ('x',))}"
        override = f"{key}={self.random.choice(JUNK)}"
        try:
            settings = resolved(compose([override]))
            for name in ("method", "train", "decode", "task", "data"):
                build(settings[name])
        except UserError as error:
            return "" if "\n" not in str(error) else f"{override}: several lines"
        except Exception as error:
            return f"{override}: {type(error).__name__}: {error}"
        return ""

    def hostile_record(self) -> str:
        """A record with one value replaced: read as it is or refused in one line, and it never says what this machine keeps."""
        os.environ["TORTURE_SECRET"] = secret = "verysecretkey"
        content = json.loads(self.random.choice(sorted(RESULTS.glob("*/records/*.json"))).read_text())
        node: Any = content
        while isinstance(node, dict) and node:
            parent, key = node, self.random.choice(sorted(node))
            node = node[key]
        junk = [None, [], {}, "x", 1e300, -1, "${oc.env:TORTURE_SECRET}", "../../x", {"_target_": "os.system"}]
        parent[key] = self.random.choice(junk)
        path = self.new() / "record.json"
        path.write_text(json.dumps(sealed(content)))
        try:
            config = configuration(record.whole(record.read_run(path), path))
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
        job, reference = self.job()
        runs = self.new()
        command = [*job, f"paths.runs={runs}"]
        processes = [child(command, runs / f"log{i}") for i in range(size)]
        for process in processes:
            process.join()
        for i, process in enumerate(processes):
            if bad := wrong(process.exitcode or 0, (runs / f"log{i}").read_text(), (0, 75)):
                return bad
        return "" if left(runs) == reference else "other results"


def trials(bench: Faults, few: bool, every: int = 1) -> list[tuple[str, Trial, int]]:
    """(kind, a trial, how many). `few`: those of `QUICK`. `every`: each so many-th fault at the writes of a command is met."""
    steps = QUICK if few else dict.fromkeys(COMMANDS, every)
    at_writes = [(AT_WRITES + name, partial(next, bench.places(name, step)), 10**6) for name, step in steps.items()]
    return [
        *(at_writes if few else []),
        ("merging and unmerging", bench.merged, 4 if few else 60),
        ("an update at its start", bench.at_start, 4 if few else 60),
        ("padding and order", bench.padded, 4 if few else 60),
        ("saving and loading", bench.saved, 4 if few else 60),
        ("names of runs", bench.named, 3 if few else 40),
        ("damage in results/", bench.damaged_results, 20 if few else 400),
        ("bad setting", bench.bad_setting, 60 if few else 500),
        ("hostile record", bench.hostile_record, 60 if few else 500),
        ("hostile checkpoint", bench.hostile_checkpoint, 60 if few else 500),
        ("configuration of a stranger", bench.strange_configuration, 15 if few else 500),
        *((f"generated {kind}", partial(bench.generated, kind), 1 if few else 20) for kind in any_input.GIVEN),
        ("hostile data", bench.hostile_data, 40 if few else 500),
        ("a changed backbone", bench.other_backbone, 8 if few else 100),
        ("an altered run, read", bench.altered_run, 8 if few else 100),
        ("kill -9 of a run", lambda: bench.stopped(signal.SIGKILL), 4 if few else 100),
        ("SIGTERM of a run", lambda: bench.stopped(signal.SIGTERM), 3 if few else 40),
        ("Ctrl-C of a run", lambda: bench.stopped(signal.SIGINT), 2 if few else 20),
        ("damage in an unfinished run", lambda: bench.damaged_run(False), 4 if few else 60),
        ("damage in a finished run", lambda: bench.damaged_run(True), 4 if few else 40),
        ("2 processes at one run", lambda: bench.crowd(2), 1 if few else 10),
        ("8 processes at one run", lambda: bench.crowd(8), 1 if few else 5),
        ("full disk", bench.full_disk, 2 if few else 20),
        ("read-only disk", bench.read_only, 1 if few else 10),
        ("clock set back", bench.clock_back, 1 if few else 10),
        ("Java killed", bench.java_killed, 1 if few else 8),
        ("hub down", bench.hub_down, 1 if few else 3),
        ("two sweeps of the same runs", bench.sweeps, 1 if few else 8),
        *([] if few else [("a joblib worker killed", bench.workers, 3)]),
        *([] if few else at_writes),  # last, since they take as long as they take
        *([] if few or skipped() else [(RAY, bench.ray_workers, 3)]),
    ]


def whole(kind: str, quick: bool) -> bool:
    """Whether a kind goes on past its share of the time: every write of a command is met."""
    return kind.startswith(AT_WRITES) and not quick


def skipped() -> dict[str, str]:
    """The kinds that this machine cannot try -> why."""
    return {} if importlib.util.find_spec("ray") else {RAY: " (Ray is not installed)"}


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.torture")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--every", type=int, default=1, help="meet each so many-th fault at the writes of commands")
    parser.add_argument("--only", nargs="+", default=[""], help="kinds that hold one of these words")
    options = parser.parse_args(arguments)
    began, most = time.monotonic(), 150.0 if options.quick else 60.0 * options.minutes
    failures: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        bench = Faults(options.seed, Path(folder))
        all_kinds = trials(bench, options.quick, options.every)
        kinds = [kind for kind in all_kinds if any(word in kind[0] for word in options.only)]
        for place, (kind, trial, times) in enumerate(kinds):
            now = time.monotonic()
            due = sum(SHARES.get(kind, 1) for kind, *_ in kinds[place:] if not whole(kind, options.quick)) or 1
            until = now + (began + most - now) * SHARES.get(kind, 1) / due  # its share of the time that is left
            bench.stops.clear()
            count, errors, stopped = 0, [], False
            while count < times and (time.monotonic() < until or not count or whole(kind, options.quick)):
                try:
                    bad = ended(trial)
                except StopIteration:  # that was all of them
                    break
                except KeyboardInterrupt:  # what was tried counts
                    stopped = True
                    break
                count += 1
                if bad:
                    errors.append(f"trial {count}: {bad}")
                    print(f"{kind}, {errors[-1]}", flush=True)
            entry: dict[str, Any] = {"survived": count - len(errors), "tried": count}
            if writes := bench.writes.get(kind.removeprefix(AT_WRITES)):
                entry["of"] = len(FAULTS) * writes
            print(f"{kind:<30}{entry['survived']} / {count}", flush=True)
            failures += [f"{kind}, {failure}" for failure in errors]
            if count and not options.quick:
                entry |= {"stops": dict(bench.stops), "failures": errors, "seed": options.seed}
                entry["seconds"] = round(time.monotonic() - now)
                entry["where"] = provenance.where(provenance.attempt(torch.device("cpu"), None))
                table.keep(RESULTS, kind, entry, [name for name, *_ in all_kinds], skipped())
            if stopped:
                break
    unable = {} if options.quick else skipped()
    print(*(f"{kind}: not tried{why}" for kind, why in unable.items()), *failures, sep="\n")
    return int(bool(failures))


def ended(trial: Trial) -> str:
    """What went wrong in a trial, or with it."""
    try:
        return trial()
    except StopIteration:
        raise
    except Exception as error:
        return f"the trial ended by {type(error).__name__}: {error}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

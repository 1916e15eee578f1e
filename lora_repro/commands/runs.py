"""List the runs under runs/, newest last: folder, method, task, seed, status, score, age.

    lora-repro runs                          every profile under runs/
    lora-repro runs profile=laptop
    lora-repro runs paths.runs=/big/disk

`generate`, `export`, `score` and `subspace` take the folder of a run.
"""

from __future__ import annotations

import argparse
import textwrap
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lora_repro import console
from lora_repro.config.hydra_errors import empty_profile_message
from lora_repro.errors import UserError, printable
from lora_repro.files import read_sealed
from lora_repro.records.record import defect, main_metric, read_run
from lora_repro.records.run_folder import ATTEMPTS, CHECKPOINTS, METRICS, PREDICTIONS, RECORD, UPDATES

Line = tuple[float, tuple[str, ...]]  # when it ended, and the columns
HEADER = ("folder", "run", "task", "seed", "status", "score", "age")


def lines(folder: Path) -> Iterator[Line]:
    """A line for each run of runs/<profile> (`folder`), including runs that have no record yet."""
    for run in sorted(path for path in folder.glob("*") if path.is_dir() and not path.name.startswith(".")):
        if entry := line(run) if (run / RECORD).exists() else unfinished(run):
            yield entry


def line(run: Path) -> Line:
    """The line of a run with a record; of one that was altered it says only so."""
    try:
        record = read_run(run / RECORD)
        if file := defect(run, record, (PREDICTIONS, UPDATES)):
            return 0.0, (str(run), *[""] * 3, f"its {file} was altered", "", "")
        end_time = datetime.strptime(record["where"]["finished_at"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC).timestamp()
        return end_time, texts_of(run, record, time.time() - end_time)
    except (UserError, OSError, ValueError, LookupError, TypeError, AttributeError):
        return 0.0, (str(run), *[""] * 3, "its record cannot be read, or was altered", "", "")


def unfinished(run: Path) -> Line | None:
    """The line of a run without a record; None for a folder without any trace of a run."""
    if not any((run / name).exists() for name in (ATTEMPTS, CHECKPOINTS, METRICS)):
        return None
    start_time = run.stat().st_mtime
    why = (read_sealed(run / ATTEMPTS) or {}).get("why")
    return start_time, (str(run), *[""] * 3, f"unfinished: {why}" if why else "unfinished", "", age(time.time() - start_time))


LONGEST = 60  # characters of a label: that of a run of one's own holds all its settings


def texts_of(run: Path, record: dict[str, Any], seconds: float) -> tuple[str, ...]:
    config, row = record["asked"], record["row"]
    label = textwrap.shorten(row["label"] or config["method"]["name"], LONGEST, placeholder=" ...")
    name = main_metric(config)
    value = record["measured"].get("scores", {}).get(name)
    score = "" if value is None else f"{name} {100 * value:.1f}"
    return str(run), label, config["task"]["name"], str(config["seed"]), record["status"], score, age(seconds)


def age(seconds: float) -> str:
    """`5 min`, `3 h`, `12 d`."""
    minutes = max(0.0, seconds) / 60
    return f"{minutes:.0f} min" if minutes < 120 else f"{minutes / 60:.0f} h" if minutes < 2880 else f"{minutes / 1440:.0f} d"


def table(entries: Sequence[Line]) -> str:
    rows = [HEADER, *(texts for _, texts in sorted(entries))]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(word.ljust(width) for word, width in zip(row, widths, strict=True)).rstrip() for row in rows)
    return "\n".join(map(printable, lines))  # a record may be somebody else's


def parser() -> argparse.ArgumentParser:
    arg_parser = console.parser("runs", __doc__)
    arg_parser.add_argument("--profile", metavar="NAME", help="profile=NAME: only runs of this profile")
    arg_parser.add_argument(
        "--runs", metavar="DIR", default="runs", help="paths.runs=DIR: the folder with the runs (default: runs)"
    )
    return arg_parser


@console.command
def main(arguments: Sequence[str]) -> int:
    """The command line above; returns the exit status."""
    options = parser().parse_args(console.options(arguments, {"profile": "--profile", "paths.runs": "--runs"}))
    folders = [Path(options.runs) / options.profile] if options.profile else sorted(Path(options.runs).glob("[!.]*"))
    entries = [line for folder in folders for line in lines(folder)]
    if not entries:
        message = f"no runs in {' '.join(map(str, folders)) or options.runs} yet; make one: lora-repro run"
        raise UserError(empty_profile_message(options.profile or "mini", message))
    print(table(entries))
    return 0

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
        if changed := defect(run, record, (PREDICTIONS, UPDATES)):
            return 0.0, (str(run), *[""] * 3, f"its {changed} was altered", "", "")
        ended = datetime.strptime(record["where"]["finished_at"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC).timestamp()
        return ended, texts_of(run, record, time.time() - ended)
    except (UserError, OSError, ValueError, LookupError, TypeError, AttributeError):
        return 0.0, (str(run), *[""] * 3, "its record cannot be read, or was altered", "", "")


def unfinished(run: Path) -> Line | None:
    """The line of a run without a record; None for a folder without any trace of a run."""
    if not any((run / name).exists() for name in (ATTEMPTS, CHECKPOINTS, METRICS)):
        return None
    begun = run.stat().st_mtime
    why = (read_sealed(run / ATTEMPTS) or {}).get("why")
    return begun, (str(run), *[""] * 3, f"unfinished: {why}" if why else "unfinished", "", age(time.time() - begun))


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
    made = console.parser("runs", __doc__)
    made.add_argument("--profile", metavar="NAME", help="profile=NAME: only runs of this profile")
    made.add_argument("--runs", metavar="DIR", default="runs", help="paths.runs=DIR: the folder with the runs (default: runs)")
    return made


@console.command
def main(arguments: Sequence[str]) -> int:
    """The command line above; returns the exit status."""
    given = parser().parse_args(console.options(arguments, {"profile": "--profile", "paths.runs": "--runs"}))
    folders = [Path(given.runs) / given.profile] if given.profile else sorted(Path(given.runs).glob("[!.]*"))
    entries = [line for folder in folders for line in lines(folder)]
    if not entries:
        said = f"no runs in {' '.join(map(str, folders)) or given.runs} yet; make one: lora-repro run"
        raise UserError(empty_profile_message(given.profile or "mini", said))
    print(table(entries))
    return 0

"""The counts of every kind of trial, each with the code, machine and day that it was tried at, and their page.

results/torture/last.json keeps one entry per kind, and a kind that is tried again replaces its own entry alone:
`{"survived", "tried", "of", "stops", "failures", "seed", "seconds", "where", "note"}`.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from lora_repro.files import write_json, write_text
from lora_repro.records import manifest

HEAD = """# What survived

Written by `make torture`: trials that ended as undisturbed, or with one line that says why not. Each kind is of the last time
that it was tried, at the code and on the day that its line names.

| kind | survived | tried | seed | code | day | processor |
|---|---|---|---|---|---|---|"""
NOT_TRIED = [
    "Not tried: the loss of what was not flushed to disk (power failure), errors of reads, other machines' file systems (NFS).",
    "Not tried: kills of programs that a command starts (pip, git), of generated figures' fonts and of the compositions' cache.",
]


def keep(
    results: Path, kind: str, found: Mapping[str, Any], kinds: Collection[str], skipped: Mapping[str, str] | None = None
) -> None:
    """Put one kind's entry into results/torture/ and render the page, the other kinds as they were.

    kinds: all that can be tried here, in the page's order; an entry of another name is dropped. skipped: the kinds that this
    machine cannot try, and why; what was found of them elsewhere stays.
    """
    skipped = skipped or {}
    kinds = [*kinds, *skipped]
    old = results / "torture" / "last.json"
    with manifest.changing(results) as change:
        before = json.loads(old.read_text(encoding="utf-8"))["kinds"] if old.exists() else {}
        entries = {**before, kind: dict(found)}
        lacking = [f"{name}{skipped.get(name, '')}" for name in kinds if name not in entries]
        notes = [*NOT_TRIED, *([f"Not tried yet: {'; '.join(lacking)}."] if lacking else [])]
        path = change.staged / "torture" / "last.json"
        write_json(path, {"kinds": {name: entries[name] for name in kinds if name in entries}, "skipped": notes})
        write_text(path.with_name("README.md"), page(path))


def page(path: Path) -> str:
    """The counts of a file as a table, with what failed and what was not tried. The same file gives the same bytes."""
    summary = json.loads(path.read_text(encoding="utf-8"))
    lines, failures, notes, stops = [HEAD], [], [], []
    for kind, one in summary["kinds"].items():
        count, where = f"{one['tried']}{' of {}'.format(one['of']) if 'of' in one else ''}", one["where"]
        code = f"{str(where['git_sha'])[:7]}{' with changes' if where['dirty'] else ''}"
        cells = [kind, one["survived"], count, one["seed"], code, where["finished_at"][:10], where["device"]]
        lines.append(f"| {' | '.join(map(str, cells))} |")
        failures += [f"{kind}, {failure}" for failure in one["failures"]]
        notes += [f"{kind}: {one['note']}"] if "note" in one else []
        signals = ", ".join(f"{times} by {name}" for name, times in one.get("stops", {}).items())
        stops += [f"{kind}: {signals}"] if signals else []
    total = [sum(one[key] for one in summary["kinds"].values()) for key in ("survived", "tried")]
    lines += [f"| all | {total[0]} | {total[1]} | | | | |", ""]
    lines += [f"Runs stopped at a random moment, up to three times each. {'; '.join(stops)}.", ""] if stops else []
    lines += [f"- {' '.join(line.split())}" for line in [*summary["skipped"], *notes, *failures]]
    return "\n".join(lines).rstrip() + "\n"

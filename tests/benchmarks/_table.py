"""The lines of a pair's result, and the page of all pairs: results/bench/README.md."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

HEAD = """# Timings

Written by `make bench`. Ours and what stands beside it took turns on the same input, in CPU seconds of one thread, so that what
else the machine did hardly counts; the middle of the rounds is shown. Times: how many times as long the other took. Each round is
in `{files}`.
"""
FOOT = """
How costs grow: [growth.svg](growth.svg).{lacking}
"""
LACKING = " Not measured: anything on a GPU."


@dataclass(frozen=True)
class Row:
    """`ours` and `theirs` in seconds; `theirs` is None without a peer. `target`: for theirs / ours, or for our seconds."""

    what: str
    ours: float
    beside: str = ""
    theirs: float | None = None
    target: str = ""
    note: str = ""

    def cells(self) -> list[str]:
        theirs = "" if self.theirs is None else f"{self.theirs:.3g}"
        times = "" if self.theirs is None else f"{self.theirs / self.ours:.2f}"
        return [self.what, f"{self.ours:.3g}", self.beside, theirs, times, self.target, self.note]


def told(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """The rows as JSON objects."""
    return [asdict(row) for row in rows]


def by_cpu(
    found: dict[str, Any],
    before: dict[str, Any] | None,
    where: Mapping[str, Any],
    figures: Callable[[dict[str, Any]], dict[str, list[float]]],
    what: str,
    head: Sequence[str],
) -> dict[str, Any]:
    """`found`, with a table of its figures on this kind of CPU (`found["cpu"]`) beside those that the file held: of others, and
    of this one where they were not measured again.

    before: the file as it was; None if there is none. figures: the figures of a file, by what they are of. what: in the title.
    head: above the first cell and the figures of a line.
    """

    def kept(file: dict[str, Any], on: Mapping[str, Any]) -> dict[str, Any]:
        origin = f"{on['device']}, {on['finished_at'][:10]}, code {str(on['git_sha'])[:7]}"
        return {name: {"figures": each, "where": origin} for name, each in figures(file).items()}

    kinds = dict((before or {}).get("kinds", {}))
    if before and not kinds:  # written before the kinds were told apart
        kinds = {before["where"]["kernels"]: kept(before, before["where"])}
    kinds[found["cpu"]] = {**kinds.get(found["cpu"], {}), **kept(found, where)}
    lines = [
        [cpu, name, *(f"{figure:.2f}" for figure in one["figures"]), one["where"]]
        for cpu, each in sorted(kinds.items())
        for name, one in each.items()
    ]
    note = f"`lscpu` says which you have: amx_bf16, else avx512f, else avx2. Expect of {what} what the lines of your kind say."
    table = {"title": f"What to expect of {what}", "header": ["your CPU has", *head, "measured on"], "rows": lines, "note": note}
    return {**found, "kinds": kinds, "tables": [table]}


def page(paths: Sequence[Path]) -> str:
    """The page of these files. The same files give the same bytes."""
    benchmarks = {path.name: json.loads(path.read_text(encoding="utf-8")) for path in paths}
    lines = ["| measured | ours, s | beside | s | times | target | |", "|---|---|---|---|---|---|---|"]
    for benchmark in benchmarks.values():
        lines += [f"| {' | '.join(Row(**row).cells())} |" for row in benchmark["rows"]]
    for table in (table for benchmark in benchmarks.values() for table in benchmark.get("tables", ())):
        lines += ["", f"## {table['title']}", "", *_grid([table["header"], *table["rows"]]), "", table["note"]]
    places = {name: _place(benchmark["where"]) for name, benchmark in benchmarks.items()}
    machines = [f"- {', '.join(n for n in places if places[n] == place)}: {place}" for place in dict.fromkeys(places.values())]
    text = "\n".join([HEAD.format(files="`, `".join(benchmarks)), *lines, "", "## Measured on", "", *machines])
    on_gpu = any(benchmark["where"]["kernels"].startswith("CUDA") for benchmark in benchmarks.values())
    return f"{text}\n{FOOT.format(lacking='' if on_gpu else LACKING)}"


def _grid(rows: Sequence[Sequence[str]]) -> list[str]:
    """The rows as a table in Markdown, the first of them its header."""
    header, *body = (f"| {' | '.join(row)} |" for row in rows)
    return [header, "|---" * len(rows[0]) + "|", *body]


def _place(where: Mapping[str, Any]) -> str:
    code = f"{str(where['git_sha'])[:7]}{' with changes' if where['dirty'] else ''}"
    day, load = where["finished_at"][:10], where["load_before"]
    return f"{where['device']} ({where['kernels']}), torch {where['versions']['torch']}, {day}, code {code}, load {load}"

"""Benchmark this project against other libraries and set targets; writes results/bench/.

    make bench                                                       every benchmark: 15 minutes on a quiet machine
    make bench ARGS='step beam'                                      only these; a wrong name lists them all
    make bench ARGS='step profile=laptop paths.data=/data'           on real E2E and GLUE, from the folders e2e and glue
    make bench ARGS='step case=MiniLM'                               only these cases; the others' figures stay in the table

Ours and the other library take turns on the same input. Times are CPU seconds of one thread; on a GPU, training and decoding are
measured in wall time.
"""

from __future__ import annotations

import os
import pkgutil
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

import torch

from lora_repro import console
from lora_repro.config.paths import ROOT
from lora_repro.errors import UserError
from lora_repro.files import write_json, write_text
from lora_repro.records import manifest, provenance, record
from lora_repro.train.ranks import Ranks
from tests import benchmarks
from tests.benchmarks import _table


def names() -> list[str]:
    """The benchmarks: each a file beside this one."""
    return sorted(module.name for module in pkgutil.iter_modules(benchmarks.__path__) if not module.name.startswith("_"))


def _measured(results: Path, new: Path) -> list[Path]:
    """The file of every benchmark, `new` among them. Raises UserError if a published one was altered."""
    manifest.check(results, ["bench"])
    files = {path.name: path for path in [*(results / "bench").glob("*.json"), new]}
    return [files[name] for name in sorted(files)]


@console.command
def main(arguments: Sequence[str], root: Path = ROOT) -> int:
    """The command line above; returns the exit status. `root`: the folder that holds results/."""
    selection, overrides = [item for item in arguments if "=" not in item], [item for item in arguments if "=" in item]
    if unknown := set(selection) - set(names()):
        raise UserError(f"no benchmark {min(unknown)!r}; choose from {', '.join(names())}")
    results = root / "results"
    torch.set_num_threads(1)
    has_gpu, device = torch.cuda.is_available(), Ranks.here("auto").device
    modules = {name: import_module(f"{benchmarks.__name__}.{name}") for name in selection or names()}
    lacking = [name for name, pair in modules.items() if getattr(pair, "NEEDS_GPU", False) and not has_gpu]
    if lacking and selection:
        raise UserError(f"benchmark {lacking[0]} needs a GPU, and torch finds none here: leave it out")
    for name, pair in modules.items():
        if name in lacking:
            console.say(f"{name}: left out, it needs a GPU and torch finds none here")
            continue
        where = {**provenance.where(provenance.attempt(device, None)), "load_before": round(os.getloadavg()[0], 1)}
        measurement = pair.measure(overrides)
        if hasattr(pair, "join"):
            old = results / "bench" / f"{name}.json"
            measurement = pair.join(measurement, record.read(old) if old.exists() else None, where)
        for row in measurement["rows"]:
            console.say("  ".join(filter(None, _table.Row(**row).cells())))
        for line in (line for table in measurement.get("tables", ()) for line in table["rows"]):
            console.say("  ".join(line))
        with manifest.changing(results) as change:
            path = change.staged / "bench" / f"{name}.json"
            write_json(path, {"schema": record.SCHEMA, "name": name, **measurement, "where": where})
            if hasattr(pair, "draw"):
                pair.draw(record.read(path), path.with_suffix(""))
            write_text(path.with_name("README.md"), _table.page(_measured(results, path)))
    if files := [f"results/bench/{name}.json" for name in modules if name not in lacking]:
        print(f"wrote {', '.join(files)} and results/bench/README.md")
    return 0


if __name__ == "__main__":
    sys.exit(main())

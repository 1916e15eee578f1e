"""What methods cost: the tables of `latency` and `memory` from measurements alone, one set per kind of device."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from lora_repro.costs import measures
from lora_repro.costs.arithmetic import limit
from lora_repro.planning.cells import Cell
from lora_repro.records.record import read
from lora_repro.report.exhibit import Exhibit, ReportRequest
from lora_repro.report.subjects import latency
from lora_repro.report.subjects.latency import latency_tables
from lora_repro.report.subjects.memory import memory_tables
from lora_repro.report.table import Table
from lora_repro.results import OWN, Store

Found = dict[str, Any]


@dataclass(frozen=True)
class Costs:
    """The measured times, memory and file sizes (lora_repro.costs.latency) beside the paper's."""

    def command(self, ask: ReportRequest) -> str:
        """The command that measures."""
        return " ".join(["lora-repro latency", f"profile={ask.profile}", *ask.overrides])

    def exhibits(self, ask: ReportRequest, stores: Sequence[Store]) -> list[Exhibit]:
        """One exhibit per kind of device (`latency`, `latency_cuda`) on which any of the stores has measurements."""
        cells = measures.declared(ask.name, ask.profile, ask.overrides) if any(store.source == OWN for store in stores) else []
        sources = {store.source: _measured(ask, store, cells) for store in stores}
        exhibits = []
        for stem in sorted({stem for by_device in sources.values() for stem in by_device}):
            measurements = {source: by_device[stem] for source, by_device in sources.items() if stem in by_device}
            summary = f"{stem}: {' and '.join(measurements)}"
            if OWN in sources and OWN not in measurements:
                summary = f"{stem}: nothing of this checkout's own yet"
            elif OWN in measurements and measurements[OWN]["signature"] != measures.signature_of(cells):
                summary = f"the settings in conf/ have changed since {stem} was measured; measure again"
            first = next(iter(measurements.values()))
            exhibits.append(Exhibit(stem, latency.TITLE, tuple(tables(measurements)), summary, partial(latency.draw, first)))
        return exhibits


def _measured(ask: ReportRequest, store: Store, cells: Sequence[Cell]) -> dict[str, Found]:
    if store.source != OWN:
        return measures.load(store.folder, ask.name)
    paths = [measures.path_of(store.folder, ask.name, cells, ask.overrides, kind) for kind in ("cpu", "cuda")]
    return {path.stem: read(path) for path in paths if path.is_file()}


def tables(measurements: Mapping[str, Found]) -> list[Table]:
    """The tables of one kind of device; the first has the numbers. `measurements`: source -> measurement, the main one first."""
    first, *rest = [*latency_tables(measurements), *memory_tables(measurements)]
    return [replace(first, numbers=tuple(numbers(next(iter(measurements.values()))))), *rest]


def numbers(record: Found) -> list[dict[str, str]]:
    """One line per number: quantity, value, interval or arithmetic limit, n; six digits, missing values empty."""
    lines = []

    def line(entry: Found, quantity: str, value: object, **others: object) -> None:
        keys = ("backbone", "row", "label", "parameters", "batch", "length")
        base = {"profile": record["profile"], "device": record["where"]["device"], **{key: entry.get(key, "") for key in keys}}
        ends = {key: others.get(key, "") for key in ("low", "high", "arithmetic", "n")}
        lines.append({key: str(text) for key, text in {**base, "quantity": quantity, "value": value, **ends}.items()})

    for entry in record["latency"]:
        n, slow = len(entry["ms"]), entry["slowdown"]
        line(entry, "median_ms", f"{entry['median_ms']:.6g}", n=n)
        if slow:
            median, low, high = (f"{slow[key]:.6g}" for key in ("median", "low", "high"))
            line(entry, "slowdown_percent", median, low=low, high=high, n=n)
    for entry in record["memory"]:
        floor = limit(entry["total"], entry["parameters"], quantised=entry.get("quantised", 0))
        above = (entry["peak_mib"] - entry["loaded_mib"]) * 2**20
        line(entry, "weights_bytes", entry.get("weights_bytes", ""), arithmetic=floor.weights, n=1)
        line(entry, "optimizer_state_bytes", entry["state_bytes"], arithmetic=floor.state, n=1)
        line(entry, "gradient_bytes", entry.get("gradient_bytes", ""), arithmetic=floor.gradients, n=1)
        line(entry, "activation_bytes", entry.get("activation_bytes", ""), n=1)
        line(entry, "file_bytes", entry["file_bytes"], arithmetic=floor.checkpoint, n=1)
        line(entry, "above_model_bytes", above, arithmetic=floor.above_model, n=1)
        line(entry, "peak_bytes", entry["peak_mib"] * 2**20, arithmetic=floor.training, n=1)
    for entry in record.get("steps", ()):
        line(entry, "step_ms", f"{statistics.median(entry['ms']):.6g}", n=len(entry["ms"]))
        if against := entry["slowdown"]:
            median, low, high = (f"{1 + against[key] / 100:.6g}" for key in ("median", "low", "high"))
            line(entry, "step_over_full", median, low=low, high=high, n=against["n"])
    return lines

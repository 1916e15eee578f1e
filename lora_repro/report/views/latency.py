"""Measured slow-downs as tables: this checkout's, the published ones and the paper's, cell by cell."""

from collections.abc import Mapping, Sequence
from typing import Any

from lora_repro.config import paper_values
from lora_repro.config.compose import CONF
from lora_repro.config.paths import choices
from lora_repro.costs.measures import BUSY
from lora_repro.report.table import EMPTY, REPRODUCE, Number, Table, bound, signed

COLUMNS = 6  # cells side by side; a larger grid continues in a further table
MERGED, AGAIN = "lora_merged", "plain_again"
PRINTED = r"\d+x\d+\.(ms|sd|slowdown)|memory_gb|checkpoint_mb|tokens_s"  # what the tables show of conf/paper/latency.csv
PAPER = ("gpt2_medium", "paper (GPT-2 medium, Quadro RTX8000)")
Entry = dict[str, Any]
Size = tuple[int, int]  # (length, batch), so that sorting keeps one length together


def paper_numbers() -> dict[str, dict[str, Any]]:
    """row -> backbone -> the paper's values. Raises UserError for a column or backbone that the tables do not show."""
    paper_values.check_columns("latency", PRINTED, ("gpt2_medium", "gpt3_175b"))
    path = CONF / "paper" / "latency.csv"
    return {row: paper_values.of_row(path, row).get("paper", {}) for row in choices("row/latency")}


def interval(entry: Entry) -> str:
    """The interval of the slow-down in per cent: `[+0.5, +1.9]`."""
    return f"[{bound(entry['slowdown']['low'])}, {bound(entry['slowdown']['high'])}]"


def holds_zero(entry: Entry) -> bool:
    """Whether the interval of the slow-down contains 0, that is, no difference from the plain model was measured."""
    return bool(entry["slowdown"]["low"] <= 0 <= entry["slowdown"]["high"])


def cell_text(entry: Entry | None) -> str:
    """`12.3 ms` for the plain model; `+1.2 [+0.5, +1.9]` per cent for others, with `=` after an interval that contains 0."""
    if entry is None:
        return EMPTY
    n, slow = len(entry["ms"]), entry["slowdown"]
    if slow is None:
        return Number(f"{entry['median_ms']:.1f} ms", entry["median_ms"], n=n)
    text = f"{signed(slow['median'])} {interval(entry)}{' =' if holds_zero(entry) else ''}"
    return Number(text, slow["median"], n=n, low=slow["low"], high=slow["high"])


def printed_text(printed: Mapping[str, float] | None) -> str:
    """The paper's cell: `1449.4 ± 0.8 ms` for the plain model, `+2.2` per cent for others."""
    if printed is None:
        return EMPTY
    if "slowdown" in printed:
        return Number(signed(printed["slowdown"]), printed["slowdown"])
    return Number(f"{printed['ms']} ± {printed['sd']} ms", printed["ms"], printed["sd"])


def sizes_of(entries: Sequence[Entry]) -> list[Size]:
    return sorted({(entry["length"], entry["batch"]) for entry in entries})


def millions(values: int) -> str:
    return Number(f"{values / 1e6:.2f} M" if values < 1e9 else f"{values / 1e9:.1f} B", values)


def latency_tables(measured: Mapping[str, dict[str, Any]]) -> list[Table]:
    """One table per backbone (several if the grid is wide). `measured`: source -> measurement, the main one first."""
    first = next(iter(measured.values()))
    printed = paper_numbers()
    tables = []
    for backbone in dict.fromkeys(entry["backbone"] for entry in first["latency"]):
        by_source = {
            source: [entry for entry in one["latency"] if entry["backbone"] == backbone]
            for source, one in measured.items()
        }
        sizes = sizes_of(by_source[next(iter(measured))])
        for start in range(0, len(sizes), COLUMNS):
            chosen = sizes[start : start + COLUMNS]
            rows = _rows(by_source, chosen, printed)
            titles = [f"{batch} × {length}" for length, batch in chosen]
            notes = _notes(measured, by_source) if start + COLUMNS >= len(sizes) else ()
            header = ("Method", "Source", "Parameters", *titles)
            tables.append(Table(_facts(measured, backbone), header, "llr" + "r" * len(chosen), rows, notes, ("Parameters",)))
    return tables


def _rows(
    by_source: Mapping[str, Sequence[Entry]], sizes: Sequence[Size], printed: Mapping[str, Mapping[str, Any]]
) -> tuple[tuple[str, ...], ...]:
    lines = []
    named = {entry["row"]: entry["label"] for entries in by_source.values() for entry in entries}
    for row, label in named.items():
        shown = label
        for source, entries in by_source.items():
            own = {(entry["length"], entry["batch"]): entry for entry in entries if entry["row"] == row}
            if own:
                size = next(iter(own.values()))["parameters"]
                parameters = millions(size) if size else EMPTY
                lines.append((shown, source, parameters, *[cell_text(own.get(size)) for size in sizes]))
                shown = ""
        paper = printed.get(row, {}).get(PAPER[0], {})
        values = [paper.get(f"{batch}x{length}") for length, batch in sizes]
        if any(values):
            lines.append((shown, PAPER[1], EMPTY, *map(printed_text, values)))
    return tuple(lines)


def command(measured: Mapping[str, Any]) -> str:
    """The command that measures this again; it names the device unless that is a CPU."""
    device = measured["where"]["kind"]
    rest = [] if device == "cpu" else [f"device={device}"]
    overrides = [item for item in measured["asked"]["overrides"] if item.split("=", 1)[0] not in ("profile", "device")]
    return " ".join(["python -m lora_repro latency", f"profile={measured['profile']}", *rest, *overrides])


def reproduce(measured: Mapping[str, Any]) -> str:
    """The last sentence of the caption: the command."""
    return REPRODUCE + command(measured)


def _facts(measured: Mapping[str, dict[str, Any]], backbone: str) -> tuple[str, ...]:
    first = next(iter(measured.values()))
    total = next(entry["total"] for entry in first["latency"] if entry["backbone"] == backbone)
    devices = {source: one["where"]["device"] for source, one in measured.items()}
    places = set(devices.values())
    said = places.pop() if len(places) == 1 else "; ".join(f"{source}: {device}" for source, device in devices.items())
    return (
        f"Cost of a forward pass, profile {first['profile']}",
        f"Backbone: {first['backbones'][backbone]}, {total / 1e6:.0f} M parameters",
        f"Device: {said}, float32",
        "Columns: batch size × tokens; the plain model's median time, then each method's slow-down against it in % [95 %]",
        reproduce(first),
    )


def _notes(measured: Mapping[str, dict[str, Any]], by_source: Mapping[str, Sequence[Entry]]) -> tuple[str, ...]:
    bench = next(iter(measured.values()))["asked"]["bench"]
    notes = [
        f"Slow-down: median over n = {bench['rounds']} interleaved rounds of the method's time / the plain model's time in the "
        "same round; lower is better. Interval: percentile bootstrap over rounds. It covers the noise of this measurement, not "
        "another machine or day.",
        "= : the interval contains 0, so no difference from the plain model was detected. For equal methods one interval in "
        "twenty excludes 0 by chance. — : not measured or not printed.",
        "A pass computes the logits of every position, without a cache; PreLayer's virtual tokens are added to the length.",
    ]
    for source, entries in by_source.items():
        notes += [verdict(source, entries, row) for row in (MERGED, AGAIN) if any(e["row"] == row for e in entries)]
        load, threads = (measured[source]["where"][key] for key in ("load_before", "threads"))
        if load > BUSY:
            notes.append(f"The machine was busy when {source} began (load {load}, {threads} threads): less reliable.")
    return tuple(notes)


def verdict(source: str, entries: Sequence[Entry], row: str) -> str:
    """For a row that should be as fast as the plain model: in how many cells it is, which cells differ, the widest interval."""
    own = [entry for entry in entries if entry["row"] == row]
    off = [entry for entry in own if not holds_zero(entry)]
    label = own[0]["label"]
    text = f"{label} ({source}): the interval contains 0 in {len(own) - len(off)} of {len(own)} cells"
    if off:
        text += "; not in " + ", ".join(f"{e['batch']} × {e['length']} ({signed(e['slowdown']['median'])} %)" for e in off)
    widest = max(entry["slowdown"]["high"] - entry["slowdown"]["low"] for entry in own)
    return f"{text}. The widest interval spans {widest:.1f} points."

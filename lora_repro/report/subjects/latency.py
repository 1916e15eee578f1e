"""Measured slow-downs of a forward pass (Table 1 and Figure 5 of the paper): tables beside the paper's, heat maps, the claim."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lora_repro.config import paper_values
from lora_repro.config.compose import CONF
from lora_repro.config.paths import choices
from lora_repro.costs.measures import BUSY, PLAIN
from lora_repro.errors import UserError
from lora_repro.report.claims.base import ClaimTest, Evidence, Record
from lora_repro.report.claims.reading import Reading
from lora_repro.report.figures.style import add_title_caption, blank, write
from lora_repro.report.table import EMPTY, Number, Origin, Reproduce, Source, Table, bound, signed
from lora_repro.stats.verdict import INCONCLUSIVE, Region, inside, judge

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure

TITLE = "Cost of a forward pass"
COLUMNS = 6  # cells side by side; a larger grid continues in a further table
MERGED, AGAIN = "lora_merged", "plain_again"
PRINTED = r"\d+x\d+\.(ms|sd|slowdown)|memory_gb|checkpoint_mb|tokens_s"  # what the tables show of conf/paper/latency.csv
PAPER = ("gpt2_medium", "paper (GPT-2 medium, Quadro RTX8000)")
BATCHES = ("all", "least", "least − most")
SPAN = 16  # times the smallest batch: the least largest one for a verdict on both; the paper has 1 and 32
AT = dict(zip(BATCHES, ("all batch sizes", "smallest batch", "smallest batch − largest batch"), strict=True))
# Blue is faster, white equal, red slower: distinguishable with any colour vision, and every cell has its number.
MAP = "RdBu_r"
ACROSS, WIDEST = 4, 12.0  # panels side by side, inches
STRONGEST = 15.0  # per cent at the ends of the scale; if it reached a prefix's 40, the paper's few per cent would be pale
SCALE = "slow-down against the plain model (%)"
READ = "median [95 % interval] over n = {} rounds; = : the interval contains 0"
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
    return Number(text, slow["median"], n=n, low=slow["low"], high=slow["high"], equal=0)


def printed_text(paper: Mapping[str, float] | None) -> str:
    """The paper's cell: `1449.4 ± 0.8 ms` for the plain model, `+2.2` per cent for others."""
    if paper is None:
        return EMPTY
    if "slowdown" in paper:
        return Number(signed(paper["slowdown"]), paper["slowdown"])
    return Number(f"{paper['ms']} ± {paper['sd']} ms", paper["ms"], paper["sd"])


def sizes_of(entries: Sequence[Entry]) -> list[Size]:
    return sorted({(entry["length"], entry["batch"]) for entry in entries})


def millions(values: int) -> str:
    return Number(f"{values / 1e6:.2f} M" if values < 1e9 else f"{values / 1e9:.1f} B", values)


def latency_tables(measurements: Mapping[str, dict[str, Any]]) -> list[Table]:
    """One table per backbone (several if the grid is wide). `measurements`: source -> measurement, the main one first."""
    first = next(iter(measurements.values()))
    paper_rows = paper_numbers()
    tables = []
    for backbone in dict.fromkeys(entry["backbone"] for entry in first["latency"]):
        by_source = {
            source: [entry for entry in measurement["latency"] if entry["backbone"] == backbone]
            for source, measurement in measurements.items()
        }
        sizes = sizes_of(by_source[next(iter(measurements))])
        for start in range(0, len(sizes), COLUMNS):
            columns = sizes[start : start + COLUMNS]
            rows = _rows(by_source, columns, paper_rows)
            titles = [f"{batch} × {length}" for length, batch in columns]
            notes = _notes(measurements, by_source) if start + COLUMNS >= len(sizes) else ()
            header = ("Method", "Source", "Parameters", *titles)
            tables.append(Table(_facts(measurements, backbone), header, "llr" + "r" * len(columns), rows, notes, ("Parameters",)))
    return tables


def _rows(
    by_source: Mapping[str, Sequence[Entry]], sizes: Sequence[Size], paper_rows: Mapping[str, Mapping[str, Any]]
) -> tuple[tuple[str, ...], ...]:
    lines = []
    labels = {entry["row"]: entry["label"] for entries in by_source.values() for entry in entries}
    for row, label in labels.items():
        method = label
        for source, entries in by_source.items():
            by_size = {(entry["length"], entry["batch"]): entry for entry in entries if entry["row"] == row}
            if by_size:
                size = next(iter(by_size.values()))["parameters"]
                parameters = millions(size) if size else EMPTY
                lines.append((method, Source(source), parameters, *[cell_text(by_size.get(size)) for size in sizes]))
                method = ""
        paper = paper_rows.get(row, {}).get(PAPER[0], {})
        values = [paper.get(f"{batch}x{length}") for length, batch in sizes]
        if any(values):
            lines.append((method, Source(PAPER[1], Origin.PAPER), EMPTY, *map(printed_text, values)))
    return tuple(lines)


def command(measurement: Mapping[str, Any]) -> str:
    """The command that measures this again; it names the device unless that is a CPU."""
    device = measurement["where"]["kind"]
    rest = [] if device == "cpu" else [f"device={device}"]
    overrides = [item for item in measurement["asked"]["overrides"] if item.split("=", 1)[0] not in ("profile", "device")]
    return " ".join(["lora-repro latency", f"profile={measurement['profile']}", *rest, *overrides])


def _facts(measurements: Mapping[str, dict[str, Any]], backbone: str) -> tuple[str, ...]:
    first = next(iter(measurements.values()))
    total = next(entry["total"] for entry in first["latency"] if entry["backbone"] == backbone)
    devices = {source: measurement["where"]["device"] for source, measurement in measurements.items()}
    places = set(devices.values())
    hardware = places.pop() if len(places) == 1 else "; ".join(f"{source}: {device}" for source, device in devices.items())
    return (
        f"{TITLE}, profile {first['profile']}",
        f"Backbone: {first['backbones'][backbone]}, {total / 1e6:.0f} M parameters",
        f"Device: {hardware}, float32",
        "Columns: batch size × tokens; the plain model's median time, then each method's slow-down against it in % [95 %]",
        Reproduce(command(first)),
    )


def _notes(measurements: Mapping[str, dict[str, Any]], by_source: Mapping[str, Sequence[Entry]]) -> tuple[str, ...]:
    bench = next(iter(measurements.values()))["asked"]["bench"]
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
        load, threads = (measurements[source]["where"][key] for key in ("load_before", "threads"))
        if load > BUSY:
            notes.append(f"The machine was busy when {source} began (load {load}, {threads} threads): less reliable.")
    return tuple(notes)


def verdict(source: str, entries: Sequence[Entry], row: str) -> str:
    """For a row that should be as fast as the plain model: in how many cells it is, which cells differ, the widest interval."""
    row_entries = [entry for entry in entries if entry["row"] == row]
    off = [entry for entry in row_entries if not holds_zero(entry)]
    label = row_entries[0]["label"]
    text = f"{label} ({source}): the interval contains 0 in {len(row_entries) - len(off)} of {len(row_entries)} cells"
    if off:
        text += "; not in " + ", ".join(f"{e['batch']} × {e['length']} ({signed(e['slowdown']['median'])} %)" for e in off)
    widest = max(entry["slowdown"]["high"] - entry["slowdown"]["low"] for entry in row_entries)
    return f"{text}. The widest interval spans {widest:.1f} points."


def draw(measurement: dict[str, Any], stem: Path) -> list[Path]:
    """Draw one measurement into `stem`.svg and `stem`.png; returns the paths. Drawing it again gives the same bytes."""
    entries = [entry for entry in measurement["latency"] if entry["slowdown"] is not None]
    return write(_figure, stem, measurement, entries) if entries else []


def _figure(measurement: dict[str, Any], entries: Sequence[Entry]) -> Figure:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    backbones = list(dict.fromkeys(entry["backbone"] for entry in entries))
    methods = list(dict.fromkeys(entry["row"] for entry in entries))
    cells = [len({entry[key] for entry in entries}) for key in ("batch", "length")]
    width, height = max(2.3, 1.0 * cells[0]), max(1.7, 0.62 * cells[1] + 0.75)
    across = max(1, min(ACROSS, len(methods), int(WIDEST // width)))
    lines = -(-len(methods) // across)
    most = max(abs(entry["slowdown"]["median"]) for entry in entries)
    reach = min(most, STRONGEST) or 1.0
    scale = Normalize(-reach, reach)
    figure = blank(width * across + 1.1, len(backbones) * (height * lines + 0.3))
    parts = figure.subfigures(len(backbones), 1, squeeze=False)[:, 0]
    for part, backbone in zip(parts, backbones, strict=True):
        backbone_entries = [entry for entry in entries if entry["backbone"] == backbone]
        part.suptitle(measurement["backbones"][backbone], fontsize=9)
        axes = part.subplots(lines, across, squeeze=False)
        for axis in axes.flat[len(methods) :]:
            axis.set_axis_off()
        for index, (axis, row) in enumerate(zip(axes.flat, methods, strict=False)):
            _panel(axis, [entry for entry in backbone_entries if entry["row"] == row], scale)
            axis.set_ylabel("length (tokens)" if index % across == 0 else "")
            axis.set_xlabel("batch size (sequences)" if index >= len(methods) - across else "")
        beyond = "both" if most > reach else "neither"
        bar = part.colorbar(ScalarMappable(scale, MAP), ax=list(axes.flat), label=SCALE, shrink=0.9, extend=beyond)
        bar.outline.set_visible(False)
    conditions = f"Profile {measurement['profile']}, {measurement['where']['device']}, float32, random tokens"
    add_title_caption(figure, _statement(entries), f"{conditions}; {READ.format(measurement['asked']['bench']['rounds'])}.")
    return figure


def _statement(entries: Sequence[Entry]) -> str:
    """The figure's title: the largest slow-down of merged LoRA, of any adapter and of any method, as far as measured."""

    def widest(some: Sequence[Entry]) -> str:
        slowest = max(some, key=lambda entry: entry["slowdown"]["median"])
        return f"{slowest['label']} up to {signed(slowest['slowdown']['median'])} %"

    groups = [[e for e in entries if word in e["label"].lower()] for word in ("merged", "adapter", "")]
    groups[0] = [entry for entry in groups[0] if "not merged" not in entry["label"]]
    return f"Slow-down of a forward pass: {', '.join(dict.fromkeys(widest(some) for some in groups if some))}"


def _panel(axis: Axes, entries: Sequence[Entry], scale: Normalize) -> None:
    """The panel of one method on one backbone; a cell that was not measured stays grey."""
    batches, lengths = (sorted({entry[key] for entry in entries}) for key in ("batch", "length"))
    grid = np.full((len(lengths), len(batches)), np.nan)
    axis.set_facecolor("#dddddd")
    for entry in entries:
        y, x, slow = lengths.index(entry["length"]), batches.index(entry["batch"]), entry["slowdown"]
        grid[y, x] = slow["median"]
        dark = abs(slow["median"]) > 0.6 * float(scale.vmax or 1)
        text = f"{signed(slow['median'])}{' =' if holds_zero(entry) else ''}\n{interval(entry)}"
        axis.text(x, y, text, ha="center", va="center", fontsize=7, color="white" if dark else "black")
    axis.imshow(grid, cmap=MAP, norm=scale, aspect="auto", origin="lower")
    axis.set_xticks(range(len(batches)), [str(batch) for batch in batches])
    axis.set_yticks(range(len(lengths)), [str(length) for length in lengths])
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)
    axis.set_title(entries[0]["label"] if entries else "")


def busy(measurement: Record) -> list[str]:
    load = measurement["where"]["load_before"]
    return [f"the machine was busy (load {load})"] if load > BUSY else []


class Slowdown(ClaimTest):
    """Per cent by which a forward pass is slower than the plain model's, per backbone and device.

    A cell (batch x length) has the median over rounds of the ratio of the two times of a round. The value is the mean over cells
    and `rows`. Its interval is a bootstrap over the rounds of each cell, which its rows share.

    batches: `all`; `least`, the smallest batch; or `least − most`, the slow-down at the smallest batch minus that at the largest.
    """

    resamples = 2000

    def __init__(
        self, rows: Sequence[str], batches: str = "all", floor: float | None = None, ceiling: float | None = None
    ) -> None:
        self.methods, self.batches, self.region = list(rows), batches, Region.of(floor, ceiling)
        if batches not in BATCHES:
            raise UserError(f"batches is one of {'; '.join(BATCHES)}, not {batches}")

    @property
    def rule(self) -> str:
        wording = {"all": "over all batch sizes", "least": "at the smallest batch"}
        over = wording.get(self.batches, "at the smallest batch minus that at the largest")
        spans = f", where the largest is at least {SPAN} times the smallest" if self.batches == BATCHES[2] else ""
        return (f"slow-down of {', '.join(self.methods)} relative to the plain model (%), mean over lengths, {over}: the 95 % "
                f"interval over rounds lies {self.region.words}{spans}")  # fmt: skip

    def read(self, evidence: Evidence) -> list[Reading]:
        readings = []
        for path, measurement in evidence.measures("latency").items():
            for backbone in dict.fromkeys(entry["backbone"] for entry in measurement["latency"]):
                entries = [entry for entry in measurement["latency"] if entry["backbone"] == backbone]
                if reading := self._of_backbone(entries, path, measurement):
                    readings.append(reading)
        return readings

    def _of_backbone(self, entries: Sequence[Record], path: str, measurement: Record) -> Reading | None:
        sizes = sorted({entry["batch"] for entry in entries})
        timings = [entry for entry in entries if entry["row"] in self.methods]
        if not timings or (self.batches == BATCHES[2] and len(sizes) < 2):
            return None
        plain = {(e["batch"], e["length"]): e["ms"] for e in entries if e["row"] == PLAIN}
        slowdowns = {(e["row"], e["batch"], e["length"]): self._cell(e, plain) for e in timings}
        value, draws = self._pooled(slowdowns, sizes)
        each = self._single({key: point for key, (point, _) in slowdowns.items()}, sizes)
        low, high = (float(end) for end in np.percentile(draws, [2.5, 97.5]))
        n = min(len(entry["ms"]) for entry in timings)
        ends = [bound(end, 1, True) for end in (min(each), max(each))]
        notes = [
            str(measurement["where"]["device"]),
            f"its {len(each)} cells lie from {ends[0]} to {ends[1]}",
            *busy(measurement),
        ]
        missing = sorted(set(self.methods) - {entry["row"] for entry in timings})
        if missing:
            notes.append(f"not measured: {', '.join(missing)}")
        narrow = self.batches == BATCHES[2] and sizes[-1] < SPAN * sizes[0]
        if narrow:
            notes.append(f"batches of {sizes[0]} and {sizes[-1]}; a verdict needs {SPAN} times as many rows in the largest")
        verdict = INCONCLUSIVE if missing or narrow else judge(self.region, low, high, n)
        name = measurement["backbones"][timings[0]["backbone"]]
        return Reading(f"slow-down, {', '.join(self.methods)}, {AT[self.batches]}, {name}", "%", verdict, value, low, high,
                       n, 1, True, tuple(notes), (path,), inside=inside(self.region, each, "cells"), region=self.region,
                       reason="no large batch was measured" if narrow else "")  # fmt: skip

    def _cell(self, entry: Record, plain: dict[tuple[int, int], Any]) -> tuple[float, Any]:
        """(slow-down in per cent, its resamples) of one cell.

        All rows of a cell were timed in the same rounds against the same plain model, so their resamples draw the same rounds.
        """
        ratios = np.asarray(entry["ms"], float) / np.asarray(plain[entry["batch"], entry["length"]], float)
        draw = np.random.default_rng([entry["batch"], entry["length"]])
        rounds = draw.integers(len(ratios), size=(self.resamples, len(ratios)))
        return 100 * (float(np.median(ratios)) - 1), 100 * (np.median(ratios[rounds], axis=1) - 1)

    def _single(self, points: dict[tuple[str, int, int], float], sizes: Sequence[int]) -> list[float]:
        """The value of every cell; for `least − most`, the difference of the two batches for every row and length."""
        small, large = sizes[0], sizes[-1]
        if self.batches == "least − most":
            return [point - points[row, large, length] for (row, batch, length), point in points.items() if batch == small]
        return [point for (_, batch, _), point in points.items() if self.batches == "all" or batch == small]

    def _pooled(self, slowdowns: dict[tuple[str, int, int], tuple[float, Any]], sizes: Sequence[int]) -> tuple[float, Any]:
        def mean(batches: Sequence[int]) -> tuple[float, Any]:
            cells = [resamples for (_, batch, _), resamples in slowdowns.items() if batch in batches]
            return float(np.mean([point for point, _ in cells])), np.mean([draws for _, draws in cells], axis=0)

        if self.batches == "all":
            return mean(sizes)
        point, draws = mean(sizes[:1])
        if self.batches == "least":
            return point, draws
        other, more = mean(sizes[-1:])
        return point - other, draws - more

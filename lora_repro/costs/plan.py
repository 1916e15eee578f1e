"""What runs would cost: a line per run, and sentences on all that are missing (`commands/plan.py` explains the columns).

Nothing is trained, downloaded or written. For a card that is not at hand a line is a row of the table with all its seeds.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from lora_repro.backbone import availability
from lora_repro.bisection import recorded, search_note
from lora_repro.config.compose import build
from lora_repro.costs import detectable
from lora_repro.costs.forecast import Forecast, data_of, forecast
from lora_repro.costs.hardware import Card
from lora_repro.costs.meta_model import build_meta_model
from lora_repro.errors import UserError
from lora_repro.planning.cells import Cell, varying_axes
from lora_repro.records.provenance import device_name
from lora_repro.records.run_folder import CHECKPOINTS, FACTS
from lora_repro.results import published_records
from lora_repro.run.stages import backbone_of
from lora_repro.tasks.base import Splits
from lora_repro.train.ranks import Ranks

HEADER = ["row", "task", "seed", "backbone", "here", "trained", "tokens", "FLOPs", "time", "", "memory"]
SIDES = "<<><<>>>><>"
WORDS = ("task", "seed", "backbone", "here", "")  # on a narrow terminal these columns are printed once if all lines agree
GPU_HEADER = ["row", "task", "backbone", "runs", "trained", "tokens a run", "FLOPs", "GPU-hours", "memory GB", "kept GB"]
GPU_SIDES = "<<<>>>>>>>"


@dataclass(frozen=True)
class Line:
    """One run of a plan. `state`: `yes` (recorded here), `begun` (a checkpoint is there) or `no`. `how`: `published` or
    `estimated`, of its time. device: its kind, `cpu` or `cuda`.
    """

    cell: Cell
    forecast: Forecast
    config: DictConfig
    device: str
    state: str
    seconds: float
    how: str


def plan_runs(cells: Sequence[Cell], card: Card | None = None) -> list[Line]:
    """The plan of these runs, on `card` or on this machine. Raises UserError for a cell that trains nothing, or broken data."""
    forecasts: dict[str, tuple[DictConfig, Forecast]] = {}
    splits: dict[str, Splits | None] = {}
    records: dict[str, dict[str, Any]] = {}
    lines = []
    for cell in cells:
        if "bench" in cell.asked:
            raise UserError(f"experiment {cell.asked['row']['table']} trains nothing: there is nothing to plan")
        profile = str(cell.asked["profile_name"])
        if not records:
            records = published_records(profile)
        key = json.dumps({**cell.asked, "seed": 0, "starts_from": None}, sort_keys=True)  # all seeds cost the same
        if key not in forecasts:
            config: DictConfig = OmegaConf.create(cell.asked)
            data = json.dumps([cell.asked["task"], cell.asked["paths"]["data"]])
            if data not in splits:
                splits[data] = data_of(config)
            forecasts[key] = config, forecast(config, splits[data], card)
        config, estimate = forecasts[key]
        kind, name = ("cuda", card.name) if card else _device(str(config.device))
        seconds, basis = _time(estimate, records.get(cell.folder.name), name)
        lines.append(Line(cell, estimate, config, kind, _state(cell), seconds, basis))
    return lines


def _device(setting: str) -> tuple[str, str]:
    """(kind, name) of the device on which this machine computes."""
    device = Ranks.here(setting).device
    return device.type, device_name(device)


def _state(cell: Cell) -> str:
    folder = cell.folder
    if recorded(cell) is not None:
        return "yes"
    return "begun" if (folder / CHECKPOINTS).is_dir() or (folder / FACTS).is_file() else "no"


def _time(estimate: Forecast, record: dict[str, Any] | None, device: str) -> tuple[float, str]:
    """(seconds, `published` for this run on the same device, or else `estimated`)."""
    if record and record["where"]["device"] == device:
        return float(record["measured"]["wall_seconds"]), "published"
    return estimate.seconds, "estimated"


def table(lines: Sequence[Line]) -> str:
    """Aligned columns, one line per run."""
    axes = varying_axes([line.cell for line in lines])
    return aligned([HEADER, *(_row(line, axes) for line in lines)], SIDES)


def aligned(rows: Sequence[Sequence[str]], sides: str) -> str:
    """Columns of text under a header; `sides`: `<` or `>` per column.

    On a terminal that is too narrow, columns of `WORDS` with the same text in every line are left out and listed below.
    """
    columns, below = list(zip(*rows, strict=True)), ""
    widths = [max(map(len, column)) for column in columns]
    if sum(widths) + 2 * len(widths) - 2 > shutil.get_terminal_size((10**6, 24)).columns:
        same = [place for place, column in enumerate(columns) if len(set(column[1:])) == 1 and column[0] in WORDS]
        below = f"\nall: {', '.join(f'{rows[0][place]} {rows[1][place]}'.strip() for place in same)}" if same else ""
        places = [place for place in range(len(columns)) if place not in same]
        rows, sides = [[row[place] for place in places] for row in rows], "".join(sides[place] for place in places)
        widths = [widths[place] for place in places]
    lines = [
        "  ".join(f"{text:{side}{width}}" for text, side, width in zip(row, sides, widths, strict=True)).rstrip()
        for row in rows
    ]
    return "\n".join([lines[0], "-" * max(map(len, lines)), *lines[1:]]) + below


def _row(line: Line, axes: list[str]) -> list[str]:
    cell, estimate = line.cell, line.forecast
    mark = "" if estimate.lengths == "counted" else "*"
    return [
        cell.titled(axes),
        cell.task,
        str(cell.seed),
        str(cell.asked["backbone"]["name"]),
        line.state,
        f"{estimate.trained:,}",
        f"{estimate.tokens:,}{mark}",
        f"{estimate.flops:.2g}",
        clock(line.seconds),
        line.how,
        size(estimate.memory),
    ]


def totals(lines: Sequence[Line], card: Card | None = None) -> list[str]:
    """One sentence each on what is missing: runs, time, operations, disk, downloads."""
    missing = [line for line in lines if line.state != "yes"]
    noun = "run" if len(lines) == 1 else "runs"
    note = search_note([line.cell for line in lines])
    notes = [f"{len(lines)} {noun}, {len(lines) - len(missing)} here already", *filter(None, [note])]
    if not missing:
        return [*notes, "nothing to do"]
    operations = sum(line.forecast.flops for line in missing)
    notes.append(
        f"to run: {len(missing)}, one after the other {clock(sum(line.seconds for line in missing))}, {operations:.2g} FLOPs,"
        f" at most {size(max(line.forecast.memory for line in missing))} of memory"
    )
    final_disk = sum(line.forecast.kept for line in missing)
    peak_disk = final_disk + max(line.forecast.used - line.forecast.kept for line in missing)
    runs = Path(str(lines[0].cell.asked["paths"]["runs"])).absolute()
    free = shutil.disk_usage(next(folder for folder in (runs, *runs.parents) if folder.exists())).free
    free_note = "" if card else f"; {size(free)} are free at {runs}"
    notes.append(f"disk: {size(final_disk)} at the end, at most {size(peak_disk)} while running{free_note}")
    notes.append(f"downloads: {'; '.join(downloads(missing)) or 'none'}")
    notes += [*searches(lines), *differences(lines)]
    if (processes := lines[0].cell.asked["launch"]["processes"]) > 1:
        notes.append(f"times and memory are for one process; launch.processes={processes} would share each run's batches")
    if any(line.forecast.lengths != "counted" for line in missing):
        notes.append("* from documented mean lengths: to count tokens, name the data (DATA=/path) and fetch the backbone")
    if card:
        large = list(dict.fromkeys(line.cell.row.name for line in missing if line.forecast.memory > card.memory * 1e9))
        if large:
            notes.append(f"do not fit in the GPU's {card.memory:g} GB: {', '.join(large)}; train.micro_batch_size splits a batch")
        notes.append(f"estimated for {card}")
    elif peak_disk > free:
        notes.append("the disk is too small: free some space, or choose another one with paths.runs=/path")
    return notes


def searches(lines: Sequence[Line]) -> list[str]:
    """The cost of searching the learning rates not searched yet (`lora-repro tune`); runs do not wait for it."""
    settings = {line.cell.setting: line for line in lines if line.cell.unsearched}
    if not settings:
        return []
    length, most, seeds = (lines[0].cell.asked["tune"][key] for key in ("length", "most", "seeds"))
    once = float(length) * seeds * sum(line.forecast.train_seconds for line in settings.values())
    part = ("" if length == 1 else f" of {length:.2g} of a training") + (f" with {seeds} seeds" if seeds > 1 else "")
    took = f"{clock(3 * once)} to {clock(most * once)}"
    return [f"learning rates not searched: {len(settings)}; 3 to {most} trials each{part} add {took}: lora-repro tune"]


def differences(lines: Sequence[Line]) -> list[str]:
    """The least difference between two rows that each task's runs could show, by number of seeds, as far as it is known."""
    notes = []
    for task in dict.fromkeys(line.cell.task for line in lines):
        task_lines = [line for line in lines if line.cell.task == task and line.forecast.test_rows]
        seeds: dict[str, set[int]] = {}
        for line in task_lines:
            seeds.setdefault(line.cell.row.name, set()).add(line.cell.seed)
        if len(seeds) < 2:
            continue
        noise = detectable.noise(task, str(task_lines[0].cell.asked["profile_name"]))
        counts = sorted({len(row_seeds) for row_seeds in seeds.values()}, reverse=True)
        points = [(k, detectable.points(noise, k, max(line.forecast.test_rows for line in task_lines))) for k in counts]
        phrases = [f"{least:.1f} points with {k} seed{'s' if k > 1 else ' (test inputs alone)'}" for k, least in points if least]
        least = f"{', '.join(phrases)}, by the runs published at {noise.profile}" if phrases and noise else ""
        rest = "unknown with more seeds" if phrases else "unknown"
        unknown = f"{rest}, too few of its runs are published" if len(phrases) < len(points) else ""
        notes.append(f"smallest detectable difference of two rows on {task}: {'; '.join(filter(None, (least, unknown)))}")
    return notes


def downloads(missing: Sequence[Line]) -> list[str]:
    """What has to be downloaded: backbones, with the size of their float32 weights, and data sets of the hub."""
    texts: dict[str, str] = {}
    for line in missing:
        spec, method, source = backbone_of(line.config), build(line.config.method), str(line.config.task.get("source"))
        if method.needs_model and spec.name not in texts and not availability.has_weights(spec):
            full = build_meta_model(spec, method).outline
            way = f"wheel {spec.wheel['package']}" if spec.wheel else f"hub {spec.hub_id or 'of your choice'}"
            texts[spec.name] = f"{spec.name} ({way}, about {size(4 * full.parameters)} as float32)"
        if source == "hub":
            texts["data"] = "the data sets, from the hub"
    return list(texts.values())


def clock(seconds: float) -> str:
    """A duration as `47 s`, `12 min`, `3.4 h`, `12 d`."""
    for limit, unit, divisor in ((100, "s", 1), (100 * 60, "min", 60), (72 * 3600, "h", 3600)):
        if seconds < limit:
            return f"{seconds / divisor:.{1 if unit == 'h' else 0}f} {unit}"
    return f"{seconds / 86400:.0f} d"


def size(n: float) -> str:
    """Bytes in kB, MB, GB (powers of ten)."""
    for unit in ("B", "kB", "MB", "GB"):
        if n < 999.5 or unit == "GB":
            return f"{n:.{1 if unit == 'GB' and n < 100 else 0}f} {unit}"
        n /= 1000
    raise AssertionError


def gpu_rows(lines: Sequence[Line]) -> list[list[str]]:
    """A header, then one line per row, task and backbone, as text cells. Recorded runs cost nothing and are left out."""
    axes = [axis for axis in varying_axes([line.cell for line in lines]) if axis != "backbone"]  # it has a column of its own
    groups: dict[tuple[str, str, str], list[Line]] = {}
    for line in lines:
        if line.state != "yes":
            backbone = str(line.cell.asked["backbone"]["name"])
            groups.setdefault((line.cell.titled(axes), line.cell.task, backbone), []).append(line)
    return [GPU_HEADER, *([*key, *_figures(group)] for key, group in groups.items())]


def _figures(group: Sequence[Line]) -> list[str]:
    forecast = group[0].forecast
    mark = "" if forecast.lengths == "counted" else "*"
    hours = sum(line.seconds for line in group) / 3600
    memory, disk = max(line.forecast.memory for line in group), sum(line.forecast.kept for line in group)
    flops = sum(line.forecast.flops for line in group)
    numbers = (figure(hours), figure(memory / 1e9), figure(disk / 1e9))
    return [str(len(group)), f"{forecast.trained:,}", f"{forecast.tokens:,}{mark}", f"{flops:.2g}", *numbers]


def figure(value: float) -> str:
    """Two digits that mean something below ten, whole numbers above: `0.027`, `0.43`, `3.1`, `120`."""
    return f"{value:.0f}" if value >= 10 else f"{value:.1f}" if value >= 1 else f"{value:.2g}"

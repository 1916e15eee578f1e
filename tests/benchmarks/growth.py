"""How the time of a training step grows with row length, number of rows and LoRA's rank, and that of reading with the records.

Rows are random tokens of one length. A step has `ROWS` rows of `LENGTH` tokens at rank `RANK`, except for what varies. The
figures growth.svg and growth.png are written beside the page.
"""

from __future__ import annotations

import random
import statistics
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from lora_repro.backbone.model import Backbone
from lora_repro.config.compose import build, compose
from lora_repro.data import Encoded
from lora_repro.report.figures.curves import Curve, CurvePoint, Plot, save
from lora_repro.run.stages import objective_of
from tests.benchmarks._arms import copied, ours, turns
from tests.benchmarks._table import Row, told
from tests.benchmarks.pages import reading

ROWS, LENGTH, RANK = 4, 64, 8
VARIED = {"length": (16, 32, 64, 128, 256), "batch": (1, 2, 4, 8, 16), "rank": (1, 4, 16, 64)}
RECORDS = (100, 1000, 10_000)
ARMS = {"lora": "LoRA", "full": "Full fine-tuning"}
ACROSS = {"length": "tokens a row", "batch": "rows a batch", "rank": "rank", "records": "records"}
ROUNDS = 3


def measure(
    overrides: Sequence[str],
    backbone: str = "smollm2_135m",
    varied: Mapping[str, Sequence[int]] = VARIED,
    records: Sequence[int] = RECORDS,
    rounds: int = ROUNDS,
) -> dict[str, Any]:
    """CPU seconds of each round at each size. `rows`: the largest size beside the smallest times the ratio of the sizes."""
    settings = ["task=e2e", f"backbone={backbone}", "train.precision=auto", *overrides]
    config = compose([*settings, "method=lora"])
    plain = objective_of(config).fit(build(config.backbone)).load()
    seconds: dict[str, Any] = {what: _steps(plain, settings, what, sizes, rounds) for what, sizes in varied.items()}
    with tempfile.TemporaryDirectory() as folder:
        read = {count: [reading(Path(folder) / str(count), count)] for count in records}
    seconds["records"] = {"reading": read}
    return {"rows": told(_told(seconds)), "seconds": seconds}


def _steps(
    plain: Backbone, chosen: Sequence[str], what: str, sizes: Sequence[int], rounds: int
) -> dict[str, dict[int, list[float]]]:
    """Arm -> size -> seconds of each round."""
    calls: dict[tuple[str, int], Callable[[], float]] = {}
    for arm in ARMS if what != "rank" else ("lora",):
        for size in sizes:
            if what == "rank" or size == sizes[0]:  # otherwise an arm's sizes share one model
                rank = [f"method.rank={size if what == 'rank' else RANK}"] if arm == "lora" else []
                config = compose([*chosen, f"method={arm}", *rank])
                step = ours(copied(plain), build(config.method), objective_of(config), build(config.train))
            rows = _rows(size if what == "batch" else ROWS, size if what == "length" else LENGTH, len(plain.tokenizer))
            calls[arm, size] = partial(step, rows)
    arms = {f"{arm} {size}": call for (arm, size), call in calls.items()}
    seconds = turns(arms, rounds, plain.device)
    return {
        arm: {size: seconds[f"{arm} {size}"] for other, size in calls if other == arm}
        for arm in dict.fromkeys(arm for arm, _ in calls)
    }


def _rows(count: int, length: int, vocabulary: int) -> list[Encoded]:
    draw = random.Random(0)
    ids = [[draw.randrange(vocabulary) for _ in range(length)] for _ in range(count)]
    return [Encoded(row, [-1] * length, [1] * length, length // 2) for row in ids]


def _told(seconds: Mapping[str, Mapping[str, Mapping[int, Sequence[float]]]]) -> list[Row]:
    rows = []
    for what, arms in seconds.items():
        for arm, sizes in arms.items():
            middle = {size: statistics.median(times) for size, times in sizes.items()}
            few, many = min(middle), max(middle)
            times = 1 if what == "rank" else many // few
            baseline = f"at {few}" if times == 1 else f"{times} times what {few:,} take"
            at = f"rank {many}" if what == "rank" else f"{many} {ACROSS[what]}"
            label = f"reading {many:,} records" if arm == "reading" else f"{ARMS[arm]} step, {at}"
            rows.append(Row(label, middle[many], baseline, middle[few] * times))
    return rows


def draw(found: Mapping[str, Any], stem: Path) -> list[Path]:
    """Draw the figure from `found`, the file of a measurement; returns its two files."""
    plots = []
    for what, arms in found["seconds"].items():
        curves = [
            Curve(ARMS.get(arm, arm), tuple(CurvePoint(int(x), statistics.median(y), None) for x, y in sizes.items()), method=arm)
            for arm, sizes in arms.items()
        ]
        ticks = tuple((float(x), f"{int(x):,}") for x in next(iter(arms.values())))
        flat = what == "rank"  # its times differ by a few per cent, which a scale of their own would blow up
        unit = f"CPU seconds{'' if flat else ' (log scale)'}"
        plots.append(Plot(f"by {ACROSS[what]}", f"{ACROSS[what]} (log scale)", unit, tuple(curves), ticks, log_y=not flat,
                          spreadless=True, bottom=0.0 if flat else None))  # fmt: skip
    caption = f"Middle of the rounds, one thread; otherwise {ROWS} rows of {LENGTH} tokens, rank {RANK}."
    return save(plots, stem, 2, "What a training step costs, and reading records", caption)

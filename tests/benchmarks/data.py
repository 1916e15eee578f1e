"""Reading and encoding as many rows as MNLI has: the first time, and again with cached token ids.

The rows are those of the generated task Entailment, numbered so that no two are equal, in MNLI's files and columns. Reading and
checking the files counts every time, tokenising only the first time.
"""

from __future__ import annotations

import itertools
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lora_repro.config import paths
from lora_repro.config.compose import build, compose
from lora_repro.run.stages import encode, objective_of, read
from tests.benchmarks._table import Row, told

AGAIN = 3


def measure(overrides: Sequence[str], backbone: str = "minilm_l6") -> dict[str, Any]:
    """CPU seconds of reading and encoding the training rows, the first time and again."""
    config = compose(["task=mnli", f"backbone={backbone}", "method=lora", *overrides])
    examples = build(compose(["task=entailment"]).task).load(None).train
    objective, plain = objective_of(config), objective_of(config).fit(build(config.backbone)).load()
    usual = paths.CACHE
    with tempfile.TemporaryDirectory() as folder:
        for split, count in config.task.rows.items():
            path = Path(folder) / config.task.folder / config.task.files[split]
            path.parent.mkdir(exist_ok=True)
            lines = [
                f"{example.input} {number}\t{example.second}\t{config.task.labels[number % 3]}\n"
                for number, example in zip(range(count), itertools.cycle(examples), strict=False)
            ]
            path.write_text("sentence1\tsentence2\tgold_label\n" + "".join(lines), encoding="utf-8")
        times, token_ids = [], []
        try:
            paths.CACHE = Path(folder) / "cache"
            for _ in range(1 + AGAIN):
                began = time.process_time()
                splits = read(build(config.task), folder)
                middle = time.process_time()
                rows = encode(splits, objective, plain, build(config.method), build(config.data)).train
                times.append((middle - began, time.process_time() - middle))
                token_ids.append([rows[0].ids, rows[-1].ids, [len(rows)]])
                del splits, rows  # else the next round's time would include freeing them
        finally:
            paths.CACHE = usual
    if any(other != token_ids[0] for other in token_ids):
        raise AssertionError("the kept token ids are not those of the texts")
    first, again = sum(times[0]), statistics.median(map(sum, times[1:]))
    reading, encoding = (statistics.median(part) for part in zip(*times[1:], strict=True))
    what = f"reading and encoding {token_ids[0][-1][0]:,} pairs of sentences again"
    note = f"reading and checking the files {reading:.1f} s, encoding {encoding:.1f} s, both Python's own loops over the rows"
    row = Row(what, again, "the first time", first, "≤ 5 s", note)
    return {"rows": told([row]), "seconds": {"read": [r for r, _ in times], "encode": [e for _, e in times]}}

"""The settings of a measurement, and the bytes of arithmetic."""

from __future__ import annotations

from typing import Any

import pytest

from lora_repro.costs.arithmetic import limit
from lora_repro.costs.latency_settings import Bench
from lora_repro.errors import UserError

GOOD: dict[str, Any] = {
    "rounds": 5, "warmup": 0, "batches": [1, 2], "lengths": [8], "train_batch": 1, "train_length": 2, "train_steps": 2,
    "resamples": 100,
}  # fmt: skip


@pytest.mark.parametrize(
    "change",
    [{"rounds": 4}, {"warmup": -1}, {"batches": []}, {"batches": [1, 1]}, {"lengths": [0]}, {"lengths": "128"},
     {"train_steps": 1}, {"resamples": 10}, {"threads": 0}],
)  # fmt: skip
def test_nonsense_is_refused_by_name(change: dict[str, Any]) -> None:
    Bench(**GOOD)
    with pytest.raises(UserError, match=next(iter(change))):
        Bench(**{**GOOD, **change})


def test_the_arithmetic_of_full_fine_tuning_and_of_a_small_method() -> None:
    full, small = limit(1000, 1000), limit(1010, 10)
    assert (full.training, full.above_model, full.state, full.checkpoint) == (16_000, 12_000, 8000, 4000)
    assert (small.training, small.above_model, small.state, small.checkpoint) == (4040 + 120, 120, 80, 40)
    assert limit(1000, 1000, 2).training == 8000
    assert limit(20_000, 100, quantised=16_384).weights == 4 * (20_000 - 16_384) + 16_384 // 2 + 256 + 4

"""Interleaved timing with a clock of our own, and slow-downs of planted times."""

from __future__ import annotations

import numpy as np
import pytest

from lora_repro.costs.latency import interleaved, slowdown


class Machine:
    """Calls of known cost on a clock that every call moves; a device that is late until it is waited for."""

    def __init__(self, costs: dict[str, float]) -> None:
        self.now, self.late, self.log = 0.0, 0.0, list[str]()
        self.calls = {name: lambda name=name, cost=cost: self.call(name, cost) for name, cost in costs.items()}

    def call(self, name: str, cost: float) -> None:
        self.log.append(name)
        self.late += cost

    def wait(self) -> None:
        self.now, self.late = self.now + self.late, 0.0

    def clock(self) -> float:
        return self.now


def test_each_time_is_one_call_waited_for() -> None:
    machine = Machine({"plain": 0.010, "slow": 0.015})
    times = interleaved(machine.calls, 4, 3, wait=machine.wait, clock=machine.clock)
    assert times["plain"] == pytest.approx([10.0] * 4) and times["slow"] == pytest.approx([15.0] * 4)


def test_rounds_hold_every_call_once_in_changing_order_after_the_warm_up() -> None:
    machine = Machine(dict.fromkeys("abcd", 1.0))
    interleaved(machine.calls, 6, 2, wait=machine.wait, clock=machine.clock)
    assert machine.log[:8] == list("aabbccdd")
    rest = machine.log[8:]
    assert rest[::2] == rest[1::2]  # each timed call follows an untimed one of its own
    rounds = ["".join(rest[i : i + 8 : 2]) for i in range(0, len(rest), 8)]
    assert all(sorted(one) == list("abcd") for one in rounds) and len(set(rounds)) > 2
    again = Machine(dict.fromkeys("abcd", 1.0))
    interleaved(again.calls, 6, 2, wait=again.wait, clock=again.clock)
    assert again.log == machine.log


def test_a_drift_of_the_machine_leaves_the_ratio_alone() -> None:
    drift = np.linspace(1, 3, 20)
    interval = slowdown(list(12.0 * drift), list(10.0 * drift), 500)
    assert (interval.median, interval.low, interval.high) == pytest.approx((20, 20, 20)) and interval.n == 20


def test_the_interval_covers_the_planted_slow_down_about_as_often_as_it_says() -> None:
    random = np.random.default_rng(1)
    coverage = equal = 0
    for _ in range(200):
        plain = random.normal(10, 0.1, 25)
        slow = slowdown(list(plain * random.normal(1.05, 0.02, 25)), list(plain), 400)
        same = slowdown(list(plain * random.normal(1.0, 0.02, 25)), list(plain), 400)
        coverage += slow.low <= 5 <= slow.high
        equal += same.low <= 0 <= same.high
        assert slow.low <= slow.median <= slow.high
    assert 180 <= coverage <= 199 and 180 <= equal <= 199


def test_one_interrupted_round_does_not_move_the_median() -> None:
    plain = [10.0] * 15
    interval = slowdown([11.0] * 14 + [90.0], plain, 1000)
    assert interval.median == pytest.approx(10) and interval.high == pytest.approx(10)


@pytest.mark.parametrize(
    ("times", "plain"), [([], []), ([1.0], [1.0, 2.0]), ([1.0, 0.0], [1.0, 1.0]), ([1.0, float("nan")], [1.0, 1.0])]
)
def test_nonsense_times_are_refused(times: list[float], plain: list[float]) -> None:
    with pytest.raises(ValueError, match="one positive number"):
        slowdown(times, plain, 100)

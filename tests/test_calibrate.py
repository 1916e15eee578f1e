"""The speed of this machine: operations over time, measured once, without touching the run's random numbers."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from lora_repro.config import disk_cache
from lora_repro.config.compose import build, compose
from lora_repro.costs import arithmetic, hardware
from lora_repro.costs.forecast import forecast, workload
from lora_repro.costs.meta_model import build_meta_model
from lora_repro.run.stages import backbone_of

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "_known", {})
    monkeypatch.setattr(hardware, "load_or_make", lambda asked, make, *_: make())  # what is measured here is no machine's speed


@pytest.mark.parametrize("backbone", ["random_gpt2", "random_llama", "random_bert"])
@pytest.mark.parametrize("method", ["full", "lora"])
@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
def test_speed_is_operations_over_time(
    backbone: str, method: str, dtype: torch.dtype | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = ["task=sentiment"] if backbone == "random_bert" else []
    config = compose(["profile=smoke", f"backbone={backbone}", f"method={method}", *task])
    meta = build_meta_model(backbone_of(config), build(config.method))
    work, _ = workload(config, meta, build(config.task).load(None))
    work = replace(work, micro=2)
    steps = []

    def time(step: object, device: torch.device) -> float:
        step()  # type: ignore[operator]  # the step itself must run
        steps.append(step)
        return 0.5

    monkeypatch.setattr(hardware, "_time", time)
    before = torch.get_rng_state()
    rate = hardware.speed(meta.shape, meta.outline, work, CPU, dtype)
    assert torch.equal(before, torch.get_rng_state())
    length = 2 ** round(math.log2(work.length))
    weights = meta.outline.block if method == "full" else 0
    one = replace(meta.outline, layers=1, depth=1, added=0, head_matrix=0, weights=weights)
    row = arithmetic.forward(one, length, 0) + arithmetic.backward(one, length, 0)
    assert rate.rows == pytest.approx(work.micro * row / 0.5)
    assert len(steps) == (2 if work.new else 1)
    assert hardware.speed(meta.shape, meta.outline, work, CPU, dtype) == rate and len(steps) == (2 if work.new else 1)


def test_a_speed_is_kept_for_this_machine_and_this_code(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    config = compose(["profile=smoke", "backbone=random_gpt2"])
    meta = build_meta_model(backbone_of(config), build(config.method))
    work, _ = workload(config, meta, build(config.task).load(None))
    monkeypatch.setattr(hardware, "load_or_make", disk_cache.load_or_make)
    monkeypatch.setattr(disk_cache, "CACHE", tmp_path)
    disk_cache._compositions.cache_clear()
    timings: list[float] = []
    monkeypatch.setattr(hardware, "_time", lambda step, device: timings.append(1.0) or float(len(timings)))

    def asked() -> hardware.Speed:
        monkeypatch.setattr(hardware, "_known", {})  # as another process
        return hardware.speed(meta.shape, meta.outline, work, CPU, None)

    first = asked()
    once = len(timings)
    assert asked() == first and len(timings) == once
    for module, name in ((hardware.platform, "node"), (disk_cache, "_text_of")):
        monkeypatch.setattr(module, name, lambda *_: "another")
        assert asked() != first and len(timings) > once
        once = len(timings)
    monkeypatch.setattr(hardware.time, "time", lambda: 0.0)  # another day
    asked()
    assert len(timings) > once
    disk_cache._compositions.cache_clear()


def test_a_step_is_timed_after_one_that_warms_up_by_the_fastest(monkeypatch: pytest.MonkeyPatch) -> None:
    """A plan beside two trainings promised an encoder's runs ten times their hours, by the mean of steps that waited."""
    ticks = iter([0.0, 0.05, 0.1, 0.13, 0.2, 0.35])
    monkeypatch.setattr(hardware.time, "perf_counter", lambda: next(ticks))
    calls = []
    # Five timed steps would be the most; three take 0.23 s.
    assert hardware._time(lambda: calls.append(1), CPU) == pytest.approx(0.03) and len(calls) == 4


def test_a_forecast_is_more_than_loading(monkeypatch: pytest.MonkeyPatch) -> None:
    config = compose(["experiment=e2e", "row/e2e=lora", "profile=smoke"])
    splits = build(config.task).load(None)
    monkeypatch.setattr(hardware, "_time", lambda step, device: 1e-3)
    quick = forecast(config, splits).seconds
    monkeypatch.setattr(hardware, "_time", lambda step, device: 1.0)
    monkeypatch.setattr(hardware, "_known", {})
    assert arithmetic.LOADING < quick < forecast(config, splits).seconds


def test_a_row_without_a_model_is_scoring_alone() -> None:
    config = compose(["experiment=e2e", "row/e2e=human", "profile=smoke"])
    estimate = forecast(config, build(config.task).load(None))
    assert (estimate.trained, estimate.flops) == (0, 0) and estimate.seconds == arithmetic.LOADING + 4 * arithmetic.SCORING

"""A plan for a card that is not here: its roofline by hand, a line a row, and nothing of this machine in it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from lora_repro.commands import plan as plan_command
from lora_repro.costs import plan
from lora_repro.costs.arithmetic import Outline, Work
from lora_repro.costs.hardware import _cards, card
from lora_repro.planning.cells import cells

ASKED = ["experiment=e2e", "row/e2e=lora,full", "profile=paper", "backbone=gpt2_medium", "seed=0,1,2"]
OUTLINE = Outline(24, 12 * 1024**2, 1024, 18432, 1024, 51463168, 50257, 355_000_000, 393216, 0, 393216, 0, 24, False)
WORK = Work(1000, 8, 8, 64.0, 32.0, 100, 8000, 0, 0, 0, 640, 32.0, 32, 64, 10, 16)


@pytest.fixture(autouse=True)
def _no_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lora_repro.costs.forecast.speed", lambda *a: pytest.fail("this machine was timed"))


def test_a_step_takes_the_longer_of_computing_and_launching() -> None:
    """Worked by hand: 24 blocks of 12 d^2 values, d = 1024, 8 rows of 64 positions, 32 of them scored."""
    a100 = card("A100")
    forward = 24 * (2 * 64 * 12 * 1024**2 + 4 * 64**2 * 1024) + 2 * 64 * 393216 + 2 * 32 * 51463168
    backward = 24 * (2 * 64 * 12 * 1024**2 + 8 * 64**2 * 1024) + 4 * 64 * 393216 + 2 * 32 * 51463168
    speed = a100.speed(OUTLINE, WORK, torch.bfloat16)
    assert 8 * (forward + backward) / speed.rows == pytest.approx(24 * 90 * 10e-6)  # launching
    many = replace(WORK, batch=512, micro=512)
    flops = 512 * (forward + backward)
    traffic = 2 * 2 * 24 * 12 * 1024**2 + 4 * 3 * 512 * 64 * 18432 * 24 + 28 * 393216
    busy = flops / (0.4 * 312e12) + traffic / (0.7 * 2039e9)
    assert flops / a100.speed(OUTLINE, many, torch.bfloat16).rows == pytest.approx(busy)
    assert flops / a100.speed(OUTLINE, many, None).rows > 1.5 * busy  # float32


def test_a_beam_search_is_bound_by_what_it_reads() -> None:
    speed = replace(card("t4"), half=1e9).speed(OUTLINE, replace(WORK, test_batch=256), torch.float16)
    one = 24 * (2 * 12 * 1024**2 + 4 * 1024) + 2 * 393216 + 2 * 51463168
    read = 2 * 24 * 12 * 1024**2 + 2 * 51463168 + 2560 * (2 * 2 * 48 * 24 * 1024 + 3 * 4 * 50257)
    assert 2560 * one / speed.tokens == pytest.approx(read / (0.7 * 320e9), rel=0.02)


def test_every_card_has_its_figures_and_faster_ones_cost_fewer_hours() -> None:
    seconds = {}
    for name in _cards():
        gpu = card(name)
        assert gpu.source and 0 < gpu.fp32 < gpu.half and gpu.memory >= 16
        seconds[name] = sum(line.seconds for line in plan.plan_runs(cells([*ASKED, "train.batch_size=512"]), gpu))
    assert sorted(seconds, key=seconds.__getitem__) == ["h100", "a100", "4090", "t4"]


def test_a_row_s_seeds_are_added_up(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert plan_command.main(["hardware=a100", *ASKED, f"paths.runs={tmp_path}"]) == 0
    output = capsys.readouterr().out
    (lora,) = [line.split() for line in output.splitlines() if line.startswith("lora ")]
    (full,) = [line.split() for line in output.splitlines() if line.startswith("full ")]
    lines = plan.plan_runs(cells(ASKED), card("a100"))
    hours = sum(line.seconds for line in lines if line.cell.row.name == "lora") / 3600
    assert lora[:4] == ["lora", "e2e", "gpt2_medium", "3"] and lora[7] == plan.figure(hours)
    assert full[9] == "0" and lora[9] == plan.figure(3 * 4 * 393216 / 1e9)
    grid = cells([*ASKED[:1], "row/e2e=full", *ASKED[2:], "launch.keep_gb=null"])
    (row,) = plan.gpu_rows(plan.plan_runs(grid, card("a100")))[1:]
    assert row[9] == plan.figure(3 * 4 * 354823168 / 1e9)
    assert "NVIDIA A100" in output and "stated, not measured" in output and "are free" not in output


def test_what_does_not_fit_the_card_is_said() -> None:
    lines = plan.plan_runs(cells(ASKED), card("t4"))
    assert not any("do not fit" in text for text in plan.totals(lines, card("t4")))
    small = replace(card("t4"), memory=5.0)
    assert any("do not fit in the GPU's 5 GB: full;" in text for text in plan.totals(lines, small))


def test_an_unknown_card_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert plan_command.main(["hardware=a10", *ASKED]) == 2
    message = capsys.readouterr().err
    assert "did you mean a100?" in message and message.count("\n") == 1


@pytest.mark.parametrize(("value", "text"), [(0.0271, "0.027"), (0.43, "0.43"), (3.14, "3.1"), (120.4, "120"), (0, "0")])
def test_figures_are_short(value: float, text: str) -> None:
    assert plan.figure(value) == text

"""Bytes of a few training steps against the arithmetic, in this process and once in one of its own."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from lora_repro.backbone import nf4
from lora_repro.costs import footprint
from lora_repro.costs.arithmetic import NF4_BITS, limit
from lora_repro.costs.measures import declared
from lora_repro.errors import UserError

MIB = 2**20
SMALL = ["backbone=random_gpt2", "device=cpu"]


def measured(row: str, *overrides: str) -> dict[str, Any]:
    (cell,) = declared("latency", "smoke", [f"row/latency={row}", *SMALL, *overrides])
    return footprint.footprint(cell.asked)


def test_without_a_benchmark_nothing_says_what_to_measure(capsys: pytest.CaptureFixture[str]) -> None:
    assert footprint.main(["profile=smoke", "method=lora"]) == UserError.exit_code
    assert capsys.readouterr().err.startswith("error: nothing says what to measure: name experiment=latency and a row")


@pytest.mark.parametrize("row", ["full", "lora", "adapter_l_small", "adapter_h_large", "prelayer", "bitfit", "ft_top2"])
def test_state_and_file_are_what_arithmetic_says(row: str) -> None:
    sizes = measured(row)
    floor = limit(sizes["total"], sizes["parameters"])
    assert sizes["gradient_bytes"] == floor.gradients and sizes["activation_bytes"] > 0
    tensors = (sizes["state_bytes"] - floor.state) / 4  # AdamW also counts the steps of each tensor
    assert tensors == int(tensors) and 0 < tensors < 60
    assert floor.checkpoint < sizes["file_bytes"] < floor.checkpoint + 200 * tensors + 100


def test_what_is_kept_for_a_backward_pass_is_counted_once_and_without_the_weights() -> None:
    x, weights = torch.randn(3, 5), [torch.randn(7, 5, requires_grad=True), torch.randn(2, 7, requires_grad=True)]

    def compute() -> torch.Tensor:
        hidden = (x @ weights[0].T).relu()  # kept for relu and for the next product: one storage
        return (hidden @ weights[1].T).sum()

    out, count = footprint.saved(compute, weights)
    assert count == 4 * (3 * 5 + 3 * 7)  # x for the gradient of the first, the hidden values
    assert footprint.saved(compute, [*weights, x])[1] == 4 * 3 * 7
    out.backward()  # type: ignore[no-untyped-call]
    assert weights[0].grad is not None


def test_weights_are_what_arithmetic_says_in_floats_and_in_four_bits() -> None:
    pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed")
    assert (nf4.BLOCK, nf4.SCALES) == (64, 256) and pytest.approx(4.127, abs=1e-3) == NF4_BITS
    shape = "backbone.shape.n_embd=512"  # large enough that what blocks round up to is little
    floats, codes = measured("lora", shape), measured("qlora", shape)
    assert floats["quantised"] == 0 and codes["quantised"] == 2 * 12 * 512**2
    for sizes in (floats, codes):
        least = limit(sizes["total"], sizes["parameters"], quantised=sizes["quantised"]).weights
        assert sizes["total"] == floats["total"] and least <= sizes["weights_bytes"] < 1.02 * least
    assert codes["weights_bytes"] < 0.4 * floats["weights_bytes"]
    everywhere = measured("qlora_all", shape)  # 4 matrices of 2 d r, 2 of 5 d r; query and value: 2 of 2 d r
    assert everywhere["quantised"] == codes["quantised"] and everywhere["parameters"] == 4.5 * codes["parameters"]


def test_without_bitsandbytes_its_row_is_left_out_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nf4.importlib.util, "find_spec", lambda name: None)
    cells, messages = declared("latency", "smoke", ["row/latency=qlora", *SMALL]), list[str]()
    assert footprint.footprints(cells, [], messages.append) == [] and "needs bitsandbytes" in messages[0]


def test_gpt3_s_checkpoint_is_four_orders_smaller() -> None:
    cells = declared("latency", "smoke", ["row/latency=full,lora", *SMALL])
    lora, full = sorted(footprint.arithmetic(cells), key=lambda entry: int(entry["parameters"]))
    assert lora["parameters"] == 96 * 2 * 4 * 2 * 12288 == 18_874_368
    assert full["parameters"] == full["total"] == 96 * (12 * 12288**2 + 13 * 12288) + (50257 + 2048 + 2) * 12288
    checkpoint = [limit(entry["total"], entry["parameters"], entry["width"]).checkpoint for entry in (full, lora)]
    assert checkpoint == [pytest.approx(350e9, rel=0.01), pytest.approx(37.7e6, rel=0.01)]
    assert limit(lora["total"], lora["parameters"], 2).training == pytest.approx(350e9, rel=0.01)


def test_full_fine_tuning_needs_its_gradients_and_moments_and_lora_does_not() -> None:
    """In processes of their own: here the allocator may still hold what earlier tests freed."""
    shape = ["backbone.shape.n_embd=720"]  # 13 M values: 156 MB above the model
    overrides = ["profile=smoke", "row/latency=plain,full,lora", *SMALL, *shape]
    cells = declared("latency", "smoke", overrides[1:])
    messages: list[str] = []
    lora, full = footprint.footprints(cells, overrides, messages.append)
    assert (lora["row"], full["row"]) == ("lora", "full") and lora["backbone"] == "random_gpt2"
    assert lora["parameters"] == 2 * 2 * 4 * 2 * 720 and full["parameters"] == full["total"]
    above = [(run["peak_mib"] - run["loaded_mib"]) * MIB for run in (lora, full)]
    floor = limit(full["total"], full["parameters"]).above_model
    assert floor > 120e6 and len(messages) == 2 and "random_gpt2 lora" in messages[0]
    assert 0.97 * floor < above[1] < 1.5 * floor
    assert above[0] < 0.4 * floor


def test_a_failed_process_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    cells = declared("latency", "smoke", ["row/latency=lora", *SMALL])

    class Done:
        returncode, stdout, stderr = 2, "", "noise\nerror: no such thing\n"

    monkeypatch.setattr(footprint.subprocess, "run", lambda *rest, **more: Done)
    with pytest.raises(UserError, match="the memory of row lora on random_gpt2: no such thing"):
        footprint.footprints(cells, [], print)

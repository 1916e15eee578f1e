"""What a GPU would refuse, and the memory it would need, at the paper's true widths and without one."""

from __future__ import annotations

import pytest
import torch

from lora_repro.config.paths import choices
from lora_repro.methods.lora import LoraLinear
from tests.benchmarks import rehearsal

pytestmark = pytest.mark.skipif(not rehearsal.CORE.is_file(), reason="the guard of a fake card was tried on Linux only")
SAME = ("human", "lora_plus", "lora_r64", "rslora", "lora_prompt_tuning", "versatile_lm")  # another's class
METHODS = [name for name in choices("method") if name not in SAME]
PAPER, LAYERS = "profile=paper", 2  # all layers of a model are alike
FEW = {"adapter_drop": ["method.dropped=1"], "adapter_fusion": ["method.sources=[rte,cb]"]}
WAITS = ["a copy: selection.top_per_row"] * 2  # of a decoded token: log-probabilities and ids


def rehearsed(backbone: str, task: str, method: str, *more: str) -> rehearsal.Rehearsed:
    words = [PAPER, f"task={task}", f"backbone={backbone}", f"method={method}", *FEW.get(method, []), *more]
    return rehearsal.rehearse(words, LAYERS)


def fits(found: rehearsal.Rehearsed) -> None:
    assert found.loss.device == rehearsal.CARD and found.loss.dtype == torch.float32
    assert found.places == {rehearsal.CARD} and found.training == []


@pytest.mark.parametrize("method", METHODS)
def test_a_step_of_gpt2_medium_waits_for_nothing_and_a_token_for_two_copies(method: str) -> None:
    trace = rehearsed("gpt2_medium", "e2e", method, "decode.beam=2", "decode.max_new_tokens=2")
    fits(trace)
    assert trace.answering == 2 * WAITS


@pytest.mark.parametrize("method", ["lora", "prelayer"])
@pytest.mark.parametrize("backbone", ["roberta_large", "deberta_v2_xxlarge"])
def test_classes_are_read_at_one_place(backbone: str, method: str) -> None:
    trace = rehearsed(backbone, "rte", method)
    fits(trace)
    assert set(trace.answering) == {"one value: classification.Classification._texts"}


def test_a_tensor_left_on_the_host_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    term = LoraLinear.term
    monkeypatch.setattr(LoraLinear, "term", lambda self, part, x: term(self, part, x) * torch.ones(part.size))
    with pytest.raises(RuntimeError, match="cuda:0 and cpu"):
        rehearsed("gpt2_medium", "e2e", "lora")


def test_another_type_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rehearsal, "autocast", lambda device, dtype: torch.autocast("cuda", enabled=False))
    with pytest.raises(RuntimeError, match="scalar type"):
        rehearsed("gpt2_medium", "e2e", "lora")


def test_a_value_that_is_read_in_a_step_is_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    term = LoraLinear.term
    monkeypatch.setattr(LoraLinear, "term", lambda self, part, x: term(self, part, x) * float(x.sum()))
    assert len(rehearsed("gpt2_medium", "e2e", "lora").training) == 2 * LAYERS


@pytest.mark.parametrize("words", [rehearsal.CASES[at] for at in (0, 6, 9)], ids=lambda words: " ".join(words[1:]))
def test_plan_tells_the_memory_of_a_step(words: list[str]) -> None:
    plan, peak = rehearsal.memory(words, LAYERS)
    assert plan == pytest.approx(peak, rel=0.15)


def test_the_table_has_a_line_a_row() -> None:
    (table,) = rehearsal.measure([], rehearsal.CASES[:1], LAYERS)["tables"]
    assert table["rows"][0][:3] == ["gpt2_medium", "e2e", "lora"] and "loss nowhere; in a beam search a copy" in table["note"]

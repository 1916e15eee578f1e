"""The training step beside its peer: at B = 0 both have the loss of the same weights on the same rows."""

from __future__ import annotations

import pytest

from lora_repro.costs.pairs import step


@pytest.mark.filterwarnings("ignore::FutureWarning:transformers")  # of what the Trainer calls
@pytest.mark.parametrize(("backbone", "task", "rows"), [("random_llama", "e2e", 4), ("random_bert", "entailment", 3)])
def test_ours_and_the_peer_do_the_same_work(monkeypatch: pytest.MonkeyPatch, backbone: str, task: str, rows: int) -> None:
    monkeypatch.setattr(step, "CASES", {"tiny": ([f"backbone={backbone}"], backbone, task, task, "", rows)})
    (found,) = step.measure(["profile=smoke", "train.precision=fp32"], ["tiny"], 2)["steps"]
    assert found["losses"]["peer"] == pytest.approx(found["losses"]["ours"], rel=1e-5)
    assert found["losses"]["full"] == found["losses"]["ours"] and found["batching"] == "packed"
    assert {len(times) for times in found["seconds"].values()} == {2} and found["tokens"] <= found["padded_tokens"]
    assert found["peer_over_ours"] > 0 and found["gflops"] > 0 and found["gemm_gflops"] > 0

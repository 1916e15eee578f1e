"""Ours beside a peer: the same work, measured, and the page of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lora_repro.costs.pairs import beam, command, pages, probing, step, table
from lora_repro.errors import UserError

TINY = ["profile=smoke", "train.precision=fp32"]


@pytest.mark.filterwarnings("ignore::FutureWarning:transformers")  # of what the Trainer calls
@pytest.mark.parametrize(("backbone", "task", "rows"), [("random_llama", "e2e", 4), ("random_bert", "entailment", 3)])
def test_ours_and_the_peer_do_the_same_work(monkeypatch: pytest.MonkeyPatch, backbone: str, task: str, rows: int) -> None:
    monkeypatch.setattr(step, "CASES", {"tiny": ([f"backbone={backbone}"], backbone, task, task, "", rows)})
    (found,) = step.measure(TINY, ["tiny"], 2)["steps"]
    assert found["losses"]["peer"] == pytest.approx(found["losses"]["ours"], rel=1e-5)
    assert found["losses"]["full"] == found["losses"]["ours"] and found["batching"] == "packed"
    assert {len(times) for times in found["seconds"].values()} == {2} and found["tokens"] <= found["padded_tokens"]
    assert found["peer_over_ours"] > 0 and found["gflops"] > 0 and found["gemm_gflops"] > 0


def test_both_searches_write_as_much(monkeypatch: pytest.MonkeyPatch) -> None:
    found = beam.measure(TINY, "random_llama", 1, 1)  # one: a model of 257 words soon writes a blank line
    assert {len(times) for times in found["seconds"].values()} == {1} and found["rows"][0]["theirs"] > 0
    monkeypatch.setattr(beam, "_generated", lambda *given: 2)
    with pytest.raises(UserError, match="not the same work"):
        beam.measure(TINY, "random_llama", 1, 1)


def test_kept_states_train_the_probe_alike() -> None:
    found = probing.measure(TINY, 2, "random_llama")
    assert found["losses"]["kept"] == pytest.approx(found["losses"]["run again"], rel=1e-5)
    assert len(found["losses"]["kept"]) == 3 and found["keeping"] > 0


def test_reading_is_timed_for_each_number_of_records() -> None:
    found = pages.measure([], (2, 6), whole=False)
    assert set(found["read"]) == {"2", "6"} and found["rows"][0]["theirs"] == pytest.approx(3 * found["read"]["2"])


WHERE = {"git_sha": "abcdef012", "dirty": False, "device": "cpu, 1 threads", "kernels": "AVX2", "finished_at": "2026-01-02T",
         "versions": {"torch": "2"}, "load_before": 1.5}  # fmt: skip


def test_the_page_has_a_line_a_pair_and_names_the_machine(tmp_path: Path) -> None:
    rows = table.told([table.Row("a step", 2.0, "a peer", 3.0, "1.9"), table.Row("help", 0.05, target="≤ 0.5 s")])
    (tmp_path / "one.json").write_text(json.dumps({"rows": rows, "where": WHERE}))
    (tmp_path / "two.json").write_text(json.dumps({"rows": rows[:1], "where": {**WHERE, "dirty": True}}))
    text = table.write(tmp_path).read_text()
    assert "| a step | 2 | a peer | 3 | 1.50 | 1.9 |  |\n" in text and "| help | 0.05 |  |  |  | ≤ 0.5 s |  |\n" in text
    assert "- one.json: cpu, 1 threads (AVX2), torch 2, 2026-01-02, code abcdef0, load 1.5\n" in text
    assert "- two.json: " in text and "code abcdef0 with changes" in text
    assert table.write(tmp_path).read_text() == text


def test_an_unknown_pair_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["stpe"]) == 2
    assert "no pair 'stpe'; choose from beam, pages, probing, scoring, start, step" in capsys.readouterr().err

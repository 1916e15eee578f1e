"""Ours beside a peer: the same work, measured, and the page of it."""

from __future__ import annotations

import itertools
import json
import time
from pathlib import Path

import pytest
import torch

from lora_repro.config import paths
from lora_repro.data import Rows
from lora_repro.errors import UserError
from lora_repro.objectives import tokens
from tests.benchmarks import __main__ as command
from tests.benchmarks import (
    _arms,
    _table,
    beam,
    data,
    dimension,
    gpu,
    growth,
    pages,
    probing,
    step,
    threads,
)
from tests.conftest import text_row

TINY = ["profile=smoke", "train.precision=fp32"]


@pytest.mark.filterwarnings("ignore::FutureWarning:transformers")  # of what the Trainer calls
@pytest.mark.parametrize(("backbone", "task", "rows"), [("random_llama", "e2e", 4), ("random_bert", "entailment", 3)])
def test_ours_and_the_peer_do_the_same_work(monkeypatch: pytest.MonkeyPatch, backbone: str, task: str, rows: int) -> None:
    monkeypatch.setattr(step, "CASES", {"tiny": ([f"backbone={backbone}"], backbone, task, task, "", rows)})
    (entry,) = step.measure(TINY, ["tiny"], 2)["steps"]
    assert entry["losses"]["peer"] == pytest.approx(entry["losses"]["ours"], rel=1e-5)
    assert entry["losses"]["full"] == entry["losses"]["ours"] and entry["batching"] == "packed"
    assert {len(times) for times in entry["seconds"].values()} == {2} and entry["tokens"] <= entry["padded_tokens"]
    assert sum(entry["parts"].values()) == pytest.approx(1, abs=0.01) and entry["parts"]["matrix products"] > 0
    assert entry["peer_over_ours"] > 0 and entry["gflops"] > 0 and entry["gemm_gflops"] > 0


def test_each_kind_of_cpu_keeps_its_figures() -> None:
    def entry(peer: float, precision: str = "bf16") -> dict[str, object]:
        return {"name": "tiny", "precision": precision, "peer_over_ours": peer, "lora_over_full": 0.5}

    before = {"steps": [entry(2.0)], "where": {**WHERE, "kernels": "AVX512"}}  # a file from before the kinds were told apart
    once = step.join({"steps": [entry(3.0), entry(4.0, "fp32")], "cpu": "AMX"}, before, {**WHERE, "device": "new"})
    again = step.join({"steps": [entry(5.0)], "cpu": "AMX"}, once, {**WHERE, "device": "newer"})
    (table,) = once["tables"]
    assert [row[:4] for row in table["rows"]] == [
        ["AMX", "tiny, bf16", "3.00", "2.00"],
        ["AMX", "tiny, fp32", "4.00", "2.00"],
        ["AVX512", "tiny, bf16", "2.00", "2.00"],
    ]
    assert table["rows"][2][4].startswith("cpu, 1 threads, 2026-01-02, code ")
    (new_table,) = again["tables"]
    assert [(row[2], row[4].partition(",")[0]) for row in new_table["rows"]] == [
        ("5.00", "newer"),
        ("4.00", "new"),
        ("2.00", "cpu"),
    ]


def test_only_the_cases_named_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    cases: list[tuple[str, list[str]]] = []
    monkeypatch.setattr(step, "measured", lambda name, overrides, *rest: cases.append((name, overrides)))
    monkeypatch.setattr(step, "_rows", lambda entry: [])
    step.measure(["case=on pairs", *TINY])
    assert cases == [("MiniLM-L6 on pairs", TINY), ("MiniLM-L6, rows of like length, on pairs", TINY)]


def test_a_step_is_timed_with_each_number_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "CASES", {"tiny": ([], "random_bert", "entailment", "entailment", "", 3)})
    counts: list[int] = []
    monkeypatch.setattr(threads, "ours", lambda *parts: lambda rows: counts.append(torch.get_num_threads()))
    before = torch.get_num_threads()
    (entry,) = threads.measure(TINY, ["tiny"], 2, ["fp32"])["threads"]
    assert counts == [1, 2] * 3 and torch.get_num_threads() == before
    assert {count: len(times) for count, times in entry["seconds"]["step"].items()} == {"1": 2, "2": 2}


def test_both_searches_write_as_much(monkeypatch: pytest.MonkeyPatch) -> None:
    results = beam.measure(TINY, "random_llama", 1, 1)  # one: a model of 257 words soon writes a blank line
    assert {len(times) for times in results["seconds"].values()} == {1} and results["rows"][0]["theirs"] > 0
    assert sum(results["parts"]["fp32"].values()) == pytest.approx(1, abs=0.01) and results["parts"]["fp32"]["ranking"] > 0
    assert results["batches"]["fp32"] in beam.SIZES and results["ended"]["same"] == beam.PROMPTS
    monkeypatch.setattr(beam.Pair, "generated", lambda *given: [[1, 2]])
    with pytest.raises(UserError, match="they did not do the same work"):
        beam.alike(TINY, "random_llama", 1, 1)


def test_generate_s_texts_come_in_the_order_of_the_prompts_and_to_their_end(monkeypatch: pytest.MonkeyPatch) -> None:
    config, plain, rows = beam._prompts(TINY, "random_llama", 4)
    (text,) = beam.Pair.of(plain, config, None).generated(rows[:1], 1, 4)
    ending = beam.Pair.of(plain, config, None, text[1])
    (cut,) = ending.generated(rows[:1], 1, 4)
    assert len(text) == 4 and (text[1] not in cut or cut.index(text[1]) == len(cut) - 1)
    monkeypatch.setattr(beam.Pair, "_batch", lambda self, given, new: [row.ids for row in given])
    assert ending.generated(rows, 3, 4) == [row.ids for row in rows]


def test_growth_is_timed_at_every_size_and_drawn_from_its_file(tmp_path: Path) -> None:
    sizes = {"length": (4, 8), "batch": (1, 2), "rank": (1, 2)}
    results = growth.measure(TINY, "random_llama", sizes, (2, 6), 1)
    assert {what: tuple(results["seconds"][what]["lora"]) for what in sizes} == sizes
    assert set(results["seconds"]["rank"]) == {"lora"} and results["rows"][-1]["theirs"] > 0
    copy = json.loads(json.dumps(results))
    one, other = ([path.read_bytes() for path in growth.draw(copy, tmp_path / name)] for name in ("one", "other"))
    assert one == other and b"by tokens a row" in one[0]


def test_kept_token_ids_are_those_of_the_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "LARGE", 10)
    usual, rows = paths.CACHE, [f"task.rows.{split}=20" for split in ("train", "matched", "mismatched")]
    rows += ["data.n_train=null", "data.n_dev=null"]
    results = data.measure(["profile=smoke", *rows], "random_bert")
    assert len(results["seconds"]["read"]) == 1 + data.AGAIN and usual == paths.CACHE
    counter = itertools.count()
    monkeypatch.setattr(data, "encode", lambda *given: Rows([text_row([next(counter)], 1)], []))
    with pytest.raises(AssertionError, match="kept token ids"):
        data.measure(["profile=smoke", *rows], "random_bert")


def test_kept_states_train_the_probe_alike() -> None:
    results = probing.measure(TINY, 2, "random_llama")
    assert results["losses"]["kept"] == pytest.approx(results["losses"]["run again"], rel=1e-5)
    assert len(results["losses"]["kept"]) == 3 and results["keeping"] > 0


def test_a_step_in_random_directions_starts_where_a_full_one_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dimension, "D", 8)
    results = dimension.measure(TINY, 2, "random_bert")
    assert results["losses"]["d"] == pytest.approx(results["losses"]["full"], rel=1e-5)
    assert [len(times) for times in results["seconds"].values()] == [2, 2] and results["rows"][0]["target"] == "0.4"


def test_training_is_timed_by_the_clock_of_its_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU, where the CPU only launches, CPU seconds would say nothing."""
    assert _arms.clock_of(torch.device("cuda")) == (time.perf_counter, torch.cuda.synchronize)
    ticks, waits = itertools.count(), itertools.count()
    monkeypatch.setattr(_arms, "clock_of", lambda device: (lambda: next(ticks), lambda: next(waits)))
    for pair, tiny in ((dimension, "random_bert"), (probing, "random_llama")):
        results = pair.measure(TINY, 2, tiny)
        assert {tuple(times) for times in results["seconds"].values()} == {(1.0, 1.0)}
    assert next(waits) == 2 * 2 * 2 * 2  # pairs, arms, rounds, before and behind each


def test_reading_is_timed_for_each_number_of_records() -> None:
    results = pages.measure([], (2, 6), whole=False)
    assert set(results["read"]) == {"2", "6"} and results["rows"][0]["theirs"] == pytest.approx(3 * results["read"]["2"])


WHERE: dict[str, object] = {
    "git_sha": "abcdef012", "dirty": False, "device": "cpu, 1 threads", "kernels": "AVX2", "finished_at": "2026-01-02T",
    "versions": {"torch": "2"}, "load_before": 1.5,
}  # fmt: skip


def page(folder: Path) -> str:
    return _table.page(sorted(folder.glob("*.json")))


def test_the_page_has_a_line_a_pair_and_names_the_machine(tmp_path: Path) -> None:
    rows = _table.told([_table.Row("a step", 2.0, "a peer", 3.0, "1.9"), _table.Row("help", 0.05, target="≤ 0.5 s")])
    (tmp_path / "one.json").write_text(json.dumps({"rows": rows, "where": WHERE}))
    table = {"title": "Memory", "header": ["row", "GB"], "rows": [["lora", "1.6"]], "note": "A note."}
    two = {"rows": rows[:1], "tables": [table], "where": {**WHERE, "dirty": True}}
    (tmp_path / "two.json").write_text(json.dumps(two))
    text = page(tmp_path)
    assert "| a step | 2 | a peer | 3 | 1.50 | 1.9 |  |\n" in text and "| help | 0.05 |  |  |  | ≤ 0.5 s |  |\n" in text
    assert "- one.json: cpu, 1 threads (AVX2), torch 2, 2026-01-02, code abcdef0, load 1.5\n" in text
    assert "- two.json: " in text and "code abcdef0 with changes" in text
    assert "\n## Memory\n\n| row | GB |\n|---|---|\n| lora | 1.6 |\n\nA note.\n" in text
    assert page(tmp_path) == text and "Not measured: anything on a GPU." in text
    (tmp_path / "two.json").write_text(json.dumps({"rows": rows[:1], "where": {**WHERE, "kernels": "CUDA 9.0"}}))
    assert "Not measured" not in page(tmp_path)


def test_an_unknown_pair_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["stpe"]) == 2
    assert f"no benchmark 'stpe'; choose from {', '.join(command.names())}" in capsys.readouterr().err
    assert {"beam", "search", "step"} < set(command.names())


def test_what_a_gpu_shows_is_measured_by_the_same_code_on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "TOGETHER", 1)  # a sweep is a process that imports torch, and so is each of its runs
    results = gpu.measure(["profile=smoke", "device=cpu"], 1, "random_llama", ("fp32", "bf16"), 2)
    assert list(results["seconds"]) == ["fp32", "bf16"] and set(results["sweeps"]) == {"1"}
    assert [row["beside"] for row in results["rows"]] == ["bf16", "one after another"]


def test_what_needs_a_gpu_is_refused_by_name_and_left_out_else(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert command.main(["gpu"]) == 2 and "gpu needs a GPU" in capsys.readouterr().err
    monkeypatch.setattr(command, "names", lambda: ["gpu"])
    assert command.main([], tmp_path) == 0 and not list(tmp_path.rglob("*.json"))
    assert capsys.readouterr().out == "gpu: left out, it needs a GPU and torch finds none here\n"

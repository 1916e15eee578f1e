"""Several processes train what one would: the same global batch, the same weights, one writer."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from lora_repro.config.compose import compose
from lora_repro.errors import UserError
from lora_repro.run import run
from lora_repro.train.loop import TrainConfig, check_ranks
from lora_repro.train.ranks import Ranks

ROOT = Path(__file__).resolve().parents[1]
CPU = torch.device("cpu")
# An odd share: 16 rows in batches of 5, so one rank takes 3 rows and the other 2; 12 steps, dev loss every 3.
CELL = [
    "profile=smoke",
    "task=sentiment",
    "method=lora",
    "method.dropout=0",
    "device=cpu",
    "train.lr=1e-3",
    "train.batch_size=5",
    "train.epochs=3",
    "train.eval_every=3",
    "train.checkpoint_every=4",
]


def test_one_process_gets_back_what_it_gives() -> None:
    ranks = Ranks.here("cpu")
    rows = [1, 2, 3]
    assert ranks == Ranks(CPU) and ranks.first and ranks.share(rows) is rows
    assert ranks.total(2, 0.5) == (2, 0.5) and ranks.led(lambda: "found") == "found"
    weight = torch.nn.Parameter(torch.ones(2))
    weight.grad = torch.full((2,), 3.0)
    ranks.add_gradients([weight])
    assert weight.grad.tolist() == [3, 3]


@pytest.mark.parametrize(("batch", "size"), [(8, 2), (5, 2), (7, 3), (4, 4)])
def test_the_shares_of_a_batch_are_all_of_it_and_differ_by_one_row_at_most(batch: int, size: int) -> None:
    shares = [Ranks(CPU, rank, size).share(list(range(batch))) for rank in range(size)]
    assert sorted(row for share in shares for row in share) == list(range(batch))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_more_ranks_than_rows_are_refused() -> None:
    with pytest.raises(UserError, match=r"3 processes share train\.batch_size=2"):
        check_ranks(Ranks(CPU, 0, 3), TrainConfig(lr=1, batch_size=2))


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def ranked(rank: int, folder: Path, port: int) -> subprocess.CompletedProcess[str]:
    """The command as torchrun starts it: a new process, since torch's store may never connect in a fork of one with threads."""
    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2, "MASTER_PORT": port}
    variables = {key: str(value) for key, value in place.items()} | {"MASTER_ADDR": "127.0.0.1"}
    command = [sys.executable, "-m", "lora_repro.run", *CELL, f"paths.runs={folder / 'two'}"]
    return subprocess.run(command, cwd=ROOT, env=os.environ | variables, capture_output=True, text=True, check=False, timeout=300)


def test_two_ranks_train_the_weights_of_one_process_and_one_of_them_writes(tmp_path: Path) -> None:
    single = run.run(compose([*CELL, f"paths.runs={tmp_path / 'one'}"]))
    with ThreadPoolExecutor(2) as pool:
        processes = list(pool.map(ranked, (0, 1), (tmp_path, tmp_path), (free_port(),) * 2))
    for rank, rows in ((0, 3), (1, 2)):
        assert processes[rank].returncode == 0, processes[rank].stderr
        assert f"rank {rank} of 2 on cpu: {rows} of 5 rows per batch" in processes[rank].stderr
    assert [each.stdout.count("sentiment") for each in processes] == [1, 0]  # one line for the run, not one a rank
    one, two = (tmp_path / name / "smoke" / single["signature"] for name in ("one", "two"))
    record = json.loads((two / "record.json").read_text())
    assert record["where"]["processes"] == 2 and "processes" not in single["where"]
    assert sorted(path.name for path in two.iterdir()) == sorted(path.name for path in one.iterdir())
    metrics, expected = (
        [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()] for folder in (two, one)
    )
    assert [line["step"] for line in metrics] == [line["step"] for line in expected] and len(metrics) == 12 + 4
    assert [line.get("train_loss") for line in metrics] == pytest.approx([line.get("train_loss") for line in expected], abs=1e-6)
    weights, reference = load_file(two / "adapter.safetensors"), load_file(one / "adapter.safetensors")
    assert set(weights) == set(reference) and any(name.endswith(".B") and bool(w.any()) for name, w in weights.items())
    for name, weight in weights.items():
        torch.testing.assert_close(weight, reference[name], atol=1e-6, rtol=0)
    assert (two / "predictions.jsonl").read_text() == (one / "predictions.jsonl").read_text()

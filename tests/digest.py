"""What every method does on every architecture and kind of task, as digests: the oracle of a change that must change nothing.

    OMP_NUM_THREADS=1 python -m tests.digest before.json               on the commit before
    OMP_NUM_THREADS=1 python -m tests.digest after.json before.json    after it: exit 1 and the lines that differ, if any

Trains each for a few steps at `smoke` in fp32 and digests weights, outputs, scores and losses. The last bits of a float depend on
the processor, so the digests of two machines do not compare, and none is kept in the repository.
"""

from __future__ import annotations

import hashlib
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from lora_repro.config.compose import CONF, compose
from lora_repro.errors import UserError
from lora_repro.run.run import run

PLACES = [
    ("random_gpt2", "e2e"),
    ("random_llama", "e2e"),
    ("random_gpt2", "entailment"),
    ("random_llama", "entailment"),
    ("random_bert", "entailment"),
    ("random_bert", "similarity"),
]
# What a backbone of two layers needs, and the forms of a method that its defaults do not reach.
EXTRA = {
    "adapter_drop": ["method.dropped=1"],
    "lora": ["probe=updates"],
    "matrices": ["probe=updates"],
    "full": ["probe=updates"],
    "lora_r64": ["method.rank=16"],
    "rslora": ["method.rank=16"],
}
VARIANTS = [
    ("random_gpt2", "e2e", ["method=prelayer", "method.form=key_value", "method.infix=0", "method.mid=8"]),
    (
        "random_llama",
        "e2e",
        ["method=prelayer", "method.form=key_value", "method.infix=0", "method.reparametrise=false"],
    ),
    (
        "random_gpt2",
        "e2e",
        ["method=lora", "method.targets=[query,key,value,output,mlp]", "train.micro_batch_size=2"],
    ),
    ("random_bert", "entailment", ["method=lora", "train.clip=0.1", "train.eval_every=1"]),
]


def sha(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:12]


def tensors(path: Path) -> str:
    """Digest of names, shapes and bits."""
    weights = load_file(path) if path.is_file() else {}
    return sha(
        {
            name: [
                list(t.shape),
                hashlib.sha256(t.contiguous().view(torch.uint8).numpy().tobytes()).hexdigest(),
            ]
            for name, t in weights.items()
        }
    )


def digest(overrides: list[str], runs: str) -> dict[str, Any]:
    """One run's."""
    config = compose(["profile=smoke", "seed=1", "train.lr=1e-3", f"paths.runs='{runs}'", *overrides])
    record = run(config, overrides)
    folder = Path(runs) / "smoke" / record["signature"]
    outputs = [
        json.loads(line)["output"]
        for line in (folder / "predictions.jsonl").read_text(encoding="utf-8").split("\n")
        if line
    ]
    metrics = record["measured"]
    return {
        "weights": tensors(folder / "adapter.safetensors"),
        "updates": tensors(folder / "updates.safetensors"),
        "outputs": sha(outputs),
        "scores": sha(metrics.get("scores")),
        "losses": sha([metrics.get("dev_losses"), metrics.get("train_losses")]),
        "parameters": metrics["parameters"],
        "calls": metrics.get("forward_calls"),
    }


def main(target: str, before: str | None = None) -> int:
    methods = sorted(path.stem for path in (CONF / "method").glob("*.yaml"))
    cells = [
        (b, t, [f"method={m}", *EXTRA.get(m, [])])
        for b, t in PLACES
        for m in methods
        if not (m == "human" and t != "e2e")
    ]
    digests = {}
    with tempfile.TemporaryDirectory() as runs:
        for backbone, task, rest in [*cells, *VARIANTS]:
            name = " ".join([backbone, task, *rest])
            try:
                digests[name] = digest([f"task={task}", f"backbone={backbone}", *rest], runs)
            except UserError as error:  # a method that needs other runs, or another backbone
                digests[name] = {"refused": str(error)}
            print(name, file=sys.stderr, flush=True)
    Path(target).write_text(json.dumps(digests, indent=1) + "\n", encoding="utf-8")
    old = json.loads(Path(before).read_text(encoding="utf-8")) if before else {}
    differing = [name for name in old if digests.get(name) != old[name]]
    for name in differing:
        print(f"{name}\n  was {old[name]}\n  is  {digests.get(name)}")
    print(f"{len(digests)} digests" + (f", {len(differing)} of {len(old)} differ" if before else ""))
    return int(bool(differing))


if __name__ == "__main__":
    torch.use_deterministic_algorithms(True)
    sys.exit(main(*sys.argv[1:]))

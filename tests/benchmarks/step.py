"""A training step beside peft and transformers' Trainer: SmolLM2 and GPT-2's shape on E2E, MiniLM on SST-2 and MRPC.

Our LoRA, the peer's LoRA and our full fine-tuning take turns on the same random batches (8 sequences, 16 sentences). Times are
CPU seconds of one thread, or wall time on a GPU. The peer's model is prepared by its accelerator, without which it would compute
in float32 whatever its arguments say; its precision is checked. Floating-point operations count real tokens only
(`costs.arithmetic`), and are compared with this machine's rate at the block's own matrix products.

Every case is timed in the machine's own precision and in fp32. A peer pads each row to its batch's longest, which ours does not
compute on a CPU; batches of rows of like length show what is left without that help.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch.nn import functional as F
from transformers.activations import GELUTanh, NewGELUActivation

from lora_repro.backbone import weights
from lora_repro.backbone.architecture import KINDS
from lora_repro.backbone.model import Backbone
from lora_repro.config.compose import build, compose
from lora_repro.costs.arithmetic import backward, forward
from lora_repro.costs.latency import interleaved
from lora_repro.costs.meta_model import build_meta_model
from lora_repro.data import Encoded, collate, epoch_order, subset
from lora_repro.errors import NotAvailable, UserError
from lora_repro.run.stages import objective_of
from lora_repro.train.loop import TrainConfig
from lora_repro.train.precision import resolve_precision
from lora_repro.train.ranks import Ranks
from tests.benchmarks._arms import Step, clock_of, copied, kind, medians, ours, parts, shown, turns, within
from tests.benchmarks._table import Row, by_cpu, told

TARGETS = {"SmolLM2-135M": "1.9", "GPT-2 small's shape": "2.2", "MiniLM-L6": "1.5", "MiniLM-L6 on pairs": "2.0"}
OF_FULL, OF_RATE = "1.49", 0.75  # a full step in LoRA steps; our share of the rate of the matrix products alone
ROUNDS = 6
CASE = "case="
ROWS = 512  # the batches are drawn from this many rows
GPT2 = ["backbone=gpt2_small", "backbone.source=random"]  # its shape on SmolLM2's tokens, which its vocabulary can hold
ALIKE = "MiniLM-L6, rows of like length"
CASES = {  # name -> (backbone, backbone whose tokenizer is used, task at mini, task elsewhere, data folder, rows per batch)
    "SmolLM2-135M": (["backbone=smollm2_135m"], "smollm2_135m", "e2e", "e2e", "e2e", 8),
    "GPT-2 small's shape": (GPT2, "smollm2_135m", "e2e", "e2e", "e2e", 8),
    "MiniLM-L6": (["backbone=minilm_l6"], "minilm_l6", "sentiment", "sst2", "glue", 16),
    ALIKE: (["backbone=minilm_l6"], "minilm_l6", "sentiment", "sst2", "glue", 16),
    "MiniLM-L6 on pairs": (["backbone=minilm_l6"], "minilm_l6", "entailment", "mrpc", "glue", 16),
    f"{ALIKE}, on pairs": (["backbone=minilm_l6"], "minilm_l6", "entailment", "mrpc", "glue", 16),
}


def peer(backbone: Backbone, method: Any, train: TrainConfig, batch_size: int) -> Step:
    """The same for peft's LoRA under transformers' Trainer, with the Trainer's own loss.

    Raises NotAvailable without peft. The step raises UserError if it computes in another precision than ours.
    """
    try:
        from peft import LoraConfig, get_peft_model
        from transformers import Trainer, TrainingArguments
    except ImportError as error:
        raise NotAvailable("the peer is peft: pip install -e '.[bench]'") from error
    dtype = resolve_precision(train.precision, backbone.device)
    model: Any = backbone.model
    places = [place for kind in method.targets for place in backbone.projections(0, kind)]
    lora = LoraConfig(
        r=method.rank, lora_alpha=method.alpha, lora_dropout=method.dropout,
        target_modules=sorted({place.attribute for place in places}), fan_in_fan_out=weights.transposed(places[0].module),
        task_type="SEQ_CLS" if backbone.classifier else "CAUSAL_LM",
    )  # fmt: skip
    arguments = TrainingArguments(
        output_dir=tempfile.gettempdir(), bf16=dtype is not None, use_cpu=backbone.device.type == "cpu", report_to=[],
        learning_rate=train.lr, lr_scheduler_type="constant", label_smoothing_factor=train.label_smoothing,
        weight_decay=train.weight_decay, adam_beta1=train.beta1, adam_beta2=train.beta2, adam_epsilon=train.eps,
        per_device_train_batch_size=batch_size,
    )  # fmt: skip
    dtypes: set[torch.dtype] = set()
    places[0].module.register_forward_hook(lambda module, given, out: dtypes.add(out.dtype))
    trainer = Trainer(model=get_peft_model(model, lora), args=arguments)
    trainer.create_optimizer_and_scheduler(num_training_steps=1000)
    schedule: Any = trainer.lr_scheduler
    trainer.current_gradient_accumulation_steps = 1
    network, optimizer = trainer.accelerator.prepare(trainer.model, trainer.optimizer)
    network.train()

    def step(rows: Sequence[Encoded]) -> float:
        batch = collate(rows, backbone.pad).to(backbone.device)
        inputs = {"input_ids": batch.ids, "attention_mask": batch.attention, "labels": batch.labels}
        if getattr(model.config, "type_vocab_size", 0) == 2:
            inputs["token_type_ids"] = batch.segments
        if not backbone.classifier:  # the Trainer shifts the labels itself
            inputs["labels"] = F.pad(batch.targets[:, :-1], (1, 0), value=-100)
        loss = trainer.training_step(network, inputs)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        if dtypes != {dtype or torch.float32}:
            raise UserError(f"the peer computes in {dtypes}, ours in {dtype or torch.float32}: they cannot be compared")
        return float(loss)

    return step


def gemm_rate(backbone: Backbone, rows: int, dtype: torch.dtype) -> float:
    """Operations per second of a block's matrix products alone, with `rows` rows."""
    places = {(p.parent, p.attribute): p for kind in KINDS for p in backbone.projections(0, kind)}
    shapes = [weights.sizes(place.module) for place in places.values()]
    operands = [[torch.randn(size, device=backbone.device, dtype=dtype) for size in ((rows, i), (o, i))] for i, o in shapes]
    clock, wait = clock_of(backbone.device)
    times = interleaved({"block": lambda: [F.linear(x, w) for x, w in operands]}, 10, 1, wait=wait, clock=clock)["block"]
    return sum(2 * rows * i * o for i, o in shapes) / statistics.median(times) * 1e3


def measured(name: str, overrides: Sequence[str], rounds: int, precision: str) -> dict[str, Any]:
    """One entry of the file: each round's seconds of every arm and their ratios, losses, operations and rates.

    `losses`: of the first batch, where B is zero, so that apart from dropout all arms have the same weights.
    """
    own, reader, synthetic, real, folder, batch_size = CASES[name]
    profile, rest = within(overrides, folder)
    task = synthetic if profile in ("smoke", "mini") else real
    settings = [f"task={task}", f"backbone={reader}", "method=lora", f"train.precision={precision}"]
    config = compose([f"profile={profile}", *settings, *rest])
    objective, train, device = objective_of(config), build(config.train), Ranks.here(config.device).device
    dtype = resolve_precision(train.precision, device)
    splits = build(config.task).load(config.paths.data)
    examples = splits.train
    read_by = objective.fit(build(config.backbone)).load()
    rows, _ = objective.encode(subset(examples, min(ROWS, len(examples)), 0), read_by, (0, 0), config.data.max_length)
    like = [len(row.ids) for row in rows] if name.startswith(ALIKE) else None
    batches = [[rows[i] for i in indices] for indices in epoch_order(len(rows), batch_size, 0, 0, like)[: rounds + 1]]
    spec = objective.fit(build(compose([f"profile={profile}", *own]).backbone))
    lora, full = build(config.method), build(compose(["method=full"]).method)
    plain = spec.load().to(device)
    arms = {
        "ours": ours(copied(plain), lora, objective, train),
        "peer": peer(_stock(copied(plain)), lora, train, batch_size),
        "full": ours(copied(plain), full, objective, train),
    }
    losses: dict[str, list[float]] = {arm: [] for arm in arms}

    def call(arm: str) -> None:
        losses[arm].append(arms[arm](batches[len(losses[arm])]))

    seconds = turns({arm: partial(call, arm) for arm in arms}, rounds, device)
    outline = build_meta_model(spec, lora).outline
    work = [
        sum(count(outline, len(row.ids), objective.count(row)) for row in batch for count in (forward, backward))
        for batch in batches[1:]
    ]
    tokens = [sum(len(row.ids) for row in batch) for batch in batches[1:]]
    rate = gemm_rate(plain, round(statistics.mean(tokens)), dtype or torch.float32)
    shares = parts(lambda: [arms["ours"](batch) for batch in batches[1:3]]) if device.type == "cpu" else {}
    throughput = statistics.median(flops / duration for flops, duration in zip(work, seconds["ours"], strict=True))
    return {
        "name": name, "data": splits.caption,
        "precision": "fp32" if dtype is None else "bf16", "batching": plain.batching, "seconds": seconds,
        "peer_over_ours": _ratio(seconds["peer"], seconds["ours"]), "lora_over_full": _ratio(seconds["ours"], seconds["full"]),
        "losses": {arm: values[0] for arm, values in losses.items()}, "tokens": sum(tokens),
        "padded_tokens": sum(len(batch) * max(len(row.ids) for row in batch) for batch in batches[1:]),
        "parts": shares, "gflops": round(throughput / 1e9, 1), "gemm_gflops": round(rate / 1e9, 1),
    }  # fmt: skip


def _stock(backbone: Backbone) -> Backbone:
    """The backbone with the GELU of transformers' GPT-2, which ours replaces (`BackboneSpec`)."""
    for part in backbone.model.modules():
        if isinstance(getattr(part, "act", None), GELUTanh):
            part.act = NewGELUActivation()
    return backbone


def _ratio(one: Sequence[float], other: Sequence[float]) -> float:
    """The median over rounds of one / other."""
    return round(statistics.median(a / b for a, b in zip(one, other, strict=True)), 3)


def measure(overrides: Sequence[str], names: Sequence[str] = tuple(CASES), rounds: int = ROUNDS) -> dict[str, Any]:
    """All entries, and the page's lines of each; fp32 too where the machine's own precision is another. Raises UserError.

    `case=MiniLM` among the overrides: only the cases whose name holds this word.
    """
    words = [word.removeprefix(CASE) for word in overrides if word.startswith(CASE)]
    names = [name for name in names if not words or any(word in name for word in words)]
    overrides = [word for word in overrides if not word.startswith(CASE)]
    precisions = [word.split("=")[1] for word in overrides if word.startswith("train.precision=")] or ["auto"]
    device = Ranks.here("auto").device
    arms = (
        {resolve_precision(word, device): word for word in ("fp32", *precisions)}
        if precisions == ["auto"]
        else {None: precisions[0]}
    )
    entries = [measured(name, overrides, rounds, word) for name in names for word in reversed(arms.values())]
    return {"rows": told([row for entry in entries for row in _rows(entry)]), "steps": entries, "cpu": kind()}


def join(found: dict[str, Any], before: dict[str, Any] | None, where: dict[str, Any]) -> dict[str, Any]:
    """`found`, with the table of what to expect on each kind of CPU."""
    head = ["LoRA step", "peft + Trainer takes, times", "our full fine-tuning takes, times"]
    return by_cpu(found, before, where, _figures, "a step", head)


def _figures(found: dict[str, Any]) -> dict[str, list[float]]:
    return {
        f"{entry['name']}, {entry['precision']}": [entry["peer_over_ours"], round(1 / entry["lora_over_full"], 3)]
        for entry in found["steps"]
    }


def _rows(entry: dict[str, Any]) -> list[Row]:
    name, middle = f"{entry['name']}, {entry['precision']}", medians(entry["seconds"])
    share = f"{entry['gflops'] / entry['gemm_gflops']:.0%} of the rate of the block's products alone; target {OF_RATE:.0%}"
    if entry["parts"]:
        share += f". Of the step: {shown(entry['parts'])}"
    target, data = TARGETS.get(entry["name"], ""), entry["data"]
    return [
        Row(f"LoRA step, {name}", middle["ours"], "peft + Trainer", middle["peer"], target, data),
        Row(f"LoRA step, {name}", middle["ours"], "our full fine-tuning", middle["full"], OF_FULL, share),
    ]

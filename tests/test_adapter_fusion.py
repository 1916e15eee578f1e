"""AdapterFusion: its attention against a literal one, its sources, its penalty, and what is told of the shares."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import tiny_backbone

from lora_repro.config.compose import CONF, compose
from lora_repro.data import Encoded, collate
from lora_repro.errors import UserError
from lora_repro.exchange.restore import restore
from lora_repro.methods.adapter_fusion import AdapterFusion, Fused
from lora_repro.methods.adapter_p import AdapterP
from lora_repro.methods.base import Shape
from lora_repro.methods.combined import Combined
from lora_repro.methods.lora import Lora
from lora_repro.objectives.classification import features_of
from lora_repro.planning.cells import Cell, Row, cells, with_starts
from lora_repro.report.captions import Caption, data_of_tasks
from lora_repro.report.columns import task_label
from lora_repro.report.exhibit import ReportRequest
from lora_repro.report.figures import heatmap
from lora_repro.report.pivot import Pivot
from lora_repro.report.subjects.fusion import Fusion, draw, shares
from lora_repro.results import PUBLISHED, Store, declared_cells, grouped, published, runs
from lora_repro.run import run as one_run

IDS = torch.randint(0, 256, (2, 9), generator=torch.Generator().manual_seed(0))


def adapters(seed: int, bottleneck: int = 3, trained: bool = True) -> dict[str, torch.Tensor]:
    """What a run of adapter_p leaves."""
    trainable = AdapterP(bottleneck=bottleneck).apply(tiny_backbone("bert"))
    torch.manual_seed(seed)  # not before: the backbone is drawn from a seed of its own, and all sources would be one
    return {n: torch.randn_like(p) if trained else p.detach() for n, p in trainable.named.items()}


def fused(n: int = 2, **settings: Any) -> tuple[Any, Any, list[dict[str, torch.Tensor]]]:
    backbone = tiny_backbone("bert")
    method = AdapterFusion(sources=tuple("abc"[:n]), bottleneck=3, **settings)
    trainable = method.apply(backbone)
    starts = [adapters(seed) for seed in range(n)]
    method.begin(trainable, starts)
    return backbone, trainable, starts


def test_the_attention_is_the_literal_one() -> None:
    """Position by position and source by source, in plain sums."""
    backbone, trainable, starts = fused()
    with torch.no_grad():
        for parameter in trainable.method.values():
            parameter += 0.1 * torch.randn_like(parameter)
    part = next(module for module in backbone.model.modules() if isinstance(module, Fused))
    h = torch.randn(2, 3, 32)
    got = part(h)
    prefix = "bert.encoder.layer.0.output.LayerNorm.adapter."
    for b in range(2):
        for t in range(3):
            x = h[b, t]
            query = part.query.weight @ x + part.query.bias
            values, scores = [], []
            for adapter in starts:
                down = torch.relu(adapter[f"{prefix}down.weight"] @ x + adapter[f"{prefix}down.bias"])
                u = adapter[f"{prefix}up.weight"] @ down + adapter[f"{prefix}up.bias"]
                values.append(part.value.weight @ u)
                scores.append(float((query @ (part.key.weight @ u + part.key.bias)).detach()))
            weights = [2.718281828459045 ** (score - max(scores)) for score in scores]
            expected = x + sum(w / sum(weights) * v for w, v in zip(weights, values, strict=True))
            torch.testing.assert_close(got[b, t], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("padded", [False, True])
def test_the_shares_are_of_the_inputs_own_positions(padded: bool) -> None:
    """A GPU pads the rows of a batch: what stands there is no part of an input."""
    backbone, trainable, _ = fused()
    with torch.no_grad():
        for parameter in trainable.method.values():
            parameter += 0.3 * torch.randn_like(parameter)
    method = AdapterFusion(sources=("a", "b"), bottleneck=3)
    rows = [Encoded([65 + k for k in range(n)], [-1] * n, [0] * n, n) for n in (4, 20)]

    def shares(batches: list[list[Encoded]]) -> Any:
        observations = method.watch(backbone)
        with torch.no_grad():
            for batch in batches:
                features_of(backbone, collate(batch, backbone.pad))
        return observations()["fusion"]["a"]

    reference = shares([[row] for row in rows])
    backbone.recomputes = padded
    assert backbone.batching == ("padded" if padded else "packed")
    assert shares([rows]) == pytest.approx(reference, abs=1e-5)
    assert all(part.backbone is None for part in backbone.model.modules() if isinstance(part, Fused))


def test_of_one_source_it_starts_as_that_adapter() -> None:
    backbone, _, (adapter,) = fused(1)
    reference = tiny_backbone("bert")
    AdapterP(bottleneck=3).apply(reference)
    reference.model.load_state_dict(adapter, strict=False)
    backbone.model.load_state_dict({n: v for n, v in adapter.items() if n.startswith("classifier")}, strict=False)
    with torch.no_grad():  # V is 1e-6 off the identity
        got, expected = backbone.model(input_ids=IDS).logits, reference.model(input_ids=IDS).logits
    torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-3)


def test_the_count_and_what_stays_frozen() -> None:
    backbone, trainable, starts = fused()
    shape = Shape.of(tiny_backbone("bert"))
    assert sum(p.numel() for p in trainable.method.values()) == 2 * (3 * 32**2 + 2 * 32)
    assert AdapterFusion(sources=["a"]).count(shape) == 2 * (3 * 32**2 + 2 * 32)
    backbone.model(input_ids=IDS).logits.square().sum().backward()
    assert all(p.grad is None for p in trainable.kept.values())
    for number, adapter in enumerate(starts):
        own = {n: p for n, p in trainable.kept.items() if f".adapters.{number}." in n}
        assert own and all(torch.equal(p, adapter[n.replace(f".adapters.{number}", "")]) for n, p in own.items())


def test_the_penalty_is_the_distance_of_v_from_the_identity() -> None:
    _, trainable, _ = fused(penalty=0.5)
    values = [p for n, p in trainable.method.items() if n.endswith("value.weight")]
    with torch.no_grad():
        for value in values:
            value += torch.randn_like(value)
    penalty = trainable.penalty()
    expected = 0.5 * sum((torch.eye(32) - value).square().sum() for value in values)
    torch.testing.assert_close(penalty, expected)
    penalty.backward()
    torch.testing.assert_close(values[0].grad, 2 * 0.5 * (values[0].detach() - torch.eye(32)))
    assert AdapterFusion(sources=["a"], penalty=0).apply(tiny_backbone("bert")).penalty is None


def test_what_cannot_be_fused_is_refused() -> None:
    method = AdapterFusion(sources=["rte", "cola"], bottleneck=3)
    trainable = method.apply(tiny_backbone("bert"))
    with pytest.raises(UserError, match="the adapters of cola were never trained"):
        method.begin(trainable, [adapters(0), adapters(1, trained=False)])
    with pytest.raises(UserError, match=r"the run of cola has no adapter_p of bottleneck 3 \(bert"):
        method.begin(trainable, [adapters(0), adapters(1, bottleneck=4)])
    with pytest.raises(UserError, match="has 1 of them"):
        method.begin(trainable, [adapters(0)])
    with pytest.raises(UserError, match=r"needs method\.sources"):
        AdapterFusion().apply(tiny_backbone("bert"))
    with pytest.raises(UserError, match="starts from other runs, which combined cannot"):
        Combined(methods=(Lora(rank=2), method)).apply(tiny_backbone("bert"))
    with pytest.raises(UserError, match="has 0 of them"):
        overrides = ["method=adapter_fusion", "method.sources=[rte]", "task=sentiment", "profile=smoke"]
        one_run.run(compose(overrides), overrides)


def test_a_sweep_shares_the_extraction_runs(tmp_path: Path) -> None:
    """A fusion of three tasks' adapters on two of them: the adapter_p runs are the table's own, each once and first."""
    overrides = ["experiment=fusion", "row/fusion=fusion,adapter_p", "profile=mini", "task=entailment,sentiment"]
    sweep_cells = with_starts(cells([*overrides, f"paths.runs={tmp_path}"]))
    first = [("adapter_p", task) for task in ("sentiment", "entailment", "similarity")]
    assert [(cell.row.name, cell.task) for cell in sweep_cells] == [*first, ("fusion", "entailment"), ("fusion", "sentiment")]
    assert all([start.folder for start in cell.starts] == [one.folder for one in sweep_cells[:3]] for cell in sweep_cells[3:])


def test_a_run_end_to_end_keeps_the_adapters_and_tells_the_shares(tmp_path: Path) -> None:
    overrides = ["experiment=fusion", "row/fusion=fusion", "profile=smoke", "task=entailment", f"paths.runs={tmp_path}"]
    record = one_run.run(compose(overrides), overrides)
    shares = record["measured"]["fusion"]
    assert list(shares) == ["sentiment", "entailment"] and len(record["measured"]["started_from"]) == 2
    assert all(abs(a + b - 1) < 1e-5 for a, b in zip(*shares.values(), strict=True))
    again = restore(tmp_path / "smoke" / record["signature"])  # without the runs that it started from
    frozen = [p for n, p in again.backbone.model.named_parameters() if ".adapters." in n]
    assert frozen and all(p.any() for p in frozen if p.dim() > 1)


def test_the_shares_are_shown(tmp_path: Path) -> None:
    task = {"name": "rte", "label": "RTE", "metrics": ["accuracy"], "_target_": "lora_repro.tasks.glue.task.Glue"}
    config = {"task": task, "backbone": {"name": "minilm", "label": "MiniLM"}, "row": {"table": "fusion"}}
    cell = Cell(Row("fusion", "AdapterFusion", 1, 5, True, {}, {}), 0, {}, (), "s0", config, Path("s0"))
    seed_cells = [replace(cell, seed=seed, signature=f"s{seed}") for seed in range(3)]
    where = {"data": {"caption": "RTE", "hashes": {}}, "backbone": {"label": "MiniLM", "sha256": "1"}}
    measurements = [{"fusion": {"rte": [0.2, 0.6 + seed / 10], "cb": [0.8, 0.4]}} for seed in range(2)]
    facts = {"status": "finished", "where": where, "asked": {}}
    records = {f"s{seed}": {**facts, "measured": measurement} for seed, measurement in enumerate(measurements)}
    records["s2"] = {**records["s0"], "status": "collapsed"}

    class Silent(Pivot):
        def exhibits(self, ask: ReportRequest, stores: Any) -> list[Any]:
            return []

    ask = ReportRequest("fusion", "mini")
    ask.__dict__["cells"] = seed_cells
    (exhibit,) = Fusion(Silent("AdapterFusion", {})).exhibits(ask, [Store(PUBLISHED, Path(), records)])
    assert exhibit.tables[0].header == ("Target", "rte", "cb", "n")
    assert exhibit.tables[0].rows == (("RTE", "0.425 ± 0.035", "0.600 ± 0.000", "2"),)
    assert exhibit.tables[0].footnotes[1] == "Left out, as collapsed or diverged: RTE (n = 1)."
    assert [path.suffix for path in exhibit.draw(tmp_path / "shares")] == [".svg", ".png"]


def test_a_caption_says_which_tasks_each_text_about_the_data_is_of() -> None:
    def told(*captions: str) -> str:
        labels = [caption.split(" (")[0] for caption in captions]
        configs = [{"task": {"name": label, "label": label}} for label in labels]
        row = Row("lora", "LoRA", 1, 5, True, {}, {})
        task_cells = [Cell(row, 0, {}, (), label, one, Path(label)) for label, one in zip(labels, configs, strict=True)]
        return data_of_tasks(task_cells, [{"where": {"data": {"caption": caption}}} for caption in captions])

    sizes = [("RTE", 250), ("MRPC", 250), ("SST-2", 500), ("STS-B", 500)]
    rte, mrpc, sst2, stsb = (f"{task} (GLUE; {n} held out)" for task, n in sizes)
    assert told(rte, mrpc) == "RTE, MRPC: GLUE; 250 held out"
    assert told(rte, sst2, mrpc, stsb) == "RTE, MRPC (GLUE; 250 held out); SST-2, STS-B (GLUE; 500 held out)"
    assert told("SST (a)", "SST-2 (b)") == "SST (a); SST-2 (b)"  # of two names that begin a caption, the longer
    assert told() == "no record yet"


def test_the_figure_s_title_is_each_fusion_s_share_for_its_own_task(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A mean over targets of the largest would be noise: sources lie within an sd of each other."""
    cells = declared_cells("fusion", "mini", ["row/fusion=fusion"])
    groups = list(grouped(runs(cells, published(CONF.parent / "results" / "mini")), lambda run: run.cell.task))
    titles: list[str] = []
    monkeypatch.setattr(heatmap, "save", lambda rows, title, *rest: titles.append(title) or [])
    draw(groups, Caption("F", "mini", ("B",), "D", "3"), tmp_path / "x")
    for group in groups:
        sources, values = shares(group)
        own = values.mean(axis=(0, 1))[sources.index(group[0].cell.task)]
        assert f"{own:.2f} on {task_label(group[0].cell)}" in titles[0]


def test_queries_and_keys_start_small_and_values_at_the_identity() -> None:
    backbone, _, _ = fused()
    part = next(module for module in backbone.model.modules() if isinstance(module, Fused))
    for linear in (part.query, part.key):
        assert float(linear.weight.detach().std()) == pytest.approx(0.02, rel=0.15) and not linear.bias.any()
    assert torch.equal(part.value.weight.detach(), torch.full((32, 32), 1e-6).fill_diagonal_(1.0))

"""The arithmetic of a run: against torch's own counter of operations, the paper's counts and the published records."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from conftest import SHAPES, text_row
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from lora_repro.backbone.spec import BackboneSpec
from lora_repro.costs import arithmetic
from lora_repro.costs.arithmetic import Outline, Work
from lora_repro.costs.meta_model import build_meta_model
from lora_repro.data import collate
from lora_repro.methods.adapter_drop import AdapterDrop
from lora_repro.methods.adapter_h import AdapterH
from lora_repro.methods.base import AbstractMethod
from lora_repro.methods.bitfit import BitFit
from lora_repro.methods.full import Full
from lora_repro.methods.linear_probe import LinearProbe
from lora_repro.methods.lora import Lora
from lora_repro.methods.matrices import Matrices
from lora_repro.methods.top_layers import TopLayers
from lora_repro.methods.untuned import Untuned
from lora_repro.objectives.completion import summed_loss

ROWS, LENGTH, PROMPT = 3, 24, 10
METHODS: list[AbstractMethod] = [
    Full(),
    Lora(rank=8, dropout=0),
    Lora(rank=4, dropout=0, targets=["query", "key", "value", "output", "mlp"]),
    AdapterH(bottleneck=16),
    AdapterDrop(bottleneck=16, dropped=5),
    BitFit(),
    Matrices(),
    TopLayers(n=2),
    LinearProbe(),
]


def spec(architecture: str, layers: int = 8) -> BackboneSpec:
    number = "n_layer" if architecture == "gpt2" else "num_hidden_layers"
    return BackboneSpec(
        name=f"counted_{architecture}", label="", source="random", separator="\n", eos="<|endoftext|>", pad="<|endoftext|>",
        shape={**SHAPES[architecture], number: layers},
    )  # fmt: skip


def counter_of(backbone: BackboneSpec, method: AbstractMethod) -> int:
    """Operations of one training step, as torch counts them while they are done."""
    model = backbone.load()
    method.apply(model)
    batch = collate([text_row([7] * LENGTH, PROMPT)] * ROWS, model.pad)
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        summed_loss(model, batch, 0.0)[0].backward()  # type: ignore[no-untyped-call]
    return counter.get_total_flops()


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_a_training_step_costs_what_torch_counts(architecture: str, method: AbstractMethod) -> None:
    o = build_meta_model(spec(architecture), method).outline
    targets = LENGTH - PROMPT
    expected = ROWS * (arithmetic.forward(o, LENGTH, targets) + arithmetic.backward(o, LENGTH, targets))
    # In a frozen base the lowest of the blocks needs no gradient of its own input, and so a part of one backward pass less.
    block = ROWS * (arithmetic.backward(replace(o, depth=1), LENGTH, 0) - arithmetic.backward(replace(o, depth=0), LENGTH, 0))
    saving = expected - counter_of(spec(architecture), method)
    assert -0.01 * expected <= saving <= 0.01 * expected + (0 if o.depth in (0, 8) and o.head_trained else block)


def test_full_costs_three_forward_passes_a_frozen_base_two_and_a_probe_one() -> None:
    def ratio(method: AbstractMethod) -> float:
        o = build_meta_model(spec("gpt2"), method).outline
        o = replace(o, head_matrix=0, width=0)  # matrices of the blocks alone
        return arithmetic.backward(o, LENGTH, 0) / arithmetic.forward(replace(o, added=0), LENGTH, 0)

    assert ratio(Full()) == 2 and ratio(BitFit()) == 1 and ratio(LinearProbe()) == 0 and ratio(TopLayers(n=2)) == 0.5
    assert 1 < ratio(Lora(rank=1)) < 1.1


SMALL = Outline(
    layers=2, block=100, width=4, flow=50, kv=2, head_matrix=30, vocabulary=10, parameters=1000, method=20, head=0,
    added=10, weights=0, depth=2, head_trained=False,
)  # fmt: skip
WORK = Work(
    steps=5, batch=4, micro=2, length=6, scored=3, longest=8, train_rows=20, dev_rows=7, dev_length=5, evaluations=2,
    test_rows=11, prompt=4, new=6, most_new=9, beam=3, test_batch=2,
)  # fmt: skip


def test_the_formula_by_hand() -> None:
    forward = 2 * (2 * 6 * 100 + 4 * 36 * 4) + 2 * 6 * 10 + 2 * 3 * 30
    backward = 2 * (2 * 6 * 100 + 8 * 36 * 4) + 4 * 6 * 10 + 2 * 3 * 30
    assert arithmetic.forward(SMALL, 6, 3) == forward and arithmetic.backward(SMALL, 6, 3) == backward
    validation = 2 * 7 * arithmetic.forward(SMALL, 5, 3)
    prompts = 11 * arithmetic.forward(SMALL, 4, 1)
    token = 2 * (2 * 100 + 4 * (4 + 3) * 4) + 2 * 10 + 2 * 30
    flops = arithmetic.flops(SMALL, WORK)
    assert flops.rows == 5 * 4 * (forward + backward) + validation + prompts
    assert flops.tokens == 11 * 3 * 6 * token and flops.total == flops.rows + flops.tokens
    assert WORK.train_tokens == 120


def test_an_untuned_model_only_answers_and_a_probe_over_features_runs_its_body_once() -> None:
    idle = replace(SMALL, method=0, added=0, depth=0)
    assert arithmetic.flops(idle, WORK).rows == 11 * arithmetic.forward(idle, 4, 1)
    probe = replace(idle, head=30, head_trained=True)
    label = replace(WORK, new=0, beam=1, features=True)
    few, many = (arithmetic.flops(probe, replace(label, steps=n)).rows for n in (5, 6))
    assert many - few == 4 * (2 + 2) * 30  # an epoch more costs the head alone
    assert arithmetic.flops(probe, replace(label, features=False)).rows > many


def test_memory_grows_with_what_is_trained_the_batch_and_the_beams() -> None:
    def of(o: Outline = SMALL, size: int = 4, **changes: Any) -> int:
        return arithmetic.memory(o, replace(WORK, **changes), size, process=0)

    assert of(replace(SMALL, method=10**6)) - of(replace(SMALL, method=0, head=0)) == pytest.approx(12e6, rel=0.01)
    assert of(micro=2000) > of() and of(most_new=9000) > of() and of(longest=8000) > of()
    still = replace(SMALL, method=0, head=0)
    frozen, trained = (of(o, size=2, new=0) - of(o, new=0) for o in (still, replace(still, weights=200)))
    assert (frozen, trained) == (2 * 30 - 2 * 200, 2 * 30 + 2 * 200)  # rounded in place; a copy of the trained, and of the head
    assert arithmetic.memory(SMALL, WORK, 4) - of() == arithmetic.PROCESS
    eager = replace(SMALL, score_heads=4)
    scores = of(eager, longest=8000) - of(longest=8000)
    assert scores == 2 * 2 * 4 * 8000**2 * 9  # depth, rows, heads; two float32 copies and a mask
    wider = of(replace(eager, score_width=100), longest=8000) - of(eager, longest=8000)
    assert wider == 2 * 2 * 4 * 8000 * 100 * 4
    assert of(eager, longest=8000, recompute=True) - of(longest=8000, recompute=True) == scores / 2  # one block's at a time
    assert of(micro=2000, recompute=True) < of(micro=2000)
    more = arithmetic.flops(SMALL, replace(WORK, recompute=True)).rows - arithmetic.flops(SMALL, WORK).rows
    assert more == 5 * 4 * arithmetic.forward(replace(SMALL, head_matrix=0), 6, 0)  # every block once more, each step and row


@pytest.mark.parametrize("double, bits", [(True, 4.127), (False, 4.5)])
def test_quantised_matrices_take_their_codes_and_all_else_floats(double: bool, bits: float) -> None:
    plain = spec("gpt2")
    nf4 = replace(plain, quantise="nf4", double_quantise=double)
    floats, codes = (build_meta_model(one, Lora(rank=2)).outline for one in (plain, nf4))
    values = floats.layers * floats.block
    assert codes == replace(floats, quantised=values, bits=codes.bits) and codes.bits == pytest.approx(bits, abs=1e-3)
    for size, width in ((4, 4), (2, 2)):
        saving = arithmetic.memory(floats, WORK, size, process=0) - arithmetic.memory(codes, WORK, size, process=0)
        assert saving == pytest.approx(values * (width - bits / 8), rel=1e-3)


def test_a_model_is_loaded_in_main_memory_whatever_it_trains_on() -> None:
    large = replace(SMALL, parameters=10**9)
    assert arithmetic.memory(large, WORK, 4) == 8 * 10**9 + arithmetic.PROCESS
    assert 4 * 10**9 < arithmetic.memory(large, WORK, 4, process=0) < 4.1 * 10**9


def test_disk_and_time() -> None:
    assert arithmetic.disk(SMALL) == (80, 80 + 3 * 3 * 80 + 80)
    flops = arithmetic.Flops(rows=2e9, tokens=1e9)
    assert arithmetic.seconds(flops, 1e9, 2e9, 100) == pytest.approx(arithmetic.LOADING + 100 * arithmetic.SCORING + 2 + 0.5)


def test_an_untuned_method_trains_nothing() -> None:
    o = build_meta_model(spec("gpt2"), Untuned()).outline
    assert (o.trained, o.depth, o.added, o.weights) == (0, 0, 0, 0)


def test_the_counter_sees_the_attention_it_should() -> None:
    """Without its quadratic term the formula would be off by more than the tolerance above."""
    o = build_meta_model(spec("gpt2"), Full()).outline
    with torch.no_grad():
        assert arithmetic.forward(o, 24, 0) > 1.05 * arithmetic.forward(replace(o, width=0), 24, 0)


def test_the_memory_of_keys_and_values_and_of_logits() -> None:
    still = replace(SMALL, method=0, head=0)  # nothing is trained: decoding takes most
    more, less = (arithmetic.memory(still, replace(WORK, most_new=new), 4, process=0) for new in (1009, 9))
    assert more - less == 1000 * (2 * 3) * 2 * 2 * 2 * 4  # inputs x beams, layers, keys and values, width, bytes
    work = replace(WORK, beam=1, new=0)
    more, less = (arithmetic.memory(replace(SMALL, vocabulary=10**6 + n), work, 4, process=0) for n in (1000, 0))
    assert more - less == 2 * 3 * 1000 * 3 * 4  # rows, scored positions, words, copies, bytes

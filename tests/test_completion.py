"""The loss against a literal computation over full logits, padding to 512 included."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import text_row, tiny_backbone

from lora_repro.backbone.model import Backbone
from lora_repro.config.compose import compose
from lora_repro.data import Encoded, collate
from lora_repro.decode.beam import BeamSearch
from lora_repro.errors import UserError
from lora_repro.methods.linear_probe import LinearProbe
from lora_repro.methods.prelayer import PreLayer
from lora_repro.objectives import completion
from lora_repro.objectives.completion import Completion, summed_loss
from lora_repro.run import run
from lora_repro.run.stages import check_room
from lora_repro.tasks.base import Example
from lora_repro.tasks.samsum.task import SAMSum

ROWS = [text_row([65, 66, 10, 32, 67, 256], 3), text_row([70, 10, 32, 71, 72, 73, 74, 256], 2)]


def literal_loss(backbone: Backbone, smoothing: float) -> tuple[float, int]:
    total, count = 0.0, 0
    for row in ROWS:
        logits = backbone.model(input_ids=torch.tensor([row.ids])).logits[0]
        for position in range(row.prompt_length - 1, len(row.ids) - 1):
            logp = [float(v) for v in torch.log_softmax(logits[position].double(), -1)]
            target = row.ids[position + 1]
            total += (1 - smoothing) * -logp[target] + smoothing * sum(-v for v in logp) / len(logp)
            count += 1
    return total, count


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_summed_loss_is_the_literal_one(architecture: str, smoothing: float) -> None:
    backbone = tiny_backbone(architecture)
    loss, count = summed_loss(backbone, collate(ROWS, backbone.pad), smoothing)
    expected, n = literal_loss(backbone, smoothing)
    assert count == n == 3 + 6
    assert float(loss) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("prefix, size, new, fits", [(0, 1, 0, True), (0, 0, 1, False), (8, 0, 0, False), (8, 8, 0, True)])
def test_a_row_that_the_backbone_has_no_positions_for_is_refused(prefix: int, size: int, new: int, fits: bool) -> None:
    """GPT-2 looks positions up in a table; keys and values before a row move its positions on."""
    backbone = tiny_backbone("gpt2")
    assert backbone.positions == 256
    method = PreLayer(prefix=prefix, infix=0, form="key_value") if prefix else LinearProbe()
    rows = [Encoded([65] * (256 - size), [-1] * (256 - size), [0] * (256 - size), 4)]
    if fits:
        check_room(backbone, method, rows, new)
        return
    with pytest.raises(UserError, match=r"a row takes 256 tokens.* but this backbone has 256 positions: lower "):
        check_room(backbone, method, rows, new)


def test_a_run_on_texts_that_are_too_long_is_one_line(tmp_path: Path) -> None:
    overrides = ["experiment=e2e", "row/e2e=prelayer_key_value", "profile=smoke", f"paths.runs={tmp_path}"]
    overrides += ["backbone=random_gpt2", "method.prefix=450"]
    with pytest.raises(UserError, match=r"and 450 of prelayer, but this backbone has \d+ positions: lower data.max_length"):
        run.run(compose(overrides))


def test_padding_to_any_length_changes_nothing() -> None:
    backbone = tiny_backbone("gpt2")
    long = text_row([65] * 120, 119)
    loss, _ = summed_loss(backbone, collate(ROWS, 256), 0.1)
    total, _ = summed_loss(backbone, collate([*ROWS, long], 256), 0.1)
    extra, _ = summed_loss(backbone, collate([long], 256), 0.1)
    assert float(total) == pytest.approx(float(loss) + float(extra), abs=1e-4)


def test_validation_loss_is_a_mean_over_tokens_without_smoothing() -> None:
    backbone = tiny_backbone("llama")
    expected, n = literal_loss(backbone, 0.0)
    for size in (1, 2):
        assert Completion().validate(backbone, ROWS, size) == {"dev_loss": pytest.approx(expected / n, rel=1e-5)}
    assert expected / n == pytest.approx(math.log(257), rel=0.2)  # an untrained model knows nothing


def test_a_beam_wider_than_the_vocabulary_is_refused_with_the_prompts() -> None:
    """They are encoded before the training."""
    backbone, examples = tiny_backbone("gpt2"), [Example("a", "x", "y")]
    assert Completion(BeamSearch(beam=257)).ask(examples, backbone, (0, 0), 99)[1] == 0
    with pytest.raises(UserError, match=r"decode\.beam=258 exceeds the vocabulary of 257 tokens"):
        Completion(BeamSearch(beam=258)).ask(examples, backbone, (0, 0), 99)


def test_what_does_not_fit_is_cut_by_the_task_s_rule_and_counted() -> None:
    backbone, task = tiny_backbone("gpt2"), SAMSum("embedded")  # a token a byte
    chat = "A: one two\nB: three four\n\n"
    examples = [Example("long", chat, "five", ("five",)), Example("short", "B: six\n\n", "five", ("five",))]
    objective = Completion(BeamSearch(beam=1, max_new_tokens=5), task)
    assert [objective.ask(examples[1:], backbone, (0, 0), most)[1] for most in (14, 13)] == [0, 1]  # 9 tokens, 5 to answer with
    rows, cut = objective.encode(examples, backbone, (0, 0), 22)
    assert cut == 1 and [len(row.ids) for row in rows] == [22, 15]
    assert backbone.tokenizer.decode(rows[0].ids[:16]) == "B: three four\n\n\n"
    prompts, cut = objective.ask(examples, backbone, (2, 0), 23)
    assert cut == 1 and [len(row.ids) for row in prompts] == [18, 11]
    assert objective.encode(examples, backbone, (0, 0), 99)[1] == 0
    with pytest.raises(UserError, match="only the first utterances may be cut"):
        objective.ask(examples, backbone, (0, 0), 6)
    with pytest.raises(UserError, match=r"data\.max_length"):
        Completion().encode(examples, backbone, (0, 0), 22)


def test_kept_hidden_states_give_the_loss_and_the_gradient_of_the_whole_pass() -> None:
    for architecture in ("gpt2", "llama"):
        backbone = tiny_backbone(architecture)
        method = LinearProbe().apply(backbone)
        cache = Completion().frozen(backbone, ROWS, 1, 2)
        assert [replace(row, features=None) for row in cache] == ROWS
        passes = []
        for rows in (ROWS[::-1], cache[::-1]):
            loss, _ = summed_loss(backbone, collate(rows, backbone.pad), 0.1)
            loss.backward()
            (weight,) = method.parameters()
            assert weight.grad is not None
            passes.append((loss.detach(), weight.grad.clone()))
            weight.grad = None
        torch.testing.assert_close(passes[1], passes[0], rtol=1e-5, atol=1e-5)
        with silent_body(backbone):  # which is not run again
            assert Completion().validate(backbone, cache, 2)["dev_loss"] > 0


@contextmanager
def silent_body(backbone: Backbone) -> Iterator[None]:
    before = backbone.decoder.forward
    backbone.decoder.forward = lambda *a, **k: pytest.fail("the body ran")
    yield
    backbone.decoder.forward = before


def test_hidden_states_are_kept_only_where_that_is_exact_pays_and_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = tiny_backbone("gpt2")

    def kept(passes: float = 2) -> bool:
        return all(row.features is not None for row in Completion().frozen(backbone, ROWS, 2, passes))

    assert kept() and kept(1.5) and not kept(1)
    monkeypatch.setattr(completion, "MOST", 9 * 32 * 4)
    assert kept()
    monkeypatch.setattr(completion, "MOST", 9 * 32 * 4 - 1)
    assert not kept()
    monkeypatch.undo()
    backbone.model.transformer.drop.p = 0.1
    assert not kept()

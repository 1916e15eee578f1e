"""Which segment a position is of reaches a method that asks: in training, beside slots, and through a beam search's cache."""

from __future__ import annotations

import beam_oracle
import pytest
import torch
from conftest import tiny_backbone
from torch import nn

from lora_repro.backbone.addressed import AddressedModel
from lora_repro.backbone.model import Backbone
from lora_repro.data import Encoded, Rows, collate
from lora_repro.decode.beam import BeamSearch
from lora_repro.errors import UserError
from lora_repro.methods._slots import Slots
from lora_repro.methods.adapter_l import AdapterL
from lora_repro.methods.base import Shape
from lora_repro.methods.combined import Combined
from lora_repro.methods.segments import Segments
from lora_repro.objectives.classification import Classification
from lora_repro.objectives.completion import Completion, encode_prompt, summed_loss
from lora_repro.tasks.base import Example
from lora_repro.tasks.e2e.task import E2E
from lora_repro.train.loop import TrainConfig, train

TASK = E2E("embedded", "raw")
PIECES = [["name : Ab |", " food : x y"], ["area : z |", " name : Q |", " near : R"]]
MRS = ["".join(pieces) for pieces in PIECES]
EXAMPLES = [Example("a", "one : two", "three"), Example("b", "four", "five six")]


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
@pytest.mark.parametrize("missing", [True, False])
def test_a_model_without_a_table_of_embeddings_is_refused_in_a_line(architecture: str, missing: bool) -> None:
    """Neither one that has no such part, nor one that has something else in its place."""
    model = tiny_backbone(architecture).model
    place = {"gpt2": "wte", "llama": "embed_tokens"}[architecture]
    if missing:
        delattr(model.base_model, place)
    else:
        setattr(model.base_model, place, nn.Linear(2, 2))
    for use in (Segments().apply, AddressedModel):
        with pytest.raises(UserError, match=f"this {architecture} model has no token embeddings at {place}$"):
            use(model)


def literal(backbone: Backbone, row: Encoded) -> torch.Tensor:
    """Logits (T, V) with the embeddings put together by hand."""
    table = backbone.decoder.get_parameter("segments.rows")
    plain = nn.functional.embedding(torch.tensor([row.ids]), backbone.embedding.weight)
    embeddings = plain + torch.stack([table[segment] for segment in row.segments])
    hooks, backbone.embedding._forward_hooks = backbone.embedding._forward_hooks, type(backbone.embedding._forward_hooks)()
    out: torch.Tensor = backbone.model(inputs_embeds=embeddings).logits[0]
    backbone.embedding._forward_hooks = hooks
    return out


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_in_training_the_completion_is_another_segment_than_the_prompt(architecture: str) -> None:
    backbone = tiny_backbone(architecture)
    torch.manual_seed(0)
    trainable = Segments().apply(backbone)
    rows, _ = Completion().encode(EXAMPLES, backbone, (0, 0), 99)
    assert [row.segments for row in rows] == [[0] * 10 + [1] * 7, [0] * 5 + [1] * 10]
    loss, n = summed_loss(backbone, collate(rows, backbone.pad), 0.0)
    total = 0.0
    for row in rows:
        logp = literal(backbone, row).detach().log_softmax(-1)
        total -= float(sum(logp[t, row.ids[t + 1]] for t in range(row.prompt_length - 1, len(row.ids) - 1)))
    assert float(loss.detach()) == pytest.approx(total, rel=1e-5) and n == 17
    loss.backward()
    assert all(bool(parameter.grad.any()) for parameter in trainable.parameters())  # type: ignore[union-attr]


def test_the_whole_line_tells_segments_beside_slots(tmp_path: object) -> None:
    backbone = tiny_backbone("llama")
    slots = Slots(backbone.decoder, 2, 1)
    trainable = Segments().apply(backbone)
    objective = Completion(BeamSearch(beam=2, max_new_tokens=4))
    rows, _ = objective.encode(EXAMPLES, backbone, (2, 1), 99)
    settings = TrainConfig(lr=1e-2, steps=2, batch_size=2, warmup=0, precision="fp32")
    before = [parameter.detach().clone() for parameter in trainable.parameters()]
    train(backbone, trainable, Rows(rows, rows), objective, settings, 0, tmp_path)  # type: ignore[arg-type]
    assert all(not torch.equal(a, b) for a, b in zip(before, trainable.parameters(), strict=True))
    prompts, _ = objective.ask(EXAMPLES, backbone, (2, 1), 99)
    outputs, calls = objective.answer(backbone, prompts, lambda n: None)
    assert len(outputs) == 2 and calls > 1 and slots.where is None  # the last call continued from a cache


def test_each_attribute_of_e2e_is_a_segment_of_its_own_and_the_text_another() -> None:
    backbone = tiny_backbone("llama")
    method = Segments(n=9, parts=True)
    assert method.apply(backbone).counts(backbone.model)["method"] == method.count(Shape.of(tiny_backbone("llama"))) == 9 * 32
    (row,), _ = Completion(task=TASK).encode([Example("a", MRS[1], "no")], backbone, (0, 0), 99)
    lengths = [len("area : z |"), len(" name : Q |"), len(" near : R"), len("\n"), len(" no") + 1]
    numbers = [2 + TASK.parts.index("area"), 2 + TASK.parts.index("name"), 2 + TASK.parts.index("near"), 0, 1]
    assert row.segments == [number for number, n in zip(numbers, lengths, strict=True) for _ in range(n)]


def test_a_token_over_several_letters_is_of_the_part_of_its_last() -> None:
    """A tokenizer with words: " |" ends a part and " name" begins one."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = {word: i for i, word in enumerate(["name", "Ġname", "Ġ:", "ĠAb", "Ġ|", "Ġfood", "Ġx"])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="name"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backbone = tiny_backbone("llama")
    backbone.reads_parts = 8
    backbone.tokenizer = PreTrainedTokenizerFast(tokenizer_object=tokenizer)
    prompt = encode_prompt("name : Ab | food : x", backbone, (1, 1), TASK)
    name, food = (2 + TASK.parts.index(part) for part in ("name", "food"))
    assert prompt.segments == [0, *[name] * 4, *[food] * 3, 0, 0] and len(backbone.separator) == 1


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_the_versatile_lm_decodes_as_the_oracle(architecture: str) -> None:
    backbone = tiny_backbone(architecture)
    Combined(methods=(AdapterL(bottleneck=3), Segments(n=9, parts=True))).apply(backbone)
    with torch.no_grad():  # as if trained
        for parameter in backbone.model.parameters():
            parameter += 0.15 * torch.randn(parameter.shape)
    objective = Completion(BeamSearch(beam=3, max_new_tokens=7, batch_size=3, length_penalty=0.9, no_repeat_ngram=4), TASK)
    prompts, _ = objective.ask([Example(text, text, "") for text in MRS], backbone, (0, 0), 99)
    outputs, _ = objective.answer(backbone, prompts, lambda n: None)
    for pieces, prompt, output in zip(PIECES, prompts, outputs, strict=True):
        segments = [2 + TASK.parts.index(piece.split()[0]) for piece in pieces for _ in piece] + [0]  # the separator's
        tokens, _ = beam_oracle.search(
            backbone.model, backbone.tokenizer, prompt.ids, prompt.virtual, backbone.eos, 3, 7, 0.9, 4, segments
        )
        assert output == beam_oracle.text(backbone.tokenizer, tokens, backbone.eos)


def test_with_attributes_it_is_the_released_scheme() -> None:
    """There each attribute and the text have a token of their own below the table, whose row every token of theirs has added."""
    backbone = tiny_backbone("gpt2")
    Segments(n=9, parts=True).apply(backbone)
    (row,), _ = Completion(task=TASK).encode([Example("a", MRS[1], "no")], backbone, (0, 0), 99)
    plain = tiny_backbone("gpt2")
    words = len(plain.embedding.weight)
    special = {name: words + 1 + number for number, name in enumerate(TASK.parts)} | {"target": words}
    types = [*[special["area"]] * 10, *[special["name"]] * 11, *[special["near"]] * 9, *[special["target"]] * 5]
    embeddings = torch.cat([plain.embedding.weight, backbone.decoder.get_parameter("segments.rows")]).detach()
    plain.model.resize_token_embeddings(words + 9, mean_resizing=False)
    with torch.no_grad():
        plain.decoder.wte.weight.copy_(embeddings)  # type: ignore[union-attr]
        theirs = plain.decoder(input_ids=torch.tensor([row.ids]), token_type_ids=torch.tensor([types])).last_hidden_state
        batch = collate([row], backbone.pad)
        ours = backbone.decoder(input_ids=batch.ids, attention_mask=batch.attention, segments=batch.segments).last_hidden_state
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize(("n", "task"), [(3, TASK), (9, None)])
def test_parts_that_the_task_does_not_name_are_refused(n: int, task: E2E | None) -> None:
    backbone = tiny_backbone("llama")
    Segments(n=n, parts=True).apply(backbone)
    with pytest.raises(UserError, match=r"parts of an input: set method.parts=false, or method.n="):
        Completion(task=task).ask([Example("a", MRS[0], "")], backbone, (0, 0), 99)
    encoder = tiny_backbone("bert")
    Segments(n=n, parts=True).apply(encoder)
    with pytest.raises(UserError, match="named parts"):
        Classification(("a", "b")).ask([Example("a", "x", "")], encoder, (0, 0), 99)

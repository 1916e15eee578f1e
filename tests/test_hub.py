"""PROFILE=paper through the real client against a hub on this machine: first download, cached, offline, interrupted, refused."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
import torch
from local_hub import Fault, LocalHub, served
from safetensors.torch import load_file, save
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaForMaskedLM,
)

from lora_repro import run
from lora_repro.backbone import at_hand
from lora_repro.config.compose import build, compose
from lora_repro.errors import NotAvailable, UserError
from lora_repro.sources import hub as module

BACKBONES = ("gpt2_small", "gpt2_medium", "gpt2_large", "roberta_base", "roberta_large")


def tokenizer(specials: list[str], folder: Path) -> None:
    """A byte-level BPE without merges, in the files that GPT-2 and RoBERTa have: vocab.json, merges.txt, tokenizer.json."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate([*specials, *letters])}
    made = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    made.pre_tokenizer, made.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    PreTrainedTokenizerFast(tokenizer_object=made, additional_special_tokens=specials).save_pretrained(folder)
    (folder / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")


def repository(name: str, folder: Path) -> dict[str, bytes]:
    """The files of a tiny model as the hub has those of the real one: names without prefix and buffers, a pooler, no lm_head."""
    torch.manual_seed(0)
    if name.startswith("gpt2"):
        tokenizer(["<|endoftext|>"], folder)
        config = GPT2Config(n_layer=2, n_embd=16, n_head=2, vocab_size=257, n_positions=256, bos_token_id=0, eos_token_id=0)
        GPT2LMHeadModel(config).save_pretrained(folder)
        tensors = {key.removeprefix("transformer."): x for key, x in load_file(folder / "model.safetensors").items()}
        tensors |= {f"h.{n}.attn.bias": torch.ones(1, 1, 256, 256).tril() for n in range(2)}
        weights = {"model.safetensors": save(tensors, {"format": "pt"})}
    else:
        tokenizer(["<s>", "<pad>", "</s>", "<unk>", "<mask>"], folder)
        sizes: dict[str, Any] = {"num_hidden_layers": 2, "hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 16}
        config = RobertaConfig(**sizes, vocab_size=261, max_position_embeddings=260, type_vocab_size=1, pad_token_id=1)
        RobertaForMaskedLM(config).save_pretrained(folder)
        tensors = load_file(folder / "model.safetensors")
        if name.endswith("large"):  # no safetensors, and what later versions dropped
            buffer = io.BytesIO()
            torch.save({**tensors, "roberta.embeddings.position_ids": torch.arange(260)[None]}, buffer)
            weights = {"pytorch_model.bin": buffer.getvalue()}
        else:
            weights = {"model.safetensors": save(tensors, {"format": "pt"})}
    texts = {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix in (".json", ".txt")}
    return {"README.md": b"a card", "tf_model.h5": b"x", **texts, **weights}


def parquet(columns: dict[str, list[Any]], names: list[str] | None = None) -> bytes:
    """A part of a data set, with the class labels of the hub where it has any."""
    features: dict[str, Any] = {key: {"dtype": "string", "_type": "Value"} for key in columns}
    features["label"] = {"names": names, "_type": "ClassLabel"} if names else {"dtype": "float32", "_type": "Value"}
    kinds = {key: pyarrow.string() for key in columns} | {"label": pyarrow.int64() if names else pyarrow.float32()}
    schema = pyarrow.schema(list(kinds.items()), {"huggingface": json.dumps({"info": {"features": features}})})
    out = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table(columns, schema), out)
    return out.getvalue()


def glue() -> dict[str, bytes]:
    """Two tasks, with as many rows as GLUE has; the readers insist on that."""

    def part(n: int, labels: list[Any], names: list[str] | None) -> bytes:
        first, second = ["A man sings. ", "It rains."] * n, ["A man.", "It is dry."] * n
        return parquet({"sentence1": first[:n], "sentence2": second[:n], "label": (labels * n)[:n]}, names)

    rows = {"rte": (2490, 277, [0, 1], ["entailment", "not_entailment"]), "stsb": (5749, 1500, [3.8, 0.0], None)}
    return {
        f"{name}/{split}-00000-of-00001.parquet": part(n, labels, names)
        for name, (train, dev, labels, names) in rows.items()
        for split, n in (("train", train), ("validation", dev), ("test", 3))
    }


@pytest.fixture(scope="module")
def repositories(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, dict[str, bytes]]]:
    """Under the names and commits that conf/ pins."""
    found = {}
    for name in BACKBONES:
        spec = build(compose([f"backbone={name}"]).backbone)
        found[f"models/{spec.hub_id}"] = (spec.revision, repository(name, tmp_path_factory.mktemp(name)))
    source = compose(["task=rte"]).task.hub
    return {**found, f"datasets/{source.id}": (source.revision, glue())}


@pytest.fixture
def hub(repositories: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalHub]:
    monkeypatch.setattr(module, "PAUSE", 0)
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "datasets"))
    with LocalHub(repositories) as made:
        yield from (made for _ in served(made, monkeypatch, tmp_path / "hub"))


def spec(name: str, *more: str) -> Any:
    return build(compose([f"backbone={name}", *more]).backbone)


@pytest.mark.parametrize("name", BACKBONES)
def test_every_backbone_comes_from_the_hub_once(name: str, hub: LocalHub, monkeypatch: pytest.MonkeyPatch) -> None:
    more = ["backbone.head=classification", "backbone.n_labels=2"] if name.startswith("roberta") else []
    asked = spec(name, *more)
    assert not at_hand.weights(asked) and at_hand.tokenizer(asked) is None
    first = asked.load()
    assert first.n_layers == 2 and any("tree" in line for line in hub.asked)
    assert not [line for line in hub.asked if "README" in line or "tf_model" in line]
    assert at_hand.weights(asked) and at_hand.tokenizer(asked) is not None
    hub.asked.clear()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    again = asked.load()
    assert not hub.asked  # a commit never changes
    for (key, one), (_, other) in zip(first.decoder.named_parameters(), again.decoder.named_parameters(), strict=True):
        assert torch.equal(one, other), key


@pytest.mark.parametrize(
    "fault", [Fault("tree", 503), Fault("cdn", 502), Fault("cdn", cut=500), Fault("config.json", 429, method="HEAD")], ids=str
)
def test_what_passes_is_waited_out(fault: Fault, hub: LocalHub) -> None:
    hub.faults.append(fault)
    assert spec("gpt2_medium").load().n_layers == 2 and not hub.faults


def test_an_interrupted_download_is_not_taken_for_a_whole_one(hub: LocalHub) -> None:
    hub.faults += [Fault("cdn", 500) for _ in range(4)]
    with pytest.raises(NotAvailable, match=r"cannot get openai-community/gpt2-medium at 6dcaa7a9 .*HTTP 500"):
        spec("gpt2_medium").load()
    assert not at_hand.weights(spec("gpt2_medium"))
    assert spec("gpt2_medium").load().n_layers == 2


@pytest.mark.parametrize(
    ("changes", "fault", "said"),
    [
        (["backbone.revision=" + "f" * 40], None, "openai-community/gpt2-medium has no commit ffff"),
        (["backbone.hub_id=no/such"], None, "the hub has no no/such, or keeps it private"),
        ([], Fault("tree", 403, code="GatedRepo"), "is gated: accept its terms"),
    ],
)
def test_each_cause_has_its_own_words(changes: list[str], fault: Fault | None, said: str, hub: LocalHub) -> None:
    hub.faults += [fault] if fault else []
    with pytest.raises(UserError, match=said):
        spec("gpt2_medium", *changes).load()


def test_no_network_and_no_leave_to_ask(hub: LocalHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(NotAvailable, match="HF_HUB_OFFLINE forbids"):
        spec("gpt2_large").load()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # the client tries five times
    with pytest.raises(NotAvailable, match=r"cannot get openai-community/gpt2-large .* connect, or use profile=mini"):
        spec("gpt2_large").load()


def test_data_of_the_hub_are_its_rows_and_are_asked_for_once(hub: LocalHub) -> None:
    for _ in range(2):
        rte = build(compose(["profile=paper", "task=rte", "task.source=hub"]).task).load(None)
        assert (rte.train[0].input, rte.train[0].second, rte.train[0].target) == ("A man sings.", "A man.", "entailment")
        assert (len(rte.train), len(rte.test)) == (2490, 277) and rte.train[1].target == "not_entailment"
        asked = [*hub.asked]
    assert asked == hub.asked and sum("parquet" in line and "cdn" in line for line in asked) == 3
    stsb = build(compose(["profile=paper", "task=stsb", "task.source=hub"]).task).load(None)
    assert stsb.train[0].target == "3.800"  # as in GLUE's own file, though the hub's number is a float32


@pytest.mark.filterwarnings("ignore")
def test_a_run_at_the_paper_s_scale_from_first_download_to_record(hub: LocalHub, tmp_path: Path) -> None:
    glue = ["task=rte", "task.source=hub", "backbone=roberta_base", "starts=null"]
    small = ["train.steps=1", "data.n_train=2", "data.n_dev=2", "train.batch_size=2", "data.max_length=64", "device=cpu"]
    overrides = ["profile=paper", "method=lora", *glue, *small, f"paths.runs={tmp_path}/runs"]
    config = compose(overrides)
    found = run.run(config, overrides)
    assert found["status"] in ("finished", "collapsed")
    assert found["where"]["backbone"]["sha256"].startswith("FacebookAI/roberta-base@")

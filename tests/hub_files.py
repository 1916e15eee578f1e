"""What the local hub holds: tiny models in the true ones' file formats, and data sets under the ids and commits that conf/ pins.

Whatever conf/backbone and conf/task name of the hub is here, found by reading conf/: a new yaml there is covered or fails.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import torch
import yaml
from safetensors.torch import load_file, save
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    DebertaV2Config,
    DebertaV2ForMaskedLM,
    GPT2Config,
    GPT2LMHeadModel,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaForMaskedLM,
)

from lora_repro.config.paths import CONF
from lora_repro.tasks.e2e import files

Repository = tuple[str, dict[str, bytes]]
PIECES = find_spec("sentencepiece") is not None  # which a tokenizer's file is made with
UNPINNED = "d" * 40  # of a backbone whose revision conf/ leaves to the user
ROWS = 24  # of each split
SIZES: dict[str, Any] = {"num_hidden_layers": 2, "hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 16}
MRS = ("name[The Vaults], eatType[pub]", "name[Café Adriatic], near[The Rice Boat]")
TEXTS = ("The Vaults is a pub.", "Café Adriatic is near The Rice Boat.")


def _named(group: str) -> dict[str, dict[str, Any]]:
    paths = sorted((CONF / group).glob("*.yaml"))
    return {path.stem: yaml.safe_load(path.read_text(encoding="utf-8")) for path in paths}


BACKBONES = {name: spec for name, spec in _named("backbone").items() if spec.get("source") == "hub"}
GLUE = {name: task for name, task in _named("task").items() if task.get("hub")}


def repositories(folder: Path) -> dict[str, Repository]:
    """Every one that conf/ names, under its id; backbones are drafted in `folder`."""
    repos: dict[str, Repository] = {}
    for name, spec in BACKBONES.items():
        if spec.get("packages") and not PIECES:
            continue
        (folder / name).mkdir()
        repos[f"models/{spec['hub_id']}"] = (spec["revision"] or UNPINNED, model(name, folder / name))
    sets: dict[str, bytes] = {}
    for task in GLUE.values():
        sets |= sentences(task)
    (one,) = {(task["hub"]["id"], task["hub"]["revision"]) for task in GLUE.values()}
    return {**repos, f"datasets/{one[0]}": (one[1], sets), f"datasets/{files.HUB_ID}": (files.HUB_REVISION, e2e())}


def parts(config: str) -> set[str]:
    """The files of one of GLUE's configurations, which two tasks may share."""
    return {path for task in GLUE.values() if task["hub"]["config"] == config for path in sentences(task)}


def model(name: str, folder: Path) -> dict[str, bytes]:
    """The files of a tiny model as the hub has those of the real one: names without prefix and buffers, a pooler, no lm_head."""
    torch.manual_seed(0)
    if name.startswith("gpt2"):
        _bytes_tokenizer(["<|endoftext|>"], folder)
        config = GPT2Config(n_layer=2, n_embd=16, n_head=2, vocab_size=257, n_positions=256, bos_token_id=0, eos_token_id=0)
        GPT2LMHeadModel(config).save_pretrained(folder)
        tensors = {key.removeprefix("transformer."): x for key, x in load_file(folder / "model.safetensors").items()}
        tensors |= {f"h.{n}.attn.bias": torch.ones(1, 1, 256, 256).tril() for n in range(2)}
        weights = {"model.safetensors": save(tensors, {"format": "pt"})}
    elif name.startswith("roberta"):
        _bytes_tokenizer(["<s>", "<pad>", "</s>", "<unk>", "<mask>"], folder)
        config = RobertaConfig(**SIZES, vocab_size=261, max_position_embeddings=260, type_vocab_size=1, pad_token_id=1)
        RobertaForMaskedLM(config).save_pretrained(folder)
        tensors = load_file(folder / "model.safetensors")
        large = {**tensors, "roberta.embeddings.position_ids": torch.arange(260)[None]}  # which later versions dropped
        weights = _pickled(large) if name.endswith("large") else {"model.safetensors": save(tensors, {"format": "pt"})}
    else:
        weights = _deberta(BACKBONES[name]["shape"], folder)
    texts = {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix in (".json", ".txt")}
    return {"README.md": b"a card", "tf_model.h5": b"x", **texts, **weights}


def _deberta(shape: Mapping[str, Any], folder: Path) -> dict[str, bytes]:
    """No tokenizer.json and no safetensors: a SentencePiece file, and pickled weights with the pretraining heads' old names."""
    trainer: Any = import_module("sentencepiece").SentencePieceTrainer  # of an extra that the tests do without
    pieces = io.BytesIO()
    how = {"vocab_size": 48, "bos_id": 1, "eos_id": 2, "unk_id": 3, "pad_id": 0, "unk_piece": "[UNK]", "pad_piece": "[PAD]"}
    trainer.train(sentence_iterator=iter(TEXTS * 9), model_writer=pieces, bos_piece="[CLS]", eos_piece="[SEP]",
                  minloglevel=2, hard_vocab_limit=False, **how)  # fmt: skip
    config = DebertaV2Config(**{**shape, **SIZES}, pooler_hidden_size=16, attention_head_size=8)
    config.vocab_size = 64
    DebertaV2ForMaskedLM(config).save_pretrained(folder)
    tensors = {key: x for key, x in load_file(folder / "model.safetensors").items() if key.startswith("deberta.")}
    heads = {"lm_predictions.lm_head.bias": torch.zeros(64), "mask_predictions.dense.weight": torch.zeros(16, 16)}
    (folder / "tokenizer_config.json").write_text('{"do_lower_case": false, "vocab_type": "spm"}', encoding="utf-8")
    return {"spm.model": pieces.getvalue(), **_pickled({**tensors, **heads})}


def _bytes_tokenizer(specials: list[str], folder: Path) -> None:
    """A byte-level BPE without merges, in the files that GPT-2 and RoBERTa have: vocab.json, merges.txt, tokenizer.json."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate([*specials, *letters])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, additional_special_tokens=specials).save_pretrained(folder)
    (folder / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")


def _pickled(tensors: dict[str, torch.Tensor]) -> dict[str, bytes]:
    buffer = io.BytesIO()
    torch.save(tensors, buffer)
    return {"pytorch_model.bin": buffer.getvalue()}


def parquet(columns: Mapping[str, list[Any]], features: Mapping[str, Any]) -> bytes:
    """A part of a data set. features: the hub's own description of each column, class labels with their names."""
    kinds = {"ClassLabel": pyarrow.int64(), "float32": pyarrow.float32(), "string": pyarrow.string()}
    types = [(key, kinds[node.get("dtype") or node["_type"]]) for key, node in features.items()]
    schema = pyarrow.schema(types, {"huggingface": json.dumps({"info": {"features": features}})})
    out = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table(dict(columns), schema), out)
    return out.getvalue()


def described(*names: str) -> dict[str, Any]:
    return {name: {"dtype": "string", "_type": "Value"} for name in names}


def hub_labels(task: Mapping[str, Any]) -> list[str]:
    """The classes' names on the hub, in the order of their numbers; none for a score."""
    own = [key.removeprefix("label_") for key in task["hub"] if key.startswith("label_")]
    return own or list(task.get("words") or ([] if task.get("kind") == "number" else task["labels"]))


def sentences(task: Mapping[str, Any]) -> dict[str, bytes]:
    """One task's splits: labels in turn, and spaces at ends that GLUE's own files lack."""
    hub, names = task["hub"], hub_labels(task)
    splits = ["train", *(hub.get(split, "validation") for split in task["files"] if split != "train")]
    shards = {}
    for split in splits:
        keys = [key for key in ("first", "second") if key in hub]
        columns: dict[str, list[Any]] = {hub[key]: [f"{key} {n} of {split} " for n in range(ROWS)] for key in keys}
        features = described(*columns)
        features["label"] = {"names": names, "_type": "ClassLabel"} if names else {"dtype": "float32", "_type": "Value"}
        columns["label"] = [n % len(names) for n in range(ROWS)] if names else [3.8, 0.0] * (ROWS // 2)
        shards[f"{hub['config']}/{split}-00000-of-00001.parquet"] = parquet(columns, features)
    return shards


def e2e() -> dict[str, bytes]:
    """The hub's own conversion of E2E: a folder a split."""
    columns = {"meaning_representation": list(MRS) * (ROWS // 2), "human_reference": list(TEXTS) * (ROWS // 2)}
    part = parquet(columns, described(*columns))
    return {f"default/{split}/0000.parquet": part for split in files.HUB_SPLITS.values()}

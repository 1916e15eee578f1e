"""A folder or hub id of the user's as a backbone without a yaml: what is read from it, how runs use it, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import refused
from local_hub import LocalHub, served
from own_models import own_model, tokenizer
from safetensors.torch import load_file, save_file
from test_backbone import Ran
from transformers import AutoConfig, AutoModelForSequenceClassification

from lora_repro.backbone.architecture import ARCHITECTURES
from lora_repro.backbone.detect import describe
from lora_repro.backbone.spec import BackboneSpec
from lora_repro.config import signature
from lora_repro.config.compose import build, compose, resolved
from lora_repro.data import Encoded, collate
from lora_repro.errors import NotAvailable
from lora_repro.exchange.restore import restore
from lora_repro.methods.bitfit import BitFit
from lora_repro.methods.lora import Lora
from lora_repro.objectives.base import Objective
from lora_repro.objectives.classification import Classification
from lora_repro.objectives.completion import Completion, encode_prompt
from lora_repro.run.run import run
from lora_repro.sources import hub as hub_module
from lora_repro.tasks.base import Example

COMMIT = "c" * 40
PAIR: Objective = Classification(("no", "yes"))


def classifier(spec: BackboneSpec) -> Any:
    return PAIR.fit(spec).load()


@pytest.mark.parametrize("architecture", ["bert", "distilbert", "electra", "modernbert", "deberta-v2"])
def test_an_encoder_s_rows_are_its_tokenizer_s(architecture: str, tmp_path: Path) -> None:
    spec = describe(str(own_model(tmp_path / "mine", architecture)))
    assert (spec.cls, spec.separator, spec.eos, spec.pad, spec.bos) == ("[CLS]", "[SEP]", "[SEP]", "[PAD]", None)
    assert (spec.name, spec.source, spec.hub_id, spec.dropout) == ("mine", "folder", str(tmp_path / "mine"), None)
    backbone = classifier(spec)
    (row,), _ = PAIR.encode([Example("1", "one", "yes", second="two")], backbone, (0, 0), 64)
    assert row.ids == tokenizer("bert")("one", "two")["input_ids"]


def test_roberta_s_pair_has_two_separators(tmp_path: Path) -> None:
    spec = describe(str(own_model(tmp_path / "mine", "xlm-roberta", "roberta")))
    assert (spec.cls, spec.separator, spec.eos, spec.pad) == ("<s>", "</s></s>", "</s>", "<pad>")
    (row,), _ = PAIR.encode([Example("1", "one", "yes", second="two")], classifier(spec), (0, 0), 64)
    assert row.ids == tokenizer("roberta")("one", "two")["input_ids"]


@pytest.mark.parametrize("kind, bos", [("plain", None), ("bos", "<s>")])
@pytest.mark.parametrize("architecture", ["llama", "gemma2", "gpt_neox", "opt"])
def test_a_decoder_s_prompt_opens_with_bos_where_its_tokenizer_says_so(
    architecture: str, kind: str, bos: str | None, tmp_path: Path
) -> None:
    spec = describe(str(own_model(tmp_path, architecture, kind)))
    eos = tokenizer(kind).eos_token
    assert (spec.bos, spec.separator, spec.eos, spec.pad, spec.cls) == (bos, "\n", eos, eos, None)
    backbone = spec.load()
    prompt = encode_prompt("one", backbone, (2, 0))
    opening: list[Any] = [] if bos is None else [tokenizer(kind).bos_token_id]
    assert prompt.ids[: len(opening)] == opening and prompt.virtual == [-1] * len(opening) + [0, 1] + [-1] * 4
    few_shot = Completion().ask([Example("1", "two", "")], backbone, (0, 0), 200, [Example("0", "one", "two")])[0][0]
    assert few_shot.ids[: len(opening)] == opening and few_shot.ids.count(opening[0] if bos else -1) == len(opening)
    assert backbone.tokenizer.decode(few_shot.ids[len(opening) :]) == "one\n two\n\ntwo\n"
    (text,) = Completion().plain(["one"], backbone, (0, 0))
    assert text.ids == opening + backbone.tokenizer.encode("one", add_special_tokens=False)


@pytest.mark.parametrize("architecture", list(ARCHITECTURES))
def test_every_architecture_loads_from_a_folder_as_it_was_saved(architecture: str, tmp_path: Path) -> None:
    folder = own_model(tmp_path / "mine", architecture, "roberta" if ARCHITECTURES[architecture].after_padding else "")
    spec = describe(str(folder))
    backbone = spec.load() if spec.cls is None else classifier(spec)
    body = {name: p for name, p in backbone.model.state_dict().items() if "head" not in name and "classifier" not in name}
    weights = load_file(folder / "model.safetensors")
    same = [name for name in body if name in weights]
    assert len(same) > 12 and all(torch.equal(body[name], weights[name]) for name in same)


def test_published_dropout_stays_and_another_can_be_set(tmp_path: Path) -> None:
    rates = {"hidden_dropout_prob": 0.2, "attention_probs_dropout_prob": 0.05}
    spec = describe(str(own_model(tmp_path, "bert", **rates)))
    config = classifier(spec).model.config
    assert (config.hidden_dropout_prob, config.attention_probs_dropout_prob) == (0.2, 0.05)
    without = build(compose(own(tmp_path, "backbone.dropout=0.0")).backbone)
    assert classifier(without).model.config.attention_probs_dropout_prob == 0.0


def test_a_head_that_reads_the_mean_is_kept(tmp_path: Path) -> None:
    assert describe(str(own_model(tmp_path / "mean", "modernbert", classifier_pooling="mean"))).pooling == "mean"
    assert describe(str(own_model(tmp_path / "first", "modernbert", classifier_pooling="cls"))).pooling is None


def test_a_missing_pooler_is_told_and_is_part_of_the_head(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = PAIR.fit(describe(str(own_model(tmp_path, "bert"))))
    backbone = spec.load()
    assert capsys.readouterr().out.count("pooler") == 2  # one line, which names backbone.pooling, too
    assert backbone.pooler is None and backbone.classifier[0] is backbone.decoder.pooler
    trainable = Lora(rank=2).apply(backbone)
    assert "bert.pooler.dense.weight" in trainable.head
    expected = backbone.model(input_ids=torch.tensor([[3, 4, 5]])).logits
    (row,) = PAIR.encode([Example("1", "x", "yes")], backbone, (0, 0), 64)[0]
    batch = collate([Encoded([3, 4, 5], [-1] * 3, [0] * 3, 3, 1)], 0)
    torch.testing.assert_close(PAIR.summed(backbone, batch, 0.0), torch.nn.functional.cross_entropy(expected, torch.tensor([1])))
    assert not BitFit().apply(spec.load()).method.keys() & {"bert.pooler.dense.bias"} and row.ids


def test_a_pooler_in_the_file_is_the_body_s(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own_model(tmp_path, "bert")
    config = AutoConfig.from_pretrained(tmp_path, num_labels=3)
    AutoModelForSequenceClassification.from_config(config).save_pretrained(tmp_path)  # with a head of three classes, not reused
    backbone = classifier(describe(str(tmp_path)))
    assert backbone.pooler is not None and backbone.head.size == 2
    assert "pooler" not in capsys.readouterr().out


def own(folder: object, *more: str) -> list[str]:
    return ["profile=smoke", "backbone=own", f"backbone.path={folder}", "device=cpu", *more]


def name_of(asked: list[str]) -> str:
    return signature.signature(resolved(compose(asked)))


def test_a_run_is_named_by_the_folder_s_content(tmp_path: Path) -> None:
    folder = own_model(tmp_path / "mine", "bert")
    overrides = own(folder, "task=entailment", "method=lora")
    first = name_of(overrides)
    (folder / "README.md").write_text("words")
    assert name_of(overrides) == first
    weights = load_file(folder / "model.safetensors")
    weights["bert.embeddings.LayerNorm.bias"] += 1
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    assert name_of(overrides) != first


def test_sizes_are_those_of_parity_and_rows_find_them(tmp_path: Path) -> None:
    folder = own_model(tmp_path, "bert", hidden_size=384, num_attention_heads=12, intermediate_size=64)
    config = compose(own(folder, "experiment=glue", "task=entailment", "row/glue=adapter_h"))
    assert resolved(config)["method"]["bottleneck"] == 7 and config.backbone.sizes.prelayer == [32, 0]


def test_a_run_trains_records_and_comes_back(tmp_path: Path) -> None:
    folder = own_model(tmp_path / "mine", "distilbert")
    overrides = own(folder, "task=entailment", "method=lora", "method.rank=2", f"paths.runs={tmp_path / 'runs'}")
    record = run(compose(overrides), overrides)
    assert record["status"] in ("finished", "collapsed") and len(record["asked"]["backbone"]["sha256"]) == 64
    again = tmp_path / "runs" / "smoke" / record["signature"]
    assert restore(again).backbone.architecture == "distilbert"
    assert run(compose(overrides), overrides)["where"] == record["where"]
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"dropout": 0.3}))
    refused(lambda: restore(again), "mine", "changed")


def test_a_text_task_trains_on_a_decoder_with_bos(tmp_path: Path) -> None:
    folder = own_model(tmp_path / "mine", "gemma2", "bos", max_position_embeddings=512)
    overrides = own(folder, "task=mnli_text", "method=lora", "method.rank=2", f"paths.runs={tmp_path / 'runs'}")
    assert run(compose(overrides), overrides)["status"] in ("finished", "collapsed")


# name -> (what is done to the user's folder, words of the line that it gets)
Damage = Callable[[Path], object]


def change(name: str, **values: Any) -> Damage:
    def done(folder: Path) -> None:
        plain = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps({key: value for key, value in {**plain, **values}.items() if value != "-"}))

    return done


def become(kind: str) -> Damage:
    return lambda folder: (folder / "config.json").write_text(json.dumps({"model_type": kind}))


def unlink(*patterns: str) -> Damage:
    return lambda folder: [path.unlink() for pattern in patterns for path in folder.glob(pattern)]


def pickled(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    torch.save({"bert.embeddings.LayerNorm.bias": Ran(folder / "ran")}, folder / "pytorch_model.bin")


def cut(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-50])


def misshapen(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    name = "bert.encoder.layer.1.output.dense.weight"
    save_file({**weights, name: weights[name][:, :5].contiguous()}, folder / "model.safetensors", metadata={"format": "pt"})


def lacking(folder: Path) -> None:
    weights = {key: x for key, x in load_file(folder / "model.safetensors").items() if "layer.1.output.dense.bias" not in key}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def shardless(folder: Path) -> None:
    shards = dict.fromkeys(load_file(folder / "model.safetensors"), "model-1.safetensors") | {"bert.far": "model-2.safetensors"}
    (folder / "model.safetensors").rename(folder / "model-1.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": shards}))


def larger_vocabulary(folder: Path) -> None:
    words = tokenizer("bert")
    words.add_tokens([f"word{i}" for i in range(40)])
    words.save_pretrained(folder)


BAD: dict[str, tuple[Damage, tuple[str, ...]]] = {
    "no config": (unlink("config.json"), ("config.json",)),
    "config cut": (lambda folder: (folder / "config.json").write_text("{"), ("config.json",)),
    "config a list": (lambda folder: (folder / "config.json").write_text("[]"), ("config.json",)),
    "no model type": (change("config.json", model_type="-"), ("model_type",)),
    "a type of tomorrow": (change("config.json", model_type="bertissimo"), ("bertissimo",)),
    "remote code": (change("config.json", auto_map={"AutoModel": "modeling.Mine"}), ("auto_map",)),
    "remote tokenizer": (change("tokenizer_config.json", auto_map={"AutoTokenizer": ["a.B", None]}), ("auto_map",)),
    "quantised": (change("config.json", quantization_config={"quant_method": "gptq", "bits": 4}), ("quantised",)),
    "encoder-decoder": (become("t5"), ("t5", "encoder-decoder")),
    "images": (become("vit"), ("vit", "unknown architecture")),
    "shared layers": (become("albert"), ("albert", "share")),
    "impossible shape": (change("config.json", num_attention_heads=5), ("heads",)),
    "no tokenizer": (unlink("tokenizer*", "vocab*", "special*"), ("tokenizer",)),
    "tokenizer cut": (lambda folder: (folder / "tokenizer.json").write_text("{"), ("tokenizer.json",)),
    "too large a vocabulary": (larger_vocabulary, ("tokenizer", "embeddings")),
    "no weights": (unlink("model.safetensors"), ("weights", "model.safetensors")),
    "weights cut": (cut, ("model.safetensors",)),
    "a shard missing": (shardless, ("bert.far",)),
    "an adapter": (lambda f: (f / "config.json").rename(f / "adapter_config.json"), ("peft", "merge")),
    "a pickle with code": (pickled, ("safetensors",)),
    "wrong shapes": (misshapen, ("misshapen", "layer.1.output.dense.weight")),
    "a weight missing": (lacking, ("missing", "layer.1.output.dense.bias")),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_folder_gets_one_line_that_names_it(name: str, tmp_path: Path) -> None:
    folder = own_model(tmp_path / "mine", "bert")
    damage, words = BAD[name]
    damage(folder)
    refused(lambda: classifier(describe(str(folder))), "mine", *words)
    assert not (folder / "ran").exists()


def test_a_decoder_without_an_end_is_refused(tmp_path: Path) -> None:
    folder = own_model(tmp_path / "mine", "llama")
    tokenizer("plain", eos_token=None).save_pretrained(folder)
    refused(lambda: describe(str(folder)), "mine", "eos_token")


@pytest.mark.parametrize("path, words", [
    ("/no/such/folder", ("no folder /no/such/folder",)),
    ("./my-modle", ("no folder ./my-modle",)),
    ("my-modle", ("no folder my-modle",)),
])  # fmt: skip
def test_no_such_folder(path: str, words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    refused(lambda: describe(path), *words)


def test_a_backbone_of_one_s_own_needs_a_path() -> None:
    refused(lambda: resolved(compose(["backbone=own", "profile=smoke"])), "backbone.path")


def test_an_encoder_is_no_writer(tmp_path: Path) -> None:
    spec = describe(str(own_model(tmp_path / "mine", "bert")))
    refused(spec.load, "mine", "encoder")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalHub]:
    folder = own_model(tmp_path / "draft", "electra")
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    monkeypatch.setattr(hub_module, "PAUSE", 0)
    with LocalHub({"models/some/electra": (COMMIT, files)}) as server:
        yield from (server for _ in served(server, monkeypatch, tmp_path / "hub"))


def test_a_hub_id_is_described_without_its_weights_and_pinned(hub: LocalHub, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = describe("some/electra")
    assert (spec.revision, spec.source, spec.hub_id, spec.name) == (COMMIT, "hub", "some/electra", "electra")
    assert not [line for line in hub.asked if "safetensors" in line]
    overrides = ["profile=smoke", "task=entailment", "backbone=own", "backbone.path=some/electra"]
    refused(lambda: resolved(compose(overrides)), f"backbone.revision={COMMIT}")
    config = compose([*overrides, f"backbone.revision={COMMIT}"])
    assert resolved(config)["backbone"]["cls"] == "[CLS]" and config.backbone.sizes.prelayer[0] > 0
    assert classifier(build(config.backbone)).sha256 == f"some/electra@{COMMIT}"
    hub.asked.clear()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert describe("some/electra", COMMIT) == spec and not hub.asked
    with pytest.raises(NotAvailable, match="HF_HUB_OFFLINE"):
        describe("some/other", COMMIT)

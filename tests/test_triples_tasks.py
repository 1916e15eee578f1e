"""WebNLG and DART: the official files' forms (in miniature), refusals, both protocols' test sets, groups, generated siblings."""

from __future__ import annotations

import json
import math
import os
from dataclasses import fields, replace
from pathlib import Path

import pytest
from conftest import refused
from hydra.utils import instantiate

from lora_repro.config.compose import compose, resolved
from lora_repro.metrics import webnlg as scripts
from lora_repro.tasks.base import Example, example_key
from lora_repro.tasks.triples import files
from lora_repro.tasks.triples.dart import DART
from lora_repro.tasks.triples.files import Entry
from lora_repro.tasks.triples.webnlg import WebNLG

OAK = (("Oak_Bridge", "openingYear", '"1970"'), ("Oak_Bridge", "location", "Velmar"))
BRIDGE = Entry(OAK, ("b1", "b2", "b3"), ("good", "toFix", "good"), "City")
FERRY = Entry((("Star", "homePort", "Hesket & Co"),), ("f1 <ü>", "f2"), ("good", "good"), "Artist")
ALL_TO_FIX = Entry((("Moon", "age", "9"),), ("m1",), ("toFix",), "City")
SPLITS = {"train": [BRIDGE, FERRY], "dev": [ALL_TO_FIX, BRIDGE], "test": [FERRY, replace(BRIDGE, notes=("good",) * 3)]}
TABLE = Entry((("[TABLECONTEXT]", "[TITLE]", "Ferries"), ("Star", "HOME PORT", "Hesket")), ("t1",), ("WikiSQL_lily",))
AGAIN, SHORT = replace(TABLE, texts=("t2", "t3"), notes=("a", "b")), replace(TABLE, triples=TABLE.triples[:1])
DARTS = {"train": [TABLE], "dev": [TABLE], "test": [TABLE, AGAIN, SHORT]}


def webnlg_json(entry: Entry, number: int, **others: object) -> dict[str, object]:
    references = [{"lex": text, "comment": note, "lang": ""} for text, note in zip(entry.texts, entry.notes, strict=True)]
    triples = [{"subject": s, "property": p, "object": o} for s, p, o in entry.triples]
    row = {"category": entry.category, "lexicalisations": references, "modifiedtripleset": triples, "shape": "NA", **others}
    return {str(number): row}


def xml(entries: list[Entry], extra: str = "") -> str:
    from xml.sax.saxutils import escape

    body = ""
    for entry in entries:
        triples = "".join(f"<mtriple>{escape(' | '.join(triple))}</mtriple>" for triple in entry.triples)
        pairs = zip(entry.texts, entry.notes, strict=True)
        texts = "".join(f'<lex comment="{note}" lid="Id1">{escape(text)}</lex>' for text, note in pairs)
        body += f'<entry category="{entry.category or "MISC"}" eid="Id1" size="1"{extra}>'
        body += "<originaltripleset><otriple>x | y | z</otriple></originaltripleset>"
        body += f"<modifiedtripleset>{triples}</modifiedtripleset>{texts}</entry>"
    return f"<?xml version='1.0' encoding='UTF-8'?><benchmark><entries>{body}</entries></benchmark>"


def dart_json(entry: Entry) -> dict[str, object]:
    texts = [{"source": note, "text": text} for text, note in zip(entry.texts, entry.notes, strict=True)]
    return {"tripleset": entry.triples, "subtree_was_extended": False, "annotations": texts}


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """The counts and checksums of the miniature files in place of the real ones'."""
    if "real" in request.node.name:
        return
    for which, splits in (("webnlg", SPLITS), ("dart", DARTS)):
        expected = {
            split: files.Expected(len(entries), sum(len(e.texts) for e in entries), files.entries_sha256(entries))
            for split, entries in splits.items()
        }
        monkeypatch.setitem(files.ORIGINALS, which, replace(files.ORIGINALS[which], expected=expected))


def write(folder: Path, form: str) -> Path:
    folder.mkdir(exist_ok=True)
    for split, entries in SPLITS.items():
        rows = [webnlg_json(entry, number) for number, entry in enumerate(entries, 1)]
        if form == "json":
            (folder / f"{split}.json").write_text(json.dumps({"entries": rows}), encoding="utf-8")
        elif form == "jsonl":
            (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        else:
            (folder / split / "1triples").mkdir(parents=True)
            name = "testdata_with_lex.xml" if split == "test" else "1triples/some.xml"
            (folder / split / name).write_text(xml(entries), encoding="utf-8")
    return folder


@pytest.mark.parametrize("form", ["json", "jsonl", "xml"])
def test_webnlg_files(tmp_path: Path, form: str) -> None:
    task = WebNLG("folder", "paper")
    folder = write(tmp_path / "webnlg2017", form)
    task.ready(str(folder))
    splits = task.load(str(folder))
    line = 'Oak_Bridge : openingYear : "1970" | Oak_Bridge : location : Velmar'
    template = Example(example_key(line), line, "", group="seen")
    assert splits.train[:2] == [replace(template, target="b1"), replace(template, target="b3")]
    assert [example.target for example in splits.dev] == ["b1", "b3"]
    assert [(e.input, e.references, e.group) for e in splits.test] == [
        ("Star : homePort : Hesket & Co", ("f1 <ü>", "f2"), "unseen"), (line, ("b1", "b2", "b3"), "seen"),
    ]  # fmt: skip
    assert set(splits.hashes) >= {"rows/train", "rows/dev", "rows/test"} and len(splits.hashes) == 6


@pytest.mark.parametrize("end", ["json", "xml"])
def test_dart_files_and_the_two_test_sets(tmp_path: Path, end: str) -> None:
    for split, entries in DARTS.items():
        text = xml(entries) if end == "xml" else json.dumps([dart_json(entry) for entry in entries])
        (tmp_path / f"dart-v1.1.1-full-{split}.{end}").write_text(text, encoding="utf-8")
    line = "[TABLECONTEXT] : [title] : Ferries | Star : home port : Hesket"
    paper, official = (DART("folder", protocol).load(str(tmp_path)) for protocol in ("paper", "official"))
    assert paper.train == official.train == [Example(example_key(line), line, "t1")]
    assert [(e.input, e.references) for e in paper.test] == [
        (line, ("t1", "t2", "t3")), ("[TABLECONTEXT] : [title] : Ferries", ("t1",)),
    ]  # fmt: skip
    assert [e.references for e in official.test] == [("t1",), ("t2", "t3"), ("t1",)]
    assert official.test[0].key == paper.test[0].key and len({e.key for e in official.test}) == 3


def test_dart_by_transfer_from_webnlg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "webnlg2017", "json")
    (tmp_path / "dart").mkdir()
    lines = "".join(json.dumps(dart_json(entry)) + "\n" for entry in DARTS["test"])
    (tmp_path / "dart" / "test.jsonl").write_text(lines, encoding="utf-8")
    task = DART("folder", "paper", train_from="webnlg")
    monkeypatch.setattr("lora_repro.tasks._files.DATA", tmp_path)  # None: both as `fetch` has them
    monkeypatch.setenv("HOME", str(tmp_path))
    for folder in (str(tmp_path / "dart"), str(tmp_path / "webnlg2017" / ".." / "dart"), "~/dart", None):
        task.ready(folder)
        splits = task.load(folder)
        assert splits.train[0].input == 'Oak_Bridge : openingyear : "1970" | Oak_Bridge : location : Velmar'
        assert splits.train[0].group == "" and len(splits.test) == 2
        assert {"webnlg/train.json", "webnlg/dev.json", "test.jsonl"} <= set(splits.hashes)
    assert splits.caption.endswith("trained on WebNLG 2017: a transfer")
    refused(lambda: DART("folder", "paper").load(str(tmp_path / "dart")), "dart-v1.1.1-full-train.json", "DART v1.1.1")


def test_other_editions_and_broken_files_are_refused(tmp_path: Path) -> None:
    task = WebNLG("folder", "paper")
    for name in ("webnlg_v3.0", "gem_webnlg", "webnlg_challenge_2020", "enriched_webnlg", "release_v2.1"):
        refused(lambda name=name: task.load(str(write(tmp_path / name, "json"))), "another edition", name, "WebNLG 2017")
    for name in ("management", "unclean", "rev3", "conv2d", "dev2017", "v20"):  # words that only contain an edition's name
        refused(lambda name=name: task.load(str(tmp_path / name)), "no such folder")
    refused(lambda: task.load("GEM/web_nlg"), "another edition")
    refused(lambda: DART("folder", "paper").load("GEM/dart"), "another edition")
    refused(lambda: task.load(None), "DATA=")
    refused(lambda: task.load(str(tmp_path / "none")), "no such folder")
    folder = write(tmp_path / "webnlg2017", "json")

    def with_train(text: str) -> str:
        (folder / "train.json").write_text(text, encoding="utf-8")
        return str(folder)

    entries = [webnlg_json(entry, 1, shape="(X (X))") for entry in SPLITS["train"]]
    refused(lambda: task.load(with_train(json.dumps({"entries": entries}))), "train.json", "after 2017")
    refused(lambda: task.load(with_train('[{"gem_id": "x", "input": []}]')), "another edition")
    refused(lambda: task.load(with_train("{")), "train.json, line 1", "not JSON")
    refused(lambda: task.load(with_train("")), "empty file")
    one = [webnlg_json(BRIDGE, 1)]
    refused(lambda: task.load(with_train(json.dumps({"entries": one}))), "1 entries, expected 2")
    variants = [webnlg_json(replace(BRIDGE, texts=("b1", "b2", "other")), 1), webnlg_json(FERRY, 2)]
    refused(lambda: task.load(with_train(json.dumps({"entries": variants}))), "checksum")
    (folder / "train.json").unlink()
    refused(lambda: task.load(str(folder)), "no train.json, train.jsonl or train/")
    (folder / "train").mkdir()
    (folder / "train" / "x.xml").write_text(xml(SPLITS["train"], ' shape="(X)"'), encoding="utf-8")
    refused(lambda: task.load(str(folder)), "after 2017")
    (folder / "dart-v1.0.0-full-dev.json").write_text("[]", encoding="utf-8")
    refused(lambda: DART("folder", "paper").load(str(folder)), "v1.0.0", "another edition")


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: WebNLG("hub", "paper"), "task.source=hub"),
        (lambda: WebNLG("embedded", "both"), "task.protocol=both"),
        (lambda: DART("embedded", "official", scorer_bugs=True), "task.scorer_bugs=true"),
        (lambda: DART("folder", "paper", train_from="e2e"), "task.train_from=e2e"),
        (lambda: DART("embedded", "paper", train_from="webnlg"), "task.source=folder"),
        (lambda: WebNLG("embedded", "paper").ask("no triple"), "not a triple"),
    ],
)
def test_mistakes_are_named(build, message: str) -> None:
    refused(build, message)


def test_an_empty_text_is_not_trained_on() -> None:
    """DART's files hold a few; one would end the training before its first step."""
    one = replace(AGAIN, texts=("", "t3"))
    assert [example.target for example in DART("embedded", "paper").pairs([TABLE, one])] == ["t1", "t3"]


def test_a_question_has_the_relations_of_the_training_inputs() -> None:
    text = "[TABLECONTEXT] : [TITLE] : Ferries | Star : HOME PORT : Hesket"
    assert DART("embedded", "paper").ask(text) == replace(DART("embedded", "paper").asked(TABLE), group="")
    assert WebNLG("embedded", "paper").ask(text).input == text


def test_scores_are_of_all_and_of_each_group(monkeypatch: pytest.MonkeyPatch) -> None:
    task = WebNLG("embedded", "paper")
    test = task.load(None).test[:6]
    outputs = [e.references[0] if e.group == "seen" else "It is." for e in test]
    scores = task.score(outputs, test)
    assert list(scores.values) == list(task.directions) and task.metric == "bleu"
    assert (scores.values["bleu_seen"], scores.values["ter_seen"]) == (1, 0)
    assert scores.values["bleu_unseen"] == 0 < scores.values["bleu"] < 1
    assert scores.values["ter_unseen"] > scores.values["ter"] > 0
    assert [row["group"] for row in scores.per_input] == [e.group for e in test]
    faulty = replace(task, scorer_bugs=True).score(outputs, test)
    assert faulty.per_input == scores.per_input
    assert (faulty.values["meteor_seen"], faulty.values["ter_seen"]) == (-1, 1 / 4)
    assert faulty.values["bleu"] == scores.values["bleu"]
    values = task.score(outputs[:1], test[:1]).values
    assert math.isnan(values["bleu_unseen"]) and values["bleu"] == values["bleu_seen"]
    protocols = []
    monkeypatch.setattr(scripts, "per_input_statistics", lambda *said: protocols.append(said[2]) or scores.per_input)
    for other in (WebNLG("embedded", "official"), DART("embedded", "official"), DART("embedded", "paper")):
        assert list(other.score(outputs, test).values) == list(other.directions)
    assert protocols == ["webnlg", "dart", "paper"]
    refused(lambda: task.score(outputs[:2], test), "2 outputs for 6 inputs")
    refused(lambda: task.score(outputs[:1], [replace(test[0], references=())]), "no references")


@pytest.mark.parametrize("task", [WebNLG("embedded", "paper"), DART("embedded", "official")], ids=["webnlg", "dart"])
def test_generated_sets(task) -> None:
    splits = task.load(None)
    assert splits == task.load(None) and task.protocol in splits.caption
    outputs, rest = task.human(splits.test)
    assert len(outputs) == len(rest) == sum(len(e.references) > 1 for e in splits.test)
    assert task.ask(splits.test[0].input).key == splits.test[0].key


@pytest.mark.parametrize("name", ["webnlg", "dart"])
def test_configurations_name_every_field(name: str) -> None:
    config = compose([f"task={name}"]).task
    task = instantiate(config)
    assert {key for key in config if key != "_target_"} == {field.name for field in fields(task)}
    assert task == {"webnlg": WebNLG, "dart": DART}[name]("embedded", "paper")


# --- the real files


def test_real_webnlg() -> None:
    folder = os.environ.get("WEBNLG_DATA")
    if not folder:
        pytest.skip("set WEBNLG_DATA to a folder with WebNLG 2017")
    splits = WebNLG("folder", "paper").load(folder)
    assert (len(splits.train), len(splits.dev), len(splits.test)) == (18025, 2258, 1862)
    assert sum(len(e.references) for e in splits.test) == 4928
    assert sum(e.group == "seen" for e in splits.test) == 971
    assert splits.test == WebNLG("folder", "official").load(folder).test


def test_real_dart() -> None:
    folder = os.environ.get("DART_DATA")
    if not folder:
        pytest.skip("set DART_DATA to a folder with DART v1.1.1")
    splits, _ = files.load("dart", folder, ["dev", "test"])
    paper, official = (DART("folder", protocol).tested(splits["test"]) for protocol in ("paper", "official"))
    assert (len(paper), len(official)) == (4159, 5097)
    assert sum(len(e.references) for e in paper) == sum(len(e.references) for e in official) == 12552
    assert sum(max(len(e.references) - 6, 0) for e in paper) == 576
    assert len(DART("folder", "paper").tested(splits["dev"])) == 2721


@pytest.mark.parametrize("table, decay, smoothing, dropout", [("webnlg", 0.01, 0.1, 0.1), ("dart", 0.0, 0.0, 0.0)])
def test_at_the_paper_s_scale_lora_trains_as_table_11_prints(table: str, decay: float, smoothing: float, dropout: float) -> None:
    config = resolved(compose([f"experiment={table}", f"row/{table}=lora", "profile=paper", "backbone=gpt2_medium"]))
    train = [config["train"][key] for key in ("lr", "epochs", "batch_size", "warmup", "weight_decay", "label_smoothing")]
    assert (*train, config["method"]["dropout"]) == (2e-4, 5, 8, 500, decay, smoothing, dropout)

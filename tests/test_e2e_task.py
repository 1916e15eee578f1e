"""The E2E task: real file layouts (in miniature), refusals, grouping, scoring and human agreement."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from conftest import refused

from lora_repro.errors import UserError
from lora_repro.metrics import nlg
from lora_repro.tasks._files import json_lines_sha256
from lora_repro.tasks.base import Example, example_key
from lora_repro.tasks.e2e import files as e2e_files
from lora_repro.tasks.e2e import files as e2e_original
from lora_repro.tasks.e2e.task import E2E, grouped

MR_A = "name[Ash, Elm], eatType[coffee shop], priceRange[£20-25], familyFriendly[no]"
IN_A = "name : Ash, Elm | Type : coffee shop | price : £20-25 | family friendly : no"
MR_B = "name[Bay], customer rating[5 out of 5], near[Café Oak]"
IN_B = "name : Bay | customer rating : 5 out of 5 | near : Café Oak"

RAW = {  # B is first seen before A in test, and its texts are not contiguous
    "train": [
        (MR_A, "Ash, Elm is a coffee shop. "),
        (MR_A, "Line one.\r\n  Line two."),
        (MR_B, "Bay is good."),
    ],
    "dev": [(MR_A, "Not for families."), (MR_B, "Near Café Oak.")],
    "test": [(MR_B, "b1 "), (MR_A, "a1"), (MR_B, "b2"), (MR_B, "b3")],
}


def csv_text(rows, header="mr,ref", end="\r\n") -> str:
    return header + end + "".join(f'"{mr}","{ref}"{end}' for mr, ref in rows)


@pytest.fixture
def expected(monkeypatch):
    """The counts and checksums of the miniature files in place of the real ones."""
    table = {}
    for form in ("raw", "tokenised"):
        table[form] = {}
        for split, rows in RAW.items():
            plain = [(e2e_files.linearise(mr), ref.replace("\r\n", "\n").strip()) for mr, ref in rows]
            if form == "tokenised":
                plain = [(mr, ref.replace("\n", " ").replace(".", " .")) for mr, ref in plain]
            inputs = len({mr for mr, _ in plain})
            table[form][split] = e2e_original.Expected(len(plain), inputs, json_lines_sha256(plain))
    monkeypatch.setattr(e2e_original, "EXPECTED", table)


@pytest.fixture
def folder(tmp_path: Path, expected) -> Path:
    for split, rows in RAW.items():
        (tmp_path / f"{split}.csv").write_bytes(csv_text(rows).encode())
    for split, name in (("train", "train"), ("dev", "valid"), ("test", "test")):
        lines = [
            f"{e2e_files.linearise(mr)}||{ref.replace(chr(13) + chr(10), ' ').strip().replace('.', ' .')} \n"
            for mr, ref in RAW[split]
        ]
        (tmp_path / f"{name}.txt").write_text("".join(lines), encoding="utf-8")
    return tmp_path


def load(folder, text_form="raw"):
    return E2E("folder", text_form).load(str(folder))


# --- reading


def test_csv_folder(folder):
    splits = load(folder)
    assert splits.train[0] == Example(example_key(IN_A), IN_A, "Ash, Elm is a coffee shop.")
    assert [e.target for e in splits.train] == [
        "Ash, Elm is a coffee shop.",
        "Line one.\n  Line two.",
        "Bay is good.",
    ]
    assert [e.input for e in splits.test] == [IN_B, IN_A]
    assert [e.references for e in splits.test] == [("b1", "b2", "b3"), ("a1",)]
    assert {e.target for e in splits.test} == {""}
    assert len(splits.dev) == 2
    assert splits.caption == "E2E NLG (raw text, from local files)"
    assert set(splits.hashes) == {"train.csv", "dev.csv", "test.csv", "rows/train", "rows/dev", "rows/test"}


def test_official_names_line_ends_and_bom_give_the_same_rows(folder):
    before = load(folder)
    for split, name in (("train", "trainset"), ("dev", "devset"), ("test", "testset_w_refs")):
        (folder / f"{split}.csv").unlink()
        text = csv_text([(mr, ref.replace("\r\n", "\n")) for mr, ref in RAW[split]], end="\n")
        (folder / f"{name}.csv").write_text("\ufeff" + text, encoding="utf-8", newline="")
    after = load(folder)
    assert (after.train, after.dev, after.test) == (before.train, before.dev, before.test)
    assert after.hashes["rows/train"] == before.hashes["rows/train"]
    assert "testset_w_refs.csv" in after.hashes


def test_tokenised_folder_uses_the_txt_files_alone(folder):
    for path in folder.glob("*.csv"):
        path.unlink()
    splits = load(folder, "tokenised")
    assert splits.train[0].target == "Ash, Elm is a coffee shop ."
    assert splits.dev[0].target == "Not for families ."
    assert splits.caption == "E2E NLG (tokenised text, from local files)"
    refused(lambda: load(folder, "raw"), "train.csv or trainset.csv", "raw")


def test_linearise_keeps_order_and_values():
    assert e2e_files.linearise(MR_A) == IN_A
    assert e2e_files.linearise("near[X], name[Y, Z]") == "near : X | name : Y, Z"
    assert e2e_files.linearise(" a[], b[x[y], c d[z]\n") == "a :  | b : x[y | c d : z"
    refused(lambda: e2e_files.linearise("name[X] eatType[pub"), "meaning representation")


@pytest.mark.parametrize("cell", ["a" * 10**5, "a[b], " * 10**4 + "a", "a[" * 10**4, "," * 10**4, " " * 10**5 + "["])
def test_a_hostile_cell_is_refused_in_time_that_grows_with_its_length(cell: str) -> None:
    """The search of before took 95 seconds of processor for 50,000 letters without a bracket, four times that for these 100,000.

    20 seconds are far from both: a second was less than a collector of garbage takes among all the tests.
    """

    def too_long(*_: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGVTALRM, too_long)
    signal.setitimer(signal.ITIMER_VIRTUAL, 20, 1)  # again, if it fires where exceptions are ignored
    try:
        refused(lambda: e2e_files.linearise(cell), "meaning representation")
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


@pytest.mark.parametrize("mr", ["", "a", "[x]", "a[x", "a[x]]", "a[x],b[y]", "a [x]", "a,b[x]", "a[x], [y]", "a[x]b[y]"])
def test_what_is_no_list_of_slots_is_refused(mr: str) -> None:
    refused(lambda: e2e_files.linearise(mr), "meaning representation")


def test_key_is_twelve_hex_digits_of_sha256():
    assert example_key("abc") == "ba7816bf8f01"


# --- refusals


def test_no_folder(tmp_path):
    refused(lambda: E2E("folder", "raw").load(None), "DATA=")
    refused(lambda: load(tmp_path / "absent"), "no such folder", "DATA=")


@pytest.mark.parametrize(
    ("text_form", "name", "accepted"),
    [("raw", "dev.csv", "dev.csv or devset.csv"), ("tokenised", "valid.txt", "valid.txt")],
)
def test_missing_file_says_which_names_are_accepted(folder, text_form, name, accepted):
    (folder / name).unlink()
    refused(lambda: load(folder, text_form), accepted, text_form)


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        (b"", ["empty file"]),
        (b"mr,ref\r\n", ["0 rows, expected 2"]),
        (csv_text(RAW["dev"], header="mr,text").encode(), ["columns mr,text", "expected mr,ref"]),
        (csv_text(RAW["dev"], header="mr,ref,fixed,orig_mr").encode(), ["cleaned E2E set"]),
        (csv_text(RAW["dev"][:1]).encode(), ["1 rows, expected 2"]),
        (csv_text(RAW["dev"][:1] * 2).encode(), ["1 distinct MRs, expected 2"]),
        (csv_text(RAW["dev"]).replace("Near", "near").encode(), ["checksum"]),
        (csv_text(RAW["dev"]).encode("latin-1"), ["not UTF-8"]),
        (b'mr,ref\r\n"name[A]"\r\n', ["row 1 has 1 columns"]),
        (b"mr,ref\r\nname A,text\r\n", ["not an E2E meaning representation"]),
    ],
)
def test_bad_csv(folder, content, parts):
    (folder / "dev.csv").write_bytes(content)
    refused(lambda: load(folder), "dev.csv", *parts)


def test_txt_without_bars(folder):
    (folder / "test.txt").write_text("name : A | Type : pub\n")
    refused(lambda: load(folder, "tokenised"), "line 1", "||")


@pytest.mark.parametrize("name", ["GEM/e2e_nlg", "e2e_nlg_cleaned", "tuetschek/e2e_nlg_cleaned"])
def test_cleaned_hub_names_are_refused_with_the_reason(name, tmp_path):
    refused(lambda: E2E(name, "raw"), name, "cleaned", "not the original")
    refused(lambda: E2E("folder", "raw").load(str(tmp_path / name)), "cleaned")


def test_cleaned_files_are_refused_by_name_and_by_row_count(folder):
    rows = [(f"name[Venue {i}]", "text") for i in range(33525)]
    (folder / "train.csv").write_text(csv_text(rows))
    refused(lambda: load(folder), "33,525 rows", "cleaned")
    (folder / "train-fixed.no-ol.csv").write_text("")
    refused(lambda: load(folder), "train-fixed.no-ol.csv", "cleaned")


@pytest.mark.parametrize(
    ("source", "text_form", "part"),
    [
        ("web", "raw", "choose embedded, folder or hub"),
        ("folder", "clean", "choose raw or tokenised"),
        ("hub", "tokenised", "raw text only"),
        ("embedded", "tokenised", "raw text only"),
    ],
)
def test_nonsense_is_refused_at_construction(source, text_form, part):
    refused(lambda: E2E(source, text_form), part)


# --- the hub, by a stand-in for its parquet files (the client itself: test_hub.py)


def part(rows, names=("meaning_representation", "human_reference")):
    return [dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))]


class Whole(list):
    """A Dataset as far as it is read: all rows by column."""

    def __getitem__(self, _):
        return super().__getitem__(0)


def test_hub_rows_equal_the_csv_rows(monkeypatch, folder):
    arguments = []

    def hub_parts(*given):
        arguments.extend(given[:3])
        return {hub: Whole(part(RAW[split])) for split, hub in e2e_files.HUB_SPLITS.items()}

    monkeypatch.setattr(e2e_files, "hub_parts", hub_parts)
    hub, local = E2E("hub", "raw").load(None), load(folder)
    assert (hub.train, hub.dev, hub.test) == (local.train, local.dev, local.test)
    assert hub.hashes["rows/test"] == local.hashes["rows/test"]
    assert arguments[0] == "tuetschek/e2e_nlg" and len(arguments[1]) == 40 and arguments[2] == "default"
    assert "hub" in hub.caption


def test_hub_with_other_rows_or_columns_is_refused(monkeypatch, expected):
    other = {**RAW, "dev": [(MR_A, "x"), (MR_B, "y")]}
    splits = {h: Whole(part(other[s])) for s, h in e2e_files.HUB_SPLITS.items()}
    monkeypatch.setattr(e2e_files, "hub_parts", lambda *_: splits)
    refused(lambda: E2E("hub", "raw").load(None), "dev", "checksum")
    splits = {h: Whole(part(RAW[s], ("a", "b"))) for s, h in e2e_files.HUB_SPLITS.items()}
    monkeypatch.setattr(e2e_files, "hub_parts", lambda *_: splits)
    refused(lambda: E2E("hub", "raw").load(None), "columns a,b")


# --- embedded, scores, human agreement


def test_embedded_says_that_it_is_synthetic():
    splits = E2E("embedded", "raw").load(None)
    assert "synthetic" in splits.caption and "not E2E" in splits.caption
    assert len(splits.test) == 60 and len(splits.train) > 1500
    assert set(splits.hashes) == {"rows/train", "rows/dev", "rows/test"}
    assert all(len(e.references) >= 5 for e in splits.test)


def test_human_takes_the_last_reference_and_drops_single_ones():
    examples = grouped([(IN_B, "b1"), (IN_A, "a1"), (IN_B, "b2"), (IN_B, "b3")])
    outputs, against = E2E("embedded", "raw").human(examples)
    assert outputs == ["b3"]
    assert [(e.input, e.references) for e in against] == [(IN_B, ("b1", "b2"))]
    with pytest.raises(UserError, match="no human texts to score"):  # not a mean over nothing
        E2E("embedded", "raw").human(grouped([(IN_A, "a1")]))
    assert E2E("embedded", "raw").human([]) == ([], [])  # data.n_test=0


def test_blank_lines_at_the_end_are_no_rows_whatever_ends_a_line() -> None:
    rows = [("name : A", "It is A.")]
    for end in ("\n", "\r\n"):
        assert e2e_files._parse_lines(f"name : A||It is A.{end}{end}", Path("x")) == rows


def test_score_wires_metrics_to_inputs_and_references(monkeypatch):
    arguments = {}

    def score(outputs, references):
        arguments.update(outputs=outputs, references=references)
        return {"bleu": 0.5, "nist": 6.0, "meteor": 0.3, "rouge_l": 0.6, "cider": 2.0}

    monkeypatch.setattr(nlg, "score", score)
    monkeypatch.setattr(
        nlg, "per_input_statistics", lambda outputs, references: [{"hyp_len": 1}] * len(outputs)
    )
    examples = grouped([(IN_B, "b1"), (IN_B, "b2"), (IN_A, "a1"), ("name : Cid | Type : pub", "c1")])
    good = "Bay is near Café Oak and is rated 5 out of 5."
    bad = "Ash, Elm is a family friendly coffee shop."  # price missing, family friendly wrong
    more = "Cid is a cheap Chinese pub near the river."  # three invented
    scores = E2E("embedded", "raw").score([good, bad, more], examples)
    assert arguments == {"outputs": [good, bad, more], "references": [["b1", "b2"], ["a1"], ["c1"]]}
    assert list(scores.values) == list(E2E.directions)
    assert scores.per_input == [{"hyp_len": 1, "slots": n, "slot_errors": errors} for n, errors in ((3, 0), (4, 2), (2, 3))]
    assert scores.values["slot_error_rate"] == pytest.approx(5 / 9)


def test_score_refuses_other_lengths_and_examples_without_references():
    task = E2E("embedded", "raw")
    refused(lambda: task.score(["x"], []), "1 outputs for 0 inputs")
    refused(lambda: task.score(["x"], [Example("k", IN_A, "t")]), "no references")


def test_directions():
    signs = [1, 1, 1, 1, 1, -1]
    names = ["bleu", "nist", "meteor", "rouge_l", "cider", "slot_error_rate"]
    assert list(E2E.directions.items()) == list(zip(names, signs, strict=True))


# --- the real files


@pytest.mark.skipif("E2E_DATA" not in os.environ, reason="set E2E_DATA to a folder with the E2E CSV files")
def test_real_files():
    splits = E2E("folder", "raw").load(os.environ["E2E_DATA"])
    assert [len(part) for part in (splits.train, splits.dev, splits.test)] == [42061, 4672, 630]
    assert len({e.input for e in splits.dev}) == 547
    counts = [len(e.references) for e in splits.test]
    assert sum(counts) == 4693 and counts.count(1) == 14
    outputs, _ = E2E("folder", "raw").human(splits.test)
    assert len(outputs) == 616


@pytest.mark.skipif("E2E_LORA_DATA" not in os.environ, reason="set E2E_LORA_DATA to the authors' text files")
def test_real_tokenised_files():
    splits = E2E("folder", "tokenised").load(os.environ["E2E_LORA_DATA"])
    assert [len(part) for part in (splits.train, splits.dev, splits.test)] == [42061, 4672, 630]


@pytest.mark.parametrize(
    ("asked", "trained_on"),
    [("£20-25", "£ 20 - 25"), ("less than £20", "less than £ 20"), ("more than £30", "more than £ 30"), ("cheap", "cheap")],
)
def test_a_question_has_the_form_of_the_training_texts(asked: str, trained_on: str) -> None:
    """All that differs between the 51,426 inputs of the raw and of the tokenised files is the space in prices."""
    question = f"name[Ash], priceRange[{asked}], near[Oak 20-25]"
    for form, price in (("raw", asked), ("tokenised", trained_on)):
        assert E2E(source="folder", text_form=form).ask(question).input == f"name : Ash | price : {price} | near : Oak 20-25"
    assert E2E(source="folder", text_form="tokenised").ask(f"name : Ash | price : {trained_on}").input.endswith(f": {trained_on}")

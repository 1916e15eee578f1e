"""lora_repro/metrics/paraphrases.py: the table cut to some words, its index, and METEOR's statistics with it."""

from __future__ import annotations

import gzip
from itertools import pairwise
from pathlib import Path

import pytest

from lora_repro.metrics import jvm, meteor, paraphrases

PAIRS = ["near the|close to the", "cheap|low priced", "a|a a", "cheap|near", "é b|b", "low|priced low", "near the|near"]
# What the jar says with its whole table: "a lot of" is `many` there, "in order to" is `to`.
WHOLE = (
    (
        "Many people go near the river to eat.", ["A lot of people go close to the river in order to eat."],
        "9 14 4 8 3 3 4 4 0 0 0 0 0 0 0 0 1 1 0 1 2 8 9",
    ),
    (
        "it's inexpensive as well as child friendly", ["it is cheap, and kids are welcome", "low priced and for families"],
        "8 8 4 5 0 0 1 1 0 0 0 0 0 0 0 0 0 0 0 0 1 1 1",
    ),
    (
        "THE PUB has a rating of five out of 5", ["the pub is rated 5 out of five", "five stars"],
        "10 8 6 4 3 3 3 3 0 0 0 0 0 0 0 0 1 1 1 1 5 8 8",
    ),
)  # fmt: skip


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "table.gz"
    lines = [line for i, pair in enumerate(PAIRS) for line in (f"0.{i}", *pair.split("|"))]
    path.write_bytes(gzip.compress("".join(f"{line}\n" for line in lines).encode()))
    return path


def kept(table: Path, seen: str, folder: Path) -> list[str]:
    """The pairs of the table cut to `seen`, texts parted by commas."""
    rows = [text.split() for text in seen.split(",")]
    phrases = [word for row in rows for word in row] + [" ".join(two) for row in rows for two in pairwise(row)]
    with paraphrases.cut(table, phrases, folder) as path:
        lines = gzip.decompress(path.read_bytes()).decode().splitlines()
    assert not path.exists() and set(lines[::3]) <= {"0"}
    return ["|".join(pair) for pair in zip(lines[1::3], lines[2::3], strict=True)]


def test_only_pairs_that_the_texts_can_hold_stay_in_their_order(table: Path, tmp_path: Path) -> None:
    assert kept(table, "priced low,other cheap low priced,near the", tmp_path) == [PAIRS[1], PAIRS[3], PAIRS[5], PAIRS[6]]
    assert kept(table, "low,cheap,priced,near,the", tmp_path) == ["cheap|near"]  # no text has two of them in a row
    assert kept(table, "b é b,a a", tmp_path) == ["a|a a", "é b|b"]
    assert kept(table, "the to", tmp_path) == kept(table, "", tmp_path) == []
    assert kept(table, ",".join(PAIRS).replace("|", ","), tmp_path) == PAIRS


@pytest.mark.parametrize("block", [1, 7, 20, 1000])
def test_the_index_is_the_same_whatever_is_read_at_a_time(
    block: int, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paraphrases, "BLOCK", block)
    assert kept(table, ",".join(PAIRS).replace("|", ","), tmp_path) == PAIRS
    (index,) = tmp_path.glob("*.npz")
    table.write_bytes(gzip.compress(gzip.decompress(table.read_bytes()).replace(b" ", b"  ").replace(b"low", b"\tlow ")))
    other = paraphrases._index(table, tmp_path / "spaced")
    assert all((other[name] == value).all() for name, value in paraphrases.np.load(index).items())


def test_the_index_is_read_again_and_a_damaged_one_made_anew(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept(table, "", tmp_path)
    (index,) = tmp_path.glob("*.npz")
    content = index.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(paraphrases, "_read", lambda table: pytest.fail("read again"))
        assert kept(table, "a a", tmp_path) == ["a|a a"]
    for bad in (content[:-9], content.replace(b"cheap", b"chewp"), b""):
        index.write_bytes(bad)
        assert kept(table, "cheap,priced low priced", tmp_path) == [PAIRS[1], PAIRS[5]]
        assert index.read_bytes() == content
    table.write_bytes(gzip.compress(b"1\nx\ny\n"))  # another table has another index
    assert kept(table, "x y", tmp_path) == ["x|y"] and len(list(tmp_path.glob("*.npz"))) == 2


def test_without_a_place_for_the_index_the_whole_table_serves(table: Path, tmp_path: Path) -> None:
    with paraphrases.cut(table, ["a"], tmp_path / "table.gz" / "below a file") as path:
        assert path == table


def test_meteor_aligns_as_with_its_whole_table() -> None:
    """Also where later texts have words that the first had not."""
    outputs, groups, _ = zip(*WHOLE, strict=True)
    jvm.close()
    statistics = [*meteor.aligned(outputs[:1], groups[:1]), *meteor.aligned(outputs[1:], groups[1:])]
    jvm.close()
    assert statistics == [" ".join(f"{float(number)}" for number in line.split()) for *_, line in WHOLE]

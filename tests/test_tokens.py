"""Token ids of many texts: those of each by itself, kept for whoever asks for the same again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import tiny_backbone
from transformers import ByT5Tokenizer

from lora_repro.config import paths
from lora_repro.objectives import tokens

TEXTS = ["", "ab c", "Ünï", "ab c", "a\x00b"]


class Counting:
    """A tokenizer that counts how often it is asked."""

    def __init__(self) -> None:
        self.inner, self.asked = tiny_backbone("gpt2").tokenizer, 0
        self.backend_tokenizer = self.inner.backend_tokenizer

    def __call__(self, texts: list[str], **how: Any) -> Any:
        self.asked += 1
        return self.inner(texts, **how)


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setattr(paths, "CACHE", tmp_path)
    monkeypatch.setattr(tokens, "LARGE", 3)
    return tmp_path / "tokens"


def test_they_are_those_of_each_text_and_few_are_not_kept(folder: Path) -> None:
    tokenizer = Counting()
    encodings = [tokenizer.inner.encode(text, add_special_tokens=False) for text in TEXTS]
    assert tokens.token_ids(TEXTS[:2], tokenizer) == encodings[:2] and not folder.exists()
    assert tokens.token_ids([], tokenizer) == []
    assert [tokens.token_ids(TEXTS, tokenizer) for _ in range(2)] == [encodings, encodings] and tokenizer.asked == 2
    assert tokens.token_ids(TEXTS[::-1], tokenizer) == encodings[::-1] and tokenizer.asked == 3  # other texts
    batches = [tokens.token_ids(texts, tokenizer) for texts in (["ab", "c", "d"], ["a", "bc", "d"])]  # the same letters
    assert [[len(ids) for ids in batch] for batch in batches] == [[2, 1, 1], [1, 2, 1]] and len(list(folder.iterdir())) == 4


def test_another_tokenizer_reads_nothing_of_the_first(folder: Path) -> None:
    tokenizer = Counting()
    tokens.token_ids(TEXTS, tokenizer)
    tokenizer.inner.add_tokens(["ab c"])
    assert tokens.token_ids(TEXTS, tokenizer)[1] == [257] and tokenizer.asked == 2


def test_a_tokenizer_in_python_alone_tokenises_anew(folder: Path) -> None:
    tokenizer = ByT5Tokenizer()
    ids = [tokenizer.encode(text, add_special_tokens=False) for text in TEXTS]
    assert tokens.token_ids(TEXTS, tokenizer) == ids and not folder.exists()


def test_what_is_damaged_is_made_again_and_nowhere_to_keep_it_is_no_failure(folder: Path, tmp_path: Path) -> None:
    tokenizer = Counting()
    ids = tokens.token_ids(TEXTS, tokenizer)
    (path,) = folder.iterdir()
    content = path.read_bytes()
    place_of_ids = content.index(np.array(ids[1], dtype=np.int32).tobytes())
    for data in (b"", content[:40], b"x" * len(content), content[:place_of_ids] + b"z" + content[place_of_ids + 1 :]):
        path.write_bytes(data)
        assert tokens.token_ids(TEXTS, tokenizer) == ids
    assert tokenizer.asked == 5 and path.read_bytes() == content
    path.unlink()
    folder.rmdir()
    folder.write_text("a file")
    assert tokens.token_ids(TEXTS, tokenizer) == ids

"""Texts to token ids, all at once; the ids of a large set are cached on disk for every run with the same tokenizer.

A file in .cache/tokens is keyed by the texts and by every byte of the tokenizer; it may be deleted at any time. A tokenizer in
Python alone, which has no such bytes, tokenises anew.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Sequence
from itertools import accumulate, chain, pairwise
from typing import Any

import numpy as np
import tokenizers

from lora_repro.config import paths
from lora_repro.files import replacing

LARGE = 20_000  # texts; fewer are tokenised faster than they are read from disk


def token_ids(texts: Sequence[str], tokenizer: Any) -> list[list[int]]:
    """The ids of each text, without special tokens."""
    if len(texts) < LARGE or not hasattr(tokenizer, "backend_tokenizer"):
        return _made(texts, tokenizer)
    path = paths.CACHE / "tokens" / f"{_digest(texts, tokenizer)}.npz"
    try:
        with path.open("rb") as stream, np.load(stream) as archive:
            flat, lengths = archive["ids"].tolist(), archive["lengths"].tolist()
        return [flat[start:end] for start, end in pairwise(accumulate(lengths, initial=0))]
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile):
        pass  # not there yet, or damaged: zip files carry checksums
    id_lists = _made(texts, tokenizer)
    try:
        with replacing(path) as temporary, temporary.open("wb") as file:
            lengths = np.fromiter(map(len, id_lists), dtype=np.int32, count=len(id_lists))
            ids = np.fromiter(chain.from_iterable(id_lists), dtype=np.int32, count=int(lengths.sum()))
            np.savez(file, ids=ids, lengths=lengths)
    except OSError:
        pass  # no room to keep them
    return id_lists


def _made(texts: Sequence[str], tokenizer: Any) -> list[list[int]]:
    return tokenizer(list(texts), add_special_tokens=False)["input_ids"] if texts else []


def _digest(texts: Sequence[str], tokenizer: Any) -> str:
    digest = hashlib.sha256(f"{tokenizers.__version__} {tokenizer.backend_tokenizer.to_str()}".encode())
    for text in texts:
        data = text.encode("utf-8", "surrogatepass")
        digest.update(b"%d " % len(data) + data)
    return digest.hexdigest()[:32]

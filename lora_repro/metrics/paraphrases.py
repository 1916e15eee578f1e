"""METEOR's paraphrase table, reduced to the words of the texts at hand: Java takes 12 seconds to load all of its 5 million pairs.

The aligner uses a pair if one phrase is in a reference and the other in the output. So a pair with a word, or two words in a
row, that no text has is never used. Leaving it out, with the others in their order, changes no alignment.
"""

from __future__ import annotations

import gzip
import zipfile
from array import array
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import compress
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from lora_repro.config.paths import cache_folder
from lora_repro.files import replacing, sha256

Index = dict[str, NDArray[np.generic]]
BLOCK = 1 << 24  # bytes
NEWLINE = ord("\n")
BLANK = np.isin(np.arange(256), list(b" \t\n\r\x0b\x0c"))  # where `bytes.split` splits


@contextmanager
def cut(table: Path, ngrams: Iterable[str], folder: Path | None = None) -> Iterator[Path]:
    """A table with only the pairs of `table` that the texts can contain, in their order; `table` itself if no index can be kept.

    table: gzip, three lines per pair (probability, phrase, paraphrase). ngrams: the texts' words, and their pairs of consecutive
    words with a space between. folder: of the index (75 MB; default: beside the backbones). The file is deleted at the end of
    the context.
    """
    try:
        index = _index(table, folder or cache_folder() / "meteor")
    except OSError:  # the folder cannot be written
        yield table
        return
    with TemporaryDirectory() as own:
        path = Path(own) / "paraphrases.gz"
        path.write_bytes(gzip.compress(_text(index, {text.encode() for text in ngrams}), 1))
        yield path


def _text(index: Index, ngrams: set[bytes]) -> bytes:
    """The pairs as the table spells them, but without the probability, which the aligner does not read."""
    names = index["words"].tobytes().split(b"\n")
    number = {name: i for i, name in enumerate(names)}
    words = np.fromiter((name in ngrams for name in names), dtype=bool, count=len(names))
    rows = [[number.get(word, -1) for word in text.split(b" ")] for text in ngrams if b" " in text]
    twos = [one * len(names) + other for one, other in rows if min(one, other) >= 0]
    sizes = index["sizes"].reshape(-1, 2).astype(np.int64)
    mask = _all(words[index["ids"]], sizes)
    ids, sizes = index["ids"][np.repeat(mask, sizes.sum(1))].astype(np.int64), sizes[mask]
    follows = np.append(np.isin(ids[:-1] * len(names) + ids[1:], twos), True)
    follows[np.cumsum(sizes) - 1] = True  # nothing follows a phrase
    mask = _all(follows, sizes)
    lines = []
    for start, (first, last) in zip(_starts(sizes)[mask].tolist(), sizes[mask].tolist(), strict=True):
        pair = [names[i] for i in ids[start : start + first + last]]
        lines.append(b"0\n%s\n%s\n" % (b" ".join(pair[:first]), b" ".join(pair[first:])))
    return b"".join(lines)


def _all(words: NDArray[np.bool_], sizes: NDArray[np.int64]) -> NDArray[np.bool_]:
    """For each pair: whether all of its words are true."""
    return np.logical_and.reduceat(words, _starts(sizes)) if len(sizes) else np.zeros(0, dtype=bool)


def _starts(sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    """The position of each pair's first word."""
    lengths = sizes.sum(1)
    return np.asarray(np.cumsum(lengths) - lengths)


def _index(table: Path, folder: Path) -> Index:
    """The table as numbers, read from `folder` or created there, which takes some ten seconds once. Raises OSError if it can't be
    written.

    words: every word, one per line; ids: the words of all phrases, concatenated; sizes: the number of words of each phrase.
    """
    path = folder / f"{sha256(table)[:16]}.npz"
    try:
        with path.open("rb") as file, np.load(file) as archive:
            return dict(archive)
    except (OSError, EOFError, ValueError, NotImplementedError, zipfile.BadZipFile):
        index = _read(table)  # missing, or damaged, which a zip file's checksums show
    with replacing(path) as half, half.open("wb") as target:
        np.savez(target, **index)  # type: ignore[arg-type]
    return index


class _Numbers(dict[bytes, int]):
    """The number of each word, in the order of their first appearance."""

    def __missing__(self, word: bytes) -> int:
        self[word] = number = len(self)
        return number


def _read(table: Path) -> Index:
    numbers, ids, sizes = _Numbers(), array("i"), []
    for block in _blocks(table):
        text = np.frombuffer(block, dtype=np.uint8)
        blank = BLANK[text]
        begins = ~blank & np.append(True, blank[:-1])  # where a word does
        words = np.diff(np.cumsum(begins)[text == NEWLINE], prepend=0)  # in each line
        of_phrases = np.repeat(np.arange(len(words)) % 3 > 0, words)
        ids.extend(map(numbers.__getitem__, compress(block.split(), of_phrases.tolist())))
        sizes.append(words.reshape(-1, 3)[:, 1:].astype(np.uint8).ravel())
    names = np.frombuffer(b"\n".join(numbers), dtype=np.uint8)
    word_ids = np.asarray(ids, dtype=np.min_scalar_type(len(numbers)))
    return {"words": names, "ids": word_ids, "sizes": np.concatenate([np.zeros(0, np.uint8), *sizes])}


def _blocks(table: Path) -> Iterator[bytes]:
    """The table in blocks of whole entries of three lines, of about `BLOCK` bytes. Raises ValueError if it ends within one."""
    left = b""
    with gzip.open(table) as file:
        while more := file.read(BLOCK):
            block = left + more
            ends = np.flatnonzero(np.frombuffer(block, dtype=np.uint8) == NEWLINE)
            cut = int(ends[len(ends) // 3 * 3 - 1]) + 1 if len(ends) >= 3 else 0
            left = block[cut:]
            if cut:
                yield block[:cut]
    if left:
        raise ValueError(f"{table} ends within an entry")

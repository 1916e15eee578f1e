"""The files of a model's folder that decide what it computes: which they are, and one hash over them."""

from __future__ import annotations

import hashlib
from fnmatch import fnmatch
from functools import cache
from pathlib import Path

from lora_repro.records.disk import sha256

WEIGHTS = ("model*.safetensors", "pytorch_model*.bin")  # the first of these formats that is there is read
TEXTS = ("config.json", "tokenizer*", "vocab*", "merges.txt", "special_tokens_map.json", "added_tokens.json", "*.model")


def weights(folder: Path) -> list[Path]:
    """The files of the weights, one or several shards; empty if there are none in a format that is read."""
    return next((found for pattern in WEIGHTS if (found := sorted(folder.glob(pattern)))), [])


def folder_sha256(folder: Path) -> str:
    """One hash over name and contents of configuration, tokenizer and weights; other files do not count."""
    texts = [path for path in folder.iterdir() if any(fnmatch(path.name, pattern) for pattern in TEXTS) and path.is_file()]
    digest = hashlib.sha256()
    for path in sorted([*texts, *weights(folder)]):
        status = path.stat()
        digest.update(f"{path.name} {_sha256(path, status.st_size, status.st_mtime_ns)}\n".encode())
    return digest.hexdigest()


@cache
def _sha256(path: Path, size: int, changed: int) -> str:
    """A file's hash, computed once in this process while its size and time of change stay the same."""
    return sha256(path)

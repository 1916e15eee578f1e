"""The files that loading a checkpoint reads, by their hashes: compared with what was fetched or pinned, and recorded."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path

from lora_repro.errors import UserError
from lora_repro.files import sha256
from lora_repro.sources.download import git_blob

# Configuration, tokenizer and weights, as transformers names them. A folder may hold more, such as a trainer's log.
READ = (
    *("config.json", "generation_config.json", "*token*.json", "vocab*", "merges*", "*.model", "chat_template*"),
    *("model*.safetensors", "model*.safetensors.index.json", "pytorch_model*.bin", "pytorch_model*.bin.index.json"),
)
WEIGHTS = ("model*.safetensors", "pytorch_model*.bin")  # the first of these formats that is there is read
WRITER = "transformers_version"  # in a configuration: who wrote it, which changes nothing that is loaded


def weights(folder: Path) -> list[Path]:
    """The files of the weights, one or several shards; empty if there are none in a format that is read."""
    return next((found for pattern in WEIGHTS if (found := sorted(folder.glob(pattern)))), [])


def hashes_of(folder: Path, digest: Callable[[Path], str] = sha256) -> dict[str, str]:
    """name -> sha256 of every file in a checkpoint's folder that loading it may read, sorted. Raises OSError."""
    found = {path for pattern in READ for path in folder.glob(pattern) if path.is_file()}
    return {path.name: digest(path) for path in sorted(found)}


def folder_sha256(folder: Path) -> str:
    """One hash over a checkpoint's files; a file is read once in this process while its size and time of change stay the same."""
    return one_sha256(folder, hashes_of(folder, lambda path: _known(path, path.stat().st_size, path.stat().st_mtime_ns)))


@cache
def _known(path: Path, size: int, changed: int) -> str:
    return sha256(path)


def weights_sha256(hashes: Mapping[str, str]) -> str:
    """The hash of the weights; those of the shards of a large model are joined by `+`."""
    every = [(name, value) for name, value in hashes.items() if not name.endswith(".json")]
    kinds = [[value for name, value in every if name.startswith(stem)] for stem in ("model", "pytorch_model")]
    return "+".join(kinds[0] or kinds[1])


def one_sha256(folder: Path, hashes: Mapping[str, str]) -> str:
    """One hash over all of a checkpoint's files: the same for a model that two versions of transformers wrote alike."""
    lines = [f"{_unsigned(folder / name) or value}  {name}\n" for name, value in sorted(hashes.items())]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _unsigned(path: Path) -> str | None:
    """The hash of a configuration without its writer's version; None for any other file."""
    if path.name not in ("config.json", "generation_config.json"):
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        kept = {key: value for key, value in found.items() if key != WRITER}
    except (ValueError, AttributeError, RecursionError):
        return None
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()


def check_hub(name: str, folder: Path, hashes: Mapping[str, str]) -> None:
    """Raise UserError, naming the first file, if one in the hub client's cache is not the one that was downloaded.

    The client names each file by the hub's hash of it, and links to it from the commit's folder; a copy without links tells none.
    """
    for file, digest in hashes.items():
        blob = (folder / file).resolve()
        known = re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", blob.name)
        if known and blob.name != (digest if len(blob.name) == 64 else git_blob(blob)):
            mend = f"delete {folder.parents[1]} and run: lora-repro fetch {name}"
            raise UserError(f"backbone {name}: {file} is not what was downloaded from the hub; {mend}")


def check_pinned(name: str, folder: Path, hashes: Mapping[str, str], pinned: Mapping[str, str]) -> None:
    """Raise UserError, naming the first file, if one does not have the hash that the backbone's yaml gives it."""
    for file, digest in pinned.items():
        if hashes.get(file) != digest:
            raise UserError(
                f"backbone {name}: {file} in {folder} is not the one of backbone.files ({digest[:12]}): copy the right one there"
            )

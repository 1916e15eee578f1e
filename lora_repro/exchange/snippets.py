"""The few lines of Python that load an export without this project, for its model card. Tests run them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lora_repro.exchange import pooling

if TYPE_CHECKING:
    from lora_repro.backbone.model import Backbone

POOLED = {
    "mean": "features = hidden.mean(1)  # of one row; in a padded batch: over the real positions",
    "first": "features = hidden[:, 0]",
    "last": "features = hidden[:, -1]  # of one row without padding",
}


def code(base: Mapping[str, Any], form: str, backbone: Backbone) -> str:
    """Load the folder FOLDER and compute logits for one row of `ids` (1, T)."""
    auto, merged, apart = kind(backbone), form == "merged", not pooling.fits_auto_class(backbone)
    lines = ["import torch"]
    lines += ["from safetensors.torch import load_file"] if apart else []
    lines += [] if merged else ["from peft import PeftModel"]
    lines += [f"from transformers import {auto}, AutoTokenizer", ""]
    source, revision = origin(base)
    if source.startswith("BASE") and not merged:
        lines += ["# BASE: .cache/backbones, where `lora-repro fetch` puts base models that come in a wheel"]
    labels = "" if not backbone.classifier or apart or merged else f", num_labels={backbone.head.size}"
    if merged:
        lines += ['tokenizer = AutoTokenizer.from_pretrained("FOLDER")', f'model = {auto}.from_pretrained("FOLDER").eval()']
    else:
        lines += [f"tokenizer = AutoTokenizer.from_pretrained({source!r}{revision})"]
        lines += [f"base = {auto}.from_pretrained({source!r}, dtype=torch.float32{revision}{labels})"]
        lines += ['model = PeftModel.from_pretrained(base, "FOLDER").eval()']
    lines += [*row(backbone), "with torch.no_grad():"]
    if not apart:
        return "\n".join([*lines, "    logits = model(input_ids=ids).logits"])
    names = list(pooling.head(backbone))
    weight, bias = (next((name for name in names if name.endswith(end)), None) for end in ("weight", "bias"))
    lines += ["    hidden = model(input_ids=ids).last_hidden_state", 'head = load_file("FOLDER/head.safetensors")']
    lines += [POOLED[backbone.pooling]]
    more = f' + head["{bias}"]' if bias else ""
    return "\n".join([*lines, f'logits = features @ head["{weight}"].T{more}'])


def kind(backbone: Backbone) -> str:
    """The transformers class that loads the model."""
    if not pooling.fits_auto_class(backbone):
        return "AutoModel"
    return "AutoModelForSequenceClassification" if backbone.classifier else "AutoModelForCausalLM"


def origin(base: Mapping[str, Any]) -> tuple[str, str]:
    """(what to load the base model from, the revision as an argument)."""
    if base["source"] == "hub":
        return str(base["hub_id"]), f", revision={base['revision']!r}"
    return (str(base["hub_id"]) if base["source"] == "folder" else f"BASE/{base['name']}"), ""


def row(backbone: Backbone) -> list[str]:
    """Lines of code that turn one input into token ids."""
    before, after = f"{backbone.cls} + " if backbone.cls else "", f" + {[backbone.eos]}"
    if not backbone.classifier:
        after = f" + {backbone.separator}"
    return [f"ids = torch.tensor([{before}tokenizer.encode(TEXT, add_special_tokens=False){after}])"]


def example(task: str, backbone: Backbone) -> str:
    """An input for the command line."""
    return "'name[The Vaults], eatType[pub]'" if task == "e2e" else "'A sentence.'" if backbone.classifier else "TEXT"


def notes(config: Mapping[str, Any], form: str, backbone: Backbone) -> list[str]:
    """Remarks on what the code does not show."""
    if config["backbone"].get("quantise"):
        caveat = "; an adapter over the floats computes slightly other logits"
        floats = ". These weights are its values as floats plus the update: they answer as the run did, take more memory, and " \
                 "quantising them again would also round the update"  # fmt: skip
        remark = f"The run's base was in NF4 (bitsandbytes, block 64){floats if form == 'merged' else caveat}."
        return [remark, *_notes(config, backbone)]
    return _notes(config, backbone)


def _notes(config: Mapping[str, Any], backbone: Backbone) -> list[str]:
    if not backbone.classifier:
        return [f"The model writes a space, the text and token {backbone.eos}, its end; mask padding by length, not by its id."]
    labels = ", ".join(map(str, config["task"].get("labels") or [])) or "one number"
    pair = f"A pair is first + {backbone.separator} + second before the end token"
    types = ", with token_type_ids 1 from the second on" if backbone.architecture in ("bert", "deberta-v2") else ""
    return [f"Outputs: {labels}, in this order. {pair}{types}."]

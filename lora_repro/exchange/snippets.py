"""The few lines of Python that load an export without this project, for its model card. Tests run them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
    # The base may have a head of its own, for another number of classes.
    labels = f", num_labels={backbone.head.size}, ignore_mismatched_sizes=True" if backbone.classifier else ""
    if merged:
        lines += ['tokenizer = AutoTokenizer.from_pretrained("FOLDER")', f'model = {auto}.from_pretrained("FOLDER").eval()']
    else:
        body = "base.base_model" if apart else "base"
        lines += [f"tokenizer = AutoTokenizer.from_pretrained({source!r}{revision})"]
        lines += [f"base = {auto}.from_pretrained({source!r}, dtype=torch.float32{revision}{labels}).eval()"]
        lines += [f'model = PeftModel.from_pretrained({body}, "FOLDER").eval()']
    if not apart:
        return "\n".join([*lines, *row(backbone), "with torch.no_grad():", "    logits = model(input_ids=ids).logits"])
    outer, body = ("model", "model.base_model") if merged else ("base", "model")
    lines += [f'{outer}.load_state_dict(load_file("FOLDER/head.safetensors"), strict=False)  # the head alone']
    lines += [*row(backbone), "with torch.no_grad():", f"    hidden = {body}(input_ids=ids).last_hidden_state"]
    return "\n".join([*lines, f"    {POOLED[backbone.pooling]}", *(f"    {line}" for line in _head(backbone, outer))])


def _head(backbone: Backbone, model: str) -> list[str]:
    """Lines of code that turn `features` into `logits` by the head of the variable `model`, without its dropout."""
    names = {module: name for name, module in backbone.model.named_modules()}
    lines = ["logits = features[:, None]" if backbone.picks_first else "logits = features"]
    for module in backbone.classifier:
        if module not in names:
            lines.append("logits = torch.relu(logits)")
        elif [*module.parameters()]:
            lines.append(f"logits = {model}.{names[module]}(logits)")
    return lines


def kind(backbone: Backbone) -> str:
    """The transformers class that loads the model."""
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


def notes(config: Mapping[str, Any], form: str, backbone: Backbone, labels: Sequence[str] = ()) -> list[str]:
    """Remarks on what the code does not show. labels: the classes in the order of the head's outputs."""
    if config["backbone"].get("quantise"):
        caveat = "; an adapter over the floats computes slightly other logits"
        floats = ". These weights are its values as floats plus the update: they answer as the run did, take more memory, and " \
                 "quantising them again would also round the update"  # fmt: skip
        remark = f"The run's base was in NF4 (bitsandbytes, block 64){floats if form == 'merged' else caveat}."
        return [remark, *_notes(backbone, labels)]
    return _notes(backbone, labels)


def _notes(backbone: Backbone, labels: Sequence[str]) -> list[str]:
    if not backbone.classifier:
        return [f"The model writes a space, the text and token {backbone.eos}, its end; mask padding by length, not by its id."]
    outputs = f"{', '.join(map(repr, labels))}, in this order" if labels else "one number"
    pair = f"A pair is first + {backbone.separator} + second before the end token"
    types = ", with token_type_ids 1 from the second on" if backbone.architecture in ("bert", "deberta-v2") else ""
    return [f"Outputs: {outputs}. {pair}{types}."]

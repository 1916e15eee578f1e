"""Reads, scores and converts the RoBERTa-base MNLI adapter that the LoRA authors released (`score`, `export`).

Source: microsoft/LoRA (MIT) at c4593f0, examples/NLU/roberta_base_lora_mnli.bin. The conversion renames tensors and changes no
value:

    theirs (loralib)                               ours                   shape
    P.K.lora_A                                     P.K.parts.K.A          (r, d)
    P.K.lora_B                                     P.K.parts.K.B          (d, r)
    classifier.{dense,out_proj}.{weight,bias}      the same name          (d, d), (d), (n, d), (n)

P = roberta.encoder.layer.N.attention.self, K = query or value; both sides compute W x + (alpha / r) B A x. Neither file says
alpha: it is 16 (their roberta_base_mnli.sh), so with r = 8 the scaling is 2. The n = 3 classes are in the order of LABELS.
"""

from __future__ import annotations

import io
import re
import zipfile
import zlib
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from lora_repro.backbone.model import Backbone
from lora_repro.config.compose import build, compose
from lora_repro.data import subset
from lora_repro.errors import UserError
from lora_repro.exchange.load_tensors import check_fit, fill, same_names
from lora_repro.methods.base import Trainable, require
from lora_repro.methods.update import updates
from lora_repro.run.stages import answer, backbone_of, label_of, objective_of
from lora_repro.train.checkpoint import save_tensors
from lora_repro.train.ranks import Ranks

ALPHA = 16
LABELS = ["entailment", "neutral", "contradiction"]
README = {"matched": "87.5 ± 0.3", "mismatched": "86.9 ± 0.3"}  # theirs, RoBERTa base
RUN = "experiment=glue row/glue=lora task=mnli profile=paper recipe=scripts backbone=roberta_base".split()
HEAD = [f"classifier.{layer}.{kind}" for layer in ("dense", "out_proj") for kind in ("weight", "bias")]
SOURCE = "take roberta_base_lora_mnli.bin of microsoft/LoRA"
DAMAGE = (zipfile.BadZipFile, zlib.error, RuntimeError, ValueError, LookupError, EOFError)
Tensors = dict[str, torch.Tensor]


def read(path: str | Path) -> Tensors:
    """The tensors of the authors' file under their names: A's and B's of one rank r in L layers, and the head; float32.

    Raises UserError if it is missing, damaged (its own checksums say so), another file, or holds NaN or infinity.
    """
    another = f"{path} is damaged or not the authors' adapter; {SOURCE}"
    try:
        with zipfile.ZipFile(path) as archive:  # torch.load does not check the checksums
            require(archive.testzip() is None, another)
        tensors = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}; {SOURCE}") from None
    except Exception as error:
        # UnpicklingError is torch's refusal of anything but tensors; its module may not be imported here.
        if isinstance(error, DAMAGE) or type(error).__name__ == "UnpicklingError":
            raise UserError(another) from None
        raise
    require(isinstance(tensors, dict) and set(map(type, tensors)) == {str}, another)
    require(all(isinstance(tensor, torch.Tensor) for tensor in tensors.values()), another)
    _check(tensors, theirs=True)
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}


def to_ours(tensors: Tensors) -> Tensors:
    """The same tensors under the names of our adapter.safetensors. Raises UserError if a name, shape or value is wrong."""
    return {ours: tensors[theirs] for theirs, ours in _check(tensors, theirs=True).items()}


def from_ours(tensors: Tensors) -> Tensors:
    """The inverse of `to_ours`, in the order of the authors' file. Raises UserError as `to_ours` does."""
    return {theirs: tensors[ours] for theirs, ours in _check(tensors, theirs=False).items()}


def _check(tensors: Tensors, theirs: bool) -> dict[str, str]:
    """Their name -> ours. Raises UserError unless names, shapes, types and values are what they must be."""
    out = SOURCE if theirs else "give the adapter of a RoBERTa with LoRA on query and value"
    indices = {match[1] for name in tensors if (match := re.match(r"roberta\.encoder\.layer\.(\d+)\.", name))}
    names: dict[str, str] = {}
    for layer in range(len(indices) or 1):
        for kind in ("query", "value"):
            place = f"roberta.encoder.layer.{layer}.attention.self.{kind}"
            names |= {f"{place}.lora_{letter}": f"{place}.parts.{kind}.{letter}" for letter in "AB"}
    names |= {name: name for name in HEAD}
    keys = list(names if theirs else names.values())
    same_names(tensors, keys, out)
    d, n = tensors[HEAD[1]].numel(), tensors[HEAD[3]].numel()
    r = tensors[keys[0]].numel() // max(d, 1)
    shapes = [(r, d), (d, r)] * (2 * len(indices)) + [(d, d), (d,), (n, d), (n,)]
    for name, shape in zip(keys, shapes, strict=True):
        tensor = tensors[name]
        fits = tensor.shape == shape and tensor.dtype == torch.float32 and bool(tensor.isfinite().all())
        require(fits, f"the adapter's {name} must have shape {shape} and finite float32 values; {out}")
    return names


def load_into(backbone: Backbone, trainable: Trainable, tensors: Tensors) -> None:
    """Copy the A's, B's and head, under our names, into the model to which Lora(alpha=16, targets=[query, value]) was applied.

    Raises UserError, and copies nothing, unless tensors and parameters correspond one to one, their shapes agree, every layer's
    scaling is 16 / r, and no B is zero (such an adapter is not trained).
    """
    parameters = {**trainable.method, **trainable.head}
    out = "it needs RoBERTa base, three classes, and LoRA of its rank on query and value"
    check_fit(parameters, tensors, out)
    for name in parameters:
        trained = not name.endswith(".B") or bool(tensors[name].any())
        require(trained, f"the adapter's {name} is zero: it was never trained; {SOURCE}")
    scaling = ALPHA / next(len(tensor) for name, tensor in tensors.items() if name.endswith(".A"))
    for module in updates(backbone.model):
        is_ = module.scaling
        require(is_ == scaling, f"LoRA scales by {is_:g}, the adapter by {scaling:g}; set method.alpha={ALPHA}")
    fill(parameters, tensors, out)


def evaluate(path: str, overrides: list[str]) -> str:
    """The accuracies on MNLI's dev sets beside the authors', as text. Raises UserError; NotAvailable without the hub."""
    tensors = to_ours(read(path))
    config = compose([*RUN, *overrides])
    task, method, objective, spec = build(config.task), build(config.method), objective_of(config), backbone_of(config)
    mnli = task.name == "mnli" and [list(task.labels), list(task.scored)] == [LABELS, list(README)]
    require(mnli and bool(task.rows["matched"]), "the adapter answers MNLI: leave labels, scored and rows")
    splits = task.load(config.paths.data)
    test = subset(splits.test, config.data.n_test, config.data.subset_seed)
    middle = len(set(map(id, test)) & set(map(id, splits.test[: task.rows["matched"]])))
    backbone = spec.load()
    load_into(backbone, method.apply(backbone), tensors)
    settings = (config.data.max_length, config.train.precision, label_of(config))
    outputs = answer(backbone.to(Ranks.here(config.device).device), method, objective, *settings, test).outputs
    origin = backbone.sha256 or "random weights: the numbers mean nothing"
    table = f"{splits.caption}; {backbone.label} ({origin})\naccuracy, %     here    rows    authors' README"
    for name, part in zip(README, (slice(middle), slice(middle, None)), strict=True):
        answers, examples = outputs[part], test[part]
        accuracy = f"{100 * task.score(answers, examples).values['accuracy']:.1f}" if examples else "—"
        table += f"\n{name:<12}{accuracy:>8}{len(examples):>8}    {README[name]}"
    return table


def convert(source: str, target: Path, back: bool) -> str:
    """Write the authors' file as our safetensors or, with `back`, ours as theirs. Raises UserError if that cannot be done."""
    try:
        tensors = from_ours(load_file(source)) if back else to_ours(read(source))
    except (OSError, SafetensorError) as error:
        raise UserError(f"cannot read {source}: {error}; give an adapter.safetensors") from None
    try:
        if back:
            torch.save(tensors, buffer := io.BytesIO())
            target.write_bytes(buffer.getvalue())
        else:
            save_tensors(target, tensors)
    except OSError as error:
        raise UserError(f"cannot write {target}: {error.strerror or error}") from None
    return f"{len(tensors)} tensors, {sum(map(torch.numel, tensors.values())):,} values written to {target}"

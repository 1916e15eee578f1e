"""LoRA in peft's format: one A and one B per module, where ours may have several parts inside a fused one.

Of a module with parts p = 1..P (GPT-2's c_attn: query and value) of rank r and scaling s, peft's rank is R = P r and

    A' (R, d_in) = [A_1; ...; A_P]        B' (d_out, R): B_p in the rows of part p and the columns of A_p, zero elsewhere

so that B' A' is exactly the update of every part in its own rows and zero elsewhere; lora_alpha = s R keeps the scaling.
Importing needs no such form: a peft LoRA, whose A is shared by the whole module, is one part over all its rows.
"""

from __future__ import annotations

import math
import re
import sys
from collections import Counter
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from lora_repro.backbone import weights
from lora_repro.errors import UserError
from lora_repro.exchange.load_tensors import fill
from lora_repro.methods.base import require
from lora_repro.methods.lora import LoraLinear, LoraPart

if TYPE_CHECKING:
    from lora_repro.backbone.model import Backbone

Tensors = dict[str, torch.Tensor]
ROOT = "base_model.model."  # peft's name for the model that it wraps
_KEY = re.compile(re.escape(ROOT) + r"(.+)\.lora_([AB])\.weight")
# A regular expression of unknown origin may never terminate: repeated groups, counts and backreferences are refused.
_TAME = re.compile(r"(?:[\w.^$|(-]|\\[.dwDW]|\[[\w^.-]+\]|\)\??(?![*+{?])|(?<=[\w.\]])[*+?])*")
# Settings with which a LoRA still computes W x + scaling B A x. Any other setting that is on is refused.
PLAIN = {
    *"peft_type task_type auto_mapping peft_version base_model_name_or_path revision inference_mode r target_modules".split(),
    *"exclude_modules lora_alpha lora_dropout fan_in_fan_out use_rslora modules_to_save init_lora_weights".split(),
    *"layers_to_transform layers_pattern rank_pattern alpha_pattern megatron_core qalora_group_size runtime_config".split(),
}


def export(model: nn.Module) -> tuple[dict[str, Any], Tensors]:
    """peft's settings and tensors for every LoRA of `model`, which must have the module names that peft will see."""
    places = {name: module for name, module in model.named_modules() if isinstance(module, LoraLinear)}
    around = {name: model.get_submodule(name.rpartition(".")[0]) for name in places}
    headwise = {name: outer for name, outer in around.items() if isinstance(outer, weights.HeadwiseMatrix)}
    modules = {name.rpartition(".")[0] if name in headwise else name: module for name, module in places.items()}
    require(bool(modules), "there is no LoRA in this model: apply one, and save it before merge or strip")
    endings = shortest(model, set(modules))
    tensors: Tensors = {}
    alphas: dict[str, tuple[int, float]] = {}
    for (name, module), outer in zip(modules.items(), map(headwise.get, places), strict=True):
        a, b = blocks(module)
        b = b if outer is None else outer.by_head(b)
        tensors |= {f"{ROOT}{name}.lora_A.weight": a, f"{ROOT}{name}.lora_B.weight": b}
        alphas[name] = (len(a), module.scaling * len(a))
    (rank, alpha), _ = Counter(alphas.values()).most_common(1)[0]
    other = {endings[name]: pair for name, pair in alphas.items() if pair != (rank, alpha)}
    first_module = next(iter(modules.values()))
    return {
        "peft_type": "LORA",
        "r": rank,
        "lora_alpha": alpha,
        "rank_pattern": {ending: pair[0] for ending, pair in other.items()},
        "alpha_pattern": {ending: pair[1] for ending, pair in other.items()},
        "lora_dropout": first_module.dropout.p,
        "target_modules": sorted(set(endings.values())),
        "fan_in_fan_out": weights.transposed(first_module),
        "bias": "none",
    }, tensors


@torch.no_grad()
def blocks(module: LoraLinear) -> tuple[torch.Tensor, torch.Tensor]:
    """(A' (R, d_in), B' (d_out, R)) of all the parts of one module, float32."""
    parts = module.ordered()
    a = torch.cat([part.A.float() for part in parts])
    b = a.new_zeros(weights.sizes(module)[1], len(a))
    column = 0
    for part in parts:
        rank = len(part.A)
        b[part.start : part.start + part.size, column : column + rank] = part.B
        column += rank
    return a, b


def shortest(model: nn.Module, names: set[str]) -> dict[str, str]:
    """name -> its ending by which peft selects it, as short as possible without selecting any other module of the model."""
    every = [name for name, _ in model.named_modules()]
    for length in range(1, max(name.count(".") for name in names) + 2):
        endings = {name: ".".join(name.split(".")[-length:]) for name in names}
        suffixes = tuple(f".{ending}" for ending in endings.values())
        if {name for name in every if f".{name}".endswith(suffixes)} == names:
            return endings
    return {name: name for name in names}


def insert(backbone: Backbone, config: dict[str, Any], tensors: Tensors) -> Tensors:
    """Put a peft LoRA into the model, each module with its own rank and scaling; returns the tensors that are no LoRA's.

    Raises UserError, and changes nothing, for anything that is not W x + scaling B A x on a linear layer of this model.
    """
    refuse_extras(config)
    pairs: dict[str, Tensors] = {}
    for key, tensor in tensors.items():
        if match := _KEY.fullmatch(key):
            pairs.setdefault(match[1], {})[match[2]] = tensor
    require(bool(pairs), "the adapter has no LoRA tensor (base_model.model.*.lora_A.weight): is it another method?")
    wrappers = [(*place(backbone, name), wrap(backbone, name, pair, config)) for name, pair in pairs.items()]
    trained = any(bool(pair["B"].any()) for pair in pairs.values())
    require(trained, "the adapter's B is zero in every module: it was never trained")
    for parent, attribute, wrapper in wrappers:
        setattr(parent, attribute, wrapper.eval().requires_grad_(False))
    return {key: tensor for key, tensor in tensors.items() if not _KEY.fullmatch(key)}


def refuse_extras(config: dict[str, Any]) -> None:
    """Raise UserError if the settings ask for more than LoRA: DoRA, biases, an initialisation that changes the base, ..."""
    on = [key for key, value in config.items() if key not in PLAIN and value and (key, value) != ("bias", "none")]
    start = config.get("init_lora_weights", True)
    if not (isinstance(start, bool) or start == "gaussian"):
        on.append(f"init_lora_weights={start}")
    if on:
        raise UserError(f"this peft LoRA uses {', '.join(sorted(on))}, which is not supported here: merge it with peft")


def place(backbone: Backbone, name: str) -> tuple[nn.Module, str]:
    """(parent, attribute) of a module that peft names: in the model or, for an adapter of the bare body, in the body.

    Of a matrix whose rows are regrouped that is the one inside.
    """
    parent, _, attribute = name.rpartition(".")
    for root in (backbone.model, backbone.decoder):
        try:
            module = root.get_submodule(name)
            regrouped = isinstance(module, weights.HeadwiseMatrix)
            return (module, "matrix") if regrouped else (root.get_submodule(parent), attribute)
        except AttributeError:
            continue
    raise UserError(f"the adapter changes {name}, which {backbone.label or 'this backbone'} lacks: name the adapter's own base")


def wrap(backbone: Backbone, name: str, pair: Tensors, config: dict[str, Any]) -> LoraLinear:
    """The module of that name with the update of one (A, B) over all its rows. Raises UserError if they do not fit."""
    parent, attribute = place(backbone, name)
    base = getattr(parent, attribute)
    require(weights.is_matrix(base) and set(pair) == {"A", "B"}, f"the adapter's {name} is not one A and one B on a linear layer")
    d_in, out = weights.sizes(base)
    shaped = all(tensor.ndim == 2 for tensor in pair.values()) and len(pair["A"]) > 0
    require(shaped, f"the adapter's {name} has A and B of unfit shapes {[tuple(pair[letter].shape) for letter in 'AB']}")
    rank, config_rank = len(pair["A"]), patterned(name, config, "rank_pattern", "r")
    require(rank == config_rank, f"the adapter's {name} has rank {rank}, its adapter_config.json says {config_rank}")
    alpha = patterned(name, config, "alpha_pattern", "lora_alpha")
    part = LoraPart(0, out, d_in, rank, "kaiming", 1.0, backbone.device)
    fill(dict(part.named_parameters()), pair, f"{name} differs in this backbone; name the adapter's own base")
    if isinstance(parent, weights.HeadwiseMatrix):
        part.B.data = parent.together(part.B.data)
    return LoraLinear(base, {"all": part}, alpha / (math.sqrt(rank) if config.get("use_rslora") else rank))


def patterned(name: str, config: dict[str, Any], patterns: str, default: str) -> float:
    """A module's own rank or alpha: that of the first of config[patterns] that matches an end of its name, as in peft, or
    config[default].

    Raises UserError if that is no positive finite number, or if a pattern is not safe to match (`_TAME`).
    """
    numbers = config.get(patterns) or {}
    require(isinstance(numbers, dict), f"adapter_config.json: {patterns} must map modules to numbers, not be {numbers!r:.60}")
    for pattern in numbers:
        tame = len(pattern) <= 200 and _TAME.fullmatch(pattern) and len(re.findall(r"(?<!\\)[*+]", pattern)) <= 2
        require(bool(tame), f"adapter_config.json: {patterns} has {pattern!r:.60}; write names of modules, or simple patterns")
    try:
        number = next((value for key, value in numbers.items() if re.match(rf"(.*\.)?({key})$", name)), config.get(default))
    except re.error as error:
        raise UserError(f"adapter_config.json: {patterns} has an invalid regular expression: {error}") from None
    if isinstance(number, bool) or not isinstance(number, int | float) or not 0 < number <= sys.float_info.max:
        raise UserError(f"adapter_config.json: {default} of {name} must be a number above 0, not {number!r:.60}")
    return float(number)

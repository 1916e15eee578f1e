"""The optimizer: a parameter group for each factor of the learning rate, and its state as named tensors."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from lora_repro.backbone.nf4 import bitsandbytes

if TYPE_CHECKING:
    from lora_repro.train.loop import TrainConfig

Scalars = dict[str, dict[str, Any]]


def adamw(parameters: Mapping[str, nn.Parameter], rates: Mapping[str, float], config: TrainConfig) -> torch.optim.Optimizer:
    """AdamW over all parameters. `rates`: name -> factor of the learning rate, where it is not 1.

    `config.paged`: bitsandbytes keeps the state in memory that a GPU moves to the host when its own runs short (Dettmers et al.
    2023, Section 3, "Paged Optimizers"). On a CPU nothing is paged, but the last bits of an update differ from torch's.
    """
    groups: dict[float, list[nn.Parameter]] = {}
    for name, parameter in parameters.items():
        groups.setdefault(rates.get(name, 1.0), []).append(parameter)
    members = [{"params": group, "factor": factor} for factor, group in groups.items()]
    betas = (float(config.beta1), float(config.beta2))  # torch refuses a whole number, as yaml reads 0
    settings: Any = {"lr": config.lr, "betas": betas, "eps": config.eps, "weight_decay": config.weight_decay}
    if config.paged:
        warnings.filterwarnings("ignore", "Paged optimizers are not supported on CPU")  # see above; comes with the first step
        optimizer: torch.optim.Optimizer = bitsandbytes().optim.PagedAdamW(members, **settings)
        return optimizer
    return torch.optim.AdamW(members, **settings, fused=True)


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Give every group this learning rate, times its own factor."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["factor"]


def state_of(optimizer: torch.optim.Optimizer, parameters: Mapping[str, nn.Parameter]) -> tuple[dict[str, torch.Tensor], Scalars]:
    """The state of any optimizer for each parameter: tensors as `key.parameter`, and the values that are no tensors."""
    tensors: dict[str, torch.Tensor] = {}
    rest: Scalars = {}
    for name, parameter in parameters.items():
        for key, value in optimizer.state.get(parameter, {}).items():
            if isinstance(value, torch.Tensor):
                tensors[f"{key}.{name}"] = value
            else:
                rest.setdefault(name, {})[key] = value
    return tensors, rest


def restore(
    optimizer: torch.optim.Optimizer, parameters: Mapping[str, nn.Parameter], tensors: Mapping[str, torch.Tensor], rest: Scalars
) -> None:
    """Put back what `state_of` gave, on each parameter's device and in its memory layout.

    A file stores every tensor in row-major order. A fused step walks through parameter and moments in memory order: with a
    parameter of another layout (PiSSA's, from an SVD) each value would get the moments of another one.
    """
    states: Scalars = {name: dict(rest.get(name, {})) for name in parameters}
    for key, value in tensors.items():
        kind, _, name = key.partition(".")
        alike = value.shape == parameters[name].shape
        states[name][kind] = torch.empty_like(parameters[name], dtype=value.dtype).copy_(value) if alike else value
    names = {id(parameter): name for name, parameter in parameters.items()}
    order = [names[id(parameter)] for group in optimizer.param_groups for parameter in group["params"]]
    state = {index: states[name] for index, name in enumerate(order) if states[name]}
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    if buffer := getattr(optimizer, "get_state_buffer", None):  # bitsandbytes': what it loads would no longer be paged
        for parameter, own in optimizer.state.items():
            for key, value in own.items():
                if isinstance(value, torch.Tensor) and value.shape == parameter.shape:
                    own[key] = buffer(parameter, dtype=value.dtype).copy_(value)

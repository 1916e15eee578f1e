"""AdapterFusion (Pfeiffer et al. 2021, arXiv 2005.00247): trained attention over the frozen adapters of several tasks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, final

import torch
from torch import nn

from lora_repro.config.validation import Range
from lora_repro.methods._after_mlp import adapt_output, after_mlp
from lora_repro.methods._bottleneck import Bottleneck, biases_moved
from lora_repro.methods.base import AbstractMethod, Shape, Trainable, match_dtype, named, require

if TYPE_CHECKING:
    from lora_repro.backbone.addressed import AddressedModel
    from lora_repro.backbone.model import Backbone

STD = 0.02  # of query's and key's weights; their biases start at zero
OFF = 1e-6  # off the diagonal of V at the start, as in the sources' code


class Fused(nn.Module):
    """h + sum_n a_n V u_n, with u_n = up_n(act(down_n(h))) of adapter n and a = softmax over n of (Q h + q) · (K u_n + k).

    h (..., d). Q, K, V (d, d), q and k (d); V starts at the identity. The adapters are frozen, and zero until they are filled.
    """

    def __init__(self, width: int, adapters: Sequence[Bottleneck], device: torch.device):
        super().__init__()
        self.adapters = nn.ModuleList(adapters)
        self.query = nn.Linear(width, width, device=device)
        self.key = nn.Linear(width, width, device=device)
        self.value = nn.Linear(width, width, bias=False, device=device)
        for linear in (self.query, self.key):
            nn.init.normal_(linear.weight, 0.0, STD)
            nn.init.zeros_(linear.bias)
        with torch.no_grad():
            self.value.weight.fill_(OFF).fill_diagonal_(1.0)
        self.seen: torch.Tensor | None = None  # sum of a over positions (N), float64, once it is watched
        self.positions = 0
        self.backbone: AddressedModel | None = None  # set while watched: it knows which positions are padding

    def forward(self, h: torch.Tensor) -> torch.Tensor:
        x = match_dtype(h, self.query.bias.dtype)
        outputs = torch.stack([adapter(x) - x for adapter in self.adapters], dim=-2)  # (..., N, d)
        scores = (self.key(outputs) @ self.query(x).unsqueeze(-1)).squeeze(-1)  # (..., N)
        share = scores.float().softmax(dim=-1)
        if self.seen is not None:
            real = self.backbone.real if self.backbone else None
            flat = (share if real is None else share[real]).detach().reshape(-1, share.shape[-1])
            self.seen += flat.sum(0).double().cpu()
            self.positions += len(flat)
        mixture = (share.unsqueeze(-2).to(outputs.dtype) @ self.value(outputs)).squeeze(-2)
        out: torch.Tensor = h + mixture.to(h.dtype)
        return out

    def far(self) -> torch.Tensor:
        """||I - V||^2, the square of the Frobenius norm."""
        weight = self.value.weight
        return (torch.eye(len(weight), device=weight.device) - weight).square().sum()


@final
@dataclass(frozen=True, kw_only=True)
class AdapterFusion(AbstractMethod):
    """In every block the frozen adapters of several finished adapter_p runs, and a trained `Fused` over them.

    `sources` names the tasks of these runs, in the order of `starts`; each run must have this `bottleneck` and `activation`.
    `penalty` times the sum over blocks of ||I - V||^2 is added to the loss. The head is new. Count: L (3 d^2 + 2 d), whatever
    the number of sources.
    """

    name: str = "adapter_fusion"
    sources: Sequence[str] = ()
    bottleneck: Annotated[int, Range(1)] = 64
    activation: Literal["relu", "gelu", "silu", "tanh"] = "relu"
    penalty: Annotated[float, Range(0)] = 0.01

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "sources", tuple(self.sources))

    def check_starts(self, n: int, tasks: Sequence[str] = ()) -> None:
        fits = n == len(self.sources) > 0
        require(
            fits,
            f"adapter_fusion fuses the adapters of other runs: starts=[{{task: rte, method: adapter_p}}, ...] has {n} of them, "
            f"method.sources names {len(self.sources)}",
        )
        sources, start_tasks = ", ".join(self.sources), ", ".join(tasks)
        fits = not tasks or sources == start_tasks
        require(fits, f"method.sources names {sources}, but starts are runs on {start_tasks}: name the same, in order")

    def insert(self, backbone: Backbone) -> Trainable:
        require(len(self.sources) > 0, "adapter_fusion needs method.sources, the tasks whose adapters it fuses")
        width, device = backbone.hidden_size, backbone.device
        parts: list[Fused] = []
        for module in after_mlp(backbone, 0):
            adapters = [Bottleneck(width, self.bottleneck, self.activation, "zero_up", 1.0, device=device) for _ in self.sources]
            for parameter in (p for adapter in adapters for p in adapter.parameters()):
                nn.init.zeros_(parameter)
            part = Fused(width, adapters, device)
            module.add_module("adapter", part)
            module.register_forward_hook(adapt_output)
            parts.append(part)
        parameters = [p for part in parts for linear in (part.query, part.key, part.value) for p in linear.parameters()]
        frozen = [p for part in parts for p in part.adapters.parameters()]

        def penalty() -> torch.Tensor:
            return self.penalty * torch.stack([part.far() for part in parts]).sum()

        return Trainable(
            method=named(backbone.model, parameters),
            kept=named(backbone.model, frozen),
            penalty=penalty if self.penalty else None,
        )

    def begin(self, trainable: Trainable, starts: Sequence[Mapping[str, torch.Tensor]]) -> None:
        """Fill the frozen adapters. Raises UserError if those of a run have another shape or were never trained."""
        self.check_starts(len(starts))
        for number, (source, tensors) in enumerate(zip(self.sources, starts, strict=True)):
            parameters = {n: p for n, p in trainable.kept.items() if f".adapter.adapters.{number}." in n}
            theirs = {name: name.replace(f".adapter.adapters.{number}.", ".adapter.") for name in parameters}
            wrong = [theirs[n] for n, p in parameters.items() if theirs[n] not in tensors or tensors[theirs[n]].shape != p.shape]
            require(not wrong, f"the run of {source} has no adapter_p of bottleneck {self.bottleneck} ({(wrong or [''])[0]})")
            moved = biases_moved({name: tensors[name] for name in theirs.values()})
            require(moved, f"the adapters of {source} were never trained: their biases are all zero; train that run first")
            with torch.no_grad():
                for name, parameter in parameters.items():
                    parameter.copy_(tensors[theirs[name]])

    def count(self, shape: Shape) -> int:
        return shape.n_layers * (3 * shape.hidden_size**2 + 2 * shape.hidden_size)

    def watch(self, backbone: AddressedModel) -> Callable[[], dict[str, Any]]:
        """`fusion`: {source: its mean attention weight in each block}, over all positions of the answered inputs."""
        parts = [module for module in backbone.model.modules() if isinstance(module, Fused)]
        for part in parts:
            part.seen, part.positions = torch.zeros(len(self.sources), dtype=torch.float64), 0
            part.backbone = backbone

        def found() -> dict[str, Any]:
            shares = [(part.seen / max(1, part.positions)).tolist() for part in parts if part.seen is not None]
            for part in parts:
                part.seen = part.backbone = None
            return {"fusion": {source: [round(row[n], 6) for row in shares] for n, source in enumerate(self.sources)}}

        return found

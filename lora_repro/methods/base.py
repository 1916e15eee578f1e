"""What every adaptation method offers: change a frozen backbone in place and declare what is trained."""

from __future__ import annotations

import abc
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self, cast, final

import torch
from torch import nn

from lora_repro.backbone import weights
from lora_repro.backbone.addressed import AddressedModel
from lora_repro.backbone.architecture import KINDS
from lora_repro.config.validation import check
from lora_repro.errors import UserError
from lora_repro.methods.update import Update

if TYPE_CHECKING:
    from lora_repro.backbone.model import Backbone


def require(condition: bool, message: str) -> None:
    """Raise UserError(message) unless the condition holds."""
    if not condition:
        raise UserError(message)


def named(model: nn.Module, parameters: Iterable[nn.Parameter]) -> dict[str, nn.Parameter]:
    """The given parameters under their names in the model, in the model's order; a tied one appears once.

    Raises ValueError when one of them is not registered in the model: it would be neither moved nor saved
    with it.
    """
    ids = {id(parameter) for parameter in parameters}
    named_parameters = {name: parameter for name, parameter in model.named_parameters() if id(parameter) in ids}
    if len(named_parameters) != len(ids):
        raise ValueError(f"{len(ids) - len(named_parameters)} declared parameters are not registered in the model")
    return named_parameters


def biases(module: nn.Module) -> list[nn.Parameter]:
    """The bias vectors of all linear, convolution and normalisation modules inside `module`."""
    biases = (getattr(part, "bias", None) for part in module.modules())
    return [bias for bias in biases if isinstance(bias, nn.Parameter)]


def size(parameters: Iterable[torch.Tensor]) -> int:
    """Number of values in all the tensors together."""
    return sum(parameter.numel() for parameter in parameters)


def match_dtype(x: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """x in the dtype of the weights that multiply it; unchanged under autocast, which chooses the dtype."""
    return x if torch.is_autocast_enabled(x.device.type) else x.to(dtype)


@dataclass(frozen=True)
class Trainable:
    """The parameters that a method trains, by name in the model: its own in `method`, the prediction head's in `head`.

    A parameter that the model holds in several places is trained, counted and saved once, under its first name.
    `rates`: name -> factor of the learning rate, where it is not 1. `kept`: frozen parameters that are not the backbone's, by
    name; they are saved with the trained ones. `penalty`: gives a scalar that is added to the loss of each step.
    """

    method: dict[str, nn.Parameter] = field(default_factory=dict)
    head: dict[str, nn.Parameter] = field(default_factory=dict)
    rates: dict[str, float] = field(default_factory=dict)
    kept: dict[str, nn.Parameter] = field(default_factory=dict)
    penalty: Callable[[], torch.Tensor] | None = None

    @property
    def named(self) -> dict[str, nn.Parameter]:
        """All trained parameters, the method's first."""
        return {**self.method, **self.head}

    @property
    def saved(self) -> dict[str, nn.Parameter]:
        """What a finished run saves: all trained parameters, and `kept`."""
        return {**self.named, **self.kept}

    def parameters(self) -> list[nn.Parameter]:
        """All trained parameters, without names."""
        return [*self.method.values(), *self.head.values()]

    def counts(self, model: nn.Module) -> dict[str, int]:
        """Trained values {method, head} and all values of the adapted model {total}, tied ones once."""
        return {
            "method": size(self.method.values()),
            "head": size(self.head.values()),
            "total": weights.count_values(model),
        }


@dataclass(frozen=True)
class Shape:
    """The sizes of a backbone that the parameter-count formulas use; take it before a method is applied.

    Every transformer block is assumed to have the shape of the first. Symbols: L = n_layers, d = hidden_size.
    """

    n_layers: int
    hidden_size: int
    kv_size: int  # width of the keys (and of the values): n_kv_heads * head_dim
    matrices: dict[str, tuple[tuple[int, int], ...]]  # kind -> (d_in, d_out) of each such matrix in one block
    layer_parameters: int  # all values of one block; GPT-2: 12 d^2 + 13 d
    layer_biases: int  # bias values among them, those of LayerNorms included; 0 if the architecture has none
    other_biases: int  # bias values outside the blocks (final LayerNorm, embedding LayerNorm, pooler), without the head's
    parameters: int  # all values of the model, tied ones once
    head_parameters: (
        int  # values of the final prediction layer with its bias, tied or not; of a new head, all its values
    )
    new_head_parameters: int = 0  # values of the head that a classification task adds
    embedding_size: int = 0  # width of the token embeddings, where it is not d (ELECTRA small); 0: d

    @classmethod
    def of(cls, backbone: AddressedModel) -> Shape:
        """Read the sizes of a backbone."""
        layer = backbone.layers[0]
        matrices = {
            kind: tuple((weights.sizes(p.module)[0], p.size) for p in backbone.projections(0, kind))
            for kind in KINDS
        }
        per_layer = size(biases(layer))
        new = {id(p): p for module in backbone.classifier for p in module.parameters()}
        new_head = size(new.values())
        old_biases = size(bias for bias in biases(backbone.decoder) if id(bias) not in new)
        return cls(
            n_layers=backbone.n_layers,
            hidden_size=backbone.hidden_size,
            kv_size=backbone.kv_size,
            matrices=matrices,
            layer_parameters=weights.count_values(layer),
            layer_biases=per_layer,
            other_biases=old_biases - backbone.n_layers * per_layer,
            parameters=weights.count_values(backbone.model),
            head_parameters=new_head or size(backbone.head.module.parameters()),
            new_head_parameters=new_head,
            embedding_size=backbone.embedding.embedding_dim,
        )


@dataclass(frozen=True, kw_only=True)
class AbstractMethod(abc.ABC):
    """One way to adapt a frozen backbone. Subclasses are final; their constructor is the schema."""

    name: str = ""  # the stem of its file; informational
    needs_model: ClassVar[bool] = True  # False: the row's outputs come from no model
    sized: ClassVar[str] = ""  # the setting that its number of trained values grows with, if there is one (`nearest`)

    def __post_init__(self) -> None:
        """Raise UserError for a setting that its annotation does not allow: `rank: Annotated[int, Range(1)] = 4`."""
        cls = type(self)
        if cls.__module__.startswith("lora_repro."):  # else what builds it from a configuration has checked it
            check(f"{cls.__module__}.{cls.__qualname__}", vars(self), "method")

    @property
    def virtual_tokens(self) -> tuple[int, int]:
        """(prefix, infix): placeholder positions that each sequence leaves before and after its context."""
        return (0, 0)

    @property
    def positions(self) -> int:
        """Positions of the backbone's context that the method takes up; by default those of its virtual tokens."""
        return sum(self.virtual_tokens)

    @property
    def covers_head(self) -> bool:
        """Whether the method itself changes a classification task's new head; else that is trained and counted separately."""
        return False

    @abc.abstractmethod
    def insert(self, backbone: Backbone) -> Trainable:
        """Change backbone.model in place and return what is trained. Called by `apply`.

        New values are drawn from torch's global generator, so the caller's torch.manual_seed fixes them.
        """

    @abc.abstractmethod
    def count(self, shape: Shape) -> int:
        """Closed-form number of trained method parameters, without the head's."""

    def count_head(self, shape: Shape) -> int:
        """Closed-form number of trained parameters of the prediction head: by default all of a classification task's new one."""
        return 0 if self.covers_head else shape.new_head_parameters

    @final
    def nearest(self, shape: Shape, budget: int) -> Self:
        """This method with the value of its `sized` setting, at least 1, at which `count` is nearest to `budget`.

        Raises UserError for a method without one.
        """
        require(bool(self.sized), f"{self.name} has no size to choose")
        one, two = (self._resized(n).count(shape) for n in (1, 2))  # `count` is linear in it
        return self._resized(max(1, 1 + round((budget - one) / (two - one))))

    def _resized(self, n: int) -> Self:
        changes: dict[str, Any] = {self.sized: n}
        return replace(self, **changes)

    def note(self, shape: Shape) -> str:
        """What a reader of the row's label must know about this method on this backbone; usually empty."""
        return ""

    def check_starts(self, n: int, tasks: Sequence[str] = ()) -> None:
        """Raise UserError unless a run of this method can start from n other runs; 0 starts from the backbone alone.

        tasks: what these runs were trained on, where it is known.
        """
        require(n <= 1, f"{self.name} can start from one run, not from {n}: shorten starts")

    def begin(self, trainable: Trainable, starts: Sequence[Mapping[str, torch.Tensor]]) -> None:
        """Take over weights from the runs that this run starts from, given as their trained tensors by name.

        By default: the method's own weights and `kept`, all from one run; the head stays newly initialised. Raises UserError if
        the weights do not fit, or if that run trained nothing, where its weights show it (`trained`).
        """
        self.check_starts(len(starts))
        tensors, parameters = starts[0], {**trainable.method, **trainable.kept}
        wrong = [name for name, p in parameters.items() if name not in tensors or tensors[name].shape != p.shape]
        if wrong or not parameters:
            name = min(wrong, default="nothing to start from")
            raise UserError(f"its weights do not fit this run's method ({name}): give both runs the same method settings")
        with torch.no_grad():
            for name, parameter in parameters.items():
                parameter.copy_(tensors[name])
        require(self.trained(parameters), "its trained weights are all zero where training moves first: that run trained nothing")

    def watch(self, backbone: AddressedModel) -> Callable[[], dict[str, Any]]:
        """Start observing the model while it answers; the returned function gives the observations, for the record. By default
        there are none.
        """
        return dict

    def trained(self, values: Mapping[str, torch.Tensor]) -> bool:
        """Whether these values of the method's parameters can be trained ones; by default, unless all are zero."""
        return any(bool(value.detach().any()) for value in values.values())

    @final
    def apply(self, model: Backbone | AddressedModel | nn.Module) -> Trainable:
        """Insert the method into the model and leave requires_grad on exactly the declared parameters.

        The new head of a classification task is trained and counted separately, unless the method covers it. Apply a method once:
        it cannot be undone. A plain transformers model, with or without a head, is accepted unless the method needs slots for
        virtual tokens in its inputs. Raises UserError if the method does not fit the model, or one has updated it before.
        """
        backbone = AddressedModel.of(model)
        again = any(isinstance(module, Update) for module in backbone.model.modules())
        require(not again, "a method has updated this model before: `strip` it first, or apply both at once as Combined")
        slots = sum(self.virtual_tokens) and backbone is not model
        require(not slots, f"{self.name} needs virtual tokens in its inputs: apply it to a backbone, not to a plain model")
        insertion = self.insert(cast("Backbone", backbone))  # no insert asks for a tokenizer
        head = [] if self.covers_head else backbone.classifier
        new = named(backbone.model, (p for module in head for p in module.parameters()))
        method = {name: parameter for name, parameter in insertion.method.items() if name not in new}
        trainable = replace(insertion, method=method, head={**insertion.head, **new})
        named(backbone.model, trainable.saved.values())  # each of them must be part of the model
        backbone.model.train(backbone.model.training)  # inserted modules start in train mode
        backbone.model.requires_grad_(False)  # also what `insert` created and did not declare
        for parameter in trainable.parameters():
            parameter.requires_grad_(True)
        return trainable

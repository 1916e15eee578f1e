"""The paper's scale rehearsed without a GPU, on tensors with a device, a type and a shape but no values.

- `rehearse`: a method's loss and answers on a fake `cuda:0`. The host's tensors are real, so a tensor that was left there is
  refused beside one of the card, and every operation at which the host would wait for the card is noted.
- `memory`: the peak of two training steps beside `plan`'s estimate. torch's build for CPUs has no backward pass on a fake card,
  so these tensors are on a fake host, and what a card computes otherwise is imitated (`AsOnACard`).

Not shown: kernels, speed, fragmentation, workspaces inside an operation, and 4-bit matrices.
"""

from __future__ import annotations

import ctypes
import sys
import weakref
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import nn
from torch._subclasses import FakeTensor, FakeTensorMode
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from lora_repro.backbone.model import Backbone
from lora_repro.backbone.spec import BackboneSpec
from lora_repro.backbone.weights import round_frozen
from lora_repro.config.compose import build, compose
from lora_repro.costs import arithmetic
from lora_repro.costs.forecast import workload
from lora_repro.costs.meta_model import build_meta_model, shape_of
from lora_repro.data import Batch, Encoded, collate
from lora_repro.methods.base import AbstractMethod
from lora_repro.objectives.base import Objective
from lora_repro.run.stages import backbone_of, objective_of
from lora_repro.train.optimizer import adamw
from lora_repro.train.precision import autocast

CARD, HOST, HALF = torch.device("cuda", 0), torch.device("cpu"), torch.bfloat16
CORE = Path(torch.__file__).parent / "lib" / "libc10.so"  # Linux's
CUDA = 1  # c10::DeviceType::CUDA
REGISTRY = "_ZN3c104impl26device_guard_impl_registryE"
REGISTRAR = "_ZN3c104impl24DeviceGuardImplRegistrarC1ENS_10DeviceTypeEPKNS0_24DeviceGuardImplInterfaceE"
aten: Any = torch.ops.aten
SINGLE = (F.softmax, torch.softmax, torch.Tensor.softmax, F.log_softmax, torch.log_softmax, F.layer_norm)
E2E, RTE = ["profile=paper", "experiment=e2e", "backbone=gpt2_medium"], ["profile=paper", "experiment=glue", "task=rte"]
CASES = [  # the rows whose memory is published
    *([*E2E, f"row/e2e={row}"] for row in ("lora", "full", "ft_top2", "adapter_h", "prelayer")),
    *([*RTE, "backbone=roberta_large", f"row/glue={row}"] for row in ("lora", "full", "bitfit", "adapter_p")),
    *([*RTE, "backbone=deberta_v2_xxlarge", f"row/glue={row}"] for row in ("lora", "full")),
]


class Card(TorchDispatchMode):
    """A fake `cuda:0` beside the real host. `waits`: each operation whose result the host had to wait for, and its place.

    What is copied to the host gets made-up values, which differ from each other, so that a beam search can go on.
    """

    def __init__(self) -> None:
        super().__init__()
        self.fake, self.waits = FakeTensorMode(allow_non_fake_inputs=True), list[str]()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if torch.is_inference_mode_enabled() and func.namespace == "aten" and func._can_decompose():
            with self:  # in that mode torch leaves it to us to take an operation apart
                return func.decompose(*args, **kwargs)
        fakes = [value for value in tree_leaves((args, kwargs)) if isinstance(value, FakeTensor)]
        on_card = any(value.device == CARD for value in fakes)
        device = kwargs.get("device")
        to = None if device is None else torch.device(device).type
        if func is aten._pin_memory.default:
            return args[0]
        if func is aten._to_copy.default and not fakes and to == "cuda":
            with self.fake:
                return torch.empty(args[0].shape, dtype=kwargs.get("dtype") or args[0].dtype, device=CARD)
        if on_card and func is aten._local_scalar_dense.default:
            self._note("one value")
            return 1
        if on_card and (to == "cpu" or (func is aten.copy_.default and args[0].device == HOST)):
            self._note("a copy")
            return _made_up(args[0].shape, kwargs.get("dtype") or args[0].dtype)
        if not fakes and to in (None, "cpu"):
            return func(*args, **kwargs)
        with self.fake:
            return func(*args, **kwargs)

    def _note(self, what: str) -> None:
        frame = sys._getframe()
        while frame.f_back and "/lora_repro/" not in frame.f_code.co_filename:
            frame = frame.f_back
        place = frame.f_code.co_qualname.split(".<locals>")[0]
        self.waits.append(f"{what}: {Path(frame.f_code.co_filename).stem}.{place}")


def _made_up(shape: Any, dtype: torch.dtype) -> torch.Tensor:
    order = torch.arange(1, shape.numel() + 1).view(shape)
    return (-order / (shape.numel() + 1)).to(dtype) if dtype.is_floating_point else (order % 97).to(dtype)


@contextmanager
def guarded() -> Iterator[None]:
    """Let a torch built for CPUs name a CUDA device: slicing asks for the device's guard, and gets the host's, which is idle."""
    core = ctypes.CDLL(str(CORE))
    register = core[REGISTRAR]
    register.argtypes, register.restype = [ctypes.c_void_p, ctypes.c_int8, ctypes.c_void_p], None
    table = (ctypes.c_void_p * (CUDA + 1)).in_dll(core, REGISTRY)
    own, nothing = table[CUDA], ctypes.create_string_buffer(8)  # the registrar itself has no fields
    register(ctypes.addressof(nothing), CUDA, table[0])
    try:
        yield
    finally:
        register(ctypes.addressof(nothing), CUDA, own)


@contextmanager
def on_a_card() -> Iterator[Card]:
    """In this context tensors may be on a fake `cuda:0` in bf16 autocast; there are no gradients."""
    with ExitStack() as stack:
        stack.enter_context(guarded())
        for name, value in (
            ("torch.cuda._lazy_init", lambda: None),
            ("torch.cuda.set_device", lambda device: None),
            ("torch.cuda.amp.common.amp_definitely_not_available", lambda: False),
            ("torch.cuda.is_bf16_supported", lambda including_emulation=True: True),
            ("torch.nn.init.trunc_normal_", lambda tensor, *given: tensor),  # draws until the values suit it
        ):
            stack.enter_context(mock.patch(name, value))
        stack.enter_context(torch.no_grad())
        stack.callback(torch._C._set_only_lift_cpu_tensors, torch._C._only_lift_cpu_tensors())
        torch._C._set_only_lift_cpu_tensors(True)  # torch.tensor(..., device=CARD) is then a copy to it
        yield stack.enter_context(Card())


def place(model: nn.Module) -> None:
    """`model.to(CARD)`, which torch refuses for fake parameters: moves what is registered, tied ones once, and nothing else."""
    parameters: dict[int, nn.Parameter] = {}
    for module in model.modules():
        for name, value in module._parameters.items():
            if value is not None and value.device != CARD:
                own = parameters.setdefault(id(value), nn.Parameter(value.detach().to(CARD), requires_grad=value.requires_grad))
                module._parameters[name] = own
        for name, tensor in module._buffers.items():
            module._buffers[name] = tensor if tensor is None else tensor.to(CARD)


def made(words: Sequence[str], layers: int | None) -> tuple[Any, Objective, BackboneSpec, AbstractMethod]:
    """A configuration, with its backbone at its true shape, or with fewer `layers` of it, and without values."""
    config = compose(list(words))
    spec, shape = backbone_of(config), shape_of(backbone_of(config))
    if layers:
        shape["n_layer" if "n_layer" in shape else "num_hidden_layers"] = layers
    return config, objective_of(config), replace(spec, source="random", shape=shape, quantise=None), build(config.method)


def row_of(method: AbstractMethod, length: int, scored: int) -> Encoded:
    """A row of `length` positions, the method's among them, whose last `scored` are predicted."""
    prefix, infix = method.virtual_tokens
    prompt = length - scored
    virtual = [*range(prefix), *[-1] * (prompt - prefix - infix), *range(prefix, prefix + infix), *[-1] * scored]
    return Encoded([5] * length, virtual, [0] * prompt + [1] * scored, prompt)


@dataclass(frozen=True)
class Rehearsed:
    """The loss of a batch, the places of all parameters, and where the host waited: in the loss, and while answering."""

    loss: torch.Tensor
    places: set[torch.device]
    training: list[str]
    answering: list[str]


def rehearse(words: Sequence[str], layers: int | None = None) -> Rehearsed:
    """A batch's loss, then the answers to its inputs, in the order of `run.stages`. Raises UserError as the stages do."""
    _, objective, spec, method = made(words, layers)
    with on_a_card() as card:
        with card.fake:
            backbone = spec.load()
        place(backbone.model)
        with card.fake:
            method.apply(backbone)
        place(backbone.model)
        round_frozen(backbone.model, HALF, backbone.embedding)
        backbone.model.train()
        virtual = sum(method.virtual_tokens)
        card.waits.clear()
        with autocast(CARD, HALF):
            batch = collate([row_of(method, 24 + virtual, 8)] * 2, backbone.pad).to(CARD)
            loss = objective.summed(backbone, batch, 0.1)
            training = list(card.waits)
            card.waits.clear()
            backbone.model.eval()
            objective.answer(backbone, [row_of(method, 16 + virtual, 0)] * 2, lambda n: None)
        return Rehearsed(loss, {value.device for value in backbone.model.parameters()}, training, list(card.waits))


class AsOnACard(TorchFunctionMode):
    """What a card keeps for the backward pass: dropout a byte a value, attention no scores, softmax and norms float32."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        options = dict(kwargs or {})
        if func is F.dropout:
            p, training = (options.get(name, (*args, 0.5, True)[at]) for at, name in ((1, "p"), (2, "training")))
            return torch.native_dropout(args[0], p, True)[0] if p and training else args[0]
        if func is F.scaled_dot_product_attention:
            options["dropout_p"] = 0.0  # with dropout the host's kernel would keep the scores
        if func in SINGLE:
            args = tuple(value.float() if isinstance(value, torch.Tensor) and value.dtype == HALF else value for value in args)
        return func(*args, **options)


class Held(TorchDispatchMode):
    """Counts the bytes of all storages that are alive: `now`, and at most so far."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.most = 0
        self.known = set[int]()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        self.hold(tree_leaves(output))
        return output

    def hold(self, values: Sequence[Any]) -> None:
        for value in (value for value in values if isinstance(value, torch.Tensor)):
            storage = value.untyped_storage()
            if storage._cdata not in self.known:
                self.known.add(storage._cdata)
                self.now += storage.nbytes()
                self.most = max(self.most, self.now)
                weakref.finalize(storage, self._drop, storage._cdata, storage.nbytes())

    def _drop(self, key: int, size: int) -> None:
        self.known.discard(key)
        self.now -= size


def memory(words: Sequence[str], layers: int | None = None) -> tuple[int, int]:
    """(`plan`'s estimate, the measured peak) in bytes of a training on a card in bf16, on micro-batches of the longest rows."""
    config, objective, spec, method = made(words, layers)
    outline = build_meta_model(spec, method)
    work = replace(workload(config, outline, None)[0], new=0)
    n_targets = round(work.scored) if objective.decoding.max_new_tokens and spec.head == "lm" else 0
    fake = FakeTensorMode(allow_non_fake_inputs=True)
    draw = mock.patch("torch.nn.init.trunc_normal_", lambda tensor, *given: tensor)
    with mock.patch.object(Backbone, "batching", "padded"), AsOnACard(), draw:
        with fake:
            backbone = spec.load()
            trainable = method.apply(backbone)
            round_frozen(backbone.model, HALF, backbone.embedding)
            optimizer = adamw(trainable.named, trainable.rates, build(config.train))
        backbone.model.train()
        host = collate([row_of(method, work.longest, n_targets)] * work.micro, backbone.pad)
        tracker = Held()
        tracker.hold([*backbone.model.parameters(), *backbone.model.buffers()])
        with fake, tracker:
            for _ in range(2):  # the second has the moments beside its activations
                with autocast(HOST, HALF):
                    objective.summed(backbone, _fake(host, fake), 0.1).backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
    return arithmetic.memory(outline.outline, work, HALF.itemsize, 0), tracker.most


def _fake(batch: Batch, mode: FakeTensorMode) -> Batch:
    tensors = {name: value for name, value in vars(batch).items() if isinstance(value, torch.Tensor) and name != "virtual"}
    return replace(batch, **{name: mode.from_tensor(value) for name, value in tensors.items()})  # type: ignore[arg-type]


def measure(overrides: Sequence[str], cases: Sequence[Sequence[str]] = CASES, layers: int | None = None) -> dict[str, Any]:
    """The table of memory, and where a training and a beam search with LoRA wait for the card."""
    lines = []
    for words in cases:
        plan, peak = memory([*words, *overrides], layers)
        task, backbone, row = (word.split("=")[1] for word in sorted(words, key=_rank)[-3:])
        lines.append([backbone, task, row, f"{peak / 1e9:.2f}", f"{plan / 1e9:.2f}", f"{plan / peak:.2f}"])
    trace = rehearse([*E2E, "row/e2e=lora"], 2)
    waits = ", ".join(f"{place} ({trace.answering.count(place)})" for place in dict.fromkeys(trace.answering))
    note = f"Where the host waits for the card: in the loss {', '.join(trace.training) or 'nowhere'}; in a beam search {waits}."
    head = ["backbone", "task", "row", "measured, GB", "`make plan`, GB", "plan / measured"]
    title = "Peak memory of a training step on a GPU in bf16, on tensors without values"
    return {"rows": [], "tables": [{"title": title, "header": head, "rows": lines, "note": note}]}


def _rank(word: str) -> int:
    """Sorts a case's words: what the table does not show, then task, backbone, row."""
    return next((at for at, key in enumerate(("task", "experiment=e2e", "backbone", "row/")) if word.startswith(key)), -1)

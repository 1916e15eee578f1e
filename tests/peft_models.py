"""What the tests of the exchange share: backbones of every architecture with trained methods, and logits to compare."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from conftest import SHAPES, tiny_backbone
from safetensors.torch import save_file

from lora_repro.backbone.architecture import ARCHITECTURES
from lora_repro.backbone.model import Backbone
from lora_repro.backbone.spec import BackboneSpec
from lora_repro.files import sealed, sha256, write_json
from lora_repro.methods.base import AbstractMethod
from lora_repro.records import record

DEBERTA = SHAPES["deberta-v2"]
TEXT = ["gpt2", "llama"]
SENTENCE = ["bert", "roberta", "deberta-v2"]
IDS = torch.randint(0, 256, (2, 11), generator=torch.Generator().manual_seed(5))


def sentences(architecture: str, pooling: str | None = None) -> Backbone:
    """A random classifier of three classes; encoders open a row with a token of their own."""
    torch.manual_seed(0)
    shape = SHAPES[architecture]
    spec = BackboneSpec(
        name=f"tiny_{architecture}", label=f"random {architecture}", source="random", separator="\n", eos="<|endoftext|>",
        pad="<|endoftext|>", cls=None if architecture in TEXT else "<s>", shape=shape, head="classification", n_labels=3,
        pooling=pooling,  # type: ignore[arg-type]
    )
    return spec.load()


def fresh(architecture: str) -> Backbone:
    return tiny_backbone(architecture) if "lm" in ARCHITECTURES[architecture].heads else sentences(architecture)


def trained(backbone: Backbone, method: AbstractMethod, seed: int = 7) -> Backbone:
    """The backbone with that method, every trained value drawn anew: B is not zero."""
    trainable = method.apply(backbone)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in trainable.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2)
    return backbone


def logits(model: Any, ids: torch.Tensor = IDS, **inputs: Any) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(input_ids=ids, **inputs).logits  # type: ignore[no-any-return]


def random_adapter(folder: Path) -> None:
    """New random values in a run's adapter, under its own names and shapes."""
    from safetensors.torch import load_file

    generator = torch.Generator().manual_seed(11)
    tensors = load_file(folder / "adapter.safetensors")
    weights = {name: torch.randn(t.shape, generator=generator) * 0.3 for name, t in tensors.items()}
    save_file(weights, folder / "adapter.safetensors")
    run_record = record.read(folder / "record.json")
    run_record["files"]["adapter.safetensors"] = sha256(folder / "adapter.safetensors")
    write_json(folder / "record.json", sealed(run_record))


def smoke_run(runs: Path, *overrides: str) -> Path:
    """The folder of a run at smoke scale, whose adapter is then drawn anew: B is not zero.

    Its E2E texts are not scored (no Java here).
    """
    import pytest

    from lora_repro.config.compose import compose
    from lora_repro.run.run import run
    from lora_repro.tasks.base import Example, Scores
    from lora_repro.tasks.e2e.task import E2E

    def score(self: E2E, outputs: list[str], examples: list[Example]) -> Scores:
        return Scores({"bleu": 0.125, "nist": float("nan")}, [{} for _ in outputs])

    settings = [*overrides, "profile=smoke", "device=cpu", f"paths.runs={runs}"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(E2E, "score", score)
        run_record = run(compose(settings), settings)
    folder = runs / "smoke" / str(run_record["signature"])
    if (folder / "adapter.safetensors").exists():
        random_adapter(folder)
    return folder

"""Rounding frozen weights once gives the bits that autocast gives by rounding them at every call."""

from pathlib import Path

import pytest
import torch
from conftest import tiny_backbone
from peft_models import smoke_run

from lora_repro.backbone.weights import round_frozen
from lora_repro.methods.lora import Lora
from lora_repro.records import provenance, record
from lora_repro.train.precision import allow_tf32, autocast, loss_scaler, resolve_precision

CPU = torch.device("cpu")
IDS = torch.tensor([[65, 66, 67, 10, 70, 71]])


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_outputs_and_gradients_are_the_same_to_the_bit(architecture: str) -> None:
    results = []
    for rounded in (False, True):
        backbone = tiny_backbone(architecture)
        torch.manual_seed(0)
        trainable = Lora(rank=2, dropout=0.0).apply(backbone)
        with torch.no_grad():
            for parameter in trainable.method.values():
                parameter.add_(0.05)
        if rounded:
            round_frozen(backbone.model, torch.bfloat16, backbone.embedding)
        with autocast(CPU, torch.bfloat16):
            logits = backbone.model(input_ids=IDS).logits
            logits.float().logsumexp(-1).sum().backward()
        results.append([logits, *(p.grad for p in trainable.method.values())])
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_trained_weights_and_the_embedding_stay_in_float32() -> None:
    backbone = tiny_backbone("llama")
    backbone.layers[1].requires_grad_(True)
    round_frozen(backbone.model, torch.bfloat16, backbone.embedding)
    kinds = {name: parameter.dtype for name, parameter in backbone.model.named_parameters()}
    assert kinds["model.layers.0.self_attn.q_proj.weight"] == torch.bfloat16
    assert kinds["model.layers.1.self_attn.q_proj.weight"] == torch.float32
    assert kinds["model.embed_tokens.weight"] == torch.float32
    assert kinds["lm_head.weight"] == torch.bfloat16


def test_a_tied_head_in_training_is_left_tied() -> None:
    backbone = tiny_backbone("llama")
    backbone.model.requires_grad_(True)
    round_frozen(backbone.model, torch.bfloat16, backbone.embedding)
    assert backbone.model.lm_head.weight is backbone.embedding.weight  # type: ignore[union-attr]


def test_a_record_counts_a_tied_head_once_in_every_precision(tmp_path: Path) -> None:
    """Rounding the frozen weights to bf16 unties the head."""
    runs = [smoke_run(tmp_path, "experiment=e2e", "row/e2e=lora", f"train.precision={name}") for name in ("fp32", "bf16")]
    assert len({record.read(run / "record.json")["measured"]["parameters"]["total"] for run in runs}) == 1


def test_fp32_means_fp32() -> None:
    assert resolve_precision("fp32", CPU) is None and resolve_precision("bf16", CPU) is torch.bfloat16


@pytest.mark.parametrize(("real", "format"), [(True, torch.bfloat16), (False, torch.float16)])
def test_auto_is_fp16_where_a_gpu_only_emulates_bf16(real: bool, format: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda including_emulation=True: real or including_emulation)
    assert resolve_precision("auto", torch.device("cuda")) is format
    assert resolve_precision("auto", CPU) is not torch.float16


def test_only_an_fp16_loss_is_scaled() -> None:
    loss = torch.ones(())
    assert loss_scaler(CPU, torch.float16).scale(loss) == 65536
    for dtype in (None, torch.bfloat16):
        assert loss_scaler(CPU, dtype).scale(loss) is loss and loss_scaler(CPU, dtype).state_dict() == {}


def test_float32_products_are_tf32_on_gpus_that_have_it_and_a_record_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu, precisions = torch.device("cuda"), ["highest"]
    monkeypatch.setattr("torch.set_float32_matmul_precision", precisions.append)
    monkeypatch.setattr("torch.get_float32_matmul_precision", lambda: precisions[-1])
    monkeypatch.setattr("torch.cuda.get_device_capability", lambda device: (7, 5))
    for device, dtype in ((CPU, None), (gpu, None), (gpu, torch.bfloat16)):
        allow_tf32(device, dtype)
    assert precisions == ["highest"] and provenance.precision(gpu, None) == "fp32"
    monkeypatch.setattr("torch.cuda.get_device_capability", lambda device: (8, 0))
    allow_tf32(gpu, None)
    assert precisions[1:] == ["high"] and provenance.precision(gpu, None) == "fp32, products in TF32"
    assert provenance.precision(CPU, None) == "fp32" and provenance.precision(gpu, torch.float16).startswith("fp16")

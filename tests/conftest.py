"""What several test files share: tiny random backbones with a byte tokenizer, the check of a one-line error, fixtures."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from lora_repro import cells
from lora_repro.backbone.model import Backbone
from lora_repro.backbone.spec import BackboneSpec
from lora_repro.config import compose, rates
from lora_repro.data import Encoded
from lora_repro.errors import UserError

SHAPES: dict[str, dict[str, Any]] = {
    "gpt2": {"model_type": "gpt2", "n_layer": 2, "n_embd": 32, "n_head": 4, "n_positions": 256},
    "llama": {
        "model_type": "llama",
        "num_hidden_layers": 2,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "tie_word_embeddings": True,
    },
    "bert": {
        "model_type": "bert",
        "num_hidden_layers": 2,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_attention_heads": 4,
    },
    "roberta": {
        "model_type": "roberta",
        "num_hidden_layers": 2,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_attention_heads": 4,
        "max_position_embeddings": 258,
    },
    "qwen2": {
        "model_type": "qwen2",
        "num_hidden_layers": 2,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "tie_word_embeddings": True,
    },
    "mpnet": {
        "model_type": "mpnet",
        "num_hidden_layers": 2,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_attention_heads": 4,
        "max_position_embeddings": 258,
    },
}


def tiny_backbone(architecture: str, seed: int = 0, **shape: Any) -> Backbone:
    """A random 2-layer model of that architecture (d = 32, 4 heads, Llama: 2 KV heads) over 257 byte tokens, float32."""
    torch.manual_seed(seed)  # for what the test draws afterwards
    spec = BackboneSpec(
        name=f"tiny_{architecture}",
        label=f"random {architecture}",
        source="random",
        separator="\n",
        eos="<|endoftext|>",
        pad="<|endoftext|>",
        shape={**SHAPES[architecture], **shape},
        random_seed=seed,
        head="lm" if architecture in ("gpt2", "llama", "qwen2") else "classification",
    )
    return spec.load()


def text_row(ids: list[int], prompt_length: int) -> Encoded:
    """A training sequence without virtual tokens."""
    return Encoded(ids, [-1] * len(ids), [int(i >= prompt_length) for i in range(len(ids))], prompt_length)


def refused(call: Callable[[], object], *parts: str) -> None:
    """Assert that the call raises a UserError whose message is one line and contains all of `parts`."""
    with pytest.raises(UserError) as caught:
        call()
    assert "\n" not in str(caught.value)
    for part in parts:
        assert part in str(caught.value)


def pytest_collection_finish() -> None:
    """Freeze what is imported by now, so that the garbage collector does not scan half a million objects in every test."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def one_thread() -> Iterator[None]:
    """For a test that forks: the child computes the same bits, and does not wait for threads that a fork does not copy."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def unsearched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty results/ in which learning rates are looked up; compositions are not cached beyond the test."""
    remembered = (cells._run, compose.compose_cached)
    for place in ("RESULTS", "SHIPPED"):
        monkeypatch.setattr(rates, place, tmp_path / "results")
    for one in remembered:
        one.cache_clear()
    yield tmp_path / "results"
    for one in remembered:
        one.cache_clear()


@pytest.fixture(autouse=True)
def _published_rates() -> Iterator[None]:
    """Rates that this checkout searched for itself in runs/ move no test."""
    with rates.published_only():
        yield


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.delenv("COLUMNS", raising=False)  # pytest-xdist sets it in its workers; without it tables and help take any width


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the tests of whole sweeps first: two of them take minutes, and if they came last all other processes would wait."""
    items.sort(key=lambda item: item.path.name != "test_sweep.py")

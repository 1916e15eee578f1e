"""What several test files share: tiny random backbones with a byte tokenizer, the check of a one-line error, fixtures."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from lora_repro.backbone.architecture import ARCHITECTURES
from lora_repro.backbone.model import Backbone
from lora_repro.backbone.spec import BackboneSpec
from lora_repro.config import compose
from lora_repro.config.paths import CONF, choices
from lora_repro.data import Encoded
from lora_repro.errors import UserError
from lora_repro.files import sealed, sha256, write_json
from lora_repro.planning import cells
from lora_repro.records import attempts, rates
from lora_repro.records.run_folder import PREDICTIONS, RECORD
from lora_repro.run import run
from lora_repro.tasks import _files

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
    "mpnet": {
        "model_type": "mpnet",
        "num_hidden_layers": 2,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_attention_heads": 4,
        "max_position_embeddings": 258,
    },
}
_GROUPED = {**SHAPES["llama"], "head_dim": 8, "pad_token_id": 0}  # 2 KV heads; some configurations demand these two
_POSITIONS = {**SHAPES["bert"], "max_position_embeddings": 258}
SHAPES |= {name: {**_GROUPED, "model_type": name} for name in ("qwen2", "qwen3", "gemma", "gemma2", "gemma3_text")}
SHAPES |= {name: {**_GROUPED, "model_type": name} for name in ("smollm3", "olmo2", "phi", "phi3")}
SHAPES |= {name: {**_POSITIONS, "model_type": name} for name in ("xlm-roberta", "camembert")}
SHAPES |= {
    "mistral": {**_GROUPED, "model_type": "mistral", "sliding_window": None},
    "gpt_neox": {**SHAPES["bert"], "model_type": "gpt_neox"},
    "opt": {**SHAPES["bert"], "model_type": "opt", "ffn_dim": 64, "word_embed_proj_dim": 32},
    "electra": {**SHAPES["bert"], "model_type": "electra", "embedding_size": 16},
    "distilbert": {"model_type": "distilbert", "n_layers": 2, "dim": 32, "hidden_dim": 64, "n_heads": 4},
    "modernbert": {**SHAPES["bert"], "model_type": "modernbert", "local_attention": 8, "global_attn_every_n_layers": 2},
}
SHAPES["deberta-v2"] = {
    "model_type": "deberta-v2", "num_hidden_layers": 2, "hidden_size": 32, "intermediate_size": 64,
    "num_attention_heads": 4, "relative_attention": True, "pos_att_type": ["p2c", "c2p"],
    "position_biased_input": False, "pooler_hidden_size": 32,
}  # fmt: skip
SHAPES["modernbert"] |= {"pad_token_id": 0, "cls_token_id": 1, "sep_token_id": 2, "bos_token_id": 1, "eos_token_id": 2}
SHAPES["gemma2"] |= {"sliding_window": 8}
SHAPES["gemma3_text"] |= {"sliding_window": 8}


def tiny_backbone(architecture: str, seed: int = 0, head: str | None = None, **shape: Any) -> Backbone:
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
        head=head or ("lm" if "lm" in ARCHITECTURES[architecture].heads else "classification"),
    )
    return spec.load()


def components() -> Iterator[tuple[str, dict[str, Any]]]:
    """(group, values) of every yaml of conf/, and of every block of those at its top, that names a class."""
    for path in sorted(CONF.rglob("*.yaml")):
        values = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        inside = [(path.stem, block) for block in values.values()] if path.parent == CONF else [(path.parent.name, values)]
        yield from ((group, node) for group, node in inside if isinstance(node, dict) and "_target_" in node)


def rows_and_profiles(table: str) -> list[tuple[str, str]]:
    """(row, profile): each row of a table at the paper's profile, and its first row at each of the others."""
    rows = choices(f"row/{table}")
    return [*((row, "paper") for row in rows), *((rows[0], name) for name in choices("profile") if name != "paper")]


def text_row(ids: list[int], prompt_length: int) -> Encoded:
    """A training sequence without virtual tokens."""
    return Encoded(ids, [-1] * len(ids), [int(i >= prompt_length) for i in range(len(ids))], prompt_length)


def plant_record(path: Path, found: dict[str, Any]) -> None:
    """Write the record of a run at `path`, its own or a published one, with the hashes that `record.save` gives it.

    A run of one's own gets empty predictions unless it has some.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    predictions = path.with_name(PREDICTIONS)
    if path.name == RECORD:
        predictions.touch()
    files = {PREDICTIONS: sha256(predictions) if predictions.is_file() else "0" * 64}
    write_json(path, sealed({**found, "files": files}))


def started_here(module: str, overrides: list[str], folder: Path, *rest: object) -> int:
    """In place of `supervise.start`: the run in this process, which has imported already what it needs."""
    try:
        run.run(compose.compose(list(overrides)), overrides)
    except UserError as error:
        attempts.note(folder, error.exit_code, str(error))
        return error.exit_code
    return 0


def refused(call: Callable[[], object], *parts: str) -> None:
    """Assert that the call raises a UserError whose message is one line and contains all of `parts`."""
    with pytest.raises(UserError) as error:
        call()
    assert "\n" not in str(error.value)
    for part in parts:
        assert part in str(error.value)


def pytest_collection_finish() -> None:
    """Freeze what is imported by now, so that the garbage collector does not scan half a million objects in every test."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def same_environment() -> Iterator[None]:
    """Commands run within the tests' process; what they set for their own runs ends with the test."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


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
    caches = (cells._run, compose.compose_cached)
    for place in ("RESULTS", "SHIPPED"):
        monkeypatch.setattr(rates, place, tmp_path / "results")
    for one in caches:
        one.cache_clear()
    yield tmp_path / "results"
    for one in caches:
        one.cache_clear()


@pytest.fixture
def own_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests whose files are of their own making: no content is known as the official one."""
    monkeypatch.setattr(_files, "ROWS", {})


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

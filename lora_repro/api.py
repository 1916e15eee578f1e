"""The suite from Python: methods in any model of transformers, the paper's decoder and scores, results as a DataFrame.

    from lora_repro.api import frame, save, to_peft
    from lora_repro.methods import Lora
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas
import torch
from numpy.typing import ArrayLike
from torch import nn

from lora_repro.analysis import spectra
from lora_repro.backbone.addressed import AddressedModel
from lora_repro.backbone.detect import bos
from lora_repro.compare.compare import compare as compared
from lora_repro.compare.compare import folder_of
from lora_repro.compare.request import SEEDS, Request, seconds
from lora_repro.data import Encoded
from lora_repro.decode.beam import BeamSearch
from lora_repro.exchange import peft_folder
from lora_repro.exchange.load_tensors import fill, read_tensors
from lora_repro.methods.base import AbstractMethod, Trainable
from lora_repro.methods.update import merge, strip, unmerge
from lora_repro.metrics.nlg import score as score_e2e
from lora_repro.results import frame
from lora_repro.train.checkpoint import save_tensors

__all__ = [
    "BeamSearch", "compare", "complete", "frame", "load", "merge", "save", "score_e2e", "similarity", "strip", "to_peft",
    "unmerge",
]  # fmt: skip


def save(trainable: Trainable, path: str | Path) -> None:
    """Write what a method trains, the new head included, as safetensors under the names of the model."""
    save_tensors(Path(path), {**trainable.saved})


def load(trainable: Trainable, path: str | Path) -> None:
    """Fill what a method trains from a file that `save` wrote. Raises UserError unless names and shapes are the same."""
    fill(trainable.saved, read_tensors(Path(path)), "apply the same method, with the same settings, to the same model")


def to_peft(model: nn.Module, method: AbstractMethod, folder: str | Path, base: str) -> None:
    """Write the LoRA in `model` as a peft adapter of `base`, a name or folder. Raises UserError for a method peft lacks."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    peft_folder.save(Path(folder), AddressedModel.of(model), method, base)


def complete(model: nn.Module, tokenizer: Any, prompts: Sequence[str], search: BeamSearch | None = None) -> list[str]:
    """What a causal language model writes after each prompt, by the paper's beam search (its settings by default).

    A prompt opens with BOS if the tokenizer opens texts with it. As E2E's texts, an answer ends at its first blank line; with
    `BeamSearch(blank_line=False)` it may have paragraphs.
    Raises UserError as `BeamSearch.decode` does.
    """
    opening = [] if (token := bos(tokenizer)) is None else [tokenizer.convert_tokens_to_ids(token)]
    rows = [[*opening, *tokenizer.encode(prompt, add_special_tokens=False)] for prompt in prompts]
    sequences = [Encoded(ids, [-1] * len(ids), [0] * len(ids), len(ids)) for ids in rows]
    eos = tokenizer.eos_token_id
    pad = eos if tokenizer.pad_token_id is None else tokenizer.pad_token_id
    return (search or BeamSearch()).decode(model, tokenizer, sequences, eos, pad).outputs


def similarity(one: ArrayLike | torch.Tensor, other: ArrayLike | torch.Tensor) -> spectra.Array:
    """phi(A1, A2, i, j) of two LoRA matrices A1 (r1, d) and A2 (r2, d), for all i and j, as (r1, r2) (Section 7.2, equation 4).

    1: the top i right singular directions of A1 lie in the span of the top j of A2, or the reverse; 0: they are orthogonal.
    """
    bases = [spectra.svd(torch.as_tensor(matrix).detach().cpu().double().numpy())[2] for matrix in (one, other)]
    return spectra.similarity(*bases)


def compare(
    model: str | Path,
    train: str | Path,
    test: str | Path | None = None,
    *,
    dev: str | Path | None = None,
    columns: Mapping[str, str] | None = None,
    methods: Sequence[str] = (),
    ranks: Sequence[int] = (),
    targets: Sequence[Sequence[str]] = (),
    metric: str | None = None,
    seeds: int = SEEDS,
    budget: str | None = None,
    revision: str | None = None,
    to: str | Path | None = None,
    settings: Sequence[str] = (),
) -> pandas.DataFrame:
    """`lora-repro compare` (docs/your-data.md): methods on your own data and model, as a frame with a line for each method.

    settings: those of every run (`["train.epochs=5"]`). to: the folder for runs, configuration and page; default compare-NAME.
    Columns: row, label, n; each score in per cent and its `_sd`; reference, difference, low, high, p, detectable; trained,
    step_ms, memory_mb, general_rise, file_bytes; lr, first_guess; doubt, best, folder. Empty if fewer than two methods have a
    result.
    Raises UserError for what cannot work, before anything is trained.
    """
    files = {split: str(file) for split, file in (("train", train), ("dev", dev), ("test", test)) if file is not None}
    request = Request(
        str(model),
        files,
        folder_of(str(train), None if to is None else str(to)),
        revision,
        dict(columns or {}),
        tuple(methods),
        tuple(ranks),
        tuple(map(tuple, targets)),
        metric,
        seeds=seeds,
        seconds=seconds(budget) if budget else None,
        overrides=tuple(settings),
    )
    answer = compared(request)
    return pandas.DataFrame() if answer is None else answer.frame()

"""Training state on disk: complete, verified, and never half-written.

A checkpoint is a folder `step_00000064` with `state.safetensors` (trained weights, optimizer moments, RNG states) and
`state.json` (step, losses so far, and the SHA-256 of the tensors). It is written under a temporary name, synced and renamed, so
a kill at any moment leaves the previous checkpoint whole. The two newest are kept: if the newest does not match its hash, the one
before it is used and a line on stderr says so.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from lora_repro.files import read_sealed, replacing, sealed, sha256, sync, write_json

KEPT = 2


def _write(path: Path, tensors: dict[str, torch.Tensor]) -> None:
    """Write a safetensors file and sync it to disk. Raises OSError if there is no room, as for any other file."""
    path.touch()
    mode = path.stat().st_mode  # by the umask, as of any new file: safetensors would let nobody but the owner read it
    try:
        save_file({name: tensor.detach().contiguous() for name, tensor in tensors.items()}, path)
    except SafetensorError as error:
        raise OSError(str(error)) from error
    path.chmod(mode)
    sync(path)


def save_tensors(path: Path, tensors: dict[str, torch.Tensor]) -> str:
    """Write tensors to a safetensors file atomically (temporary file, sync, rename). Returns the file's SHA-256."""
    with replacing(path) as temporary:
        _write(temporary, tensors)
        return sha256(temporary)


def save(folder: Path, step: int, tensors: dict[str, torch.Tensor], facts: dict[str, Any]) -> Path:
    """Write checkpoint `step` under `folder` and drop all but the newest two. Returns its path."""
    target, temporary = folder / f"step_{step:08d}", folder / f".step_{step:08d}.tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        _write(temporary / "state.safetensors", tensors)
        write_json(temporary / "state.json", sealed({"step": step, "tensors": sha256(temporary / "state.safetensors"), **facts}))
        sync(temporary)
        shutil.rmtree(target, ignore_errors=True)
        temporary.replace(target)
    except OSError:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    for old in sorted(folder.glob("step_*"))[:-KEPT]:
        shutil.rmtree(old)
    return target


def load_newest(
    folder: Path, check: Callable[[dict[str, Any]], str | None] = lambda facts: None
) -> tuple[dict[str, torch.Tensor], dict[str, Any]] | None:
    """The newest checkpoint that is whole, as (tensors, facts), or None. Damaged ones are named on stderr and removed;
    one whose tensors a failing disk does not give stays, and the OSError is raised.

    `check`(facts): what is wrong with other files that the checkpoint depends on, or None.
    """
    for path in sorted(folder.glob("step_*"), reverse=True):
        try:
            facts = read_sealed(path / "state.json") or {}
            if sha256(path / "state.safetensors") != facts["tensors"]:
                raise ValueError("its tensors do not match their hash")
            if wrong := check(facts):
                raise ValueError(wrong)
            return load_file(path / "state.safetensors"), facts
        except (FileNotFoundError, ValueError, KeyError, SafetensorError) as error:
            reason = str(error).splitlines()[0]
            print(f"checkpoint {path.name} cannot be used ({reason}); falling back to the one before", file=sys.stderr)
            shutil.rmtree(path)
    return None

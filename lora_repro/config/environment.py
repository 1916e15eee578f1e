"""`${oc.env:NAME}` for folders only: a configuration may come from someone else, and its values are recorded and printed.

`paths.*` may read the environment (`paths.data=${oc.env:SCRATCH}/e2e`), but no variable whose name is that of a key or password.
Any other value that reads it, directly or by referring to such a path, is an error that names the setting, never the value.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from omegaconf import Node, OmegaConf

from lora_repro.errors import UserError

SECRET = re.compile(r"KEY|TOKEN|SECRET|PASS|CREDENTIAL|AUTH", re.IGNORECASE)
_unread: ContextVar[bool] = ContextVar("unread", default=False)


def use() -> None:
    """Replace OmegaConf's resolver `oc.env`, in this process."""
    OmegaConf.register_new_resolver("oc.env", _read, replace=True)


@contextmanager
def unread() -> Iterator[None]:
    """Within this block no interpolation reads the environment: a value that refers to a path does not get it that way."""
    before = _unread.set(True)
    try:
        yield
    finally:
        _unread.reset(before)


def _read(name: str, *default: Any, _node_: Node) -> Any:
    key = _node_._get_full_key(None)
    if _unread.get() or not key.startswith("paths."):
        raise UserError(f"only paths.* may read the environment ({name})")
    if SECRET.search(name):
        raise UserError(f"{name} may hold a secret, which no setting may read")
    if name in os.environ:
        return os.environ[name]
    if not default:
        raise UserError(f"the environment has no {name}")
    return default[0] if default[0] is None else str(default[0])

"""`${own:KEY}`: a field of the model that the backbone's `path` names; `${parity:}`: sizes for a backbone whose yaml gives none.

Both need the model's code, which configurations do without: it is imported by name when one of them is resolved.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from omegaconf import DictConfig, OmegaConf

from lora_repro.errors import UserError


def use() -> None:
    """Register both with OmegaConf, in this process."""
    OmegaConf.register_new_resolver("own", _own, replace=True)
    OmegaConf.register_new_resolver("parity", _parity, replace=True)


def _own(key: str, *, _parent_: DictConfig) -> Any:
    path, revision = _parent_.get("path"), _parent_.get("revision")
    if not path:
        raise UserError("backbone=own needs a model: backbone.path=/a/folder, or backbone.path=HUB_ID backbone.revision=COMMIT")
    found = import_module("lora_repro.backbone.detect").describe(str(path), revision)
    if found.revision != revision:
        raise UserError(f"{path} is a hub model: pin it by backbone.revision={found.revision}")
    return getattr(found, key)


def _parity(*, _parent_: DictConfig) -> Any:
    rest = OmegaConf.masked_copy(_parent_, [str(key) for key in _parent_ if key != "sizes"])
    rest._set_parent(_parent_._get_parent())  # its values may refer to others of the configuration
    return OmegaConf.create(import_module("lora_repro.costs.parity").sizes(OmegaConf.to_container(rest, resolve=True)))

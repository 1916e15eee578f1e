"""A model of the user's as a backbone without a yaml: its configuration and tokenizer say everything that a yaml would.

`backbone=own backbone.path=/my/model` asks `describe` for each field (conf/backbone/own.yaml). Weights are not loaded here, but
what can be known of a bad folder without loading is refused here, before anything is planned.
"""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from omegaconf import DictConfig
from safetensors import SafetensorError, safe_open
from transformers import AutoConfig, AutoTokenizer

from lora_repro.backbone import files
from lora_repro.backbone.architecture import ARCHITECTURES, Architecture, table_of, unknown
from lora_repro.backbone.spec import SHAPELESS, BackboneSpec
from lora_repro.errors import UserError
from lora_repro.sources import hub

HUB_ID = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")


def own(key: str, parent: DictConfig) -> Any:
    """`${own:KEY}` (conf/resolvers.yaml): a field of the model that `path` of the backbone's node `parent` names.

    Raises UserError without a path, for a hub model that is not pinned, and as `describe` does.
    """
    path, revision = parent.get("path"), parent.get("revision")
    if not path:
        raise UserError("backbone=own needs a model: backbone.path=/a/folder, or backbone.path=HUB_ID backbone.revision=COMMIT")
    spec = describe(str(path), revision)
    if spec.revision != revision:
        raise UserError(f"{path} is a hub model: pin it by backbone.revision={spec.revision}")
    return getattr(spec, key)


class Frame(NamedTuple):
    """The tokens that a tokenizer puts around texts, as its own text; None where it puts none."""

    opening: str | None  # before a text
    between: str | None  # of a pair
    ending: str | None  # after a text


def describe(path: str, revision: str | None = None) -> BackboneSpec:
    """The settings of the model at `path`: a folder written by save_pretrained, or a hub id, at `revision` or the newest commit.

    - An encoder's rows have the tokens that its tokenizer puts around a pair; a decoder's open with BOS if its tokenizer does so,
      and a newline separates input from completion.
    - Dropout is the published one, a head reads the position that the model's own does, weights are loaded in float32.
    - A folder is named by the hash of its files, a hub model by its commit.

    Raises UserError in one line for what is no such model, cannot be adapted, or is damaged; NotAvailable without the hub.
    """
    folder = Path(path).expanduser()
    if folder.is_dir():
        return _described(path, folder.resolve(), None, _stamp(folder))
    if not HUB_ID.fullmatch(path):
        raise UserError(f"there is no folder {path}")
    try:
        commit = revision or hub.newest(path)
        return _described(path, hub.words(path, commit), commit, ())
    except UserError as error:
        if revision or "/" in path:
            raise
        raise type(error)(f"there is no folder {path}, and as a hub id: {error}") from error


def _stamp(folder: Path) -> tuple[tuple[str, int, int], ...]:
    """Changes when a file of the folder does: a description is made once per process for each."""
    stats = ((path.name, path.stat()) for path in folder.iterdir() if path.is_file())
    return tuple(sorted((name, status.st_size, status.st_mtime_ns) for name, status in stats))


@cache
def _described(path: str, folder: Path, commit: str | None, stamp: tuple[tuple[str, int, int], ...]) -> BackboneSpec:
    config = _config(path, folder)
    try:
        table = table_of(config)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    if commit is None:
        _check_weights(path, folder)
    tokenizer = _tokenizer(path, folder, config)
    encoder = "lm" not in table.heads
    words = _encoder_words(path, tokenizer) if encoder else _decoder_words(path, tokenizer)
    name = path.rstrip("/").rpartition("/")[2] if commit else folder.name
    return BackboneSpec(
        name=name,
        label=f"{name} ({config.model_type}, {config.num_hidden_layers} x {config.hidden_size})",
        source="folder" if commit is None else "hub",
        hub_id=str(folder) if commit is None else path,
        revision=commit,
        path=path,
        sha256=files.folder_sha256(folder) if commit is None else None,
        dropout=None,
        pooling=_pooling(config, table),
        **words,
    )


def _config(path: str, folder: Path) -> Any:
    """config.json as transformers reads it."""
    if not (folder / "config.json").is_file():
        if (folder / "adapter_config.json").is_file():
            raise UserError(f"{path} is a peft adapter and no model: merge it into its base (merge_and_unload) and save that")
        raise UserError(f"{path} holds no config.json: write model and tokenizer there with save_pretrained")
    plain = _json(path, folder / "config.json")
    if plain.get("auto_map"):
        way = "if transformers has this architecture itself, remove auto_map"
        raise UserError(f"{path} brings code of its own (auto_map in its config.json), which is never run: {way}")
    if plain.get("quantization_config"):
        raise UserError(f"{path} holds quantised weights: give the model as it was before; backbone.quantise=nf4 quantises it")
    if "model_type" not in plain:
        raise UserError(f"{path}: config.json names no model_type, so it is no model of transformers")
    try:
        return AutoConfig.from_pretrained(str(folder), trust_remote_code=False, local_files_only=True)
    except (OSError, *SHAPELESS) as error:
        known = plain["model_type"] in ARCHITECTURES
        raise _unreadable(path, error) if known else UserError(f"{path}: {unknown(plain['model_type'])}") from error


def _json(path: str, file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: {file.name} cannot be read ({error})") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: {file.name} is no configuration")
    return content


def _check_weights(path: str, folder: Path) -> None:
    """Raise UserError for a folder without weights or with a damaged safetensors file; tensors are not read."""
    shards = files.weights(folder)
    if not shards:
        raise UserError(f"{path} holds no weights that are read here (model.safetensors, pytorch_model.bin)")
    names: set[str] = set()
    for file in (file for file in shards if file.suffix == ".safetensors"):
        try:
            with safe_open(file, "pt") as checkpoint:
                names |= set(checkpoint.keys())
        except (OSError, SafetensorError) as error:
            raise UserError(f"{path}: {file.name} is cut off or damaged ({error}): copy it again") from error
    index = folder / "model.safetensors.index.json"
    if index.is_file() and names and (absent := sorted(set(_json(path, index).get("weight_map", {})) - names)):
        raise UserError(f"{path}: {len(absent)} weights of its index are in no file, first {absent[0]}: a shard is missing")


def _tokenizer(path: str, folder: Path, config: Any) -> Any:
    if not any((folder / name).is_file() for name in hub.WORDS):
        raise UserError(f"{path} holds no tokenizer: write it there with tokenizer.save_pretrained")
    for file in folder.glob("tokenizer*.json"):
        if _json(path, file).get("auto_map"):
            raise UserError(f"{path} brings code of its own (auto_map in {file.name}), which is never run: use another tokenizer")
    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(str(folder), trust_remote_code=False, local_files_only=True)
    except (OSError, ImportError, *SHAPELESS) as error:
        raise _unreadable(path, error) from error
    highest = max(tokenizer.get_vocab().values(), default=-1)
    if highest >= config.vocab_size:
        why = "another model's tokenizer, or tokens were added without resize_token_embeddings"
        raise UserError(f"{path}: its tokenizer has ids up to {highest}, but the model has {config.vocab_size} embeddings: {why}")
    return tokenizer


def _unreadable(path: str, error: Exception) -> UserError:
    return UserError(f"{path} cannot be read as a model: {(str(error).splitlines() or [type(error).__name__])[0]}")


def frame(tokenizer: Any) -> Frame:
    """What the tokenizer puts around a text and between the two of a pair."""
    one, two = (tokenizer.encode(text, add_special_tokens=False) for text in ("one", "two"))
    pair = tokenizer("one", "two")["input_ids"]
    first, second = _place(one, pair, 0), _place(two, pair, len(one))
    if first is None or second is None:
        return Frame(None, None, None)
    parts = (pair[:first], pair[first + len(one) : second], pair[second + len(two) :])
    return Frame(*("".join(tokenizer.convert_ids_to_tokens(ids)) or None for ids in parts))


def bos(tokenizer: Any) -> str | None:
    """The token with which the tokenizer opens a text for a decoder; None if it opens texts with none."""
    ids = tokenizer("one")["input_ids"]
    start = _place(tokenizer.encode("one", add_special_tokens=False), ids, 0)
    return tokenizer.convert_ids_to_tokens(ids[0]) if start == 1 else None


def _place(part: list[int], ids: list[int], start: int) -> int | None:
    n = len(part)
    return next((i for i in range(start, len(ids) - n + 1) if ids[i : i + n] == part), None)


def _encoder_words(path: str, tokenizer: Any) -> dict[str, Any]:
    specials = frame(tokenizer)
    opening, ending = specials.opening or tokenizer.cls_token, specials.ending or tokenizer.sep_token or tokenizer.eos_token
    if not opening or not ending:
        lacks = "opens" if not opening else "ends"
        raise UserError(f"{path}: its tokenizer has no token that {lacks} a text (cls_token, sep_token): set one and save it")
    pad = tokenizer.pad_token or ending
    return {"cls": opening, "separator": specials.between or tokenizer.sep_token or ending, "eos": ending, "pad": pad}


def _decoder_words(path: str, tokenizer: Any) -> dict[str, Any]:
    eos = tokenizer.eos_token
    if not eos:
        raise UserError(f"{path}: its tokenizer has no token that ends a text (eos_token): set one and save it")
    return {"bos": bos(tokenizer), "separator": "\n", "eos": eos, "pad": tokenizer.pad_token or eos}


def _pooling(config: Any, table: Architecture) -> Any:
    """Null, the architecture's own, but for a model whose configuration says that its head reads the mean."""
    return "mean" if table.pooling == "first" and getattr(config, "classifier_pooling", None) == "mean" else None

"""The Java programs that score, and METEOR's paraphrases: files of pycocoevalcap 1.2, used only if their hashes match."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from lora_repro.errors import NotAvailable, UserError
from lora_repro.files import sha256

METEOR, PTB, PARAPHRASES = "meteor/meteor-1.5.jar", "tokenizer/stanford-corenlp-3.4.1.jar", "meteor/data/paraphrase-en.gz"
HASHES = {
    METEOR: "1e57b4c72c0830ebe68558f1c799a624e96cbc1b6045c9f6330e26dcff6eafc2",
    PTB: "2fcb91bb7a111f93d71e264f4ee0e3afd19ba0dde6d21b38605088df9e940399",
    PARAPHRASES: "c147ac7d2c91f2fbb3ad31e4b352235061eb83145e0434daf217ee9ca5975f48",
}


def home() -> Path:
    """The package's folder. Raises NotAvailable where it is not installed."""
    spec = importlib.util.find_spec("pycocoevalcap")
    if spec is None or not spec.submodule_search_locations:
        raise NotAvailable("METEOR, ROUGE-L and CIDEr need pycocoevalcap: pip install pycocoevalcap==1.2")
    return Path(spec.submodule_search_locations[0])


def checked(name: str) -> Path:
    """The path of a file of `HASHES`. Raises UserError if its hash differs."""
    path = home() / name
    try:
        if sha256(path) == HASHES[name]:
            return path
        why = "is not pycocoevalcap 1.2's"
    except OSError as error:
        why = f"cannot be read ({error.strerror})"
    raise UserError(f"{path} {why} and is not used: pip install --force-reinstall pycocoevalcap==1.2")

"""requirements.lock has the hashes of exactly the versions in constraints.txt, which pyproject.toml accepts."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
OPEN = "torch"  # its build is the machine's


def pins() -> dict[str, Requirement]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return {canonicalize_name(r.name): r for r in map(Requirement, (line for line in lines if not line.startswith("#")))}


def locked() -> dict[str, tuple[str, list[str]]]:
    """Name -> version and hashes."""
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    found = re.findall(r"^([^\s#]+)==(\S+)((?: \\\n    --hash=sha256:[0-9a-f]{64})+)$", text, re.MULTILINE)
    assert len(found) == len(re.findall(r"^[^\s#]", text, re.MULTILINE)), "an entry without a hash"
    return {canonicalize_name(name): (version, hashes.split("sha256:")[1:]) for name, version, hashes in found}


def test_the_lock_is_that_of_the_constraints() -> None:
    asked = {name: str(pin.specifier) for name, pin in pins().items() if name != OPEN}
    assert {name: f"=={version}" for name, (version, _) in locked().items()} == asked


def test_every_package_that_we_ask_for_is_locked_at_a_version_that_we_accept() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    named = [*project["project"]["dependencies"], *project["build-system"]["requires"]]
    for extra in project["project"]["optional-dependencies"].values():
        named += [text for text in extra if not text.startswith("lora-repro[")]
    for wanted in map(Requirement, named):
        name = canonicalize_name(wanted.name)
        if name == OPEN:
            assert name not in locked() and str(wanted.specifier) in str(pins()[name].specifier)
        else:
            assert wanted.specifier.contains(locked()[name][0]), wanted

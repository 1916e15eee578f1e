"""requirements.lock has the hashes of exactly the versions in constraints.txt, which pyproject.toml accepts."""

from __future__ import annotations

import re
import tomllib
from importlib import metadata
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
    entries = re.findall(r"^([^\s#]+)==(\S+)((?: \\\n    --hash=sha256:[0-9a-f]{64})+)$", text, re.MULTILINE)
    assert len(entries) == len(re.findall(r"^[^\s#]", text, re.MULTILINE)), "an entry without a hash"
    return {canonicalize_name(name): (version, hashes.split("sha256:")[1:]) for name, version, hashes in entries}


def test_the_lock_is_that_of_the_constraints() -> None:
    specifiers = {name: str(pin.specifier) for name, pin in pins().items() if name != OPEN}
    assert {name: f"=={version}" for name, (version, _) in locked().items()} == specifiers


def test_every_package_that_we_ask_for_is_locked_at_a_version_that_we_accept() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    requirements = [*project["project"]["dependencies"], *project["build-system"]["requires"]]
    for extra in project["project"]["optional-dependencies"].values():
        requirements += [text for text in extra if not text.startswith("lora-repro[")]
    for requirement in map(Requirement, requirements):
        name = canonicalize_name(requirement.name)
        if name == OPEN:
            assert name not in locked() and str(requirement.specifier) in str(pins()[name].specifier)
        else:
            assert requirement.specifier.contains(locked()[name][0]), requirement


def test_what_setup_installs_comes_before_what_only_the_other_extras_need() -> None:
    """`make setup` reads both files up to one line; a package on the wrong side of it would come without its hash."""
    texts = [(ROOT / name).read_text(encoding="utf-8") for name in ("constraints.txt", "requirements.lock")]
    halves = [re.split(r"^# Only .*\n", text, flags=re.MULTILINE) for text in texts]
    first, lock = ({canonicalize_name(name) for name in re.findall(r"^[^\s#=<>]+", half, re.MULTILINE)} for half, _ in halves)
    assert first - {OPEN} == lock
    for need in closure("lora-repro", "test"):
        assert need in first, f"{need} is installed by make setup, but stands below the line in constraints.txt"


def closure(name: str, *extras: str) -> set[str]:
    """What `name` with `extras` needs on this machine, with what they need."""
    packages: set[str] = set()
    left = [(name, extras)]
    while left:
        name, extras = left.pop()
        for text in metadata.requires(name) or []:
            need = Requirement(text)
            if need.marker and not any(need.marker.evaluate({"extra": extra}) for extra in ("", *extras)):
                continue
            if canonicalize_name(need.name) != "lora-repro" and canonicalize_name(need.name) in packages and not need.extras:
                continue
            packages.add(canonicalize_name(need.name))
            if canonicalize_name(need.name) != OPEN:  # its own needs are its build's: CUDA's packages with one, none without
                left.append((need.name, tuple(need.extras)))
    return packages - {"lora-repro"}


def test_a_package_under_a_licence_that_asks_for_more_is_named_in_the_notice() -> None:
    notice = (ROOT / "NOTICE.md").read_text(encoding="utf-8").lower()
    for name in closure("lora-repro"):
        fields = metadata.metadata(name)
        licence = " ".join([fields.get("License-Expression") or "", *(fields.get_all("Classifier") or [])])
        if re.search(r"GPL|General Public|MPL|Mozilla|CC[- ]BY", licence):
            assert name in notice, f"{name} is under {licence}"


def test_actions_and_images_are_fixed_by_their_digest() -> None:
    """A tag can be moved to other code; a commit and a digest can't."""
    actions = re.findall(r"uses: (\S+)", (ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8"))
    images = re.findall(r"^FROM (\S+)", (ROOT / "Dockerfile").read_text(encoding="utf-8"), re.MULTILINE)
    assert actions and all(re.search(r"@[0-9a-f]{40}$", action) for action in actions), actions
    assert images and all(re.search(r"@sha256:[0-9a-f]{64}$", image) for image in images), images

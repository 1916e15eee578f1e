"""One direction: no room of the library, a package or a single module at its top, imports one that imports it, even around.

What counts as an import: every import statement, at the top of a module or inside a function; and every string that is the name
of a module or of something in it, since `import_module`, a fork server's preload or a subprocess load modules by such names.
Imports under `if TYPE_CHECKING:` are annotations and do not count. What conf/ names is built by whoever holds the configuration,
so conf/ is a room of its own, above all that it names; an entry point of pyproject.toml likewise.
"""

from __future__ import annotations

import ast
import itertools
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping

import pytest
from test_architecture import LIBRARY, NAMES, ROOT, TREES, imports, live_nodes

DOTTED = re.compile(rf"{LIBRARY}(\.\w+)+")
MODULES = {name: TREES[name] for name in NAMES if name.startswith(f"{LIBRARY}.")}


def room(module: str) -> str:
    """The room of a module. Every `__main__` is the same one: `python -m` runs it, nothing imports it."""
    parts = module.split(".")
    return parts[-1] if parts[-1] == "__main__" else parts[1]


def module_of(name: str, known: Iterable[str]) -> str | None:
    """The longest part of a dotted name that is a module; None if only the library itself is."""
    while name not in known:
        name = name.rpartition(".")[0]
        if not name:
            return None
    return name if name != LIBRARY else None


def named(tree: ast.AST, known: Iterable[str]) -> Iterator[str]:
    """The modules that strings of a module name."""
    for node in live_nodes(tree):
        text = node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""
        if DOTTED.fullmatch(text) and (module := module_of(text, known)):
            yield module


def arrows(modules: Mapping[str, ast.AST]) -> dict[str, dict[str, str]]:
    """room -> each other room that it imports -> the first import found, as text."""
    names = {LIBRARY, *modules}
    edges: dict[str, dict[str, str]] = {room(name): {} for name in modules}
    for name, tree in modules.items():
        for other in [*imports(tree, names), *named(tree, names)]:
            target = module_of(other, names)
            if target and room(target) != room(name):
                edges[room(name)].setdefault(room(target), f"{name} imports {target}")
    return edges


def circle(found: Mapping[str, Mapping[str, str]]) -> list[str]:
    """The imports of one circle of rooms, in its order; empty if there is none."""
    rooms: set[str] = set()

    def walk(current: str, path: list[str]) -> list[str]:
        if current in path:
            around = [*path[path.index(current) :], current]
            return [found[one][other] for one, other in itertools.pairwise(around)]
        if current in rooms:
            return []
        for other in found.get(current, {}):
            if cycle := walk(other, [*path, current]):
                return cycle
        rooms.add(current)
        return []

    return next(filter(None, (walk(one, []) for one in found)), [])


def test_no_room_imports_one_that_imports_it() -> None:
    assert not (cycle := circle(arrows(MODULES))), "\n".join(["rooms import each other:", *cycle])


@pytest.mark.parametrize(
    "line",
    [
        "from lora_repro.upper import a",
        "def f():\n    from lora_repro.upper.a import x",
        "def f():\n    import lora_repro.upper.a",
        "found = import_module('lora_repro.upper.a')",
        "NAME = {'_target_': 'lora_repro.upper.a.X'}",
    ],
)
def test_a_circle_of_rooms_is_found_however_the_import_is_written(line: str) -> None:
    upper = {"lora_repro.upper": "", "lora_repro.upper.a": "from lora_repro.middle import b", "lora_repro.middle": ""}
    lower = {"lora_repro.middle.b": "import lora_repro.lower", "lora_repro.lower": ""}
    sources = {**upper, **lower}
    assert not circle(arrows({name: ast.parse(text) for name, text in sources.items()}))
    cycle = circle(arrows({name: ast.parse(text) for name, text in {**sources, "lora_repro.lower": line}.items()}))
    assert len(cycle) == 3 and any(text.startswith("lora_repro.lower imports lora_repro.upper") for text in cycle)


def test_an_annotation_is_no_import() -> None:
    text = "if TYPE_CHECKING:\n    from lora_repro.upper import a"
    assert arrows({"lora_repro.lower": ast.parse(text), "lora_repro.upper": ast.parse("")}) == {"lower": {}, "upper": {}}


def test_only_the_entry_point_names_the_commands_and_only_commands_have_arguments() -> None:
    for name, tree in MODULES.items():
        attributes = {ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
        program = attributes & {"console.parser", "console.command"}
        assert not program or room(name) == "commands", f"{name} is a program: put it into commands/"
    above = {one for one, others in arrows(MODULES).items() if "commands" in others}
    assert not above - {"cli"}, f"{above} name commands"
    for path in (ROOT / LIBRARY / "commands").glob("[!_]*.py"):
        functions = {node.name for node in TREES[f"{LIBRARY}.commands.{path.stem}"].body if isinstance(node, ast.FunctionDef)}
        assert "main" in functions, f"{path} is no command"


def test_what_conf_and_entry_points_name_exists_and_is_no_command() -> None:
    texts = [path.read_text(encoding="utf-8") for path in (ROOT / "conf").rglob("*.yaml")]
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["scripts"]
    texts += [entry.replace(":", ".") for entry in scripts.values()]
    names = {match.group() for text in texts for match in re.finditer(rf"(?<![\w.]){DOTTED.pattern}", text)}
    assert len(names) > 50
    for name in sorted(names - {f"{LIBRARY}.run"}):  # a command line in a comment
        module = module_of(name, NAMES)
        assert module is not None and room(module) != "commands", name
        body = TREES[module].body
        tops = {node.name for node in body if isinstance(node, ast.ClassDef | ast.FunctionDef)}
        assert name == module or name.removeprefix(f"{module}.") in tops, f"{name} does not exist"

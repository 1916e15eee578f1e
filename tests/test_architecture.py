"""The house rules that no linter knows: which way imports point, what is never written, how long a file may be.

Imports inside functions count as much as those at the top; those under `if TYPE_CHECKING:` are annotations and do not.
"""

from __future__ import annotations

import ast
import importlib.metadata
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LIBRARY = "lora_repro"
FILES = sorted(path for folder in (LIBRARY, "experiments") for path in (ROOT / folder).rglob("*.py"))
NAMES = {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in FILES}


def live_nodes(tree: ast.AST) -> Iterator[ast.AST]:
    """Every node of a module but those under `if TYPE_CHECKING:`."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for other in node.orelse:
                yield from [other, *live_nodes(other)]
        else:
            yield node
            yield from live_nodes(node)


def imports(tree: ast.AST, known: set[str]) -> set[str]:
    """Dotted names of what a module imports; `from package import module` gives the module where it is one."""
    modules = set()
    for node in live_nodes(tree):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: write imports absolute"
            candidates = {f"{node.module}.{alias.name}" for alias in node.names}
            modules |= candidates & known
            if candidates - known:
                modules.add(str(node.module))
    return modules


TREES = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in NAMES.items()}
IMPORTS = {name: imports(tree, set(NAMES)) for name, tree in TREES.items()}


def own(name: str) -> set[str]:
    """The modules of this project that `name` imports, without the library's empty root."""
    return {other for other in IMPORTS[name] if other in NAMES and other != LIBRARY}


def foreign(name: str) -> set[str]:
    """The top-level packages from elsewhere that `name` imports, standard library left out."""
    tops = {other.partition(".")[0] for other in IMPORTS[name]}
    return {top for top in tops if top not in sys.stdlib_module_names and top not in (LIBRARY, "experiments")}


def reached(name: str) -> set[str]:
    """`name` and every module of the project that it imports, directly or through others."""
    modules, todo = set(), [name]
    while todo:
        current = todo.pop()
        if current not in modules:
            modules.add(current)
            todo += own(current)
    return modules


def within(package: str) -> list[str]:
    """The modules of a package of the library, or that one module."""
    prefix = f"{LIBRARY}.{package}"
    modules = [name for name in NAMES if name == prefix or name.startswith(f"{prefix}.")]
    assert modules, f"no such room: {package}"
    return modules


def within_any(packages: str) -> set[str]:
    return {name for package in packages.split() for name in within(package)}


def test_the_reader_of_imports_sees_lazy_ones_and_skips_annotations() -> None:
    source = """
import torch.nn
from lora_repro.records import record
from lora_repro.errors import UserError
if TYPE_CHECKING:
    import transformers
def f():
    if x:
        import wandb
"""
    modules = {"lora_repro", "lora_repro.records.record", "lora_repro.errors"}
    assert imports(ast.parse(source), modules) == {"torch.nn", "lora_repro.records.record", "lora_repro.errors", "wandb"}


def test_no_module_imports_itself_through_others() -> None:
    for name in NAMES:
        through = {other for other in own(name) if name in reached(other)}
        assert not through, f"{name} and {', '.join(sorted(through))} import each other"


def test_only_programs_see_every_stage() -> None:
    importers = {name for name in NAMES if f"{LIBRARY}.run.run" in own(name)}
    assert importers == {f"{LIBRARY}.commands.run"}


# What a stage may not reach, even through others: each one receives the previous stage's value and nothing else.
UNSEEN = {
    "backbone": "methods objectives tasks data train decode records.record config.compose report results tracking run",
    "data": "methods objectives tasks train decode records.record config.compose report results tracking metrics backbone run",
    "objectives": "methods tasks train records.record config.compose report results tracking metrics backbone run",
    "train": "methods objectives tasks decode records.record config.compose report results tracking metrics run",
    "decode": "methods objectives tasks data train records.record config.compose report results tracking metrics backbone",
    "records": "methods tasks data train decode config.compose report results tracking metrics backbone",
    "report": "methods objectives tasks data train decode tracking backbone",
    "results": "methods objectives tasks data train decode tracking backbone metrics report",
    "tracking": "methods tasks data train decode config.compose report results metrics backbone",
    "tasks": "methods objectives data train decode records.record config.compose report results tracking backbone",
    "metrics": "methods tasks data train decode records.record config.compose report results tracking backbone",
    "methods": "objectives tasks data train decode records.record config.compose report results tracking metrics backbone run",
}


# How a matrix is read and written, where a model keeps it, and how a layer drops values: leaves, for whoever holds one.
WEIGHTS = {f"{LIBRARY}.backbone.{stem}" for stem in ("weights", "architecture", "addressed", "dropout")}


@pytest.mark.parametrize("stage", sorted(UNSEEN))
def test_no_stage_reaches_back(stage: str) -> None:
    hidden = within_any(UNSEEN[stage]) - WEIGHTS
    for name in within(stage):
        assert not (overlap := reached(name) & hidden), f"{name} reaches {', '.join(sorted(overlap))}"


def test_experiments_and_reports_read_records_and_train_nothing() -> None:
    hidden = within_any("run methods tasks data train decode backbone tracking")
    experiments = [name for name in NAMES if name.startswith("experiments.")]
    assert experiments
    for name in [*experiments, *within_any("results report")]:
        modules = reached(name)
        assert not modules & hidden, f"{name} reaches {', '.join(sorted(modules & hidden))}"
        packages = {top for other in modules for top in foreign(other)}
        assert not packages & {"torch", "transformers", "datasets", "wandb"}, f"{name} reaches {packages}"


@pytest.mark.parametrize("package", ["tasks", "metrics"])
def test_tasks_and_metrics_know_no_models(package: str) -> None:
    for name in within(package):
        packages = {top for other in reached(name) for top in foreign(other)}
        assert not packages & {"torch", "transformers", "tokenizers", "safetensors"}, f"{name} reaches {packages}"


def test_tasks_use_metrics_and_their_own_folder_only() -> None:
    for name in within("tasks"):
        home = name.removeprefix(f"{LIBRARY}.tasks").strip(".").partition(".")[0]  # of a task in a folder the whole folder
        for other in own(name):
            module = other.removeprefix(f"{LIBRARY}.")
            mine = re.fullmatch(rf"tasks|tasks\.base|tasks\._\w+|tasks\.{home}(\.\w+)*", module)
            # where data lie, how the hub gives them, by which hash files are known, and what so many rows can show
            leaf = module in ("errors", "config.paths", "config.file_hashes", "sources.hub", "stats.intervals")
            assert mine or leaf or module.startswith("metrics"), f"{name} imports {other}"


def test_methods_import_torch_their_base_and_shared_layers_only() -> None:
    for name in within("methods"):
        allowed_packages = {"torch"}
        if name == f"{LIBRARY}.methods._key_value":
            allowed_packages.add("transformers")  # its cache object is where keys and values go
        assert not (other := foreign(name) - allowed_packages), f"{name} imports {', '.join(other)}"
        for other in own(name):  # `config.validation`: the ranges that settings are annotated with
            backbone, methods = r"backbone\.(weights|architecture|addressed|dropout)", r"methods|methods\.(base|update|_\w+)"
            pattern = rf"lora_repro\.(errors|config\.validation|{backbone}|{methods})"
            match = re.fullmatch(pattern, other)
            assert match, f"{name} imports {other}; a method imports no other"


def test_no_method_is_named_outside_methods() -> None:
    """What has a form for single methods only (peft's files) names those; anything else asks `Update` and `AbstractMethod`."""
    final = {name for name in within("methods") if not re.search(r"methods(\.base|\.update|\._\w+)?$", name)}
    formats = {f"{LIBRARY}.exchange.{stem}" for stem in ("peft_folder", "peft_lora", "peft_virtual", "open_checkpoint")}
    for name in set(NAMES) - final - formats:
        assert not (methods := own(name) & final), f"{name} names {', '.join(sorted(methods))}"


def test_nobody_asks_of_what_kind_a_task_is() -> None:
    """An objective is chosen by the task's own word for it; its decoder comes with it."""
    objectives = {f"{LIBRARY}.objectives.{stem}" for stem in ("completion", "classification")}
    for name in set(NAMES) - set(within("tasks")) - set(within("objectives")):
        kinds = [node for node in ast.walk(TREES[name]) if isinstance(node, ast.Attribute) and node.attr == "kind"]
        assert not [node.lineno for node in kinds if ast.unparse(node.value).endswith("task")], name
        measuring = f"{LIBRARY}.costs.footprint"  # trains on text whatever the task
        assert name == measuring or not own(name) & objectives, f"{name} imports one objective"


@pytest.mark.parametrize(
    ("package", "homes"), [
        ("wandb", {"tracking.wandb_run", "tracking.wandb_board"}),
        ("wandb_workspaces", {"tracking.wandb_board"}),
        ("trackio", {"tracking.trackio_run"}),
        ("bitsandbytes", {"backbone.nf4"}),
        ("hydra", {"config.hydra_internals", "config.compose", "config.blocks", "sweep.ray_launcher"}),
        ("ray", {"sweep.ray_launcher"}),
        ("evaluate", {"metrics.evaluate_e2e", "metrics.evaluate_glue"}),
    ],
)
def test_a_package_stays_in_its_home(package: str, homes: set[str]) -> None:
    users = {name for name in NAMES if package in foreign(name)}
    assert users <= {f"{LIBRARY}.{home}" for home in homes}, f"{package} is imported by {sorted(users)}"


def test_every_imported_package_is_declared() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    homes = importlib.metadata.packages_distributions()

    def names(requirements: list[str]) -> set[str]:
        return {plain(re.split(r"[<>=!~\[; ]", requirement, maxsplit=1)[0]) for requirement in requirements}

    def plain(name: str) -> str:
        return re.sub(r"[-_.]+", "-", name).lower()

    library = names(project["dependencies"])
    testing = library | names(project["optional-dependencies"]["test"])
    # Only these may be missing from an installation; the module that imports one says so in one line.
    optional = {
        f"{LIBRARY}.tracking.wandb_board": names(project["optional-dependencies"]["dashboard"]),
        f"{LIBRARY}.tracking.trackio_run": names(project["optional-dependencies"]["trackio"]),
        f"{LIBRARY}.backbone.nf4": names(project["optional-dependencies"]["qlora"]),
        f"{LIBRARY}.sweep.ray_launcher": names(project["optional-dependencies"]["ray"]),
    }
    benchmarks = testing | names(project["optional-dependencies"]["bench"])  # peers of `make bench`
    tests = {path: ast.parse(path.read_text(encoding="utf-8")) for path in (ROOT / "tests").rglob("*.py")}
    uses = [(name, top, library | optional.get(name, set())) for name in NAMES for top in foreign(name)]
    for path, tree in tests.items():
        tops = {other.partition(".")[0] for other in imports(tree, set())}
        tops -= {*sys.stdlib_module_names, *(other.stem for other in tests), LIBRARY, "experiments", "tests"}
        uses += [(str(path), top, benchmarks if path.parent.name == "benchmarks" else testing) for top in tops]
    for name, top, dependencies in uses:
        assert {plain(home) for home in homes.get(top, [top])} & dependencies, f"{name} imports {top}: not in pyproject.toml"


def calls(name: str) -> Iterator[ast.Call]:
    return (node for node in ast.walk(TREES[name]) if isinstance(node, ast.Call))


# The user's own score file, which is run only if --trust names it.
RUNS_CODE = {("lora_repro.tasks.own.task", "exec")}


def test_nothing_is_unpickled_and_no_remote_code_is_run() -> None:
    for name in NAMES:
        assert not {"pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"} & IMPORTS[name], name
        for call in calls(name):
            keywords = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
            if ast.unparse(call.func).endswith((".from_pretrained", ".from_config")):  # left out, transformers asks on stdin
                assert keywords.get("trust_remote_code") == "False", f"{name}:{call.lineno}: trust_remote_code=False"
            assert keywords.get("trust_remote_code", "False") == "False", f"{name}:{call.lineno}"
            if ast.unparse(call.func) == "torch.load":
                assert keywords.get("weights_only") == "True", f"{name}:{call.lineno}: torch.load(weights_only=True)"
            if (name, ast.unparse(call.func)) not in RUNS_CODE:
                assert ast.unparse(call.func) not in ("eval", "exec", "os.system"), f"{name}:{call.lineno}"
            assert keywords.get("shell", "False") == "False", f"{name}:{call.lineno}: a shell"
    for path in (ROOT / "conf").rglob("*.yaml"):
        assert "trust_remote_code" not in path.read_text(encoding="utf-8"), path


def test_no_catch_all_handler_and_no_drawer_file() -> None:
    for name, tree in TREES.items():
        assert not re.search(r"utils?$|helpers?$|misc$|common$", name), name
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                assert not re.search(r"Manager$|Helper$", node.name), f"{name}: {node.name}"
            if isinstance(node, ast.ExceptHandler):
                exception = ast.unparse(node.type) if node.type else "everything"
                passed_on = ast.unparse(node.body[-1]) == "raise"  # tidies up, hides nothing
                broad = exception in ("Exception", "BaseException", "everything") and not passed_on
                # A dashboard may fail in any way and must not cost a run.
                assert not broad or name == f"{LIBRARY}.tracking.background", f"{name}:{node.lineno}: catches {exception}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_stay_short(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").count("\n")
    assert lines < 400, f"{lines} lines: is it still one idea?"

"""What we use of Hydra without its promise: fails first, and with a name, where another version of Hydra has moved it."""

from __future__ import annotations

import ast
import copy
import inspect
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import pytest
from hydra._internal import defaults_list
from hydra._internal.config_repository import CachingConfigRepository, ConfigRepository
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra._internal.sources_registry import SourcesRegistry
from hydra._internal.utils import create_config_search_path
from hydra.core.config_search_path import ConfigSearchPath, SearchPathQuery
from hydra.core.default_element import ConfigDefault, GroupDefault
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hypothesis import example, given
from hypothesis import strategies as st
from omegaconf import OmegaConf
from test_architecture import LIBRARY, TREES

from lora_repro.config import compose, hydra_internals, paths
from lora_repro.config.hydra_internals import ConfigLoaderImpl, FileConfigSource, Hydra, Override, Singleton

INTERNALS = f"{LIBRARY}.config.hydra_internals"
DOCUMENTED = "hydra.core.hydra_config"
TAKEN: list[tuple[Callable[..., Any], str]] = [  # a function, and the names of its parameters in their order
    (ConfigLoaderImpl.__init__, "self config_search_path"),
    (ConfigLoaderImpl._apply_overrides_to_config, "overrides cfg"),
    (hydra_internals._load, "self config_name overrides run_mode from_shell validate_sweep_overrides"),
    (ConfigLoaderImpl.load_sweep_config, "self master_config sweep_overrides"),
    (ConfigRepository.load_config, "self config_path"),
    (ConfigRepository.group_exists, "self config_path"),
    (BasicSweeper.split_arguments, "overrides max_batch_size"),
    (hydra_internals._merge_typed, "self defaults repo"),
    (hydra_internals._gather, "overrides defaults_list self_added"),
    (hydra_internals._resolve, "self known_choices val"),
    (FileConfigSource.__init__, "self provider path"),
    (FileConfigSource.load_config, "self config_path"),
    (FileConfigSource.is_config, "self config_path"),
    (FileConfigSource.is_group, "self config_path"),
    (FileConfigSource.list, "self config_path results_filter"),
    (Hydra.create_main_hydra2, "task_name config_search_path"),
    (create_config_search_path, "search_path_dir"),
    (ConfigSearchPath.prepend, "self provider path anchor"),
    (SearchPathQuery, "provider path"),
    (OverridesParser.create, "config_loader"),
    (OverridesParser.parse_overrides, "self overrides"),
    (hydra_internals.run_job, "task_function config job_dir_key job_subdir_key hydra_context configure_logging"),
    (hydra_internals.setup_globals, ""),
    (Singleton.get_state, ""),
    (Singleton.set_state, "state"),
]


def test_this_version_of_hydra_was_tried() -> None:
    release = version("hydra-core")
    assert release in hydra_internals.TRIED, f"Hydra {release} is new here: if the tests below and those of config/ pass, add it"


@pytest.mark.parametrize(("function", "names"), TAKEN, ids=[getattr(each, "__qualname__", str(each)) for each, _ in TAKEN])
def test_what_is_called_takes_what_it_is_given(function: Callable[..., Any], names: str) -> None:
    assert [*inspect.signature(function).parameters] == names.split()


def test_what_is_read_and_replaced_is_there() -> None:
    loader = hydra_internals.loader_over(str(paths.CONF))
    assert isinstance(loader.repository, ConfigRepository)
    assert hydra_internals.is_group("method", loader) and not hydra_internals.is_group("method.rank", loader)
    assert "hydra" in vars(GlobalHydra.instance()) and callable(GlobalHydra.instance().clear)
    assert "file" in SourcesRegistry.instance().types and FileConfigSource.scheme() == "file"
    assert isinstance(Plugins.instance().class_name_to_class, dict)
    (value,) = hydra_internals.parse(["+seed=0,1"])
    assert isinstance(value, Override) and value.is_sweep_override()
    assert (value.key_or_group, value.input_line, value.get_key_element()) == ("seed", "+seed=0,1", "+seed")


def test_the_choices_are_gathered_where_hydra_looks_for_them() -> None:
    assert "_create_interpolation_map" in defaults_list._create_defaults_tree_impl.__code__.co_names
    for kind in (ConfigDefault, GroupDefault):
        assert "_resolve_interpolation_impl" in kind.resolve_interpolation.__code__.co_names


def test_an_endless_defaults_list_is_named_by_a_local_variable_of_hydra_s_search() -> None:
    search = defaults_list._create_defaults_tree_impl
    assert search.__name__ == "_create_defaults_tree_impl" and "path" in search.__code__.co_varnames


def test_what_was_read_outlives_the_copy_that_hydra_makes_for_each_composition() -> None:
    once = hydra_internals._ReadOnce(hydra_internals.loader_over(str(paths.CONF)).repository)
    assert CachingConfigRepository(once).delegate is once
    with hydra_internals.in_place_of_the_running(lambda: hydra_internals.main_hydra([str(paths.CONF)])) as loader:
        assert isinstance(loader.repository, hydra_internals._ReadOnce)


def test_the_classes_that_hydra_builds_have_these_names() -> None:
    basic = hydra_internals.loader_over(str(paths.CONF)).repository
    for group, name in (("launcher", hydra_internals.BASIC_LAUNCHER), ("sweeper", hydra_internals.BASIC_SWEEPER)):
        result = basic.load_config(f"hydra/{group}/basic")
        assert result is not None and result.config["_target_"] == name


def test_one_module_alone_reaches_behind_hydra_s_face() -> None:
    for name, tree in TREES.items():
        names = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module}
        names |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
        names |= {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
        behind = {each for each in names if each.startswith(("hydra._internal", "hydra.core")) and each != DOCUMENTED}
        assert not behind or name == INTERNALS, f"{name} uses {', '.join(sorted(behind))}: import it from {INTERNALS}"


LEAVES = st.sampled_from([None, "???", "x", 1, True, [], [1, {"a": 2}]])
MAPPINGS = st.dictionaries(st.sampled_from("abc"), st.recursive(LEAVES, lambda of: st.dictionaries(st.sampled_from("abc"), of)))


@given(MAPPINGS, MAPPINGS)
@example({"a": 1}, {"a": "???", "b": "???"})
@example({"a": {"b": 1}}, {"a": None})
def test_plain_mappings_are_merged_as_omegaconf_does(one: dict[str, Any], other: dict[str, Any]) -> None:
    """But for a list and a mapping, which are left to Hydra and its message."""
    mapping, before = copy.deepcopy(one), repr((one, other))
    try:
        hydra_internals._add(mapping, other)
    except hydra_internals._Typed:
        assert any(isinstance(value, list) for value in [*leaves(one), *leaves(other)])
    else:
        assert mapping == OmegaConf.to_container(OmegaConf.merge(one, other)) and list(mapping) == list({**one, **other})
    assert repr((one, other)) == before


def leaves(value: Any) -> list[Any]:
    return [each for inside in value.values() for each in leaves(inside)] if isinstance(value, dict) else [value]


@pytest.mark.parametrize(
    "asked",
    [
        ["experiment=glue", "row/glue=lora", "profile=paper", "task=mrpc", "backbone=roberta_large", "recipe=scripts"],
        ["experiment=e2e", "row/e2e=adapter_h", "profile=mini"],  # whose sizes add to what a resolver gives
        ["experiment=gpt3", "row/gpt3=lora_large", "profile=laptop", "task=samsum", "hydra/launcher=joblib"],
        ["task=own_labels", "task.train=a.csv", "backbone=own", "backbone.path=b", "profile=smoke", "tracker=wandb"],
    ],
    ids=lambda asked: asked[0],
)
def test_a_composition_is_hydra_s_own(asked: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def composed() -> list[str]:
        compose.read_again()
        return [OmegaConf.to_yaml(compose.compose(asked, hydra_node=node)) for node in (False, True, False)]

    monkeypatch.setattr(compose, "cached_values", lambda key, make, *rest: make())
    ours = composed()
    original = hydra_internals._merge_typed
    monkeypatch.setattr(
        ConfigLoaderImpl, "_compose_config_from_defaults_list",
        lambda self, defaults, repo: original(self, defaults, hydra_internals._Copies(repo)),
    )  # fmt: skip
    assert composed() == ours and "_target_" in ours[0]


PLAIN: list[object] = [None, True, 3, 1e-08, 0.002, "plain", "0", "null", "a b's \"c\"", "é,{x: 1}", ["query", "0"], {"a": [1]}]
SLASHES: list[object] = ["a\\b", "C:\\x\\y", "end\\", "a\\'b", "\\\\", ["C:\\x", "end\\"], {"a": "it's \\d+\\"}]


@pytest.mark.parametrize("value", [*PLAIN, *SLASHES])
def test_a_value_survives_the_override_grammar(value: object) -> None:
    assert compose.resolved(compose.compose([f"row.label={hydra_internals.override_value(value)}"]))["row"]["label"] == value

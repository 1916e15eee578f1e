"""Whatever a file, a setting or an adapter holds: the command does it or refuses in one line; nothing of it is run or waited for.

The inputs are generated and made smaller when one fails: some here, the same few each time, many in `make torture`.
`past_failures.json` holds those that failed once.
"""

from __future__ import annotations

import io
import json
import os
import signal
import warnings
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import pytest
import torch
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import seed as seeded
from hypothesis import strategies as st
from safetensors.torch import save_file

from lora_repro import cli, console
from lora_repro.backbone.spec import BackboneSpec
from lora_repro.commands import run
from lora_repro.config import paths
from lora_repro.config.compose import build, compose, read_again, resolved
from lora_repro.config.schema import fields
from lora_repro.config.validation import COMPONENTS
from lora_repro.exchange import peft_folder
from lora_repro.tasks.glue.task import Glue

PAST: dict[str, list[Any]] = json.loads(
    Path(__file__).with_name("past_failures.json").read_text(encoding="utf-8")
)
SECRET = "verysecretkey0123456789"
SECONDS = 30  # for an input of a few kilobytes: anything longer hangs
SHAPE = {"model_type": "gpt2", "n_layer": 2, "n_embd": 32, "n_head": 4, "n_positions": 64}
FEW = {
    "yaml": 12,
    "hydra": 15,
    "setting": 60,
    "rows": 100,
    "glue": 100,
    "adapter": 40,
}  # examples in `make test`
BASE = ["profile=smoke", "task=sentiment"]

words = st.text(max_size=12)
numbers = st.one_of(
    st.integers(), st.integers(0, 9), st.floats(), st.sampled_from([10**12, 10**400, -1, 0, 1e308, 1e-308])
)
odd = st.sampled_from(
    [
        "${seed}",
        "${.x}",
        "${oc.env:TORTURE_SECRET}",
        "_target_",
        "os.system",
        "\x1b[2J",
        "nan",
        "!!python/name:os.system",
    ]
)
scalars = st.one_of(st.none(), st.booleans(), numbers, words, odd)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words | odd, inner, max_size=3),
    max_leaves=6,
)
call = {"_target_": "distutils.spawn.spawn", "cmd": ["touch", "RAN"]}
places = st.sampled_from(
    [
        "hydra",
        "method",
        "train",
        "task",
        "backbone",
        "decode",
        "data",
        "launch",
        "row",
        "paths",
        "defaults",
        "starts",
    ]
)
PARTS = "callbacks launcher sweeper sweeper.params sweeper.max_batch_size job_logging job.env_set run.dir mode verbose searchpath"


def dumped(value: Any) -> str:
    """A value as yaml writes it, or as it prints itself."""
    try:
        return str(yaml.safe_dump(value, allow_unicode=True))
    except (yaml.YAMLError, ValueError):
        return str(value)


def setting(key: str, value: Any) -> tuple[str, str]:
    """A setting as the command line takes it; a value that yaml has no word for as it prints itself."""
    try:
        text = str(yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=10**6))
    except (yaml.YAMLError, ValueError):
        text = str(value)
    return key, text.removesuffix("\n").removesuffix("\n...")


@st.composite
def keys(draw: Any) -> str:
    """A setting of a component."""
    group = draw(st.sampled_from(COMPONENTS))
    return f"{group}.{draw(st.sampled_from(fields(str(compose([])[group]._target_)) or ('x',)))}"


def texts(*good: str) -> st.SearchStrategy[str]:
    """Some text, or a good one of which a piece was replaced by something else."""

    def spoilt(text: str, place: int, length: int, other: str) -> str:
        place %= len(text)
        return text[:place] + other + text[place + length :]

    piece = st.text(max_size=3) | st.sampled_from(
        ["\0", "\t", '"', "\n", "[" * 10**5, "9" * 5000, "\\ud800", "null", "{}", ",", ":", "*a", "&a "]
    )
    return st.builds(
        spoilt, st.sampled_from(good), st.integers(0, 10**4), st.integers(0, 8), piece
    ) | st.text(max_size=60)


ROWS = {
    "a.csv": "text,label\n" + "".join(f"it is {n} good,yes\nit is {n} bad,no\n" for n in range(6)),
    "a.jsonl": "".join(json.dumps({"text": f"x {n}", "label": "ab"[n % 2]}) + "\n" for n in range(12)),
}
ROWS["a.tsv"] = ROWS["a.csv"].replace(",", "\t")
ROWS["a.json"] = f"[{','.join(ROWS['a.jsonl'].splitlines())}]"
PAIRS = {
    "t.tsv": "a\tb\tc\nx\ty\t1\nz\tw\t0\n",
    "t.jsonl": '{"a": "x", "b": "y", "c": "1"}\n{"a": "z", "b": "w", "c": "0"}\n',
}
WHOLE = "train: {lr: 1e-3, steps: 2}\nmethod: &m {rank: 2, targets: [query]}\nrow: {label: 'x'}\nhydra: {job: {name: x}}\n"
PEFT = (
    "peft_type",
    "r",
    "lora_alpha",
    "rank_pattern",
    "alpha_pattern",
    "target_modules",
    "use_rslora",
    "num_virtual_tokens",
    "bias",
)
GIVEN: dict[str, st.SearchStrategy[Any]] = {
    "yaml": st.dictionaries(places, st.one_of(values, st.just(call), st.just({"x": call})), max_size=3).map(
        dumped
    )
    | texts(WHOLE),
    "hydra": st.builds(setting, st.sampled_from(PARTS.split()), values | st.just(call)),
    "setting": st.builds(setting, keys(), values),
    "rows": st.sampled_from(sorted(ROWS)).flatmap(lambda name: st.tuples(st.just(name), texts(ROWS[name]))),
    "glue": st.sampled_from(sorted(PAIRS)).flatmap(lambda name: st.tuples(st.just(name), texts(PAIRS[name]))),
    "adapter": st.tuples(
        st.dictionaries(st.sampled_from(PEFT), st.integers(0, 9) | values, max_size=2),
        st.sampled_from(["h.0", "h.5", ""]) | words,
        st.just([2, 32]) | st.lists(st.sampled_from([0, 1, 2, 32]), max_size=3),
        st.sampled_from(["float32", "bfloat16", "int64", "bool"]),
    ),
}


def job(kind: str, given: Any, folder: Path) -> int:
    """Do with an input what a command does; no model is trained. Returns 0."""
    if kind == "yaml":
        (folder / "mine" / "experiment").mkdir(parents=True)
        text = f"# @package _global_\n{given}".replace("RAN", str(folder / "RAN"))
        (folder / "mine" / "experiment" / "mine.yaml").write_bytes(text.encode(errors="surrogatepass"))
        with patch.dict(os.environ, {paths.OWN: str(folder / "mine")}):
            read_again()
            ran([*BASE, "experiment=mine"])
    elif kind == "hydra":
        ran([*BASE, f"hydra.{given[0]}={given[1]}".replace("RAN", str(folder / "RAN"))])
    elif kind == "setting":
        run_config = resolved(compose([*BASE, "=".join(given)]))
        for group in ("method", "train", "decode", "task", "data"):
            build(run_config[group])
    elif kind == "adapter":
        config, module, shape, dtype = given
        (folder / "adapter_config.json").write_text(
            json.dumps({"peft_type": "LORA", "r": 2, "lora_alpha": 4, **config})
        )
        tensor = torch.ones(shape, dtype=getattr(torch, dtype))
        name = f"base_model.model.transformer.{module}.attn.c_attn.lora_"
        save_file(
            {f"{name}A.weight": tensor, f"{name}B.weight": torch.ones(96, 2)},
            folder / "adapter_model.safetensors",
        )
        if code := cli.main(["subspace", str(folder), "--to", str(folder / "out")]):
            raise SystemExit(code)
        peft_folder.load(
            folder,
            BackboneSpec("r", "r", "random", "\n", "<|endoftext|>", "<|endoftext|>", shape=SHAPE).load(),
        )
    else:
        name, text = given
        (folder / "x").mkdir()
        path = folder / "x" / name
        path.write_bytes(text.encode(errors="surrogatepass"))
        if kind == "glue":
            columns = {"first": "a", "second": "b", "label": "c"}
            Glue(
                name="x",
                label="X",
                labels=["0", "1"],
                folder="x",
                files={"train": name, "dev": name},
                columns=columns,
            ).load(str(folder))
        else:
            build(
                resolved(
                    compose(["profile=smoke", "task=own_labels", f"task.train={path}", f"task.test={path}"])
                )["task"]
            ).load(None)
    return 0


def ran(arguments: list[str]) -> None:
    """`run` up to its first job."""
    with patch.object(run, "hydra_program"), patch.object(run, "sweep", return_value=0):
        if code := run.started(arguments):
            raise SystemExit(code)


def hold(kind: str, given: Any) -> None:
    """Assert that an input is taken, or refused in one visible line with exit code 2 or 3, soon, and nothing of it is run."""

    def late(number: int, frame: object) -> None:
        raise AssertionError(f"it takes more than {SECONDS} seconds")

    stdout, stderr = io.StringIO(), io.StringIO()
    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(SECONDS)
    try:
        with (
            TemporaryDirectory() as folder,
            patch.dict(os.environ, {"TORTURE_SECRET": SECRET}),
            warnings.catch_warnings(),
        ):
            with redirect_stdout(stdout), redirect_stderr(stderr):
                try:
                    code = console.command(lambda arguments: job(kind, given, Path(folder)))([])
                except SystemExit as left:
                    code = left.code if isinstance(left.code, int) else 1
            assert not (Path(folder) / "RAN").exists(), "it was run"
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
        if kind == "yaml":
            read_again()
    text = stderr.getvalue()
    assert SECRET not in stdout.getvalue() + text, text
    assert code in (0, 2, 3), f"exit code {code}: {text}"
    if code:
        errors = [line for line in text.split("\n")[:-1] if not line.startswith("warning:")]
        assert len(errors) == 1 and errors[0].startswith("error: ") and errors[0].isprintable(), text


def search(kind: str, examples: int, seed: int | None = None) -> None:
    """Hold `examples` generated inputs to it; raises the smallest failure. seed: None for the same ones each time."""
    limits = settings(
        max_examples=examples,
        derandomize=seed is None,
        database=None,
        deadline=None,
        suppress_health_check=[*HealthCheck],
    )
    check: Callable[[], None] = limits(given(GIVEN[kind])(lambda value: hold(kind, value)))
    (check if seed is None else seeded(seed)(check))()


@pytest.mark.parametrize("kind", PAST)
def test_what_failed_once(kind: str) -> None:
    for value in PAST[kind]:
        hold(kind, value)


@pytest.mark.parametrize("kind", GIVEN)
def test_what_nobody_has_thought_of(kind: str) -> None:
    search(kind, FEW[kind])

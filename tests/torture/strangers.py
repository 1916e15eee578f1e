"""Configurations of a stranger: a folder of yaml files, or words of a command line, that would run, read or exhaust something."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from tests import test_any_input as any_input
from tests.torture.runs import SETTINGS, Bench, finish, wrong

GENERATED = 50  # inputs in a trial
SECRET = "verysecretkey0123456789"
READ = "${oc.env:TORTURE_SECRET}"
INTERPOLATIONS = [
    *(READ, "a " + READ, f"${{oc.decode:{READ}}}", f"${{oc.create:{{a:{READ}}}}}", "${paths.data}", "${oc.select:paths.data}"),
]
CALLS = """
    distutils.spawn.spawn os.system shutil.copyfile pandas.read_pickle lora_repro.cli.main lora_repro.cli.os.system
""".split()
PLACES = """
    callbacks callbacks.x launcher launcher.x sweeper sweeper.params.x sweeper.sampler sweeper.max_batch_size
    sweeper.custom_search_space job_logging job_logging.handlers.x hydra_logging job.env_set job.env_copy job.name run run.dir
    sweep.dir mode output_subdir verbose searchpath help.template runtime.cwd
""".split()
SETTINGS_OF_RUNS = """
    method method.name task task.label backbone.label backbone.hub_id train train.lr train.warmup decode.beam tracker probe
    row.label row.table row.seeds starts seed paths.data launch launch.keep_gb tune.most data.n_train device extra
""".split()
CHOICES = ["launcher: joblib", "launcher: slurm", "sweeper: optuna", "job_logging: default"]
SCALARS = [
    *("3", "-1", "0x" + "f" * 5000, "9" * 400, "null", "[]", "{}", "[[1]]", r"'\u0000'", r'"\x1b[2J"', "${.x}", "${seed}"),
    "!!python/name:os.system",
]
DEEP = "\n".join(f"{'  ' * depth}a:" for depth in range(300))
BOMB = "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 40))
TEXTS = [
    *("\ta: 1", "seed: 1\nseed: 2", "a: \0", "b: {<<: *x}", "a: &a [*a]", "a: !!python/object/apply:os.system [ls]", "- 1", "3"),
    *("a: 1\n---\n", "a: " + "[" * 300, DEEP, BOMB, "defaults: [mine]", "defaults: [{method: 3}]", "defaults: [../../mine]"),
    *("defaults: 3", "# @package a.b: c", "\udc80", "%YAML 9", "a: 'x", "? [a]\n: b"),
]


class Strangers(Bench):
    """Trials of a stranger's configurations."""

    def strange_configuration(self) -> str:
        """A run with it ends as any run, or in one line; nothing of it is run, and no secret is said or recorded."""
        runs = self.new()
        folder, mark = runs / "theirs", runs / "RAN"
        words = [*SETTINGS, "task=sentiment", "backbone=random_bert", f"paths.runs={runs / 'runs'}"]
        what = self.random.choice([self.file, self.file, self.packaged, self.broken, self.word])(folder, mark)
        words += [what] if folder.exists() is False else ["experiment=mine"]
        code, output = finish(words, runs / "log", lambda: _with(folder))
        bad = wrong(code, output, (0, 2, 3)) or self.met(runs, mark, output)
        if code in (2, 3) and len(output.strip().splitlines()) != 1:
            bad = bad or f"several lines: {output[-300:]}"
        shutil.rmtree(runs)
        return f"{what!r:.300}: {bad}" if bad else ""

    def generated(self, kind: str) -> str:
        """Inputs that Hypothesis makes, `GENERATED` a trial; what the smallest that fails comes to."""
        try:
            any_input.search(kind, GENERATED, self.random.randrange(2**32))
        except BaseException as error:
            return f"{type(error).__name__}: {error} {' '.join(getattr(error, '__notes__', ()))}"[:1000]
        return ""

    def met(self, runs: Path, mark: Path, said: str) -> str:
        """What must not be."""
        files = [
            path for path in (runs / "runs").rglob("*") if path.is_file() and path.suffix in (".json", ".jsonl", ".yaml", "")
        ]
        leak = next((str(path) for path in files if SECRET.encode() in path.read_bytes()), "")
        return "ran it" if mark.exists() else "said a secret" if SECRET in said else f"wrote a secret into {leak}" if leak else ""

    def value(self, mark: Path) -> str:
        """Something to set, in yaml: what would be called, a text that reads the environment, or junk."""
        call = self.random.choice(CALLS)
        node = f"{{_target_: {call}, cmd: [touch, {mark}], command: touch {mark}, src: /etc/hostname, dst: {mark}}}"
        factory = f"{{version: 1, handlers: {{x: {{'()': {call}, cmd: [touch, {mark}]}}}}, root: {{handlers: [x]}}}}"
        texts = [f"'{self.random.choice(INTERPOLATIONS)}'", self.random.choice(SCALARS), call, f"[{READ}]", f"{{A: '{READ}'}}"]
        return self.random.choice([node, node, f"{{x: {node}}}", factory, "'${extra}'", *texts])

    def key(self) -> str:
        return f"hydra.{self.random.choice(PLACES)}" if self.random.random() < 0.6 else self.random.choice(SETTINGS_OF_RUNS)

    def file(self, folder: Path, mark: Path) -> str:
        """A file that sets up to three keys anywhere, perhaps after choosing another launcher or sweeper."""
        lines = ["# @package _global_"]
        if self.random.random() < 0.3:
            lines.append(f"defaults: [override /hydra/{self.random.choice(CHOICES)}]")
        pairs = {self.key(): self.value(mark) for _ in range(self.random.randint(1, 3))}
        pairs.setdefault("extra", self.value(mark))
        pairs.setdefault("paths.data", f"'{self.random.choice(['x', '${oc.env:TORTURE_PLACE}'])}'")
        for key, value in pairs.items():
            for part in reversed(key.split(".")[1:]):
                value = f"{{{part}: {value}}}"
            lines.append(f"{key.partition('.')[0]}: {value}")
        top: dict[str, str] = {line.partition(":")[0]: line for line in lines}  # a key may stand in it once
        return _written(folder, "experiment/mine.yaml", "\n".join(top.values()))

    def packaged(self, folder: Path, mark: Path) -> str:
        """A file whose package lies inside Hydra's settings, chosen by another one."""
        text = _written(folder, "tracker/theirs.yaml", f"# @package {self.key()}\n{self.value(mark)}\n")
        _written(folder, "experiment/mine.yaml", "# @package _global_\ndefaults: [override /tracker: theirs]\n")
        return text

    def broken(self, folder: Path, mark: Path) -> str:
        """A file that yaml, OmegaConf or Hydra does not take."""
        head = self.random.choice(["# @package _global_\n", ""])
        return _written(folder, "experiment/mine.yaml", head + self.random.choice(TEXTS))

    def word(self, folder: Path, mark: Path) -> str:
        """A word of the command line; no folder."""
        value = self.value(mark).replace(": ", ":").replace(", ", ",")
        return f"{self.random.choice(['', '+', '++'])}{self.key()}={value}"


def _written(folder: Path, name: str, text: str) -> str:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode(errors="surrogateescape"))
    return text


def _with(folder: Path) -> None:
    """In a run's process: the folder, and an environment with something to hide."""
    if folder.is_dir():
        os.environ["LORA_REPRO_CONFIG_DIR"] = str(folder)
    os.environ["TORTURE_SECRET"] = os.environ["TORTURE_PLACE"] = SECRET

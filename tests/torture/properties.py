"""What must hold of any method in any backbone, tried on random ones."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from omegaconf import OmegaConf
from safetensors.torch import load, save

from lora_repro.backbone import weights
from lora_repro.config.compose import build, compose, resolved_with_starts
from lora_repro.config.paths import choices
from lora_repro.config.signature import signature
from lora_repro.data import Encoded, collate
from lora_repro.errors import UserError
from lora_repro.methods.update import merge, unmerge, updates
from lora_repro.run.stages import backbone_of, objective_of
from tests.torture.runs import Bench

DECODED = ("e2e", "sentiment")
BACKBONES = {"random_bert": ("entailment", "similarity"), "random_gpt2": DECODED, "random_llama": DECODED}
CLOSE = 1e-4


class Case:
    """A method in a random backbone, some rows of a task, and the loss on them."""

    def __init__(self, words: Sequence[str]) -> None:
        config = compose(list(words))
        self.config, self.objective = config, objective_of(config)
        self.backbone = backbone_of(config).load()
        torch.manual_seed(config.seed)
        self.backbone.reset_head()
        self.method = build(config.method)
        examples = build(config.task).load(None).train[:6]
        self.rows, _ = self.objective.encode(examples, self.backbone, self.method.virtual_tokens, config.data.max_length)

    def apply(self) -> Case:
        torch.manual_seed(self.config.seed)
        self.trainable = self.method.apply(self.backbone)
        self.backbone.model.eval()
        return self

    def moved(self) -> Case:
        """All trained values a little elsewhere."""
        with torch.no_grad():
            for parameter in self.apply().trainable.parameters():
                parameter.add_(0.05 * torch.randn_like(parameter))
        return self

    def loss(self, rows: Sequence[Encoded]) -> float:
        with torch.no_grad():
            return float(self.objective.summed(self.backbone, collate(rows, self.backbone.pad), 0.0))


def close(a: float, b: float) -> bool:
    return abs(a - b) <= CLOSE * max(1.0, abs(a))


class Properties(Bench):
    """Trials of properties."""

    def case(self, updating: bool = False) -> tuple[list[str], Case]:
        """Settings that go together; `updating`: of a method that updates matrices and starts from what was there."""
        while True:
            backbone, tasks = self.random.choice(list(BACKBONES.items()))
            names = ("backbone", backbone), ("task", self.random.choice(tasks)), ("method", self.random.choice(choices("method")))
            words = ["profile=smoke", "train.lr=1e-2", *map("=".join, names), f"seed={self.random.randrange(100)}"]
            try:
                case = Case(words)
                trial = Case(words).apply()
                if trial.trainable.parameters() and (not updating or list(updates(trial.backbone.model))):
                    return words, case
            except UserError:
                continue

    def merged(self) -> str:
        """Merging keeps the loss, and taking it out again restores every bit."""
        words, case = self.case(updating=True)
        before = case.moved().loss(case.rows)
        bases = [(module.base, weights.read(module.base).clone()) for module in updates(case.backbone.model)]
        merge(case.backbone.model)
        if not close(before, after := case.loss(case.rows)):
            return f"{words}: the loss {before} is {after} merged"
        unmerge(case.backbone.model)
        same = all(torch.equal(weights.read(base), weight) for base, weight in bases)
        return "" if same else f"{words}: other bits after unmerging"

    def at_start(self) -> str:
        """An update starts from what was there: B = 0, or as good as."""
        words, case = self.case(updating=True)
        if any(max(row.virtual) >= 0 for row in case.rows):  # virtual tokens beside: there is no before
            return ""
        before, after = case.loss(case.rows), case.apply().loss(case.rows)
        return "" if close(before, after) else f"{words}: the loss {before} is {after} at the start"

    def padded(self) -> str:
        """The loss of a batch is that of its rows, in whatever order and however padded."""
        words, case = self.case()
        case.moved()
        rows = self.random.sample(list(case.rows), len(case.rows))
        batch_loss, row_loss = case.loss(rows), sum(case.loss([row]) for row in case.rows)
        return "" if close(batch_loss, row_loss) else f"{words}: {batch_loss} of the batch, {row_loss} of its rows"

    def saved(self) -> str:
        """What was trained, saved and loaded into another copy, gives the same bits."""
        words, case = self.case()
        before = case.moved().loss(case.rows)
        tensors = load(save({name: tensor.detach().contiguous() for name, tensor in case.trainable.saved.items()}))
        other = Case(words).apply()
        with torch.no_grad():
            for name, parameter in other.trainable.saved.items():
                parameter.copy_(tensors[name])
        after = other.loss(other.rows)
        return "" if before == after else f"{words}: {before} saved, {after} loaded"

    def named(self) -> str:
        """A run's name is that of its values: neither their order nor what may be left out changes it, and another value does."""
        words, _ = self.case()
        name = self.name(words)
        permutation = [words[0], *self.random.sample(words[1:], len(words) - 1)]
        config = compose(words)
        defaults = [f"{key}={OmegaConf.select(config, key)}" for key in ("train.batch_size", "data.max_length")]
        free = ["train.checkpoint_every=7", "train.eval_batch_size=3", "tracker=none", "launch.tries=5", "device=cpu"]
        for same in (permutation, [*words, *defaults], [*words, *self.random.sample(free, 2)]):
            if self.name(same) != name:
                return f"{same}: another name than {words}"
        other = self.random.choice(["train.lr=0.0123", "train.batch_size=3", "seed=777", "data.n_train=7", "train.clip=0.5"])
        return "" if self.name([*words, other]) != name else f"{other} changes no name of {words}"

    @staticmethod
    def name(words: Sequence[str]) -> str:
        config = compose(list(words))
        return signature(resolved_with_starts(config, words))


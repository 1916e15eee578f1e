"""The probed runs of an experiment: each finished record with the arrays that lie beside it (probe.py says which)."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from safetensors.numpy import load_file

from lora_repro.analysis import Array
from lora_repro.tables.rows import Block
from lora_repro.tables.stores import Store

NAMES = {"query": "W_q", "key": "W_k", "value": "W_v", "output": "W_o"}  # as the paper writes them


@dataclass(frozen=True)
class Probed:
    """One run: its row, seed, LoRA rank and alpha / rank (None for another method), record and arrays."""

    row: str
    label: str
    seed: int
    rank: int | None
    scaling: float | None
    record: dict[str, Any] = field(repr=False)
    arrays: dict[str, Array] = field(repr=False)

    @property
    def kinds(self) -> list[str]:
        return [name.removesuffix(".norm") for name in self.arrays if name.endswith(".norm")]

    @property
    def n_layers(self) -> int:
        return int(self.arrays[f"{self.kinds[0]}.norm"].shape[1])

    @property
    def kept_layers(self) -> list[int]:
        """The layers whose directions were kept, from the first."""
        names = (name.partition(".basis_")[2] for name in self.arrays if ".basis_" in name)
        return sorted({int(name) for name in names})

    @property
    def middle(self) -> int:
        """The layer that stands for the middle of the model wherever one is shown: that of a probe's depth 0.5."""
        return round(0.5 * (self.n_layers - 1))

    def basis(self, kind: str, layer: int) -> Array:
        """(d_in, K): right singular vectors of A, or of the update where the method has no A."""
        return self.arrays[f"{kind}.basis_{layer}"]


def probed(blocks: Sequence[Block], store: Store) -> list[Probed]:
    """The declared runs that finished and left arrays, each once, by row, rank and seed."""
    found: dict[str, Probed] = {}
    for block in blocks:
        for row in block.rows:
            for seed, (key, asked) in row.asked.items():
                record, path = store.records.get(key), store.updates(key)
                if record is None or record["status"] != "finished" or not path.is_file():
                    continue
                rank = asked["method"].get("rank")
                label = row.label if rank is None else f"{row.label}, r = {rank}"
                scaling = None if rank is None else asked["method"]["alpha"] / rank
                found[key] = Probed(row.name, label, seed, rank, scaling, record, load_file(path))
    return sorted(found.values(), key=lambda run: (run.rank is None, run.row, run.rank or 0, run.seed))

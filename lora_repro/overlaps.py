"""Which directions do two trainings share? phi between ranks, between seeds, between W and A, with what chance would give."""

from collections.abc import Sequence

from lora_repro.analysis import Array, random_basis, similarity
from lora_repro.updates import Probed


def between_ranks(runs: Sequence[Probed], kind: str, layer: int) -> dict[int, Array]:
    """seed -> phi(A_small, A_large, i, j), (r_small, r_large), of the smallest and the largest LoRA rank (Figures 3, 6)."""
    ranks = sorted({run.rank for run in runs if run.rank})
    if len(ranks) < 2:
        return {}
    small, large = ({run.seed: run for run in runs if run.rank == rank} for rank in (ranks[0], ranks[-1]))
    return {
        seed: similarity(small[seed].basis(kind, layer), large[seed].basis(kind, layer))
        for seed in sorted(small.keys() & large.keys())
    }


def between_seeds(runs: Sequence[Probed], kind: str, layer: int) -> list[Array]:
    """phi(A, A', i, j), (r, r), of every two seeds of the largest LoRA rank (Figures 4, 7)."""
    largest = max((run.rank for run in runs if run.rank), default=None)
    same = [run for run in runs if run.rank == largest]
    pairs = [(one, other) for place, one in enumerate(same) for other in same[place + 1 :]]
    return [similarity(one.basis(kind, layer), other.basis(kind, layer)) for one, other in pairs]


def gaussian(dimension: int, m: int, n: int) -> Array:
    """phi of two random Gaussian matrices of m and n rows: what two trainings that learned nothing would show."""
    return similarity(random_basis(dimension, m, seed=1), random_basis(dimension, n, seed=2))


def with_weight(run: Probed, kind: str, layer: int) -> tuple[Array, Array]:
    """(i, phi(W, A, i, j) as (number of i, rank)): how much of A lies in the top i directions of W (Figure 8)."""
    grid = run.arrays[f"{kind}.weight_similarity_{layer}"]
    return run.arrays["weight_directions"][: grid.shape[0]], grid

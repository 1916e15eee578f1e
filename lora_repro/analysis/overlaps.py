"""Which directions two trainings share: phi between ranks, between seeds, and between W and A, with the chance level."""

from collections.abc import Sequence

from lora_repro.analysis.probed_run import ProbedRun
from lora_repro.analysis.spectra import Array, random_basis, similarity

Pair = tuple[ProbedRun, ProbedRun]


def ends(runs: Sequence[ProbedRun]) -> tuple[list[ProbedRun], list[ProbedRun]]:
    """(the runs of the smallest LoRA rank, those of the largest); the same runs if there is only one rank."""
    ranks = sorted({run.rank for run in runs if run.rank})
    small, large = ([run for run in runs if run.rank == rank] for rank in (ranks[0], ranks[-1])) if ranks else ([], [])
    return small, large


def rank_pairs(runs: Sequence[ProbedRun], same_seed: bool = False) -> list[Pair]:
    """Pairs (smallest rank, largest rank) of every two different seeds, both ways round; with `same_seed` of each seed.

    Two trainings with one seed share the order of the data and, in the first adapted matrix, random numbers: A of the smaller
    rank starts as the first rows of the larger one's. What they share is therefore no evidence of what was learned.
    """
    small, large = ends(runs)
    if not small or small[0].rank == large[0].rank:
        return []
    return [(one, other) for one in small for other in large if (one.seed == other.seed) == same_seed]


def seed_pairs(runs: Sequence[ProbedRun]) -> list[Pair]:
    """Pairs of every two seeds of the largest rank."""
    _, large = ends(runs)
    return [(one, other) for place, one in enumerate(large) for other in large[place + 1 :]]


def independent(groups: Sequence[Sequence[ProbedRun]]) -> int:
    """How many of these runs or pairs of runs share no seed, which is their n (k seeds give k // 2 pairs)."""
    counted_seeds: set[int] = set()
    count = 0
    for group in groups:
        seeds = {run.seed for run in group}
        if not seeds & counted_seeds:
            counted_seeds |= seeds
            count += 1
    return count


def between_ranks(
    runs: Sequence[ProbedRun], kind: str, layer: int, same_seed: bool = False
) -> dict[tuple[int, int], Array]:
    """(seed, seed) -> phi(A_small, A_large, i, j) as (r_small, r_large), for `rank_pairs` (Figures 3, 6)."""
    pairs = rank_pairs(runs, same_seed)
    return {(a.seed, b.seed): similarity(a.basis(kind, layer), b.basis(kind, layer)) for a, b in pairs}


def between_seeds(runs: Sequence[ProbedRun], kind: str, layer: int) -> list[Array]:
    """phi(A, A', i, j) as (r, r), for every two seeds of the largest LoRA rank (Figures 4, 7)."""
    return [similarity(a.basis(kind, layer), b.basis(kind, layer)) for a, b in seed_pairs(runs)]


def gaussian(dimension: int, m: int, n: int) -> Array:
    """phi of two random Gaussian matrices with m and n rows, as for two trainings that learned nothing."""
    return similarity(random_basis(dimension, m, seed=1), random_basis(dimension, n, seed=2))


def with_weight(run: ProbedRun, kind: str, layer: int) -> tuple[Array, Array]:
    """(i, phi(W, A, i, j) as (number of i, rank)): how much of A lies in the top i directions of W (Figure 8)."""
    grid = run.arrays[f"{kind}.weight_similarity_{layer}"]
    return run.arrays["weight_directions"][: grid.shape[0]], grid

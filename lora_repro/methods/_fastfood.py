"""Fastfood (Le et al. 2013, arXiv 1408.3060): a random matrix P (D, d), applied in D log D operations and never stored.

    P x = c (H_N G Pi H_N B [x; 0])[:D]      c = 1 / sqrt(D sum(G^2)),  N the power of two at or above both D and d

B: random signs, Pi: a permutation, G: Gaussians, all drawn from a seed; H_N: Sylvester's Hadamard matrix, entries +-1. Every
column of P has length 1: exactly if D = N; if rows are cut off, on average over draws. Two identities save most of the work:

    H_N [x; 0] is H_m [x] repeated N / m times, m the power of two at or above d
    H_N = H_a (x) H_b (x) ...: a matrix product with each of the small factors in turn
"""

from __future__ import annotations

import math
from functools import cache

import torch
from torch import nn

FACTOR = 5  # a factor has at most 2^5 rows: larger ones cost more operations, smaller ones more passes over memory


def power(n: int) -> int:
    """The exponent of the power of two at or above n."""
    return max(0, n - 1).bit_length()


@cache
def hadamard(exponent: int, device: torch.device) -> torch.Tensor:
    """Sylvester's H of 2^exponent rows, float32."""
    matrix = torch.ones(1, 1, device=device)
    two = torch.tensor([[1.0, 1.0], [1.0, -1.0]], device=device)
    for _ in range(exponent):
        matrix = torch.kron(two, matrix)
    return matrix


def transformed(x: torch.Tensor, rows: int) -> torch.Tensor:
    """The first `rows` of H x, x (N) with N a power of two; in x's type."""
    exponent = power(len(x))
    if exponent == 0:
        return x[:rows]
    passes = -(-exponent // FACTOR)
    for number in range(passes):
        size = (exponent + number) // passes
        columns = x.view(2**size, -1)  # transforms the slowest-varying index, which becomes the fastest
        if number == passes - 1:
            columns = columns[:, : -(-rows // 2**size)]
        x = (columns.t() @ hadamard(size, x.device).to(x.dtype)).view(-1)
    return x[:rows]


class Fastfood(nn.Module):
    """P (rows, d) as above, from `seed`. Drawn at its first use, so it takes no memory on the meta device.

    cut: N is the power of two at or above D alone, and entries of x beyond N are dropped.
    """

    def __init__(self, rows: int, d: int, seed: int, cut: bool = False) -> None:
        super().__init__()
        self.rows, self.d, self.seed = rows, d, seed
        self.large = 2 ** (power(rows) if cut else max(power(rows), power(d)))
        self.small = min(self.large, 2 ** power(d))
        self.drawn: tuple[torch.Tensor, torch.Tensor, torch.Tensor] | None = None

    def draw(self, device: torch.device) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """B's first m signs; for each of the N permuted entries the index that it comes from, modulo m; c G."""
        if self.drawn is None or self.drawn[0].device != device:
            generator = torch.Generator().manual_seed(self.seed)
            signs = torch.randint(2, (self.small,), generator=generator, device="cpu").float() * 2 - 1
            places = (torch.randperm(self.large, generator=generator, device="cpu") % self.small).int()
            gaussians = torch.randn(self.large, generator=generator, device="cpu")
            gaussians /= math.sqrt(self.rows * float(gaussians.double().square().sum()))
            self.drawn = signs.to(device), places.to(device), gaussians.to(device)
        return self.drawn

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """P x (rows) of x (d), in x's type."""
        signs, places, gaussians = self.draw(x.device)
        head = x[: self.small]
        first = torch.nn.functional.pad(head * signs[: len(head)].to(x.dtype), (0, self.small - len(head)))
        spread = transformed(first, self.small).index_select(0, places)
        return transformed(spread * gaussians.to(x.dtype), self.rows)

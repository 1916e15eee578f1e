"""Subspaces and spectra of weight updates (Section 7, Appendix G): arrays in, arrays out, numpy only.

Bases are matrices of orthonormal columns, in order of decreasing singular value. Where the paper's text and its shapes
disagree, the shapes decide: right singular vectors of A, (d_in, r), and phi = 1 - d^2 / p (Appendix G prints (1/p)(1 - d^2)).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]


def svd(matrix: Array) -> tuple[Array, Array, Array]:
    """(U, s, V) with matrix = U diag(s) V^T: U (rows, k), s (k,) decreasing, V (columns, k), k = min(rows, columns)."""
    u, s, vt = np.linalg.svd(np.asarray(matrix, dtype=np.float64), full_matrices=False)
    return u, s, vt.T


def singular_product(left: Array, right: Array) -> tuple[Array, Array, Array]:
    """`svd` of left @ right, (rows, r) and (r, columns), without forming the product: k = min(r, rows, columns).

    left = Q_l R_l and right^T = Q_r R_r give left right = Q_l (R_l R_r^T) Q_r^T. The SVD of the r x r middle, rotated by Q_l and
    Q_r, takes O((rows + columns) r^2), that of the whole matrix O(rows columns min(rows, columns)).
    """
    q_left, r_left = np.linalg.qr(np.asarray(left, np.float64))
    q_right, r_right = np.linalg.qr(np.asarray(right, np.float64).T)
    u, s, v = svd(r_left @ r_right.T)
    return q_left @ u, s, q_right @ v


def similarity(one: Array, other: Array) -> Array:
    """phi(i, j) = ||U_i^T V_j||_F^2 / min(i, j) for all leading i of `one` (d, m) and j of `other` (d, n), as (m, n).

    1: one span contains the other; 0: they are orthogonal (Section 7.2, equation 4). Raises ValueError if d differs.
    """
    if one.shape[0] != other.shape[0]:
        raise ValueError(f"bases of different spaces: {one.shape[0]} and {other.shape[0]} dimensions")
    overlap = np.square(np.asarray(one, np.float64).T @ np.asarray(other, np.float64))  # (m, n)
    total = overlap.cumsum(axis=0).cumsum(axis=1)
    smaller = np.minimum(*np.ogrid[1 : overlap.shape[0] + 1, 1 : overlap.shape[1] + 1])
    return np.asarray(total / smaller)


def chance(m: int, n: int, dimension: int) -> Array:
    """E phi(i, j) of two independent random subspaces of R^d: max(i, j) / d, as (m, n). It is not negligible in small models."""
    larger = np.maximum(*np.ogrid[1 : m + 1, 1 : n + 1])
    return np.asarray(larger / dimension)


def random_basis(dimension: int, n: int, seed: int) -> Array:
    """The right singular vectors (d, n) of an (n, d) Gaussian matrix, as of an A that learned nothing."""
    return svd(np.random.default_rng(seed).standard_normal((n, dimension)))[2]


def projected_norm(weight: Array, left: Array, right: Array) -> float:
    """||U^T W V||_F for W (d_out, d_in), U (d_out, r), V (d_in, r): how much of W lies in these directions (Table 7)."""
    return float(np.linalg.norm(left.T @ np.asarray(weight, np.float64) @ right))


def intruders(left: Array, matrix: Array, top: int = 10, least: float = 0.5) -> int:
    """How many of the `top` left singular vectors of a tuned matrix have a cosine below `least` with every vector of `left`.

    left: U (d_out, k) of the base matrix. The defaults are those of Shuttleworth et al. 2024 (arXiv 2410.21228).
    """
    tuned_left = svd(matrix)[0][:, :top]
    return int((np.abs(left.T @ tuned_left).max(axis=0) < least).sum())


def effective_rank(singular_values: Array) -> float:
    """exp(-sum p log p), p = s^2 / sum s^2: how many directions share the squared norm. 0 for a zero matrix."""
    energy = np.square(np.asarray(singular_values, np.float64))
    if not energy.sum():
        return 0.0
    p = energy[energy > 0] / energy.sum()
    return float(np.exp(-(p * np.log(p)).sum()))


@dataclass(frozen=True)
class Factors:
    """One update D = scaling * B A: A (r, d_in), B (d_out, r)."""

    A: Array
    B: Array
    scaling: float

    @property
    def update(self) -> Array:
        return self.scaling * (self.B.astype(np.float64) @ self.A.astype(np.float64))

    @property
    def largest_norm(self) -> float:
        """An upper bound of ||D||_F, infinite if it overflows: |scaling| ||B||_F ||A||_F."""
        norms = [float(np.linalg.norm(factor.astype(np.float64))) for factor in (self.A, self.B)]
        return abs(self.scaling) * norms[0] * norms[1]

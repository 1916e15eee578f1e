"""The subspace and spectrum functions on matrices whose answers are known, and against literal slow versions."""

from __future__ import annotations

import math
import os
from pathlib import Path

import numpy as np
import pytest

from lora_repro.analysis.spectra import (
    Array,
    chance,
    effective_rank,
    intruders,
    projected_norm,
    random_basis,
    similarity,
    singular_product,
    svd,
)
from lora_repro.exchange.lora_files import read

RNG = np.random.default_rng(0)


def basis(d: int, n: int, seed: int = 0) -> Array:
    return np.linalg.qr(np.random.default_rng(seed).standard_normal((d, n)))[0]


def rotation(n: int) -> Array:
    return np.linalg.qr(np.random.default_rng(9).standard_normal((n, n)))[0]


def test_similarity_is_the_formula_of_the_paper_at_every_i_and_j() -> None:
    one, other = basis(12, 5, 1), basis(12, 7, 2)
    grid = similarity(one, other)
    for i in range(1, 6):
        for j in range(1, 8):
            literal = np.linalg.norm(one[:, :i].T @ other[:, :j]) ** 2 / min(i, j)
            assert grid[i - 1, j - 1] == pytest.approx(literal, abs=1e-12)


def test_the_same_span_is_1_an_orthogonal_one_0_whatever_the_rotation_within_it() -> None:
    vectors = basis(12, 8)
    assert similarity(vectors[:, :4], vectors[:, :4] @ rotation(4))[-1, -1] == pytest.approx(1)
    assert similarity(vectors[:, :4], vectors[:, 4:])[-1, -1] == pytest.approx(0, abs=1e-12)
    assert similarity(vectors[:, :2], vectors)[-1, -1] == pytest.approx(1)  # contained


def test_a_planted_overlap_of_one_direction_is_found() -> None:
    vectors = basis(20, 8)
    one, other = vectors[:, :4], np.column_stack([vectors[:, 0], vectors[:, 5:8]])
    grid = similarity(one, other)
    assert grid[0, 0] == pytest.approx(1) and grid[3, 3] == pytest.approx(1 / 4)


def test_phi_is_one_minus_the_squared_projection_distance_over_p() -> None:
    """Appendix G's last equality reads (1/p)(1 - d^2); with the projection metric it is 1 - d^2 / p."""
    one, other, p = basis(12, 3, 1), basis(12, 3, 2), 3
    cosines = np.linalg.svd(one.T @ other, compute_uv=False)
    distance = math.sqrt(p - (cosines**2).sum())
    assert similarity(one, other)[-1, -1] == pytest.approx(1 - distance**2 / p)


def test_phi_does_not_see_the_scale_of_a() -> None:
    a, b = RNG.standard_normal((4, 20)), RNG.standard_normal((6, 20))
    one = similarity(svd(a)[2], svd(b)[2])
    assert np.allclose(one, similarity(svd(1000 * a)[2], svd(b)[2]))


def test_random_subspaces_meet_at_the_chance_level() -> None:
    d, m, n = 60, 3, 12
    mean = np.mean([similarity(random_basis(d, m, s), random_basis(d, n, 1000 + s)) for s in range(200)], axis=0)
    assert np.allclose(mean, chance(m, n, d), atol=0.02)
    assert chance(8, 64, 12288)[-1, -1] == pytest.approx(64 / 12288)


def test_bases_of_different_spaces_are_refused() -> None:
    with pytest.raises(ValueError, match="12 and 13"):
        similarity(basis(12, 2), basis(13, 2))


def test_singular_gives_orthonormal_columns_that_rebuild_the_matrix() -> None:
    matrix = RNG.standard_normal((5, 9))
    u, s, v = svd(matrix)
    assert u.shape == (5, 5) and v.shape == (9, 5) and np.allclose(u @ np.diag(s) @ v.T, matrix)
    assert np.allclose(v.T @ v, np.eye(5)) and (np.diff(s) <= 0).all()


@pytest.mark.parametrize("rows, r, columns", [(20, 3, 30), (30, 8, 20), (6, 9, 20), (20, 9, 6), (5, 5, 5)], ids=str)
def test_the_svd_of_a_product_is_that_of_the_whole_matrix(rows: int, r: int, columns: int) -> None:
    left, right = RNG.standard_normal((rows, r)), RNG.standard_normal((r, columns))
    k = min(rows, r, columns)
    u, s, v = singular_product(left, right)
    whole_u, whole_s, whole_v = (part[..., :k] for part in svd(left @ right))
    assert u.shape == (rows, k) and v.shape == (columns, k) and np.allclose(s, whole_s)
    assert np.allclose(np.abs((u * whole_u).sum(axis=0)), 1) and np.allclose(np.abs((v * whole_v).sum(axis=0)), 1)
    assert np.allclose(u @ np.diag(s) @ v.T, left @ right)
    assert not singular_product(0 * left, right)[1].any()


def test_the_norm_of_a_diagonal_weight_in_some_directions() -> None:
    weight = np.diag([8.0, 4.0, 2.0, 1.0])
    assert projected_norm(weight, np.eye(4)[:, :2], np.eye(4)[:, :2]) == pytest.approx(math.sqrt(80))
    assert projected_norm(weight, np.eye(4)[:, 3:], np.eye(4)[:, 3:]) == pytest.approx(1)
    assert projected_norm(weight, np.eye(4)[:, :1], np.eye(4)[:, 1:2]) == 0  # a pair in which the weight has nothing


@pytest.mark.parametrize("values, expected", [([3, 0, 0], 1), ([2, 2, 2, 2], 4), ([0, 0], 0)])
def test_effective_rank_counts_equal_directions(values: list[float], expected: float) -> None:
    assert effective_rank(np.array(values)) == pytest.approx(expected)


REAL = os.environ.get("LORA_REPRO_AUTHORS_ADAPTER", "")


@pytest.mark.skipif(not REAL, reason="LORA_REPRO_AUTHORS_ADAPTER names no file: the LoRA authors' released adapter")
def test_the_authors_adapter_has_the_spectra_that_were_read_off_it_before() -> None:
    """Measured independently: the top direction has 58 % of W_q's squared norm on average, 99 % in the last layer; W_v 39 %."""
    adapter = read(Path(REAL))
    spectra = {place: svd(factors.update)[1][:8] for place, factors in adapter.items()}
    share = {place: s[0] ** 2 / (s**2).sum() for place, s in spectra.items()}
    query, value = ([share[kind, layer] for layer in range(12)] for kind in ("query", "value"))
    assert np.mean(query) == pytest.approx(0.58, abs=0.01) and query[11] == pytest.approx(0.99, abs=0.005)
    assert np.mean(value) == pytest.approx(0.39, abs=0.01)
    ranks = {kind: np.mean([effective_rank(spectra[kind, n]) for n in range(12)]) for kind in ("query", "value")}
    assert ranks["query"] == pytest.approx(3.7, abs=0.06) and ranks["value"] == pytest.approx(5.2, abs=0.06)
    for layer in range(12):
        one, other = (svd(adapter[kind, layer].A)[2] for kind in ("query", "value"))
        assert 0.03 < similarity(one, other)[-1, -1] < 0.09


def test_an_intruder_is_a_leading_direction_that_the_base_lacks() -> None:
    base = np.diag([8.0, 7, 6, 5, 4, 3, 2, 1])
    left = svd(base)[0]
    new = np.ones(8) / np.sqrt(8)  # at a cosine of 0.35 to every direction of the base
    assert intruders(left, base) == 0 and intruders(left, base + 100 * np.outer(new, new)) == 1
    assert intruders(left, base + 100 * np.outer(np.eye(8)[5], new)) == 0  # a direction that the base has
    assert intruders(left, base + 100 * np.outer(new, new), least=0.3) == 0
    assert intruders(left, base + 0.01 * np.outer(new, new)) == 0

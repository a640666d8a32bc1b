"""Rotations."""

import math

from hypothesis import given, settings
from hypothesis import strategies as st
import pytest
import torch

from sqap_vla_ros.kernels.hadamard import hadamard, random_signs, rotate, unrotate

SIZES = [1, 2, 3, 12, 43, 128, 344, 512]
LARGE = [1152, 2048, 11008]


def sylvester(size):
    """Build the Hadamard matrix by its recursive definition."""
    matrix = torch.ones(1, 1, dtype=torch.float64)
    while len(matrix) < size:
        matrix = torch.cat([torch.cat([matrix, matrix], 1), torch.cat([matrix, -matrix], 1)])
    return matrix / math.sqrt(size)


@pytest.mark.parametrize('size', [1, 2, 8, 64, 256, 512])
def test_powers_of_two_give_sylvesters_hadamard_matrix(size):
    matrix = hadamard(torch.eye(size, dtype=torch.float64))
    assert torch.allclose(matrix, sylvester(size), atol=1e-12)


@pytest.mark.parametrize('size', SIZES)
def test_every_size_has_a_symmetric_orthonormal_matrix_without_large_entries(size):
    matrix = hadamard(torch.eye(size, dtype=torch.float64))
    assert torch.allclose(matrix @ matrix.T, torch.eye(size, dtype=torch.float64), atol=1e-10)
    assert torch.allclose(matrix, matrix.T, atol=1e-12)
    assert matrix.abs().max() <= math.sqrt(2 / size) + 1e-12


@settings(deadline=None, max_examples=30)
@given(st.sampled_from(SIZES + LARGE), st.integers(0, 2**31), st.integers(1, 4))
def test_unrotate_undoes_rotate_and_lengths_stay(size, seed, rows):
    x = torch.randn(rows, size, generator=torch.Generator().manual_seed(seed))
    signs = random_signs(size, seed)
    turned = rotate(x, signs)
    assert torch.allclose(unrotate(turned, signs), x, atol=1e-4)
    assert torch.allclose(turned.norm(dim=-1), x.norm(dim=-1), rtol=1e-4)


def test_an_outlier_is_spread_over_all_channels():
    x = torch.zeros(1, 384)
    x[0, 17] = 100
    assert rotate(x, random_signs(384, 0)).abs().max() < 100 * math.sqrt(2 / 384) + 1e-4


def test_signs_depend_on_the_seed_only():
    assert torch.equal(random_signs(64, 3), random_signs(64, 3))
    assert not torch.equal(random_signs(64, 3), random_signs(64, 4))
    assert random_signs(64, 3).abs().eq(1).all()

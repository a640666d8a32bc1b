"""Quantized queries and keys."""

import torch

from sqap_vla_ros.compression.quantization.query_key import QueryKeyQuantizer
from sqap_vla_ros.compression.recipe import QuantizationRecipe


def outlier_vectors(*shape):
    """Make vectors with one channel far above the others, as keys after RoPE have."""
    x = torch.randn(shape, generator=torch.Generator().manual_seed(len(shape)))
    x[..., 3] *= 30
    return x


def test_logits_stay_close_at_eight_bits():
    query, key = outlier_vectors(1, 4, 6, 32), outlier_vectors(1, 2, 6, 32)
    rounded = QueryKeyQuantizer(8, 0, 32)(query, key)
    expected = query @ key.repeat_interleave(2, 1).transpose(2, 3)
    actual = rounded[0] @ rounded[1].repeat_interleave(2, 1).transpose(2, 3)
    assert (actual - expected).abs().max() < 0.02 * expected.abs().max()


def test_rotation_lowers_the_error_of_four_bits_where_keys_have_an_outlier_channel():
    query = torch.randn(1, 2, 50, 32, generator=torch.Generator().manual_seed(0))
    key = outlier_vectors(1, 2, 50, 32)
    expected = query @ key.transpose(2, 3)
    errors = []
    for seed in (0, None):
        rounded = QueryKeyQuantizer(4, seed, 32)(query, key)
        errors.append((rounded[0] @ rounded[1].transpose(2, 3) - expected).square().mean())
    assert errors[0] < errors[1] / 2


def test_each_vector_takes_at_most_as_many_values_as_its_bits_allow():
    rounded, _ = QueryKeyQuantizer(3, None, 64)(torch.randn(1, 1, 4, 64), torch.randn(1, 1, 4, 64))
    assert all(len(row.unique()) <= 7 for row in rounded[0, 0])


def test_the_recipe_decides():
    assert QueryKeyQuantizer.of(QuantizationRecipe(activation_bits=16), 32) is None
    assert QueryKeyQuantizer.of(QuantizationRecipe(query_key_bits=16), 32) is None
    assert QueryKeyQuantizer.of(QuantizationRecipe(activation_bits=8), 32).bits == 8
    assert QueryKeyQuantizer.of(QuantizationRecipe(rotate_query_key=False), 32).signs is None

"""Codes and scales."""

from hypothesis import given, settings
from hypothesis import strategies as st
import pytest
import torch

from sqap_vla_ros.compression.quantization.integers import (
    activation_scale,
    dequantize_weight,
    levels,
    pack_int4,
    quantize_weight,
    to_codes,
    unpack_int4,
)

BITS = st.integers(2, 8)


def random(*shape, seed=0):
    """Draw normal numbers."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@settings(deadline=None)
@given(BITS, st.sampled_from([None, 4, 8]), st.integers(0, 2**31))
def test_weights_come_back_within_half_a_step(bits, group, seed):
    weight = random(5, 16, seed=seed)
    codes, scale = quantize_weight(weight, bits, group)
    assert codes.dtype == torch.int8 and codes.abs().max() == levels(bits)
    assert scale.shape == ((5,) if group is None else (5, 16 // group))
    step = scale.reshape(5, -1).repeat_interleave(group or 16, 1)
    assert ((dequantize_weight(codes, scale) - weight).abs() <= step / 2 + 1e-6).all()


def test_zero_weights_stay_zero():
    codes, scale = quantize_weight(torch.zeros(3, 4), 4)
    assert not dequantize_weight(codes, scale).any() and scale.isfinite().all()


@settings(deadline=None)
@given(st.integers(1, 6), st.integers(1, 9), st.integers(0, 2**31))
def test_packing_keeps_every_code(rows, pairs, seed):
    codes = torch.randint(
        -8, 8, (rows, 2 * pairs), dtype=torch.int8, generator=torch.Generator().manual_seed(seed)
    )
    packed = pack_int4(codes)
    assert packed.dtype == torch.uint8 and packed.shape == (rows, pairs)
    assert torch.equal(unpack_int4(packed), codes)


def test_even_inputs_are_in_the_low_nibble():
    assert pack_int4(torch.tensor([[-8, 7, 1, 0]], dtype=torch.int8)).tolist() == [[0xF0, 0x89]]


@pytest.mark.parametrize(('granularity', 'shape'), [('per_token', (6, 1)), ('per_tensor', (1, 1))])
def test_activation_scales_clip_nothing(granularity, shape):
    x = random(6, 8)
    scale = activation_scale(x, 4, granularity)
    assert scale.shape == shape
    assert ((to_codes(x, scale, 4) * scale - x).abs() <= scale / 2 + 1e-6).all()


def test_codes_are_clipped_at_a_scale_that_is_too_small():
    codes = to_codes(torch.tensor([[9.0, -9.0, 0.4]]), torch.tensor([[1.0]]), 4)
    assert codes.tolist() == [[7, -7, 0]]

"""The integer linear layer against whole numbers in int64."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from sqap_vla_ros.compression.dispatch import BACKENDS, choose_backend
from sqap_vla_ros.compression.quantization.integers import activation_scale, to_codes
from sqap_vla_ros.compression.quantization.linear_format import LinearFormat
from sqap_vla_ros.compression.quantization.quant_linear import QuantLinear
from sqap_vla_ros.compression.recipe import QuantizationRecipe
from sqap_vla_ros.errors import UserError
from sqap_vla_ros.kernels.hadamard import rotate


def make(inputs=96, outputs=10, bias=True, seed=0):
    """Seeded float layer, and an input."""
    torch.manual_seed(seed)
    return nn.Linear(inputs, outputs, bias=bias).requires_grad_(False), torch.randn(2, 5, inputs)


def integer_reference(layer, x):
    """Compute the layer's product in int64."""
    spec = layer.format
    flat = x.reshape(-1, spec.inputs)
    if spec.rotated:
        flat = rotate(flat, layer.rotation_signs)
    scale = activation_scale(flat, spec.activation_bits, spec.activation_granularity)
    codes = to_codes(flat, scale, spec.activation_bits).long()
    length = spec.weight_group or spec.inputs
    total = torch.zeros(len(flat), spec.outputs, dtype=torch.float64)
    for g in range(spec.inputs // length):
        part = slice(g * length, (g + 1) * length)
        sums = codes[:, part] @ layer.codes()[:, part].long().T
        total += sums.double() * layer.wscale.reshape(spec.outputs, -1)[:, g].double()
    total = total * scale.double() + (0 if layer.bias is None else layer.bias.double())
    return total.view(*x.shape[:-1], spec.outputs)


@pytest.mark.parametrize('rotation', ['none', 'hadamard'])
@pytest.mark.parametrize('granularity', ['per_token', 'per_tensor'])
@pytest.mark.parametrize(
    ('weight_bits', 'activation_bits', 'group'),
    [(4, 4, None), (2, 8, None), (8, 8, None), (3, 5, 32), (4, 4, 16)],
)
def test_forward_is_the_integer_product(
    rotation, granularity, weight_bits, activation_bits, group
):
    linear, x = make(2048 if weight_bits == 8 else 96)
    recipe = QuantizationRecipe(
        weight_bits=weight_bits,
        weight_group=group,
        rotation=rotation,
        activation_bits=activation_bits,
        activation_granularity=granularity,
    )
    layer = QuantLinear.from_linear(linear, recipe)
    expected = integer_reference(layer, x)
    assert torch.allclose(layer(x).double(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('rotation', ['none', 'hadamard'])
@pytest.mark.parametrize('bits', [(8, 8), (8, 16), (16, 8), (16, 16)])
def test_many_bits_come_close_to_the_float_layer(rotation, bits):
    linear, x = make()
    recipe = QuantizationRecipe(weight_bits=bits[0], activation_bits=bits[1], rotation=rotation)
    error = (QuantLinear.from_linear(linear, recipe)(x) - linear(x)).abs().max()
    assert error < (1e-5 if bits == (16, 16) else 0.05)


def test_rotation_helps_where_activations_have_an_outlier_channel():
    linear, x = make(256)
    x[..., 7] *= 50
    errors = {}
    for rotation in ('none', 'hadamard'):
        layer = QuantLinear.from_linear(linear, QuantizationRecipe(rotation=rotation))
        errors[rotation] = (layer(x) - linear(x)).square().mean()
    assert errors['hadamard'] < errors['none'] / 2


def test_only_packed_weights_are_kept():
    linear, _ = make(256, 128)
    layer = QuantLinear.from_linear(linear, QuantizationRecipe())
    assert not list(layer.parameters())
    assert {n: (t.dtype, tuple(t.shape)) for n, t in layer.named_buffers()} == {
        'qweight': (torch.uint8, (128, 128)),
        'wscale': (torch.float32, (128,)),
        'rotation_signs': (torch.int8, (256,)),
        'bias': (torch.float32, (128,)),
    }


def test_output_has_the_type_of_the_input():
    linear, x = make()
    layer = QuantLinear.from_linear(linear, QuantizationRecipe())
    assert layer(x.bfloat16()).dtype == torch.bfloat16


def test_a_group_that_does_not_divide_the_inputs_gives_one_scale_a_channel():
    linear, _ = make(96)
    assert LinearFormat.of(linear, QuantizationRecipe(weight_group=40)).weight_group is None


def test_odd_inputs_do_not_pack():
    with pytest.raises(ValueError, match='whole bytes'):
        LinearFormat.of(nn.Linear(7, 3), QuantizationRecipe())


def test_backends_are_chosen_by_name():
    layer = QuantLinear.from_linear(make()[0], replace(QuantizationRecipe(), weight_bits=8))
    assert choose_backend('reference', layer).name == 'reference'
    assert choose_backend('auto', layer) in BACKENDS
    with pytest.raises(UserError, match='reference'):
        choose_backend('abacus', layer)

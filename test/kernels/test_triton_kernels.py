"""Triton kernels under its interpreter, against exact integer arithmetic and the reference."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaDecoderLayer, LlamaMLP

from sqap_vla_ros.compression.compress import prepare
from sqap_vla_ros.compression.dispatch import choose_backend
from sqap_vla_ros.compression.quantization.integers import activation_scale, to_codes
from sqap_vla_ros.compression.quantization.quant_linear import QuantLinear
from sqap_vla_ros.compression.recipe import QuantizationRecipe
from sqap_vla_ros.errors import UserError
from sqap_vla_ros.kernels.hadamard import random_signs, rotate
from sqap_vla_ros.kernels.triton_tiles import candidates, CAPABILITIES, MatmulConfig, row_bucket

pytest.importorskip('triton', reason='Triton is not installed (pip install triton)')

from sqap_vla_ros.kernels import triton_rows
from sqap_vla_ros.kernels.triton_matmul import block_k, matmul, pack

pytestmark = pytest.mark.slow


def operands(rows, outputs, inputs, group=None):
    """Codes and scales of activations and weights, and a bias."""
    generator = torch.Generator().manual_seed(0)
    codes = torch.randint(-127, 128, (rows, inputs), dtype=torch.int8, generator=generator)
    weight = torch.randint(-7, 8, (outputs, inputs), dtype=torch.int8, generator=generator)
    shape = (outputs,) if group is None else (outputs, inputs // group)
    return (
        codes,
        torch.rand(rows, generator=generator),
        weight,
        torch.rand(shape, generator=generator),
        torch.randn(outputs, generator=generator),
    )


@pytest.mark.parametrize('weights_first', [True, False])
@pytest.mark.parametrize('bits', [4, 8])
@pytest.mark.parametrize('rows, outputs, inputs', [(1, 32, 128), (16, 40, 256), (21, 72, 384)])
def test_sums_are_exact(weights_first, bits, rows, outputs, inputs):
    codes, row_scales, weight, scales, bias = operands(rows, outputs, inputs)
    config = MatmulConfig(16, 32, 256, 4, 3, weights_first)
    stored = pack(weight) if bits == 4 else weight
    sums = matmul(codes, row_scales, stored, scales, None, config, torch.int32)
    expected = codes.double() @ weight.double().T
    assert torch.equal(sums.double(), expected)
    found = matmul(codes, row_scales, stored, scales, bias, config, torch.float32)
    expected = expected * scales * row_scales[:, None] + bias
    assert (found - expected).abs().max() < 1e-5 * expected.abs().max()
    # The interpreter cuts bits off where a device rounds to the nearest.
    short = matmul(codes, row_scales, stored, scales, bias, config, torch.bfloat16)
    assert torch.allclose(short.float(), found, rtol=2**-7, atol=0)


@pytest.mark.parametrize('weights_first', [True, False])
@pytest.mark.parametrize('bits, group', [(4, 128), (8, 64)])
def test_weight_groups_have_scales_of_their_own(weights_first, bits, group):
    codes, row_scales, weight, scales, bias = operands(9, 40, 384, group)
    config = MatmulConfig(16, 32, 256, 4, 3, weights_first)
    found = matmul(
        codes,
        row_scales,
        pack(weight) if bits == 4 else weight,
        scales,
        bias,
        config,
        torch.float32,
    )
    sums = torch.einsum(
        'mgk,ngk->mng',
        codes.double().unflatten(1, (-1, group)),
        weight.double().unflatten(1, (-1, group)),
    )
    expected = (sums * scales).sum(-1) * row_scales[:, None] + bias
    assert (found - expected).abs().max() < 1e-5 * expected.abs().max()


def test_lowest_code_survives_packing():
    weight = torch.full((32, 128), -8, dtype=torch.int8)
    codes = torch.ones(1, 128, dtype=torch.int8)
    sums = matmul(
        codes,
        torch.ones(1),
        pack(weight),
        torch.ones(32),
        None,
        MatmulConfig(16, 32, 128, 4, 3),
        torch.int32,
    )
    assert (sums == -1024).all()


@pytest.mark.parametrize('width', [16, 64, 384, 1024, 1152, 4304, 8192, 11008, 14336])
@pytest.mark.parametrize('bits', [4, 8])
def test_rows_are_rotated_and_quantized_as_the_reference_does(width, bits):
    x = torch.randn(3, width, generator=torch.Generator().manual_seed(1))
    signs = random_signs(width, 0)
    codes, scales = triton_rows.quantize_rows(x, 2 ** (bits - 1) - 1, signs)
    check_rows(rotate(x, signs), bits, codes, scales)


def check_rows(basis, bits, codes, scales):
    expected = activation_scale(basis, bits, 'per_token')
    assert torch.allclose(scales, expected[:, 0], rtol=1e-5, atol=0)
    assert ((codes - basis.double() / expected.double()).abs() <= 0.5 + 1e-3).all()
    assert (codes != to_codes(basis, expected, bits)).float().mean() < 0.01


@pytest.mark.parametrize('width', [256, 96])
@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_norm_and_activations_come_before_the_rotation(dtype, width):
    generator = torch.Generator().manual_seed(2)
    x, other = torch.randn(2, 4, width, generator=generator).to(dtype)
    weight, signs = torch.rand(width, generator=generator).to(dtype), random_signs(width, 0)
    gate, value = other.float(), x.float()
    cases = {
        triton_rows.NONE: value,
        triton_rows.SILU_MULTIPLY: functional.silu(gate) * value,
        triton_rows.GELU_TANH_MULTIPLY: functional.gelu(gate, approximate='tanh') * value,
        triton_rows.GELU: functional.gelu(value),
    }
    if dtype == torch.float32:  # it rounds to bfloat16 on the way, which the interpreter does not
        cases[triton_rows.RMS_NORM] = functional.rms_norm(value, (width,), weight, 1e-6)
    for before, expected in cases.items():
        codes, scales = triton_rows.quantize_rows(x, 127, signs, before, other, weight, 1e-6)
        check_rows(rotate(expected, signs), 8, codes, scales)


def test_a_row_that_is_not_finite_stays_visible_and_alone():
    x = torch.ones(3, 128)
    x[1, 5] = float('nan')
    _, scales = triton_rows.quantize_rows(x, 127, random_signs(128, 0))
    assert scales[1].isnan() and scales[[0, 2]].isfinite().all()


@pytest.mark.parametrize('width', [256, 1024, 2048, 4096, 8192, 11008, 14336, 16384])
def test_widths_of_common_decoders_fold(width):
    shape = triton_rows.row_shape(width)
    r, a, b = shape.axes
    assert r * a * b == width and max(shape.axes) <= 64
    assert all(axis == 1 or padded >= 16 for axis, padded in zip(shape.axes, shape.padded))


@pytest.mark.parametrize(
    'recipe',
    [
        {},
        {'activation_bits': 8},
        {'weight_bits': 8, 'activation_bits': 8},
        {'activation_bits': 8, 'rotation': 'none'},
        {'weight_group': 128},
    ],
)
def test_backend_computes_what_the_reference_does(recipe):
    torch.manual_seed(0)
    layer = QuantLinear.from_linear(
        torch.nn.Linear(256, 48), replace(QuantizationRecipe(), **recipe)
    )
    x = torch.randn(2, 5, 256)
    expected = layer(x)
    layer.prepare(choose_backend('triton', layer))
    error = (layer(x) - expected).abs()
    assert error.median() <= 1e-5 * expected.abs().max()
    assert error.max() <= 0.02 * expected.abs().max()


@pytest.mark.parametrize('function', ['silu', 'gelu_pytorch_tanh'])
def test_gated_mlp_is_its_three_layers(function):
    torch.manual_seed(0)
    config = LlamaConfig(hidden_size=256, intermediate_size=384, hidden_act=function)
    mlp = LlamaMLP(config).requires_grad_(False)
    model = torch.nn.ModuleDict({'mlp': mlp})
    for name in ('gate_proj', 'up_proj', 'down_proj'):
        layer = QuantLinear.from_linear(
            getattr(mlp, name), replace(QuantizationRecipe(), activation_bits=8)
        )
        setattr(mlp, name, layer)
    x = torch.randn(1, 3, 256)
    expected = mlp(x)
    assert prepare(model, 'triton') == 'triton'
    assert type(model['mlp']).__name__ == 'TritonGatedMlp'
    assert (model['mlp'](x) - expected).abs().max() < 0.01 * expected.abs().max()


def test_norm_is_part_of_the_quantization_of_what_reads_it():
    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=256, intermediate_size=256, num_attention_heads=4, num_hidden_layers=1
    )
    layer = LlamaDecoderLayer(config, 0).requires_grad_(False)
    recipe = replace(QuantizationRecipe(), activation_bits=8)
    for name, module in list(layer.named_modules()):
        if isinstance(module, torch.nn.Linear):
            layer.set_submodule(name, QuantLinear.from_linear(module, recipe))
    x = torch.randn(1, 3, 256)

    def outputs():
        normed = layer.input_layernorm(x)
        return [
            layer.self_attn.k_proj(normed),
            layer.self_attn.v_proj(normed),
            layer.mlp(layer.post_attention_layernorm(x)),
        ]

    expected = outputs()
    prepare(torch.nn.ModuleDict({'layer': layer}), 'triton')
    assert type(layer.input_layernorm).__name__ == 'TritonNormAndQuantize'
    for found, right in zip(outputs(), expected):
        assert (found - right).abs().max() < 0.01 * right.abs().max()


def test_backend_says_which_shapes_it_cannot_run():
    layer = QuantLinear.from_linear(torch.nn.Linear(96, 16), QuantizationRecipe())
    with pytest.raises(UserError, match='96 inputs are no multiple of 128'):
        choose_backend('triton', layer)


@pytest.mark.parametrize('capability', [80, 86, 87, 89, 90, 100, 103, 120])
@pytest.mark.parametrize('rows', [1, 16, 17, 192, 5000])
def test_tuning_tables_answer_for_every_device_and_size(capability, rows):
    for config in candidates(capability, rows):
        assert config.block_m >= min(row_bucket(rows), 16)
        assert block_k(config, 11008) in (128, 256)
        # Left operand of wgmma: 64 outputs at least.
        assert capability < 90 or capability >= 110 or config.block_n >= 64


def test_orin_has_a_table_of_its_own():
    assert 87 in CAPABILITIES and candidates(87, 200) != candidates(86, 200)


def test_choices_are_shared_by_similar_row_counts():
    assert [row_bucket(n) for n in (1, 16, 17, 40, 64, 65, 188, 290)] == [
        16,
        16,
        32,
        64,
        64,
        128,
        192,
        320,
    ]

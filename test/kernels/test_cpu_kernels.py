"""C++ kernels against exact integer arithmetic and the package's own definitions."""

from hypothesis import given, settings
from hypothesis import strategies as st
import pytest
import torch
from torch.nn.functional import gelu, silu
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from sqap_vla_ros.compression.quantization.integers import (
    activation_scale,
    levels,
    pack_int4,
    quantize_weight,
    to_codes,
)
from sqap_vla_ros.errors import UserError
from sqap_vla_ros.kernels import cpu
from sqap_vla_ros.kernels.hadamard import random_signs, rotate

try:
    cpu.load()
except UserError as error:
    pytest.skip(str(error), allow_module_level=True)


@pytest.fixture(params=['amx_int8', 'avx512_vnni', 'avx2', 'generic'])
def instruction_set(request):
    """Each one in turn; those that this processor lacks are skipped."""
    try:
        cpu.set_instruction_set(request.param)
    except UserError as error:
        pytest.skip(str(error))
    yield request.param
    cpu.set_instruction_set(None)


class Layer:
    """A random layer, packed, with what it was made of."""

    def __init__(
        self,
        inputs,
        outputs,
        weight_bits=4,
        activation_bits=8,
        group=None,
        rotated=True,
        bias=True,
        seed=0,
    ):
        generator = torch.Generator().manual_seed(seed)
        weight = torch.randn(outputs, inputs, generator=generator)
        self.codes, self.scale = quantize_weight(weight, weight_bits, group)
        self.bias = torch.randn(outputs, generator=generator) if bias else None
        self.signs = random_signs(inputs, seed) if rotated else None
        self.bits, self.group = activation_bits, group or inputs
        self.packed = cpu.PackedLinear(
            pack_int4(self.codes) if weight_bits == 4 else self.codes,
            self.scale,
            self.bias,
            self.signs,
            levels(activation_bits),
        )

    def rotated(self, x):
        return x.float() if self.signs is None else rotate(x.float(), self.signs)

    def exact(self, codes, scales):
        """Layer's output float64 for given activation codes [M, K] and scales [M]."""
        split = (1, -1, self.group)
        sums = torch.einsum(
            'mgk,ngk->mng',
            codes.double().unflatten(1, split[1:]),
            self.codes.double().unflatten(1, split[1:]),
        )
        y = (sums * self.scale.double().view(len(self.codes), -1)).sum(-1)
        y = y * scales.double()[:, None]
        return y if self.bias is None else y + self.bias.double()


SHAPES = [  # rows, inputs, outputs: odd tails of every loop
    (1, 128, 32),
    (4, 256, 96),
    (17, 128, 100),
    (29, 20, 7),
    (15, 384, 64),
    (3, 1152, 33),
    (5, 1100, 40),
    (2, 8192, 32),
    (150, 64, 48),
    (1, 2, 1),
    (33, 1100, 40),
    (16, 192, 64),
    (65, 2112, 33),
    (340, 320, 36),
]


def relative_error(found, expected):
    return float((found.double() - expected).abs().max() / expected.abs().max())


@pytest.mark.parametrize('rows, inputs, outputs', SHAPES)
@pytest.mark.parametrize('weight_bits, activation_bits', [(4, 4), (4, 8), (8, 8)])
def test_sums_are_exact_and_outputs_follow_them(
    instruction_set, rows, inputs, outputs, weight_bits, activation_bits
):
    layer = Layer(inputs, outputs, weight_bits, activation_bits)
    x = torch.randn(rows, inputs, generator=torch.Generator().manual_seed(1))
    codes, scales = layer.packed.quantize(x)
    sums = layer.packed.accumulate(x)
    assert torch.equal(sums.double(), codes.double() @ layer.codes.double().T)
    assert relative_error(layer.packed(x), layer.exact(codes, scales)) < 1e-6


@pytest.mark.parametrize('rows, inputs, outputs', SHAPES)
@pytest.mark.parametrize('rotated', [True, False])
@pytest.mark.parametrize('bits', [4, 8])
def test_activations_are_quantized_as_the_reference_does(
    instruction_set, rows, inputs, outputs, rotated, bits
):
    layer = Layer(inputs, outputs, activation_bits=bits, rotated=rotated)
    x = torch.randn(rows, inputs, generator=torch.Generator().manual_seed(2))
    codes, scales = layer.packed.quantize(x)
    basis = layer.rotated(x)
    expected = activation_scale(basis, bits, 'per_token')
    assert torch.allclose(scales, expected[:, 0], rtol=3e-6, atol=0)
    # Nearest to within the last bits of the rotation: a code may differ at a tie only.
    quotient = basis.double() / expected.double()
    assert ((codes - quotient).abs() <= 0.5 + 1e-3).all()
    assert codes.abs().max() == levels(bits)


@pytest.mark.parametrize('group, inputs', [(64, 256), (4, 128), (128, 1152)])
@pytest.mark.parametrize('weight_bits', [4, 8])
@pytest.mark.parametrize('rows', [12, 19, 70])
def test_weight_groups_have_scales_of_their_own(instruction_set, group, inputs, weight_bits, rows):
    layer = Layer(inputs, 50, weight_bits, group=group)
    x = torch.randn(rows, inputs, generator=torch.Generator().manual_seed(3))
    assert relative_error(layer.packed(x), layer.exact(*layer.packed.quantize(x))) < 1e-6


def test_bfloat16_goes_in_and_comes_out_rounded_once(instruction_set):
    layer = Layer(256, 100)
    x = torch.randn(23, 256, generator=torch.Generator().manual_seed(4)).bfloat16()
    assert torch.equal(layer.packed(x), layer.packed(x.float()).bfloat16())


@pytest.mark.parametrize('bad', [float('nan'), float('inf'), -float('inf')])
def test_a_row_that_is_not_finite_stays_visible_and_alone(instruction_set, bad):
    layer = Layer(128, 40)
    x = torch.randn(9, 128, generator=torch.Generator().manual_seed(5))
    clean = layer.packed(x)
    x[4, 17] = bad
    found = layer.packed(x)
    assert not found[4].isfinite().any()
    others = torch.arange(9) != 4
    assert torch.equal(found[others], clean[others])
    assert layer.packed(x.bfloat16())[4].isnan().all()


def test_a_row_of_zeros_gives_the_bias(instruction_set):
    layer = Layer(128, 40)
    assert torch.equal(layer.packed(torch.zeros(3, 128)), layer.bias.expand(3, 40))


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 80),
    st.integers(1, 96).map(lambda n: 2 * n),
    st.integers(1, 70),
    st.booleans(),
    st.integers(0, 2**16),
)
def test_instruction_sets_agree(rows, inputs, outputs, rotated, seed):
    layer = Layer(inputs, outputs, rotated=rotated, seed=seed)
    x = torch.randn(rows, inputs, generator=torch.Generator().manual_seed(seed))
    try:
        cpu.set_instruction_set('generic')
        codes, _ = layer.packed.quantize(x)
        plain = layer.packed.accumulate(x)
        cpu.set_instruction_set(None)
        same = (layer.packed.quantize(x)[0] == codes).all(1)
        assert torch.equal(layer.packed.accumulate(x)[same], plain[same])
        assert same.float().mean() > 0.5  # a tie is rare
    finally:
        cpu.set_instruction_set(None)


def test_tiles_share_a_process_with_those_of_torch(instruction_set):
    """Also oneDNN uses AMX: neither may rely on the tile configuration that the other left."""
    layer = Layer(256, 64)
    x = torch.randn(40, 256, generator=torch.Generator().manual_seed(10))
    dense = torch.randn(64, 256, generator=torch.Generator().manual_seed(11)).bfloat16()
    alone, product = layer.packed(x), torch.nn.functional.linear(x.bfloat16(), dense)
    for _ in range(3):
        assert torch.equal(torch.nn.functional.linear(x.bfloat16(), dense), product)
        assert torch.equal(layer.packed(x), alone)


def test_threads_do_not_change_the_result():
    layer, before = Layer(256, 300), torch.get_num_threads()
    x = torch.randn(67, 256, generator=torch.Generator().manual_seed(6))
    try:
        torch.set_num_threads(1)
        alone = layer.packed(x)
        for threads in (2, 3, 2, 1):
            torch.set_num_threads(threads)
            assert torch.equal(layer.packed(x), alone)
    finally:
        torch.set_num_threads(before)


def test_layers_that_share_inputs_give_what_each_gives_alone(instruction_set):
    layers = [Layer(128, n, seed=0).packed for n in (96, 32, 5)]
    x = torch.randn(2, 9, 128, generator=torch.Generator().manual_seed(7))
    rows = cpu.quantize_once(layers[0], x)
    for layer in layers:
        assert torch.equal(cpu.multiply(layer, rows), layer(x))


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
@pytest.mark.parametrize('inputs', [128, 100])
def test_norm_is_llamas(instruction_set, dtype, inputs):
    layer = Layer(inputs, 40)
    generator = torch.Generator().manual_seed(8)
    x = (10 * torch.randn(50, inputs, generator=generator)).to(dtype)
    norm = LlamaRMSNorm(inputs, 1e-5).to(dtype).requires_grad_(False)
    norm.weight.copy_(torch.rand(inputs, generator=generator))
    rows = cpu.quantize_once(layer.packed, x, norm.weight.float(), 1e-5)
    found, expected = cpu.multiply(layer.packed, rows).float(), layer.packed(norm(x)).float()
    error = (found - expected).abs() / expected.abs().max()
    # The mean square is summed in another order: a value may round to its other neighbour.
    assert error.max() < 0.02 and error.median() < (1e-6 if dtype == torch.float32 else 1e-2)


@pytest.mark.parametrize('function', ['silu', 'gelu_tanh'])
@pytest.mark.parametrize('rows', [1, 31, 330])
def test_gated_mlp_is_its_three_layers(instruction_set, rows, function):
    gate, up, down = (Layer(*shape, bias=False) for shape in ((128, 256), (128, 256), (256, 128)))
    x = 3 * torch.randn(rows, 128, generator=torch.Generator().manual_seed(8))
    found = cpu.gated_mlp(gate.packed, up.packed, down.packed, x, function)
    gated = gate.packed(x)
    between = silu(gated) if function == 'silu' else gelu(gated, approximate='tanh')
    between = between * up.packed(x)
    expected = down.packed(between)
    # One code may differ where the two ways to compute an exponential meet a tie.
    assert relative_error(found, expected.double()) < 0.01
    assert (found - expected).abs().median() < 1e-5 * expected.abs().max()


def test_gated_mlp_keeps_a_nan_visible(instruction_set):
    gate, up, down = (Layer(*shape, bias=False) for shape in ((128, 64), (128, 64), (64, 32)))
    x = torch.ones(3, 128)
    x[1, 0] = float('nan')
    found = cpu.gated_mlp(gate.packed, up.packed, down.packed, x)
    assert found[1].isnan().all() and found[[0, 2]].isfinite().all()


@pytest.mark.parametrize('width', [16, 32, 48, 64, 128, 20])
@pytest.mark.parametrize('rotated', [True, False])
def test_rows_are_rounded_where_they_lie(instruction_set, width, rotated):
    """Queries and keys are views [B, heads, N, d] of [B, N, heads, d]."""
    generator = torch.Generator().manual_seed(9)
    x = torch.randn(1, 50, 4, width, generator=generator).transpose(1, 2)
    signs = random_signs(width, 0) if rotated else None
    found = cpu.round_rows(x, 7, signs)
    basis = rotate(x, signs) if rotated else x
    scale = activation_scale(basis, 4, 'per_token')
    expected = to_codes(basis, scale, 4, x.dtype) * scale
    assert found.shape == x.shape and found.stride() == x.stride()
    close = torch.isclose(found, expected, rtol=1e-5, atol=1e-6)
    assert close.float().mean() > 0.999
    assert ((found - expected).abs() <= scale * 1.001).all()


@pytest.mark.parametrize('value', [None, float('nan')])
def test_farthest_points_are_those_that_torch_finds(monkeypatch, value):
    from sqap_vla_ros.compression.pruning import coverage

    separation = coverage.grid_separation((9, 16))
    if value is not None:
        separation[3, 50] = value
    chosen = torch.zeros(144, dtype=torch.bool)
    chosen[[0, 77]] = True
    found = coverage.farthest_points(separation, chosen, 60)
    monkeypatch.setattr(cpu, 'available', lambda: False)
    assert torch.equal(found, coverage.farthest_points(separation, chosen, 60))


def test_packed_weights_are_no_larger_than_the_portable_ones():
    layer = Layer(256, 128)
    assert layer.packed.weights.numel() == 128 * 256 // 2


def test_unknown_instruction_set_is_named():
    with pytest.raises(UserError, match='abacus'):
        cpu.set_instruction_set('abacus')

"""The dispatcher: what each backend says of itself, proves, and what is chosen."""

from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from torch import nn
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaMLP

from sqap_vla_ros.compression import dispatch
from sqap_vla_ros.compression.backends.base import Backend
from sqap_vla_ros.compression.backends.reference import REFERENCE
from sqap_vla_ros.compression.compress import compress_model, prepare
from sqap_vla_ros.compression.dispatch import BACKENDS, choose_backend
from sqap_vla_ros.compression.quantization.quant_linear import QuantLinear
from sqap_vla_ros.compression.quantization.query_key import QueryKeyQuantizer
from sqap_vla_ros.compression.recipe import QuantizationRecipe, Recipe
from sqap_vla_ros.errors import UserError
from sqap_vla_ros.kernels import cpu

CPU = torch.device('cpu')
BY_NAME = {backend.name: backend for backend in BACKENDS}


def make_layer(inputs=128, outputs=96, **recipe):
    torch.manual_seed(0)
    return QuantLinear.from_linear(
        nn.Linear(inputs, outputs), replace(QuantizationRecipe(), **recipe)
    )


def able(name, layer):
    """Return the backend, or skip where it cannot run the layer on this machine."""
    reason = dispatch.objection(BY_NAME[name], layer.format, CPU)
    if reason is not None:
        pytest.skip(f'backend {name}: {reason}')
    return BY_NAME[name]


@pytest.mark.parametrize(
    'name, recipe',
    [
        ('cpu', {}),
        ('cpu', {'activation_bits': 8}),
        ('cpu', {'weight_bits': 8}),
        ('cpu', {'weight_bits': 8, 'activation_bits': 8}),
        ('cpu', {'weight_group': 32}),
        ('cpu', {'rotation': 'none'}),
        ('cpu', {'weight_bits': 3, 'activation_bits': 5}),
        ('onednn', {'weight_bits': 8, 'activation_bits': 8}),
        ('onednn', {'weight_bits': 6}),
        ('onednn', {'weight_bits': 8, 'activation_granularity': 'per_tensor'}),
        ('fp8', {}),
        ('fp8', {'activation_granularity': 'per_tensor'}),
    ],
)
@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16, torch.float16])
def test_backend_computes_what_the_reference_does(name, recipe, dtype):
    layer = make_layer(**recipe)
    backend = able(name, layer)
    x = torch.randn(2, 7, 128, generator=torch.Generator().manual_seed(1)).to(dtype)
    expected = layer(x)
    layer.prepare(backend)
    found = layer(x)
    assert found.dtype == dtype and found.shape == (2, 7, 96)
    error = (found - expected).abs().float()
    # A code that lies on a tie may fall to the other side: seldom, and then by one.
    assert error.median() <= 1e-5 * expected.abs().max() or dtype != torch.float32
    assert error.max() <= 0.02 * expected.abs().max()


def test_prepared_layer_keeps_its_weight_once():
    layer = make_layer(256, 128)
    before = layer.qweight.numel()
    layer.prepare(able('cpu', layer))
    assert sum(b.numel() for b in layer.buffers() if b.dtype == torch.uint8) == before


@pytest.mark.parametrize(
    'name, recipe, words',
    [
        ('cpu', {'activation_granularity': 'per_tensor'}, 'per token only'),
        ('cpu', {'activation_bits': 16}, 'integers only'),
        ('cpu', {'weight_bits': 16}, 'integers only'),
        ('onednn', {}, 'stores weights in 8 bits'),
        ('onednn', {'weight_bits': 8, 'weight_group': 32}, 'groups'),
        ('fp8', {'activation_bits': 8}, 'up to 4 bits'),
        ('fp8', {'weight_group': 32}, 'groups'),
    ],
)
def test_a_backend_that_cannot_run_says_why(name, recipe, words):
    with pytest.raises(UserError, match=words) as error:
        choose_backend(name, make_layer(**recipe))
    assert name in str(error.value) and 'use auto' in str(error.value)


def test_missing_library_is_named(monkeypatch, tmp_path):
    cpu.load.cache_clear()
    monkeypatch.setattr(cpu.sqap_vla_ros, '__path__', [str(tmp_path)])
    try:
        with pytest.raises(UserError, match='build the package'):
            choose_backend('cpu', make_layer())
        assert choose_backend('auto', make_layer()) is REFERENCE
    finally:
        cpu.load.cache_clear()


def test_library_that_does_not_load_is_named(monkeypatch, tmp_path):
    (tmp_path / 'kernels').mkdir()
    (tmp_path / 'kernels' / cpu.LIBRARY).write_bytes(b'no library')
    cpu.load.cache_clear()
    monkeypatch.setattr(cpu.sqap_vla_ros, '__path__', [str(tmp_path)])
    try:
        with pytest.raises(UserError, match='cannot be loaded'):
            cpu.load()
    finally:
        cpu.load.cache_clear()


def test_layer_that_only_the_reference_can_run_gets_it():
    assert choose_backend('auto', make_layer(activation_bits=16)) is REFERENCE


class Wrong(Backend):
    """Claims everything, and is off by a thousandth."""

    name = 'wrong'

    def objection(self, spec, device):
        return None

    def linear(self, layer, x):
        return REFERENCE.linear(layer, x) * 1.001


class Broken(Wrong):
    """Has no code for this device, as some wheels do."""

    name = 'broken'

    def linear(self, layer, x):
        raise RuntimeError('no kernel image is available for execution on the device')


class Slow(Wrong):
    """Right, but takes its time."""

    name = 'slow'

    def linear(self, layer, x):
        for _ in range(50):
            y = REFERENCE.linear(layer, x)
        return y


@pytest.mark.parametrize(
    'backend, words', [(Wrong(), 'differs from the reference'), (Broken(), 'no kernel image')]
)
def test_a_trial_run_unmasks_what_claims_too_much(monkeypatch, backend, words):
    monkeypatch.setattr(dispatch, '_probed', {})
    monkeypatch.setitem(globals()['BY_NAME'], backend.name, backend)
    BACKENDS.insert(0, backend)
    try:
        with pytest.raises(UserError, match=words):
            choose_backend(backend.name, make_layer())
        assert choose_backend('auto', make_layer()) is not backend
    finally:
        BACKENDS.remove(backend)


def test_the_faster_of_two_is_chosen_once_and_logged(caplog):
    spec = make_layer(64, 32).format
    with caplog.at_level('INFO'):
        assert dispatch.fastest([Slow(), REFERENCE], spec, CPU) is REFERENCE
    assert 'slow' in caplog.text and 'reference' in caplog.text
    caplog.clear()
    assert dispatch.fastest([Slow(), REFERENCE], spec, CPU) is REFERENCE
    assert not caplog.text


def test_prepare_reports_the_backends_in_use_and_fuses_gated_mlps():
    torch.manual_seed(0)
    mlp = LlamaMLP(LlamaConfig(hidden_size=64, intermediate_size=128)).requires_grad_(False)
    model = nn.ModuleDict({'mlp': mlp, 'other': nn.Linear(64, 64)})
    recipe = replace(QuantizationRecipe(), activation_bits=8)
    for name in ('mlp.gate_proj', 'mlp.up_proj', 'mlp.down_proj', 'other'):
        model.set_submodule(name, QuantLinear.from_linear(model.get_submodule(name), recipe))
    backend = able('cpu', model['other'])
    x = torch.randn(5, 64)
    expected = model['mlp'](x)
    assert prepare(model, 'cpu') == backend.label == f'cpu_{cpu.instruction_set()}'
    assert type(model['mlp']).__name__ == 'CpuGatedMlp'
    assert (model['mlp'](x) - expected).abs().max() < 0.01 * expected.abs().max()


def test_queries_and_keys_are_rounded_by_the_kernel():
    torch.manual_seed(0)
    quantizer = QueryKeyQuantizer(4, 0, 32)
    query, key = torch.randn(2, 1, 9, 4, 32).transpose(2, 3)
    expected = quantizer(query, key)
    model = nn.Sequential(make_layer())
    model.query_key_quantizer = quantizer
    able('cpu', model[0])
    prepare(model, 'cpu')
    assert quantizer.round_rows is cpu.round_rows
    for found, right in zip(quantizer(query, key), expected):
        assert torch.isclose(found, right, rtol=1e-5, atol=1e-6).float().mean() > 0.99


def test_mlp_with_another_activation_is_left_alone():
    config = LlamaConfig(hidden_size=64, intermediate_size=128, hidden_act='gelu')
    mlp = LlamaMLP(config).requires_grad_(False)
    model = nn.ModuleDict({'mlp': mlp})
    for name in ('mlp.gate_proj', 'mlp.up_proj', 'mlp.down_proj'):
        model.set_submodule(
            name, QuantLinear.from_linear(model.get_submodule(name), QuantizationRecipe())
        )
    able('cpu', mlp.gate_proj)
    prepare(model, 'cpu')
    assert isinstance(model['mlp'], LlamaMLP)


def decoder_of(dtype=torch.float32, **recipe):
    """Make a Llama decoder of three layers with quantized linear layers, and its input."""
    from sqap_vla_ros.benchmark.bare_decoder import BareDecoder
    from sqap_vla_ros.benchmark.presets import BareDecoderConfig

    torch.manual_seed(0)
    model = (
        BareDecoder(
            BareDecoderConfig(
                {
                    'vocab_size': 9,
                    'hidden_size': 64,
                    'intermediate_size': 128,
                    'num_hidden_layers': 3,
                    'num_attention_heads': 4,
                    'num_key_value_heads': 2,
                    'max_position_embeddings': 64,
                }
            )
        )
        .eval()
        .requires_grad_(False)
    )
    for name, parameter in model.named_parameters():
        if 'norm' in name:
            parameter.copy_(torch.rand(parameter.shape) + 0.5)
        elif parameter.dim() == 2:
            parameter.normal_(std=2 * parameter.shape[1] ** -0.5)
    compress_model(model.to(dtype), Recipe('test', replace(QuantizationRecipe(), **recipe)))
    return model, torch.randn(1, 20, 64).to(dtype)


@pytest.mark.parametrize('recipe', [{}, {'rotation': 'none'}, {'weight_group': 32}])
@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16, torch.float16])
def test_fused_decoder_is_the_decoder(recipe, dtype):
    model, x = decoder_of(dtype, **{'activation_bits': 8, 'query_key_bits': 8, **recipe})
    layer = model.decoder.llama.layers[0]
    able('cpu', layer.mlp.gate_proj)
    right = deepcopy(model).float().decoder(x.float(), slice(1, 10))[0]
    before = (model.decoder(x, slice(1, 10))[0].float() - right).norm()
    prepare(model, 'cpu')
    assert type(layer.mlp).__name__ == 'CpuGatedMlp'
    assert type(layer.input_layernorm).__name__ == 'CpuNormAndQuantize'
    assert isinstance(layer.post_attention_layernorm, nn.Identity)
    after = (model.decoder(x, slice(1, 10))[0].float() - right).norm()
    # In short types both round, at different places, and random weights enlarge the difference.
    assert after < 1.5 * before + 1e-5 * right.norm()


def test_norm_stays_where_its_readers_do_not_share_a_rotation():
    model, _ = decoder_of()
    layer = model.decoder.llama.layers[1]
    able('cpu', layer.mlp.gate_proj)
    layer.self_attn.k_proj.rotation_signs = -layer.self_attn.k_proj.rotation_signs
    prepare(model, 'cpu')
    assert type(layer.input_layernorm).__name__ == 'LlamaRMSNorm'
    assert type(model.decoder.llama.layers[0].input_layernorm).__name__ == 'CpuNormAndQuantize'

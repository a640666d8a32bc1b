"""What needs samples: GPTQ, clipping by importance, static scales; and the rotated residual."""

import numpy as np
import pytest
import torch
from torch import nn

from sqap_vla_ros.compression.compress import compress_model, prepare
from sqap_vla_ros.compression.quantization.input_statistics import collecting
from sqap_vla_ros.compression.quantization.integers import dequantize_weight
from sqap_vla_ros.compression.quantization.quant_linear import QuantLinear
from sqap_vla_ros.compression.quantization.weight_rounding import round_weight
from sqap_vla_ros.compression.recipe import QuantizationRecipe, Recipe
from sqap_vla_ros.compression.recipe_files import recipe_from_dict, save_recipe
from sqap_vla_ros.errors import UserError
from sqap_vla_ros.models import compress_policy
from sqap_vla_ros.models.calibration_samples import save_samples
from sqap_vla_ros.models.loading import load_policy
from sqap_vla_ros.runtime_options import RuntimeOptions

from support.tiny_policy import tiny_model

ALL = ('decoder', 'vision', 'action_head')
STATIC = {
    'activation_granularity': 'per_tensor',
    'activation_scales': 'static',
    'activation_bits': 8,
    'targets': ALL,
}


def correlated(rows=200, columns=32, seed=0):
    """Draw inputs whose channels depend on each other, as GPTQ needs to gain anything."""
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn(columns, columns, generator=generator)
    return torch.randn(rows, 8, generator=generator) @ mix[:8] + 0.1 * torch.randn(
        rows, columns, generator=generator
    )


@pytest.mark.parametrize('group', [None, 8])
@pytest.mark.parametrize('clip', ['none', 'mse'])
def test_gptq_loses_less_on_its_samples_than_rounding(group, clip):
    x = correlated()
    weight = torch.randn(16, 32, generator=torch.Generator().manual_seed(1))
    errors = {}
    for method in ('rtn', 'gptq'):
        codes, scale = round_weight(weight, 3, group, method, clip, x.T @ x)
        assert codes.dtype == torch.int8 and codes.abs().max() <= 3
        errors[method] = (x @ (dequantize_weight(codes, scale) - weight).T).square().mean()
    assert errors['gptq'] < errors['rtn']


def test_gptq_is_rounding_where_channels_do_not_correlate():
    weight = torch.randn(8, 300, generator=torch.Generator().manual_seed(1))
    plain, _ = round_weight(weight, 4, None)
    codes, _ = round_weight(weight, 4, None, 'gptq', hessian=torch.eye(300) * 5)
    assert torch.equal(codes, plain)


def test_gptq_stands_inputs_that_are_always_zero():
    hessian = torch.zeros(16, 16)
    hessian[0, 0] = 1
    codes, scale = round_weight(torch.randn(4, 16), 4, None, 'gptq', hessian=hessian)
    assert dequantize_weight(codes, scale).isfinite().all()


@pytest.mark.parametrize('group', [None, 16])
def test_clipping_lowers_the_squared_error_and_raises_it_in_no_group(group):
    weight = torch.randn(32, 64, generator=torch.Generator().manual_seed(2)) ** 3
    errors = [
        (dequantize_weight(*round_weight(weight, 3, group, clip=clip)) - weight)
        .square()
        .view(32, -1, group or 64)
        .sum(-1)
        for clip in ('none', 'mse')
    ]
    assert (errors[1] <= errors[0] + 1e-5).all() and errors[1].sum() < errors[0].sum()


def test_statistics_are_those_of_the_rotated_inputs():
    layer = nn.Linear(8, 2)
    signs = torch.ones(8, dtype=torch.int8)
    x = torch.zeros(1, 3, 8)
    x[0, :, 0] = 8**0.5
    with collecting({'l': layer}, {'l': signs}, {}, hessians=True) as found:
        layer(x)
    assert torch.allclose(found['l'].hessian, torch.full((8, 8), 3.0), atol=1e-5)
    assert torch.allclose(found['l'].largest, torch.ones(1))
    assert not layer._forward_pre_hooks


@pytest.mark.parametrize('quantization', [{'weight_method': 'gptq'}, STATIC])
def test_recipes_that_need_samples_say_so(quantization):
    recipe = recipe_from_dict({'quantization': {**quantization, 'targets': ['decoder']}})
    with pytest.raises(UserError, match='calibration'):
        compress_model(tiny_model(), recipe)


def test_static_scales_need_one_scale_for_all_tokens():
    with pytest.raises(UserError, match='per_tensor'):
        recipe_from_dict({'quantization': {'activation_scales': 'static'}})


def run(recipe_fields, policy_directory, observation, tmp_path):
    """Compress with samples, load, and compare with the same recipe compressed in memory."""
    save_samples(policy_directory / 'calibration.npz', [observation] * 2)
    recipe = recipe_from_dict({'name': 'test', 'quantization': recipe_fields})
    compress_policy.compress(policy_directory, tmp_path / 'compressed', recipe)
    save_recipe(recipe, tmp_path / 'recipe.yaml')
    # Where in memory the weights lie decides the last bit of what calibration sees; a backend of
    # another kind, which `auto` may choose, the last bit of the actions.
    loaded = load_policy(tmp_path / 'compressed', runtime=RuntimeOptions(backend='reference'))
    other = load_policy(
        policy_directory,
        recipe=tmp_path / 'recipe.yaml',
        runtime=RuntimeOptions(backend='reference'),
    )
    np.testing.assert_allclose(
        loaded.predict(observation).chunk.values,
        other.predict(observation).chunk.values,
        atol=1e-3,
    )
    assert not (tmp_path / 'compressed' / 'calibration.npz').exists()
    return loaded


def test_static_scales_follow_the_denoising_steps(policy_directory, observation, tmp_path):
    policy = run(STATIC, policy_directory, observation, tmp_path)
    layers = {name: m for name, m in policy.model.named_modules() if isinstance(m, QuantLinear)}
    head = layers['action_head.net.blocks.0.mlp.fc2']
    assert head.ascale.shape == (2,) and head.ascale[0] != head.ascale[1]
    assert layers['decoder.llama.layers.0.mlp.up_proj'].ascale.shape == (1,)
    used = []
    head.register_forward_pre_hook(
        lambda layer, _: used.append(layer.activation_scale(None).item())
    )
    policy.predict(observation)
    assert used == [head.ascale[1].item(), head.ascale[0].item()]  # from noise to action


@pytest.mark.parametrize('weight_bits', [4, 8])
def test_static_scales_run_on_a_backend_that_uses_them(weight_bits):
    model = tiny_model()
    recipe = recipe_from_dict(
        {'quantization': {**STATIC, 'targets': ['action_head'], 'weight_bits': weight_bits}}
    )
    condition, noise = torch.randn(1, 1, 32), torch.randn(1, 4, 2)
    compress_model(model, recipe, lambda m: m.action_head.sample(condition, noise))
    before = model.action_head.sample(condition, noise)
    prepare(model)
    assert torch.allclose(model.action_head.sample(condition, noise), before, atol=1e-5)


def test_static_scales_cover_what_calibration_showed():
    model, seen = tiny_model(), []
    name = 'action_head.net.blocks.0.mlp.fc2'
    condition, noise = torch.randn(1, 1, 32), torch.randn(1, 4, 2)
    model.get_submodule(name).register_forward_pre_hook(
        lambda _, x: seen.append(x[0].abs().max().item())
    )
    recipe = recipe_from_dict(
        {'quantization': {**STATIC, 'targets': ['action_head'], 'rotation': 'none'}}
    )
    compress_model(model, recipe, lambda m: m.action_head.sample(condition, noise))
    scales = model.get_submodule(name).ascale * 127
    assert scales.tolist() == pytest.approx(seen[::-1])  # the last step is denoised first


def test_gptq_runs_end_to_end(policy_directory, observation, tmp_path):
    run(
        {'weight_method': 'gptq', 'weight_clip': 'mse', 'weight_group': 16, 'targets': ALL},
        policy_directory,
        observation,
        tmp_path,
    )


def test_a_rotated_residual_changes_nothing_in_float(model, sequence):
    for block in model.decoder.llama.layers:
        block.input_layernorm.weight.uniform_(0.5, 2)
        block.post_attention_layernorm.weight.uniform_(0.5, 2)
    model.decoder.llama.norm.weight.uniform_(0.5, 2)
    expected, _ = model.cognition(*(sequence[0], *sequence[1:]))
    image = torch.rand(1, 3, 32, 32)
    before = model.cognition(model.encode_image(image), *sequence[1:])[0]
    model.rotate_residual(3)
    after = model.cognition(model.encode_image(image), *sequence[1:])[0]
    assert torch.allclose(before, after, atol=1e-4)
    assert not torch.allclose(expected, before, atol=1e-2)


def test_a_rotated_residual_saves_the_rotation_at_run_time(
    policy_directory, observation, tmp_path
):
    policy = run({'rotate_residual': True}, policy_directory, observation, tmp_path)
    rotated = {
        name.split('.')[-1]: layer.format.rotated
        for name, layer in policy.model.named_modules()
        if isinstance(layer, QuantLinear)
    }
    assert rotated == {
        'q_proj': False,
        'k_proj': False,
        'v_proj': False,
        'gate_proj': False,
        'up_proj': False,
        'o_proj': True,
        'down_proj': True,
    }
    assert policy.model.decoder.residual_signs is not None


def test_a_rotated_residual_needs_a_rotation():
    with pytest.raises(UserError, match='rotate_residual'):
        recipe_from_dict({'quantization': {'rotate_residual': True, 'rotation': 'none'}})


def test_samples_that_are_none_are_told(policy_directory, tmp_path):
    recipe = Recipe('test', QuantizationRecipe(weight_method='gptq'))
    with pytest.raises(UserError, match='calibration.npz: no such file'):
        compress_policy.compress(policy_directory, tmp_path / 'out', recipe)
    (policy_directory / 'calibration.npz').write_text('no samples', 'utf-8')
    with pytest.raises(UserError, match='calibration.npz: not readable as calibration samples'):
        compress_policy.compress(policy_directory, tmp_path / 'out', recipe)

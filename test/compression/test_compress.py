"""Compressing a model in memory: which layers are replaced."""

import pytest

from sqap_vla_ros.compression.compress import compress_model, layer_names
from sqap_vla_ros.compression.quantization.quant_linear import QuantLinear
from sqap_vla_ros.compression.recipe import QuantizationRecipe, Recipe

from support.tiny_policy import tiny_model


@pytest.mark.parametrize(
    'targets', [('decoder',), ('vision',), ('action_head',), ('decoder', 'vision', 'action_head')]
)
def test_compress_replaces_the_layers_of_its_targets_and_no_others(targets):
    model = tiny_model()
    recipe = Recipe('test', QuantizationRecipe(targets=targets))
    names = layer_names(model, recipe)
    seen = []
    compress_model(model, recipe, progress=lambda layers: seen.extend(layers) or iter(layers))
    replaced = [name for name, m in model.named_modules() if isinstance(m, QuantLinear)]
    assert sorted(replaced) == sorted(names) == sorted(seen) and names
    assert {name.split('.')[0] for name in names} == set(targets)
    assert (model.decoder.query_key_quantizer is not None) == ('decoder' in targets)


def test_a_full_recipe_leaves_the_model_alone():
    model = tiny_model()
    before = {name: t.clone() for name, t in model.state_dict().items()}
    compress_model(model, Recipe())
    assert all((before[name] == t).all() for name, t in model.state_dict().items())
    assert model.pruning is None and model.decoder.query_key_quantizer is None

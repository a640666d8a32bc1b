"""Recipes as YAML and as dataclasses."""

from dataclasses import fields
from pathlib import Path

import pytest

from sqap_vla_ros.compression.compress import compress_model, layer_names
from sqap_vla_ros.compression.quantization.quant_linear import QuantLinear
from sqap_vla_ros.compression.recipe import (
    load_recipe,
    PruningRecipe,
    QuantizationRecipe,
    Recipe,
    recipe_from_dict,
    recipe_to_dict,
)
from sqap_vla_ros.errors import UserError

from support.tiny_policy import tiny_model

RECIPES = sorted((Path(__file__).parents[2] / 'config' / 'recipes').glob('*.yaml'))


@pytest.mark.parametrize('path', RECIPES, ids=lambda path: path.stem)
def test_the_packages_recipes_are_valid_and_named_as_their_files(path):
    recipe = load_recipe(path)
    assert recipe.name == path.stem
    assert recipe_from_dict(recipe_to_dict(recipe)) == recipe


def test_naive_recipes_differ_from_sqap_in_rotation_and_selection_only():
    by_name = {path.stem: load_recipe(path) for path in RECIPES}
    for percent in (40, 60, 80):
        naive, sqap, random = (
            by_name[f'{kind}_w4a4_prune{percent}'] for kind in ('naive', 'sqap', 'random')
        )
        differ = {
            f.name
            for f in fields(QuantizationRecipe)
            if getattr(naive.quantization, f.name) != getattr(sqap.quantization, f.name)
        }
        assert differ == {'rotation', 'rotate_query_key'}
        assert random.quantization == sqap.quantization
        assert naive.pruning.ratio == sqap.pruning.ratio == random.pruning.ratio == percent / 100
        assert naive.pruning.layer == sqap.pruning.layer == random.pruning.layer


@pytest.mark.parametrize(
    ('data', 'word'),
    [
        ({'quantisation': {}}, 'quantisation'),
        ({'quantization': {'bits': 4}}, 'bits'),
        ({'pruning': {'ratio': 1.0}}, 'ratio'),
        ({'pruning': {'ratio': 'much'}}, 'ratio'),
        ({'pruning': {'layer': -1}}, 'layer'),
        ({'pruning': {'method': 'best'}}, 'best'),
        ({'quantization': {'weight_bits': 1}}, 'weight_bits'),
        ({'quantization': {'query_key_bits': 9}}, 'query_key_bits'),
        ({'quantization': {'targets': ['wheels']}}, 'wheels'),
        ({'pruning': 4}, 'pruning'),
        ({'name': 3}, 'name'),
    ],
)
def test_mistakes_are_told_by_name(data, word):
    with pytest.raises(UserError, match=word) as caught:
        recipe_from_dict(data, 'file.yaml')
    assert 'file.yaml' in str(caught.value)


def test_the_budget_is_the_share_that_stays():
    assert PruningRecipe(ratio=0.4).kept(144) == 86
    assert PruningRecipe(ratio=0.99).kept(10) == 1
    assert PruningRecipe(ratio=0.0).kept(144) == 144


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

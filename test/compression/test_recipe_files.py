"""Recipes as YAML, and the recipes that come with the package."""

from dataclasses import fields
import re

import pytest

from sqap_vla_ros.compression.recipe import PruningRecipe, QuantizationRecipe, Recipe
from sqap_vla_ros.compression.recipe_files import (
    find_recipe,
    load_recipe,
    package_recipes,
    recipe_from_dict,
    recipe_to_dict,
)
from sqap_vla_ros.errors import UserError

SHOWN = [
    'full',
    'w8a8',
    'w4a16',
    'w4a8',
    'w4a4',
    'sqap_prune40',
    'sqap_w4a4_prune40',
    'sqap_w4a4_prune60',
    'sqap_w4a4_prune80',
    'sqap_w4a4_vision8_prune40',
]
EXPERIMENTS = [
    'attention_prune40',
    'attention_prune60',
    'attention_prune80',
    'attention_w4a4_prune40',
    'attention_w4a4_prune60',
    'attention_w4a4_prune80',
    'difference_prune40',
    'difference_prune60',
    'difference_prune80',
    'difference_w4a4_prune40',
    'difference_w4a4_prune60',
    'difference_w4a4_prune80',
    'naive_w2a4',
    'naive_w3a3',
    'naive_w4a3',
    'naive_w4a4',
    'naive_w4a4_prune40',
    'naive_w4a4_prune60',
    'naive_w4a4_prune80',
    'paper_prune40',
    'paper_prune60',
    'paper_prune80',
    'paper_w4a4_prune40',
    'paper_w4a4_prune60',
    'paper_w4a4_prune80',
    'random_prune40',
    'random_prune60',
    'random_prune80',
    'random_w4a4_prune40',
    'random_w4a4_prune60',
    'random_w4a4_prune80',
    'sqap_prune60',
    'sqap_prune80',
    'temporal_prune40',
    'temporal_prune60',
    'temporal_prune80',
    'temporal_w4a4_prune40',
    'temporal_w4a4_prune60',
    'temporal_w4a4_prune80',
    'w2a4',
    'w3a3',
    'w4a3',
]
PRUNINGS = {
    'attention': {'method': 'top'},
    'difference': {
        'relevance': 'difference',
        'coverage': 'feature',
        'protection_radius_m': 0.0,
    },
    'naive': {'method': 'top'},
    'paper': {},
    'random': {'method': 'random'},
    'sqap': {'relevance': 'temporal', 'smoothing': 0.8},
    'temporal': {'method': 'top', 'relevance': 'temporal', 'smoothing': 0.8},
}


def meant(name):
    """Recipe that a name stands for; names are in results, scripts and compressed policies."""
    rule, weights, activations, vision, percent = re.fullmatch(
        r'(?:([a-z]+)_)?(?:w(\d+)a(\d+))?(?:_vision(\d))?_?(?:prune(\d+))?', name
    ).groups()
    quantization = pruning = None
    if weights:
        rotated = rule != 'naive'
        quantization = QuantizationRecipe(
            weight_bits=int(weights),
            activation_bits=int(activations),
            rotation='hadamard' if rotated else 'none',
            rotate_query_key=rotated,
            targets=('decoder', 'vision') if vision else ('decoder',),
            vision_bits=int(vision) if vision else None,
        )
    if percent:
        pruning = PruningRecipe(ratio=int(percent) / 100, layer=1, **PRUNINGS[rule])
    return Recipe(name, quantization, pruning)


@pytest.mark.parametrize('name', [*SHOWN, *EXPERIMENTS])
def test_every_name_stands_for_the_same_recipe_as_ever(name):
    recipe = load_recipe(find_recipe(name))
    assert recipe == (Recipe() if name == 'full' else meant(name))
    assert recipe_from_dict(recipe_to_dict(recipe)) == recipe


def test_the_files_are_those_of_the_lists(repository):
    files = (repository / 'config' / 'recipes').rglob('*.yaml')
    assert sorted(path.stem for path in files) == sorted([*SHOWN, *EXPERIMENTS])
    assert len(SHOWN) + len(EXPERIMENTS) == 52


def test_the_shown_recipes_are_few_and_say_what_they_are_and_when_to_use_them():
    shown = package_recipes()
    assert [recipe.name for recipe in shown] == sorted(SHOWN)
    assert len(shown) <= 12
    assert all(recipe.what and recipe.when for recipe in shown)


def test_the_recipes_of_experiments_say_what_they_are():
    experiments = package_recipes(experiments=True)
    assert [recipe.name for recipe in experiments] == sorted(EXPERIMENTS)
    assert all(recipe.what for recipe in experiments)


def test_an_unknown_name_lists_the_shown_recipes_and_where_the_others_are():
    with pytest.raises(UserError, match="recipe 'w5a5': no such file") as caught:
        find_recipe('w5a5')
    message = str(caught.value)
    assert all(name in message for name in SHOWN)
    assert 'w3a3' not in message and '`sqap_vla recipes --all`' in message


def test_a_file_is_found_as_it_is(tmp_path):
    path = tmp_path / 'mine.yaml'
    assert find_recipe(path) == path
    (tmp_path / 'without_suffix').write_text('name: mine\n', 'utf-8')
    assert load_recipe(find_recipe(tmp_path / 'without_suffix')) == Recipe('mine')


def test_an_installation_is_searched_where_there_is_no_checkout(tmp_path, monkeypatch):
    package = tmp_path / 'lib' / 'sqap_vla_ros'
    monkeypatch.setattr('sqap_vla_ros.resources.__file__', str(package / 'resources.py'))
    share = tmp_path / 'ws' / 'share' / 'sqap_vla_ros' / 'config' / 'recipes' / 'experiments'
    share.mkdir(parents=True)
    (share / 'w3a3.yaml').write_text('name: w3a3\n', 'utf-8')
    monkeypatch.setenv('AMENT_PREFIX_PATH', str(tmp_path / 'ws'))
    assert find_recipe('w3a3') == share / 'w3a3.yaml'
    monkeypatch.setenv('AMENT_PREFIX_PATH', '')
    monkeypatch.setattr('sys.prefix', str(tmp_path / 'nowhere'))
    with pytest.raises(UserError, match='config/recipes was found neither'):
        find_recipe('w3a3')


def test_naive_recipes_differ_from_sqap_in_rotation_and_selection_only():
    for percent in (40, 60, 80):
        naive, sqap, random = (
            load_recipe(find_recipe(f'{kind}_w4a4_prune{percent}'))
            for kind in ('naive', 'sqap', 'random')
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


def test_a_recipe_is_loaded_by_file_or_by_name(repository):
    path = repository / 'config' / 'recipes' / 'w4a8.yaml'
    assert load_recipe('w4a8') == load_recipe(path) == load_recipe(str(path))
    with pytest.raises(UserError, match="recipe 'w5a5': no such file; recipes of the package: "):
        load_recipe('w5a5')


@pytest.mark.parametrize(
    'content, words',
    [
        ('name: [&a [x,x], &b [*a,*a], &c [*b,*b]]', 'name is ['),
        ('name: "a\\e[2J\\nFAKE LINE"', 'in one line'),
        ('name: ' + 'x' * 5000, 'at most 100 characters'),
        ('name: !!set {a, b}', 'name is {'),
        ('denoising_steps: 2000000000', 'expected 1 .. 1000'),
        ('denoising_steps: 0x' + 'F' * 9000, 'a number of 36000 bits'),
        ('denoising_steps: 10.0', 'denoising_steps is 10.0'),
        ('pruning: {ratio: ' + '9' * 400 + '}', 'ratio is inf'),
        ('pruning: {ratio: .nan}', 'ratio is nan'),
        ('pruning: {protection_radius_m: .inf}', 'protection_radius_m is inf'),
        ('pruning: {fine_speed_m_s: .inf}', 'fine_speed_m_s is inf'),
        ('pruning: {layer: 99999}', 'layer is 99999'),
        ('pruning: {seed: -1}', 'seed is -1'),
        ('pruning: {ratio: true}', 'ratio is True'),
        ('quantization: {rotation_seed: 99999999999999999999999999}', 'rotation_seed'),
        ('quantization: {weight_group: 1000000007}', 'weight_group is 1000000007'),
        ('quantization: {weight_bits: ' + '9' * 400 + '}', 'weight_bits is a number of'),
        ('quantization: {targets: [' + 'x,' * 5000 + ']}', "targets is 'x'"),
        ('x' * 1000 + ': 1', 'unknown key'),
        ('name: a\nname: b', "'name' is there twice"),
    ],
)
def test_hostile_values_are_refused_in_one_short_line(tmp_path, content, words):
    path = tmp_path / 'recipe.yaml'
    path.write_text(content)
    with pytest.raises(UserError) as caught:
        load_recipe(path)
    message = str(caught.value)
    assert words in message and str(path) in message
    assert '\n' not in message and '\x1b' not in message and len(message) < 500


@pytest.mark.parametrize('name', ['a' * 5000, 'a\0b', '../' * 2000])
def test_names_that_are_no_path_are_not_found(name):
    with pytest.raises(UserError):
        load_recipe(name)

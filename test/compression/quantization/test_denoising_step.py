"""Fewer steps of a denoising head, as a recipe says."""

from dataclasses import replace

import pytest

from sqap_vla_ros.compression.compress import compress_model
from sqap_vla_ros.compression.recipe import PruningRecipe, QuantizationRecipe, Recipe
from sqap_vla_ros.compression.recipe_files import recipe_from_dict, recipe_to_dict, save_recipe
from sqap_vla_ros.errors import UserError
from sqap_vla_ros.models import compress_policy
from sqap_vla_ros.models.loading import load_policy

from support.tiny_policy import tiny_model


def runs_of(policy, observation):
    """Count how often the head's network runs in one inference."""
    runs = []
    handle = policy.model.action_head.net.register_forward_hook(lambda *_: runs.append(1))
    policy.predict(observation)
    handle.remove()
    return len(runs)


def test_a_policy_denoises_in_the_steps_of_its_recipe(policy_directory, observation, tmp_path):
    for steps, quantization in (
        (None, None),
        (5, None),
        (5, QuantizationRecipe()),
        (4, QuantizationRecipe(targets=('action_head',))),
    ):
        recipe = Recipe('r', quantization, PruningRecipe(), steps)
        save_recipe(recipe, tmp_path / 'r.yaml')
        expected = steps or 2
        assert (
            runs_of(load_policy(policy_directory, recipe=tmp_path / 'r.yaml'), observation)
            == expected
        )
        compress_policy.compress(policy_directory, tmp_path / 'compressed', recipe)
        assert runs_of(load_policy(tmp_path / 'compressed'), observation) == expected
        assert recipe_from_dict(recipe_to_dict(recipe)) == recipe


@pytest.mark.parametrize('steps, words', [(3, 'expected a divisor'), (0, 'expected 1 .. 1000')])
def test_steps_that_cannot_be_are_refused_in_one_line(steps, words):
    with pytest.raises(UserError, match=words):
        compress_model(tiny_model(), recipe_from_dict({'name': 'r', 'denoising_steps': steps}))


def test_a_head_without_steps_refuses_them(model):
    model.set_denoising_steps = super(type(model), model).set_denoising_steps
    with pytest.raises(UserError, match='denoising_steps is for heads that denoise'):
        compress_model(model, replace(Recipe(), denoising_steps=5))

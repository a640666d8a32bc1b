"""The dataclasses of a recipe."""

import pytest

from sqap_vla_ros.compression.recipe import PruningRecipe, QuantizationRecipe, Recipe


@pytest.mark.parametrize(
    ('make', 'word'),
    [
        (lambda: PruningRecipe(ratio=1.0), 'ratio'),
        (lambda: QuantizationRecipe(vision_bits=16), 'vision_bits is 16, expected 2..8 or null'),
        (lambda: QuantizationRecipe(query_key_bits=9), 'query_key_bits is 9, expected 2..8, 16'),
        (lambda: QuantizationRecipe(activation_scales='static'), 'per_tensor'),
        (lambda: QuantizationRecipe(rotation='none', rotate_residual=True), 'rotate_residual'),
        (lambda: Recipe(denoising_steps=0), 'denoising_steps'),
    ],
)
def test_wrong_values_are_refused_by_name(make, word):
    with pytest.raises(ValueError, match=word):
        make()


def test_the_budget_is_the_share_that_stays():
    assert PruningRecipe(ratio=0.4).kept(144) == 86
    assert PruningRecipe(ratio=0.99).kept(10) == 1
    assert PruningRecipe(ratio=0.0).kept(144) == 144

"""Tokens really leave the decoder, and nothing else changes."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

from sqap_vla_ros.compression.pruning.relevance import attention_row
from sqap_vla_ros.compression.recipe import PruningRecipe, Recipe
from sqap_vla_ros.compression.recipe_files import save_recipe
from sqap_vla_ros.models.layers.pruned_layers import PruningPoint
from sqap_vla_ros.models.loading import load_policy
from sqap_vla_ros.policy import Criterion

from support.tiny_policy import tiny_model


def masked_cognition(model, sequence, layer, kept):
    """Leave the pruned tokens in place, but unseen by everyone from layer `layer` on."""
    hidden = model.embed(*sequence)
    length = hidden.shape[1]
    present = torch.ones(length, dtype=torch.bool)
    present[model.visual] = False
    present[kept + model.visual.start] = True
    cos, sin = model.decoder._rotary_tables(hidden)
    for index, block in enumerate(model.decoder.llama.layers):
        seen = torch.ones(length, length).tril().bool()
        if index >= layer:
            seen = seen & present[None]
            seen.fill_diagonal_(True)
        attn = block.self_attn
        x = block.input_layernorm(hidden)
        query, key, value = (
            p(x).view(1, length, -1, attn.head_dim).transpose(1, 2)
            for p in (attn.q_proj, attn.k_proj, attn.v_proj)
        )
        query, key = apply_rotary_pos_emb(query, key, cos, sin)
        out = scaled_dot_product_attention(query, key, value, seen, enable_gqa=True)
        hidden = hidden + attn.o_proj(out.transpose(1, 2).flatten(2))
        hidden = hidden + block.mlp(block.post_attention_layernorm(hidden))
    return model.decoder.llama.norm(hidden[:, -1])[:, None]


@pytest.mark.parametrize('needs_attention', [True, False])
@pytest.mark.parametrize('layer', [0, 1, 2, 3])
def test_pruned_tokens_count_as_little_as_masked_ones(model, sequence, layer, needs_attention):
    chosen = torch.tensor([0, 3, 4, 17, 40, 63])
    asked = []

    def select(attention, features):
        asked.append((attention, features))
        return chosen

    pruned, kept = model.cognition(*sequence, PruningPoint(layer, select, needs_attention))
    assert torch.equal(kept, chosen) and len(asked) == 1
    assert (asked[0][0] is not None) == needs_attention and asked[0][1].shape == (64, 32)
    expected = masked_cognition(model, sequence, layer, chosen)
    assert (pruned - expected).abs().max() <= 1e-4
    assert (pruned - model.cognition(*sequence)[0]).abs().max() > 1e-3 or layer == 3


def test_tokens_leave_the_sequence(model, sequence):
    lengths = []
    for block in model.decoder.llama.layers:
        block.mlp.register_forward_pre_hook(lambda _, x: lengths.append(x[0].shape[1]))
    model.cognition(*sequence, PruningPoint(1, lambda a, f: torch.arange(10)))
    whole = model.embed(*sequence).shape[1]
    assert lengths == [whole - 54] * 3


def test_the_selector_sees_the_task_querys_attention(model, sequence):
    rows = []

    def select(attention, _):
        rows.append(attention)
        return torch.arange(10)

    model.cognition(*sequence, PruningPoint(1, select))
    hidden = model.embed(*sequence)
    block = model.decoder.llama.layers[0]
    query, key, _ = model.decoder._project(
        block.self_attn, block.input_layernorm(hidden), *model.decoder._rotary_tables(hidden)
    )
    assert torch.allclose(rows[0], attention_row(query[0, :, -1], key[0], slice(1, 65)))


def test_keeping_every_token_by_position_changes_nothing(model, sequence):
    whole, _ = model.cognition(*sequence)
    kept, _ = model.cognition(*sequence, PruningPoint(1, lambda a, f: torch.arange(64)))
    assert torch.equal(whole, kept)


def predict(directory, observation, tmp_path, pruning):
    """Chunk and selection of a policy with this pruning."""
    path = tmp_path / 'recipe.yaml'
    save_recipe(Recipe('test', None, pruning), path)
    return load_policy(directory, recipe=path).predict(observation)


def test_ratio_zero_is_the_float_policy(policy_directory, observation, tmp_path):
    expected = load_policy(policy_directory).predict(observation)
    actual = predict(policy_directory, observation, tmp_path, PruningRecipe(ratio=0.0))
    assert np.array_equal(actual.chunk.values, expected.chunk.values)
    assert actual.selection is None and expected.selection is None


@pytest.mark.parametrize('method', ['sqap', 'top', 'random'])
@pytest.mark.parametrize('layer', [0, 1, 3])
def test_a_policy_reports_what_it_kept(policy_directory, observation, tmp_path, method, layer):
    recipe = PruningRecipe(ratio=0.6, layer=layer, method=method)
    inference = predict(policy_directory, observation, tmp_path, recipe)
    selection = inference.selection
    assert selection.grid == (8, 8) and inference.tokens == 64
    assert len(selection.kept) == len(selection.criterion) == 26
    assert (np.diff(selection.kept) > 0).all() and selection.kept.dtype == np.int64
    found = set(selection.criterion.tolist())
    assert (
        found
        == {
            'sqap': {Criterion.ATTENTION, Criterion.ROBOT, Criterion.SPATIAL},
            'top': {Criterion.ATTENTION},
            'random': {Criterion.RANDOM},
        }[method]
    )
    if method == 'sqap':
        # The end effector is where the four middle patches meet.
        assert {27, 28, 35, 36} & set(selection.kept[selection.criterion == Criterion.ROBOT])


def test_without_a_camera_nothing_is_protected(policy_directory, observation, tmp_path):
    blind = replace(observation, cameras={}, end_effector_m=None)
    selection = predict(policy_directory, blind, tmp_path, PruningRecipe(ratio=0.6)).selection
    assert len(selection.kept) == 26 and Criterion.ROBOT not in selection.criterion


def test_a_run_is_repeatable_from_reset(policy_directory, observation, tmp_path):
    path = tmp_path / 'recipe.yaml'
    save_recipe(Recipe('test', None, PruningRecipe(method='random')), path)
    policy = load_policy(policy_directory, recipe=path)
    first = [policy.predict(observation).chunk.values for _ in range(2)]
    policy.reset()
    again = [policy.predict(observation).chunk.values for _ in range(2)]
    assert np.array_equal(first, again) and not np.array_equal(first[0], first[1])


def test_a_layer_beyond_the_decoder_is_told(policy_directory, tmp_path):
    path = tmp_path / 'recipe.yaml'
    save_recipe(Recipe('test', None, PruningRecipe(layer=4)), path)
    with pytest.raises(Exception, match='pruning layer is 4'):
        load_policy(policy_directory, recipe=path)


def test_models_are_the_same_for_the_same_seed():
    first, second = tiny_model().state_dict(), tiny_model().state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)

"""Pruned tokens leave every later layer and step, as if they were masked out."""

import numpy as np
import pytest
import torch
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

from sqap_vla_ros.compression.recipe import PruningRecipe, QuantizationRecipe, Recipe
from sqap_vla_ros.compression.recipe_files import save_recipe
from sqap_vla_ros.models.layers.pruned_layers import PruningPoint
from sqap_vla_ros.models.loading import load_policy
from sqap_vla_ros.models.self_test import self_test
from sqap_vla_ros.policy import Observation

from support import tiny_pi0, tiny_released
from support.released_families import FAMILIES

pytestmark = pytest.mark.slow

LAYERS = 0, 1, 2


@pytest.fixture(scope='module')
def policies(imported):
    return {family: load_policy(imported[family]) for family in FAMILIES}


def keeping(layer, kept):
    return PruningPoint(layer, lambda attention, features: kept)


def kept_tokens(count):
    return torch.from_numpy(np.sort(np.random.RandomState(0).permutation(count)[: count // 2]))


def masked_layers(layers, norm, hidden, tables, mask, dropped, first, past=None):
    """
    Run layers naively over all tokens; those in `dropped` are unseen from layer `first` on.

    mask: bool [N, M], who sees whom otherwise; past: keys and values a layer before these.
    Returns the normed hidden states and each layer's keys and values.
    """
    cache = []
    for index, layer in enumerate(layers):
        block, normed = layer.self_attn, layer.input_layernorm(hidden)
        query, key, value = (
            projection(normed).view(*normed.shape[:2], -1, block.head_dim).transpose(1, 2)
            for projection in (block.q_proj, block.k_proj, block.v_proj)
        )
        query, key = apply_rotary_pos_emb(query, key, *tables)
        if past is not None:
            key, value = (torch.cat(pair, 2) for pair in zip(past[index], (key, value)))
        cache.append((key, value))
        seen = mask.clone()
        if index >= first:
            seen[:, dropped] = False
        groups = query.shape[1] // key.shape[1]
        scores = query @ key.repeat_interleave(groups, 1).transpose(2, 3) / block.head_dim**0.5
        weights = scores.masked_fill(~seen, -torch.inf).softmax(-1)
        out = weights @ value.repeat_interleave(groups, 1)
        hidden = hidden + block.o_proj(out.transpose(1, 2).flatten(2))
        hidden = hidden + layer.mlp(layer.post_attention_layernorm(hidden))
    return norm(hidden), cache


def causal(length):
    return torch.ones(length, length, dtype=torch.bool).tril()


def inputs(policy):
    torch.manual_seed(1)
    pixels = torch.rand(1, 3, 224, 224)
    text = torch.tensor([policy.tokenizer.encode(tiny_released.INSTRUCTION)])
    return pixels, text


def dropped_places(kept, count, start):
    return [start + i for i in range(count) if i not in set(kept.tolist())]


@pytest.mark.parametrize('layer', LAYERS)
@torch.inference_mode()
def test_openvla_pruning_equals_masking(policies, layer):
    model = policies['openvla'].model
    pixels, text = inputs(policies['openvla'])
    visual, kept = model.encode_image(pixels), kept_tokens(256)
    hidden, cache, _ = model.prefill(visual, text, keeping(layer, kept))
    tokens, logits = model.write(hidden, cache, 7)
    words = model.decoder.llama.embed_tokens
    everything = torch.cat(
        [words(torch.tensor([[1]])), visual, words(text), words(tokens[None, :-1])], 1
    )
    length = everything.shape[1]
    final, _ = masked_layers(
        model.decoder.llama.layers,
        model.decoder.llama.norm,
        everything,
        model.decoder._rotary_tables(everything),
        causal(length),
        dropped_places(kept, 256, 1),
        layer,
    )
    assert (model.lm_head(final[0, -7:]) - logits).abs().max() <= 1e-4


@pytest.mark.parametrize('layer', LAYERS)
@torch.inference_mode()
def test_cogact_pruning_equals_masking(policies, layer):
    model = policies['cogact'].model
    pixels, text = inputs(policies['cogact'])
    visual, kept = model.encode_image(pixels), kept_tokens(256)
    condition, _ = model.cognition(visual, text, None, keeping(layer, kept))
    everything = model.embed(visual, text, None)
    final, _ = masked_layers(
        model.decoder.llama.layers,
        model.decoder.llama.norm,
        everything,
        model.decoder._rotary_tables(everything),
        causal(everything.shape[1]),
        dropped_places(kept, 256, 1),
        layer,
    )
    assert (final[0, -1] - condition[0, 0]).abs().max() <= 1e-4


@pytest.mark.parametrize('layer', LAYERS)
@torch.inference_mode()
def test_pi0_pruning_equals_masking(policies, layer):
    model = policies['pi0'].model
    torch.manual_seed(1)
    visual = model.encode_images(torch.rand(2, 3, 224, 224) * 2 - 1)
    text, kept = torch.tensor([tiny_pi0.PROMPT_IDS]), kept_tokens(512)
    state, noise = torch.rand(1, 32), torch.randn(1, 50, 32)
    cache, _ = model.prefix(visual, text, keeping(layer, kept))
    velocity = model.velocity(cache, state, noise, torch.tensor(0.7))

    language, expert = model.pi0.model.vlm.language_model, model.pi0.model.dit
    words = language.embed_tokens(text) * visual.shape[-1] ** 0.5
    prefix = torch.cat([visual, words], 1)
    length, dropped = prefix.shape[1], dropped_places(kept, 512, 0)
    _, past = masked_layers(
        language.layers,
        language.norm,
        prefix,
        model._rotary_tables(prefix, 0),
        torch.ones(length, length, dtype=torch.bool),
        dropped,
        layer,
    )
    suffix = model.pi0.embed_action_time
    time = model._time_embedding(torch.tensor(0.7), torch.zeros(1, 1, 32)).expand(1, 50, 32)
    mixed = torch.cat([suffix.action_in_proj(noise), time], -1)
    mixed = suffix.action_time_mlp_out(torch.nn.functional.silu(suffix.action_time_mlp_in(mixed)))
    hidden = torch.cat([suffix.state_proj(state)[:, None], mixed], 1)
    mask = torch.ones(51, length + 51, dtype=torch.bool)
    mask[0, length + 1 :] = False
    final, _ = masked_layers(
        expert.layers,
        expert.norm,
        hidden,
        model._rotary_tables(hidden, length),
        mask,
        dropped,
        layer,
        past,
    )
    assert (model.pi0.action_out_proj(final[:, 1:]) - velocity).abs().max() <= 1e-4


@pytest.mark.parametrize('layer', LAYERS)
@torch.inference_mode()
def test_budget_of_all_tokens_changes_nothing(policies, layer):
    everything = keeping(layer, torch.arange(256))
    for family in ('openvla', 'cogact'):
        model = policies[family].model
        pixels, text = inputs(policies[family])
        visual = model.encode_image(pixels)
        if family == 'openvla':
            results = [
                model.write(*model.prefill(visual, text, p)[:2], 7)[1] for p in (None, everything)
            ]
        else:
            results = [model.cognition(visual, text, None, p)[0] for p in (None, everything)]
        assert torch.equal(*results)
    model = policies['pi0'].model
    visual, text = model.encode_images(torch.zeros(2, 3, 224, 224)), torch.tensor([[2, 301, 108]])
    results = [
        model.sample(model.prefix(visual, text, p)[0], torch.ones(1, 32), torch.ones(1, 50, 32))
        for p in (None, keeping(layer, torch.arange(512)))
    ]
    assert torch.equal(*results)


@pytest.mark.parametrize('family', FAMILIES)
def test_sqap_recipe_prunes_and_quantizes(imported, tmp_path, family):
    recipe = Recipe(
        'w8a8_prune40',
        QuantizationRecipe(weight_bits=8, activation_bits=8),
        PruningRecipe(ratio=0.4, layer=1),
    )
    save_recipe(recipe, tmp_path / 'recipe.yaml')
    policy = load_policy(imported[family], recipe=tmp_path / 'recipe.yaml')
    images = {name: tiny_released.image() for name in policy.spec.cameras}
    inference = policy.predict(Observation(images, 'pick up', policy.typical_state()))
    assert inference.chunk.finite
    assert len(inference.selection.kept) == round(0.6 * policy.spec.visual_tokens)
    assert inference.tokens == policy.spec.visual_tokens == 256 * len(policy.spec.cameras)
    checks = {check.name: check for check in self_test(policy, load_policy(imported[family]))}
    assert checks['finite'].passed and checks['image'].passed and checks['instruction'].passed
    assert checks['compression'].passed
    rows = []
    policy.attention_listener = lambda row, left: rows.append((row, left))
    selection = policy.predict(Observation(images, 'pick up', policy.typical_state())).selection
    assert len(rows) >= 1, 'a layer behind the pruning layer is heard of'
    for row, left in rows:
        assert row.shape == left.shape and left.tolist() == selection.kept.tolist()
        assert 0 < row.sum() < 1


@pytest.mark.parametrize('family', FAMILIES)
def test_self_test_notices_a_blind_policy(policies, family, monkeypatch):
    policy = policies[family]
    name = 'encode_images' if family == 'pi0' else 'encode_image'
    encode = getattr(policy.model, name)
    monkeypatch.setattr(policy.model, name, lambda images: encode(torch.zeros_like(images)))
    checks = {check.name: check for check in self_test(policy)}
    assert not checks['image'].passed and checks['instruction'].passed


def test_self_test_notices_damage(policies, monkeypatch):
    policy = policies['cogact']
    head = policy.model.action_head
    monkeypatch.setattr(head, 'sample', lambda condition, noise, guide: noise * torch.nan)
    assert [check.passed for check in self_test(policy)] == [False]


def test_vision_towers_can_have_other_bits(imported, tmp_path, repository):
    from sqap_vla_ros.cli import main

    assert (
        main(
            [
                'compress',
                str(imported['openvla']),
                str(tmp_path / 'policy'),
                '--recipe',
                'sqap_w4a4_vision8_prune40',
            ]
        )
        == 0
    )
    policy = load_policy(tmp_path / 'policy')
    layers = policy.model.vision[0].tower.encoder.layer[0], policy.model.decoder.llama.layers[0]
    assert layers[0].mlp.fc1.format.weight_bits == 8
    assert layers[1].mlp.up_proj.format.weight_bits == 4
    images = {'camera': tiny_released.image()}
    assert policy.predict(Observation(images, 'pick up')).chunk.finite

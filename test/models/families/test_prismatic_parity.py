"""Imported OpenVLA and CogACT checkpoints compute what the official classes compute."""

from pathlib import Path

import pytest
from safetensors.torch import load_file
import torch

from sqap_vla_ros.models.loading import load_policy
from sqap_vla_ros.models.preprocessing.images import squash
from sqap_vla_ros.policy import Observation

from support import tiny_released as tiny

FIXTURES = Path(__file__).parents[2] / 'fixtures'
TOLERANCE = 1e-5


@pytest.fixture(scope='module')
def openvla(imported):
    return load_policy(imported['openvla'])


@pytest.fixture(scope='module')
def cogact(imported):
    return load_policy(imported['cogact'])


def golden(name):
    return load_file(FIXTURES / f'{name}.safetensors')


def error(ours, theirs):
    """As a share of the largest value: logits reach 21, where float32 itself is off by 3e-5."""
    theirs = theirs.float()
    return float((ours.float() - theirs).abs().max() / theirs.abs().max())


def observation():
    return Observation({'camera': tiny.image()}, tiny.INSTRUCTION)


@pytest.mark.parametrize('family', ['openvla', 'cogact'])
def test_image_is_squashed_as_officially(family):
    pixels = squash(torch.from_numpy(tiny.image()), 224)
    assert error(pixels, golden(family)['pixels']) == 0


def test_openvla_prompt_ids(openvla):
    assert [1, *openvla.tokenizer.encode(tiny.INSTRUCTION)] == golden('openvla')['ids'].tolist()


@torch.inference_mode()
def test_openvla_network(openvla):
    expected, model = golden('openvla'), openvla.model
    pixels = expected['pixels'][None].float() / 255
    features = torch.cat([encoder(pixels) for encoder in model.vision], -1)
    assert error(features[0, ::32], expected['features']) <= TOLERANCE
    visual = model.encode_image(pixels)
    assert error(visual[0, ::32], expected['projected']) <= TOLERANCE
    hidden, cache, _ = model.prefill(visual, expected['ids'][None, 1:])
    assert error(hidden[0], expected['last_hidden']) <= TOLERANCE
    tokens, logits = model.write(hidden, cache, 7)
    assert error(logits[0], expected['logits']) <= TOLERANCE
    assert tokens.tolist() == expected['tokens'].tolist()


def test_openvla_action(openvla):
    values = openvla.predict(observation()).chunk.values
    assert error(torch.from_numpy(values.copy())[0], golden('openvla')['action']) <= TOLERANCE


@torch.inference_mode()
def test_cogact_network(cogact):
    expected, model = golden('cogact'), cogact.model
    pixels = expected['pixels'][None].float() / 255
    features = torch.cat([encoder(pixels) for encoder in model.vision], -1)
    assert error(features[0, ::32], expected['features']) <= TOLERANCE
    text = torch.tensor([cogact.tokenizer.encode(tiny.INSTRUCTION)])
    assert 1 + 256 + text.shape[1] + 1 == int(expected['length'])
    condition, _ = model.cognition(model.encode_image(pixels), text, None)
    assert error(condition[0, 0], expected['cognition']) <= TOLERANCE
    head = model.action_head
    estimate = head.net(expected['noise'], torch.tensor([40]), condition)
    assert error(estimate, expected['estimate']) <= TOLERANCE
    assert error(head.sample(condition, expected['noise']), expected['sample']) <= TOLERANCE


def test_cogact_dino_normalisation(cogact):
    encoder = cogact.model.vision[0].config
    pixels = squash(torch.from_numpy(tiny.image()), 224)[:, :2, :2].float() / 255
    mean, std = (torch.tensor(x)[:, None, None] for x in (encoder.image_mean, encoder.image_std))
    one_level = 1 / 255 / 0.224
    assert error((pixels - mean) / std, golden('cogact')['dino_corner']) <= one_level


def test_cogact_actions(cogact):
    cogact.reset()  # restarts the noise from the seed that the fixture used
    values = cogact.predict(observation()).chunk.values
    assert error(torch.from_numpy(values.copy()), golden('cogact')['actions']) <= TOLERANCE

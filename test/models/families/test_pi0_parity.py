"""An imported pi0 checkpoint computes what openpi's PyTorch class computes."""

from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file
import torch

from sqap_vla_ros.models.families.pi0.preprocessing import letterbox
from sqap_vla_ros.models.import_policy import import_policy
from sqap_vla_ros.models.loading import load_policy
from sqap_vla_ros.policy import Observation

from support import tiny_pi0 as tiny
from support import tiny_released
from support.released_families import write_openpi

FIXTURE = Path(__file__).parents[2] / 'fixtures' / 'pi0.safetensors'
TOLERANCE = 1e-5


@pytest.fixture(scope='module')
def policy(tmp_path_factory):
    folder = tmp_path_factory.mktemp('openpi')
    options = write_openpi(folder / 'released')
    import_policy(folder / 'released', folder / 'policy', options)
    return load_policy(folder / 'policy')


@pytest.fixture(scope='module')
def golden():
    return load_file(FIXTURE)


def error(ours, theirs):
    return float((ours - theirs).abs().max())


def pictures():
    first = tiny_released.image()
    return [first, np.ascontiguousarray(first[::-1, ::-1])]


def test_image_is_letterboxed_as_by_openpi(golden):
    pixels = letterbox(torch.from_numpy(pictures()[0]), 224)
    assert error(pixels.float(), golden['pixels'][0].float()) == 0


def test_prompt_is_cleaned_and_ends_with_a_newline(policy):
    assert policy.tokenizer.encode(' pick_up\nred cup ') == tiny.PROMPT_IDS
    assert len(policy.tokenizer.encode('pick ' * 100)) == 48


def test_instruction_cannot_hold_special_tokens(policy):
    assert 1 not in policy.tokenizer.encode('pick <eos> up')


@torch.inference_mode()
def test_vision_features(policy, golden):
    pixels = torch.stack([letterbox(torch.from_numpy(p), 224) for p in pictures()])
    visual = policy.model.encode_images(pixels.float() / 255 * 2 - 1)
    assert error(visual.view(2, 256, -1)[:, ::32], golden['features']) <= TOLERANCE


@torch.inference_mode()
def test_flow(policy, golden):
    model = policy.model
    pixels = torch.stack([letterbox(torch.from_numpy(p), 224) for p in pictures()])
    cache, _ = model.prefix(
        model.encode_images(pixels.float() / 255 * 2 - 1), torch.tensor([tiny.PROMPT_IDS])
    )
    state = torch.from_numpy(policy.statistics.normalise_state(tiny.state(), tiny.COLUMNS))[None]
    noise = torch.randn(1, tiny.HORIZON, tiny.COLUMNS, generator=torch.Generator().manual_seed(0))
    velocity = model.velocity(cache, state, noise, torch.tensor(1.0))
    assert error(velocity, golden['velocity']) <= TOLERANCE * golden['velocity'].abs().max()
    assert error(model.sample(cache, state, noise), golden['sample']) <= TOLERANCE


def test_actions(policy, golden):
    policy.reset()  # restarts the noise from the seed that the fixture used
    observation = Observation(dict(zip(tiny.CAMERAS, pictures())), 'pick up red cup', tiny.state())
    values = policy.predict(observation).chunk.values
    assert error(torch.from_numpy(np.array(values)), golden['actions']) <= TOLERANCE

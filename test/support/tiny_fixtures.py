"""A tiny model, a policy directory of it, and inputs."""

import json

import numpy as np
import pytest
from safetensors.torch import save_file
import torch

from sqap_vla_ros.camera import PinholeCamera
from sqap_vla_ros.models.config import save_config
from sqap_vla_ros.models.preprocessing.statistics import STATISTICS_FILE
from sqap_vla_ros.models.preprocessing.words import WordTokenizer
from sqap_vla_ros.policy import Observation

from support.tiny_policy import tiny_config, tiny_model, WORDS


@pytest.fixture
def model():
    """Make a fresh model for each test."""
    return tiny_model()


@pytest.fixture
def policy_directory(tmp_path):
    """Write a float policy directory."""
    directory = tmp_path / 'float'
    directory.mkdir()
    save_config(tiny_config(), directory)
    WordTokenizer(WORDS, 6).save(directory)
    save_file(tiny_model().state_dict(), directory / 'model.safetensors')
    (directory / STATISTICS_FILE).write_text(
        json.dumps(
            {
                'tiny': {
                    'action': {'q01': [-0.3, 0], 'q99': [0.3, 1], 'mask': [True, False]},
                    'state': {'mean': [0.0] * 4, 'std': [1.0] * 4},
                }
            }
        ),
        'utf-8',
    )
    (directory / 'README.md').write_text('# Tiny\n', 'utf-8')
    return directory


@pytest.fixture
def observation():
    """Make an image of noise; the end effector is in the middle of it."""
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    pose = np.eye(4)
    pose[2, 3] = 1.0
    camera = PinholeCamera(np.array([[64.0, 0, 32], [0, 64, 32], [0, 0, 1]]), pose, 64, 64)
    return Observation(
        {'camera': image},
        'open the red drawer',
        np.zeros(4, np.float32),
        {'camera': camera},
        np.zeros(3),
    )


@pytest.fixture
def sequence(model):
    """Make inputs of the model's decoder: visual tokens, text and state."""
    generator = torch.Generator().manual_seed(1)
    visual = torch.randn(1, 64, 32, generator=generator)
    text = torch.tensor([[5, 6, 7, 8, 0, 0]])
    return visual, text, torch.randn(1, 4, generator=generator)

"""A CogACT model of a few thousand weights, and a policy directory of it."""
import json

import numpy as np
import pytest
from safetensors.torch import save_file
from sqap_vla_ros.compression.camera import PinholeCamera
from sqap_vla_ros.models.cogact import CogActModel
from sqap_vla_ros.models.config import ActionHeadConfig, CogActConfig, save_config, VisionConfig
from sqap_vla_ros.models.policy import Observation
from sqap_vla_ros.models.preprocessing import STATISTICS_FILE
from sqap_vla_ros.models.text import WordTokenizer
import torch

WORDS = ['press', 'open', 'the', 'red', 'drawer']
STATES = ('x', 'y', 'z', 'gripper')


def tiny_config(**changes) -> CogActConfig:
    """64 visual tokens, three decoder layers, two query heads a key head."""
    values = {
        'vision': (VisionConfig(model={
            'hidden_size': 16, 'intermediate_size': 32, 'num_hidden_layers': 1,
            'num_attention_heads': 2, 'image_size': 32, 'patch_size': 4}, attention_window=1),),
        'llama': {'hidden_size': 32, 'intermediate_size': 48, 'num_hidden_layers': 3,
                  'num_attention_heads': 4, 'num_key_value_heads': 2, 'vocab_size': 9,
                  'max_position_embeddings': 128},
        'action_head': ActionHeadConfig(hidden_size=16, depth=1, heads=2, ddim_steps=2,
                                        guidance=1.0),
        'image_size': 32, 'text_length': 6, 'state_names': STATES,
        'state_units': ('m', 'm', 'm', '1'), 'action_names': ('linear.x', 'gripper'),
        'action_units': ('m/s', '1'), 'binary_actions': ('gripper',), 'horizon': 4,
        'dataset': 'tiny'}
    return CogActConfig(**{**values, **changes})


def tiny_model(**changes) -> CogActModel:
    """Seeded random weights, large enough that attention is not uniform."""
    torch.manual_seed(0)
    model = CogActModel(tiny_config(**changes)).eval().requires_grad_(False)
    for parameter in model.parameters():
        if parameter.dim() == 2:
            parameter.normal_(std=2 * parameter.shape[1] ** -0.5)
    return model


@pytest.fixture
def model():
    """A fresh model for each test."""
    return tiny_model()


@pytest.fixture
def policy_directory(tmp_path):
    """A float policy directory."""
    directory = tmp_path / 'float'
    directory.mkdir()
    save_config(tiny_config(), directory)
    WordTokenizer(WORDS, 6).save(directory)
    save_file(tiny_model().state_dict(), directory / 'model.safetensors')
    (directory / STATISTICS_FILE).write_text(json.dumps({'tiny': {
        'action': {'q01': [-0.3, 0], 'q99': [0.3, 1], 'mask': [True, False]},
        'state': {'mean': [0.0] * 4, 'std': [1.0] * 4}}}), 'utf-8')
    (directory / 'README.md').write_text('# Tiny\n', 'utf-8')
    return directory


@pytest.fixture
def observation():
    """An image of noise; the end effector is in the middle of it."""
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    pose = np.eye(4)
    pose[2, 3] = 1.0
    camera = PinholeCamera(np.array([[64.0, 0, 32], [0, 64, 32], [0, 0, 1]]), pose, 64, 64)
    return Observation({'camera': image}, 'open the red drawer', np.zeros(4, np.float32),
                       {'camera': camera}, np.zeros(3))


@pytest.fixture
def sequence(model):
    """Inputs of the model's decoder: visual tokens, text and state."""
    generator = torch.Generator().manual_seed(1)
    visual = torch.randn(1, 64, 32, generator=generator)
    text = torch.tensor([[5, 6, 7, 8, 0, 0]])
    return visual, text, torch.randn(1, 4, generator=generator)

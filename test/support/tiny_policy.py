"""A CogACT model of a few thousand weights."""

import torch

from sqap_vla_ros.columns import columns_from_units
from sqap_vla_ros.models.families.cogact.config import ActionHeadConfig, CogActConfig
from sqap_vla_ros.models.families.cogact.model import CogActModel
from sqap_vla_ros.models.layers.vision_config import VisionConfig

WORDS = ['press', 'open', 'the', 'red', 'drawer']
STATES = ('x', 'y', 'z', 'gripper')


def tiny_config(**changes) -> CogActConfig:
    """Return a configuration: 64 visual tokens, 3 decoder layers, 2 query heads per key head."""
    values = {
        'vision': (
            VisionConfig(
                model={
                    'hidden_size': 16,
                    'intermediate_size': 32,
                    'num_hidden_layers': 1,
                    'num_attention_heads': 2,
                    'image_size': 32,
                    'patch_size': 4,
                },
                attention_window=1,
            ),
        ),
        'llama': {
            'hidden_size': 32,
            'intermediate_size': 48,
            'num_hidden_layers': 3,
            'num_attention_heads': 4,
            'num_key_value_heads': 2,
            'vocab_size': 9,
            'max_position_embeddings': 128,
        },
        'action_head': ActionHeadConfig(
            hidden_size=16, depth=1, heads=2, ddim_steps=2, guidance=1.0
        ),
        'image_size': 32,
        'text_length': 6,
        'state': columns_from_units(STATES, ('m', 'm', 'm', '1')),
        'action': columns_from_units(('linear.x', 'gripper'), ('m/s', '1')),
        'binary_actions': ('gripper',),
        'horizon': 4,
        'dataset': 'tiny',
    }
    return CogActConfig(**{**values, **changes})


def tiny_model(**changes) -> CogActModel:
    """Return a model of seeded random weights, large enough that attention is not uniform."""
    torch.manual_seed(0)
    model = CogActModel(tiny_config(**changes)).eval().requires_grad_(False)
    for parameter in model.parameters():
        if parameter.dim() == 2:
            parameter.normal_(std=2 * parameter.shape[1] ** -0.5)
    return model

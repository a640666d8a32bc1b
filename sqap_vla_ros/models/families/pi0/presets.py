"""Shapes for the benchmark."""

from typing import Any

from sqap_vla_ros.models.families.pi0.config import Pi0Config
from sqap_vla_ros.models.family import Preset
from sqap_vla_ros.models.layers.released_shapes import SO400M


def _gemma(width: int, inner: int) -> dict[str, Any]:
    return {
        'model_type': 'gemma',
        'hidden_size': width,
        'intermediate_size': inner,
        'num_hidden_layers': 18,
        'head_dim': 256,
        'num_attention_heads': 8,
        'num_key_value_heads': 1,
        'hidden_act': 'gelu_pytorch_tanh',
        'rms_norm_eps': 1e-6,
        'vocab_size': 257152,
    }


PRESETS = (
    Preset(
        'pi0',
        'pi0 with two cameras, chunks of 50, 10 flow steps',
        Pi0Config(
            model={
                'vlm_config': {
                    'model_type': 'paligemma',
                    'projection_dim': 2048,
                    'image_token_index': 257152,
                    'vision_config': {
                        **SO400M,
                        'model_type': 'siglip_vision_model',
                        'vision_use_head': False,
                    },
                    'text_config': _gemma(2048, 16384),
                },
                'dit_config': _gemma(1024, 4096),
                'chunk_size': 50,
                'max_state_dim': 32,
                'max_action_dim': 32,
                'min_period': 4e-3,
                'max_period': 4.0,
            },
            cameras=('base', 'wrist'),
        ),
        text_tokens=20,
        visual_tokens=512,
    ),
)

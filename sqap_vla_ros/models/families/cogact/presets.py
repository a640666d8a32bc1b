"""Shapes for the benchmark."""

from sqap_vla_ros.columns import columns_from_units
from sqap_vla_ros.models.families.cogact.config import ActionHeadConfig, CogActConfig
from sqap_vla_ros.models.family import Preset
from sqap_vla_ros.models.layers.released_shapes import DINO_SIGLIP, LLAMA_2_7B

PRESETS = (
    Preset(
        'cogact-7b',
        'CogACT: Llama 2 7B, DiT-B, 10 steps with guidance',
        CogActConfig(
            vision=DINO_SIGLIP,
            llama=LLAMA_2_7B,
            image_size=224,
            projector='fused-gelu-mlp',
            text='prismatic',
            action=columns_from_units(('x', 'y', 'z', 'roll', 'pitch', 'yaw', 'gripper'), '1' * 7),
            action_head=ActionHeadConfig(hidden_size=768, depth=12, heads=12),
        ),
        text_tokens=32,
    ),
)

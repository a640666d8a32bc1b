"""Shapes for the benchmark."""

from sqap_vla_ros.columns import columns_from_units
from sqap_vla_ros.models.families.openvla.config import OpenVlaConfig
from sqap_vla_ros.models.family import Preset
from sqap_vla_ros.models.layers.released_shapes import DINO_SIGLIP, LLAMA_2_7B

PRESETS = (
    Preset(
        'openvla-7b',
        'OpenVLA: Llama 2 7B, 7 action tokens',
        OpenVlaConfig(
            vision=DINO_SIGLIP,
            llama=LLAMA_2_7B,
            image_size=224,
            action=columns_from_units(('x', 'y', 'z', 'roll', 'pitch', 'yaw', 'gripper'), '1' * 7),
        ),
        text_tokens=33,
    ),
)

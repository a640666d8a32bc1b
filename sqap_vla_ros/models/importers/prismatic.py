"""What the released Prismatic models, OpenVLA and CogACT, have in common."""

from pathlib import Path
from typing import Any

from sqap_vla_ros.errors import UserError
from sqap_vla_ros.models.importers.checkpoint_reader import CheckpointReader
from sqap_vla_ros.models.importers.prismatic_keys import (
    dinov2_sources,
    read_tower,
    siglip_sources,
    Tower,
)
from sqap_vla_ros.models.importers.released import ImportOptions
from sqap_vla_ros.models.importers.sources import ATTENTION_HEADS, Source
from sqap_vla_ros.models.layers.vision_config import VisionConfig

STEP_S = {
    'bridge_orig': 0.2,
    'bridge': 0.2,
    'fractal20220817_data': 1 / 3,
    'libero_spatial_no_noops': 0.05,
    'libero_object_no_noops': 0.05,
    'libero_goal_no_noops': 0.05,
    'libero_10_no_noops': 0.05,
}
"""Seconds between the actions of datasets that checkpoints are often used with."""
Normalisation = tuple[tuple[float, float, float], tuple[float, float, float]]
"""Mean and standard deviation of each image channel."""
IMAGENET: Normalisation = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
HALVES: Normalisation = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
LLAMA_2: dict[str, Any] = {
    'vocab_size': 32064,
    'hidden_size': 4096,
    'intermediate_size': 11008,
    'num_hidden_layers': 32,
    'num_attention_heads': 32,
    'hidden_act': 'silu',
    'max_position_embeddings': 4096,
    'rms_norm_eps': 1e-5,
}
"""meta-llama/Llama-2-7b-hf with the padded vocabulary."""
UNUSED = (r'attn_pool\.', r'rotary_emb\.inv_freq$')
ACTION_NAMES = (
    'linear.x',
    'linear.y',
    'linear.z',
    'angular.x',
    'angular.y',
    'angular.z',
    'gripper',
)
ACTION_UNITS = ('m/s',) * 3 + ('rad/s',) * 3 + ('1',)


def read_vision(
    reader: CheckpointReader,
    prefixes: tuple[str, str],
    normalisation: tuple[Normalisation, Normalisation],
) -> tuple[tuple[VisionConfig, ...], list[Tower]]:
    """
    Read the sizes of the DINOv2 and the SigLIP tower.

    Args:
        reader: the checkpoint.
        prefixes: of the towers' tensors, with their dots.
        normalisation: of the images that each tower reads.

    Returns:
        Configurations of the two encoders, and their towers.
    """
    towers = [read_tower(reader, prefix) for prefix in prefixes]
    vision: list[VisionConfig] = []
    for kind, tower, (mean, std) in zip(('dinov2', 'siglip'), towers, normalisation):
        model: dict[str, Any] = {
            'hidden_size': tower.width,
            'num_hidden_layers': tower.depth,
            'num_attention_heads': ATTENTION_HEADS,
            'image_size': tower.image,
            'patch_size': tower.patch,
            'hidden_act': 'gelu',
            'layer_norm_eps': 1e-6,
        }
        if kind == 'dinov2':
            model |= {
                'num_register_tokens': tower.registers,
                'layerscale_value': 1.0,
                'mlp_ratio': tower.mlp // tower.width,
            }
        else:
            model['intermediate_size'] = tower.mlp
        vision.append(
            VisionConfig(
                kind, model, final_norm=False, drop_last_layers=1, image_mean=mean, image_std=std
            )
        )
    return tuple(vision), towers


def tower_sources(towers: list[Tower], prefixes: tuple[str, str], scale: str) -> dict[str, Source]:
    """Name the sources of both towers; scale: as for `dinov2_sources`."""
    return {
        **dinov2_sources(towers[0], prefixes[0], 'vision.0.tower.', scale),
        **siglip_sources(towers[1], prefixes[1], 'vision.1.tower.'),
    }


def last_blocks(prefixes: tuple[str, str], towers: list[Tower]) -> list[str]:
    """List patterns of the tensors of each tower's last block: features are taken before it."""
    return [f'^{prefix}blocks\\.{tower.depth - 1}\\.' for prefix, tower in zip(prefixes, towers)]


def llama_arguments(path: Path, given: dict[str, Any], defaults: dict[str, Any]) -> dict[str, Any]:
    """
    Spell out LlamaConfig's arguments: a later transformers may have other defaults.

    Args:
        path: of the configuration, for messages.
        given: arguments that the checkpoint states.
        defaults: arguments that differ from Llama 2's where the checkpoint does not state them.

    Raises:
        UserError: the decoder is not a Llama, or has other rotary embeddings than Llama 2.
    """
    if given.get('model_type', 'llama') != 'llama':
        raise UserError(
            f"{path}: text_config.model_type is {given['model_type']!r}, expected 'llama'"
        )
    if given.get('rope_scaling') or given.get('rope_theta', 10000.0) != 10000.0:
        raise UserError(
            f'{path}: text_config has a rope_scaling or rope_theta other than '
            "Llama 2's, which this package does not support"
        )
    fields = {**LLAMA_2, **defaults}
    fields |= {key: given[key] for key in fields if key in given}
    return fields | {
        'num_key_value_heads': given.get('num_key_value_heads', fields['num_attention_heads'])
    }


def action_columns(
    statistics: dict[str, Any], dataset: str, options: ImportOptions, where: Path
) -> dict[str, Any]:
    """
    Describe the seven action columns of a Prismatic model.

    The models give the displacement of the end effector over one step and 1 for an open gripper.
    A chunk has velocities and 0 for open.

    Args:
        statistics: of the dataset.
        dataset: its key, which tells the time between actions where it is a known one.
        options: names, units and time that the user gave.
        where: the file of the statistics, for messages.

    Returns:
        Fields of the configuration: names, units, scale, offset and `step_s`.

    Raises:
        UserError: there are not seven columns, or the time between actions is unknown.
    """
    try:
        columns = len(statistics['action']['q01'])
    except (KeyError, TypeError):
        raise UserError(f'{where}: {dataset}: action.q01 is missing') from None
    if columns != len(ACTION_NAMES):
        raise UserError(
            f'{where}: {dataset}: {columns} action columns, expected '
            f'{len(ACTION_NAMES)}: position, rotation and gripper'
        )
    step_s = options.step_s or STEP_S.get(dataset)
    if step_s is None:
        raise UserError(
            f'dataset {dataset!r}: the time between its actions is not known; give it '
            'with --step-s'
        )
    return {
        'action_names': options.action_names or ACTION_NAMES,
        'action_units': options.action_units or ACTION_UNITS,
        'step_s': step_s,
        'action_scale': (1 / step_s,) * 6 + (-1.0,),
        'action_offset': (0.0,) * 6 + (1.0,),
    }

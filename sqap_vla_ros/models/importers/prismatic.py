"""What the released Prismatic models, OpenVLA and CogACT, have in common."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from sqap_vla_ros.columns import GRIPPER
from sqap_vla_ros.errors import UserError
from sqap_vla_ros.models.importers.checkpoint_reader import CheckpointReader
from sqap_vla_ros.models.importers.meaning import (
    Convention,
    data_range,
    find_meaning,
    with_ranges,
)
from sqap_vla_ros.models.importers.prismatic_keys import (
    dinov2_sources,
    read_tower,
    siglip_sources,
    Tower,
)
from sqap_vla_ros.models.importers.released import ImportOptions
from sqap_vla_ros.models.importers.sources import ATTENTION_HEADS, Source
from sqap_vla_ros.models.layers.vision_config import VisionConfig

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
CONVENTION = Convention(
    action_names=(
        *(f'{part}.{axis}' for part in ('linear', 'angular') for axis in 'xyz'),
        GRIPPER,
    ),
    gripper=(1.0, 0.0),
)
"""Both models were trained on Open X-Embodiment as openvla/openvla standardises it
(prismatic/vla/datasets/rlds/oxe/transforms.py): 1 is an open gripper."""


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
    statistics: dict[str, Any], dataset: str, options: ImportOptions, family: str, where: Path
) -> dict[str, Any]:
    """
    Find out what the action columns of a Prismatic model mean.

    Args:
        statistics: of the dataset.
        dataset: its key, which tells the meaning where it is a known one.
        options: what the user said.
        family: `model_type` of the model.
        where: the file of the statistics, for messages.

    Returns:
        Fields of the configuration: `action`, `action_scale` and `step_s`.

    Raises:
        UserError: nobody said what the columns mean, or that contradicts the statistics.
    """
    try:
        columns = len(statistics['action']['q01'])
    except (KeyError, TypeError, ValueError):
        raise UserError(f'{where}: {dataset}: action.q01 is missing') from None
    convention = CONVENTION
    if columns != len(CONVENTION.action_names):
        convention = replace(CONVENTION, action_names=())
    meaning = find_meaning(dataset, (0, columns), options, family, convention)
    found = data_range(statistics['action'], np.array(meaning.action_scale or 1.0))
    action = with_ranges(meaning.action, found, f'{where}: {dataset}')
    return {**meaning.config_fields(), 'action': action}

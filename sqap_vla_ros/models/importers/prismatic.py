"""What the released Prismatic models, OpenVLA and CogACT, have in common."""

from dataclasses import replace
from pathlib import Path
import re
from typing import Any

import numpy as np

from sqap_vla_ros.columns import GRIPPER
from sqap_vla_ros.errors import UserError
from sqap_vla_ros.models.importers.checkpoint_reader import CheckpointReader
from sqap_vla_ros.models.importers.fields import expect, positive_number, section, whole_number
from sqap_vla_ros.models.importers.meaning import (
    Convention,
    data_range,
    find_meaning,
    with_ranges,
)
from sqap_vla_ros.models.importers.prismatic_keys import (
    count_layers,
    dinov2_sources,
    read_tower,
    siglip_sources,
    Tower,
)
from sqap_vla_ros.models.importers.released import ImportOptions, Vocabulary
from sqap_vla_ros.models.importers.sources import ATTENTION_HEADS, Source
from sqap_vla_ros.models.layers.vision_config import VisionConfig
from sqap_vla_ros.models.preprocessing.prismatic_text import LLAMA_2_SPELLS, LLAMA_2_TOKENS

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
_POOLING = (
    r'(latent|pos_embed|(q|kv|proj|norm|q_norm|k_norm|mlp\.fc[12]|mlp\.norm)\.(weight|bias))'
)
_BLOCK = r'((norm[12]|attn\.(qkv|proj)|mlp\.fc[12])\.(weight|bias)|ls[12]\.(gamma|scale_factor))'
_LLAMA_INERT = {
    'attention_bias': (False,),
    'mlp_bias': (False,),
    'partial_rotary_factor': (None, 1.0, 1),
    'hidden_act': ('silu',),
    'tie_word_embeddings': (False,),
}
"""Fields of a Llama configuration that change the model, and the values that do not."""
CONVENTION = Convention(
    action_names=(
        *(f'{part}.{axis}' for part in ('linear', 'angular') for axis in 'xyz'),
        GRIPPER,
    ),
    gripper=(1.0, 0.0),
)
"""Both models were trained on Open X-Embodiment as openvla/openvla standardises it
(prismatic/vla/datasets/rlds/oxe/transforms.py): 1 is an open gripper."""


PI0_OPTIONS = (
    'state_names',
    'state_units',
    'relative_actions',
    'letterbox_bars',
    'attention_heads',
)
"""Fields of `ImportOptions` that mean nothing for a Prismatic model."""


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
    if towers[0].image != towers[1].image or towers[0].patch != towers[1].patch:
        raise UserError(
            f'{reader.where}: the towers take {towers[0].image} and {towers[1].image} pixels in '
            f'patches of {towers[0].patch} and {towers[1].patch}, expected the same'
        )
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


def unused_tensors(prefixes: tuple[str, str], towers: list[Tower], llama: str) -> tuple[str, ...]:
    """
    List patterns of tensors that play no part.

    These are SigLIP's pooling, each tower's last block, as features are taken before it, and
    tables that follow from the configuration.

    Args:
        prefixes: of the towers, with their dots.
        towers: their sizes.
        llama: prefix of the decoder, with its dot.
    """
    return (
        f'^{re.escape(llama)}(layers\\.\\d+\\.self_attn\\.)?rotary_emb\\.inv_freq$',
        *(f'^{re.escape(prefix)}attn_pool\\.{_POOLING}$' for prefix in prefixes),
        *(
            f'^{re.escape(prefix)}blocks\\.{tower.depth - 1}\\.{_BLOCK}$'
            for prefix, tower in zip(prefixes, towers)
        ),
    )


def llama_vocabulary(size: int) -> Vocabulary:
    """Say what the tokenizer of a Prismatic model is checked for, with the embedding's rows."""
    return Vocabulary('Llama 2', LLAMA_2_TOKENS, size, LLAMA_2_SPELLS)


def llama_arguments(
    path: Path,
    given: dict[str, Any],
    defaults: dict[str, Any],
    reader: CheckpointReader,
    prefix: str,
) -> dict[str, Any]:
    """
    Spell out LlamaConfig's arguments: a later transformers may have other defaults.

    Args:
        path: of the configuration, for messages.
        given: arguments that the checkpoint states.
        defaults: arguments that differ from Llama 2's where the checkpoint does not state them.
        reader: the checkpoint, with whose tensors they are compared.
        prefix: of the decoder's tensors, with its dot.

    Raises:
        UserError: the decoder is not a Llama, has other rotary embeddings than Llama 2, or its
            tensors are not those that the arguments describe.
    """
    if given.get('model_type', 'llama') != 'llama':
        raise UserError(
            f"{path}: text_config.model_type is {given['model_type']!r}, expected 'llama'"
        )
    _check_rotary(path, given)
    for field, allowed in _LLAMA_INERT.items():
        expect(path, given, field, *allowed)
    fields = {**LLAMA_2, **defaults}
    for field in ('vocab_size', 'hidden_size', 'intermediate_size', 'num_hidden_layers'):
        fields[field] = whole_number(path, given, field, fields[field], 1, 2**31)
    for field in ('num_attention_heads', 'max_position_embeddings'):
        fields[field] = whole_number(path, given, field, fields[field], 1, 2**20)
    fields['rms_norm_eps'] = positive_number(path, given, 'rms_norm_eps', fields['rms_norm_eps'])
    heads, width = fields['num_attention_heads'], fields['hidden_size']
    groups = whole_number(path, given, 'num_key_value_heads', heads, 1, heads)
    if width % heads or heads % groups or given.get('head_dim') not in (None, width // heads):
        raise UserError(
            f'{path}: hidden_size {width}, num_attention_heads {heads}, num_key_value_heads '
            f'{groups} and head_dim {given.get("head_dim")} do not fit together'
        )
    found = {
        'vocab_size': reader.sizes(f'{prefix}embed_tokens.weight', 2)[0],
        'hidden_size': reader.sizes(f'{prefix}embed_tokens.weight', 2)[1],
        'intermediate_size': reader.sizes(f'{prefix}layers.0.mlp.gate_proj.weight', 2)[0],
        'num_hidden_layers': count_layers(reader, f'{prefix}layers.'),
    }
    for field, size in found.items():
        if size != fields[field]:
            raise UserError(
                f'{path}: {field} is {fields[field]}, but the tensors of {reader.where} have '
                f'{size}; the configuration and the weights do not belong together'
            )
    if width == LLAMA_2['hidden_size'] and found['num_hidden_layers'] != 32:
        raise UserError(
            f'{reader.where}: {found["num_hidden_layers"]} layers of width {width}, expected '
            "Llama 2 7B's 32"
        )
    return fields | {'num_key_value_heads': groups}


def _check_rotary(path, given):
    """Check `rope_parameters` of transformers 5, and `rope_theta` and `rope_scaling` before it."""
    for field in ('rope_scaling', 'rope_parameters'):
        rotary = section(path, given, field)
        kind = rotary.get('rope_type', rotary.get('type', 'default'))
        others = set(rotary) - {'rope_type', 'type', 'rope_theta', 'partial_rotary_factor'}
        theta, partial = rotary.get('rope_theta', 10000), rotary.get('partial_rotary_factor', 1)
        if kind != 'default' or others or theta != 10000 or partial not in (None, 1):
            raise UserError(
                f"{path}: text_config.{field} is {rotary}, other than Llama 2's (default, "
                'rope_theta 10000), which this package does not support'
            )
    if given.get('rope_theta', 10000) != 10000:
        raise UserError(
            f'{path}: text_config.rope_theta is {given["rope_theta"]!r}, expected that of '
            'Llama 2, 10000'
        )


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
    if len(options.cameras) > 1:
        raise UserError(
            f'--cameras names {len(options.cameras)} cameras, but the model has one image'
        )
    convention = CONVENTION
    if columns != len(CONVENTION.action_names):
        convention = replace(CONVENTION, action_names=())
    meaning = find_meaning(dataset, (0, columns), options, family, convention)
    scale = np.array(meaning.action_scale or (1.0,) * columns)
    found = data_range(statistics['action'], scale, 'QUANTILES')
    assert found is not None  # q01 is there
    for index, normalised in enumerate(statistics['action'].get('mask') or ()):
        if not normalised and not meaning.action[index].is_gripper:
            # Such a column leaves the model as it is, in -1 .. 1, whatever the data had.
            found.low[index], found.high[index] = -scale[index], scale[index]
    action = with_ranges(meaning.action, found, f'{where}: {dataset}')
    return {**meaning.config_fields(), 'action': action}

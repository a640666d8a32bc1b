"""A tiny pi0 checkpoint in lerobot's and in openpi's format; see tiny_released for the weights."""

import json
from pathlib import Path

import numpy as np
from safetensors.torch import save_file
import torch

from support.tiny_released import filled

VISION = {'hidden_size': 64, 'intermediate_size': 96, 'num_hidden_layers': 2}
LANGUAGE = {
    'width': 64,
    'depth': 3,
    'mlp_dim': 128,
    'num_heads': 8,
    'num_kv_heads': 1,
    'head_dim': 8,
}
EXPERT = {
    'width': 32,
    'depth': 3,
    'mlp_dim': 64,
    'num_heads': 8,
    'num_kv_heads': 1,
    'head_dim': 8,
}
VOCABULARY, COLUMNS, HORIZON = 512, 32, 50
STATES, ACTIONS = 8, 7
GRIPPERS = {'observation.state': [3, 7], 'action': [6]}
"""Columns that are a gripper, 0 .. 1."""
CAMERAS = ('base_0_rgb', 'left_wrist_0_rgb')
PREFIX = 'paligemma_with_expert.'
PROMPT_IDS = [2, 301, 302, 303, 304, 108]


def _gemma(prefix, size):
    width, inner, head = size['width'], size['mlp_dim'], size['head_dim']
    shapes = {f'{prefix}norm.weight': (width,)}
    for i in range(size['depth']):
        layer = f'{prefix}layers.{i}.'
        shapes |= {
            f'{layer}self_attn.q_proj.weight': (size['num_heads'] * head, width),
            f'{layer}self_attn.k_proj.weight': (head, width),
            f'{layer}self_attn.v_proj.weight': (head, width),
            f'{layer}self_attn.o_proj.weight': (width, size['num_heads'] * head),
            f'{layer}mlp.gate_proj.weight': (inner, width),
            f'{layer}mlp.up_proj.weight': (inner, width),
            f'{layer}mlp.down_proj.weight': (width, inner),
            f'{layer}input_layernorm.weight': (width,),
            f'{layer}post_attention_layernorm.weight': (width,),
        }
    return shapes


def _vision(prefix):
    width, inner = VISION['hidden_size'], VISION['intermediate_size']
    linears, norms = {}, [f'{prefix}post_layernorm']
    for i in range(VISION['num_hidden_layers']):
        layer = f'{prefix}encoder.layers.{i}.'
        linears |= {
            f'{layer}self_attn.{n}': (width, width)
            for n in ('q_proj', 'k_proj', 'v_proj', 'out_proj')
        }
        linears |= {f'{layer}mlp.fc1': (inner, width), f'{layer}mlp.fc2': (width, inner)}
        norms += [f'{layer}layer_norm1', f'{layer}layer_norm2']
    shapes = {
        f'{prefix}embeddings.patch_embedding.weight': (width, 3, 14, 14),
        f'{prefix}embeddings.patch_embedding.bias': (width,),
        f'{prefix}embeddings.position_embedding.weight': (256, width),
    }
    for name, shape in linears.items():
        shapes |= {f'{name}.weight': shape, f'{name}.bias': shape[:1]}
    for name in norms:
        shapes |= {f'{name}.weight': (width,), f'{name}.bias': (width,)}
    return shapes


def tensors() -> dict[str, torch.Tensor]:
    """All tensors under their released names."""
    expert = EXPERT['width']
    linears = {
        f'{PREFIX}paligemma.model.multi_modal_projector.linear': (
            LANGUAGE['width'],
            VISION['hidden_size'],
        ),
        'state_proj': (expert, COLUMNS),
        'action_in_proj': (expert, COLUMNS),
        'action_out_proj': (COLUMNS, expert),
        'action_time_mlp_in': (expert, 2 * expert),
        'action_time_mlp_out': (expert, expert),
    }
    shapes = {
        **_vision(f'{PREFIX}paligemma.model.vision_tower.vision_model.'),
        **_gemma(f'{PREFIX}paligemma.model.language_model.', LANGUAGE),
        **_gemma(f'{PREFIX}gemma_expert.model.', EXPERT),
        f'{PREFIX}paligemma.lm_head.weight': (VOCABULARY, LANGUAGE['width']),
    }
    for name, shape in linears.items():
        shapes |= {f'{name}.weight': shape, f'{name}.bias': shape[:1]}
    return filled('', shapes, 0.7)


def statistics() -> dict[str, torch.Tensor]:
    """Statistics of state and action, as lerobot's normalizer stores them."""
    random = np.random.RandomState(3)
    found = {
        f'{key}.{field}': random.uniform(0.1, 1, columns)
        for key, columns in (('observation.state', STATES), ('action', ACTIONS))
        for field in ('mean', 'std')
    }
    for key in ('observation.state', 'action'):
        mean, std = found[f'{key}.mean'], found[f'{key}.std']
        for field, reach in (('min', -3), ('max', 3.5), ('q01', -2), ('q99', 2.2)):
            found[f'{key}.{field}'] = mean + reach * std
            found[f'{key}.{field}'][GRIPPERS[key]] = float(reach > 0)
    return {name: torch.from_numpy(values.astype(np.float32)) for name, values in found.items()}


def state() -> np.ndarray:
    """Return a state, float32 [STATES], in its units."""
    return np.random.RandomState(4).uniform(-1, 1, STATES).astype(np.float32)


STATE_FILE = 'policy_preprocessor_step_5_normalizer_processor.safetensors'
ACTION_FILE = 'policy_postprocessor_step_0_unnormalizer_processor.safetensors'
NORM_MAP = {'VISUAL': 'IDENTITY', 'STATE': 'MEAN_STD', 'ACTION': 'MEAN_STD'}
FEATURES = {
    'observation.state': {'type': 'STATE', 'shape': [STATES]},
    'action': {'type': 'ACTION', 'shape': [ACTIONS]},
}
ASSETS = 'assets/tiny/norm_stats.json'


def lerobot_config() -> dict:
    """`config.json` of lerobot, with the fields that matter at inference."""
    visual = {'type': 'VISUAL', 'shape': [3, 224, 224]}
    return {
        'type': 'pi0',
        'chunk_size': HORIZON,
        'n_action_steps': HORIZON,
        'max_state_dim': COLUMNS,
        'max_action_dim': COLUMNS,
        'num_inference_steps': 10,
        'min_period': 4e-3,
        'max_period': 4.0,
        'tokenizer_max_length': 48,
        'empty_cameras': 1,
        'image_resolution': [224, 224],
        'paligemma_variant': 'gemma_2b',
        'action_expert_variant': 'gemma_300m',
        'dtype': 'float32',
        'normalization_mapping': NORM_MAP,
        'input_features': {
            **{f'observation.images.{name}': visual for name in CAMERAS},
            'observation.images.empty_camera_0': visual,
            'observation.state': FEATURES['observation.state'],
        },
        'output_features': {'action': FEATURES['action']},
    }


def preprocessor() -> dict:
    """`policy_preprocessor.json` of lerobot 0.4."""
    tokenizer = {
        'max_length': 48,
        'task_key': 'task',
        'padding_side': 'right',
        'padding': 'max_length',
        'truncation': True,
        'tokenizer_name': 'google/paligemma-3b-pt-224',
    }
    normalizer = {'eps': 1e-8, 'features': FEATURES, 'norm_map': NORM_MAP}
    return {
        'name': 'policy_preprocessor',
        'steps': [
            step('rename_observations_processor', {'rename_map': {}}),
            step('to_batch_processor'),
            step('pi0_new_line_processor'),
            step('tokenizer_processor', tokenizer),
            step('device_processor', {'device': 'cpu', 'float_dtype': None}),
            step('normalizer_processor', normalizer, STATE_FILE),
        ],
    }


def postprocessor() -> dict:
    """`policy_postprocessor.json` of lerobot 0.4."""
    unnormalizer = {
        'eps': 1e-8,
        'features': {'action': FEATURES['action']},
        'norm_map': NORM_MAP,
    }
    return {
        'name': 'policy_postprocessor',
        'steps': [
            step('unnormalizer_processor', unnormalizer, ACTION_FILE),
            step('device_processor', {'device': 'cpu', 'float_dtype': None}),
        ],
    }


def step(name: str, config: dict | None = None, state_file: str | None = None) -> dict:
    """Make an entry of a pipeline."""
    stored = {} if state_file is None else {'state_file': state_file}
    return {'registry_name': name, 'config': config or {}, **stored}


def write_pi0(folder: Path):
    """Write lerobot's folder: configuration, weights, both pipelines, tokenizer."""
    folder.mkdir(parents=True, exist_ok=True)
    for file, content in (
        ('config.json', lerobot_config()),
        ('policy_preprocessor.json', preprocessor()),
        ('policy_postprocessor.json', postprocessor()),
    ):
        (folder / file).write_text(json.dumps(content))
    save_file(tensors(), folder / 'model.safetensors')
    for file in (STATE_FILE, ACTION_FILE):
        save_file(statistics(), folder / file)
    write_tokenizer(folder)


def write_openpi(folder: Path):
    """Write openpi's folder: configuration, weights, statistics, and a tokenizer beside them."""
    (folder / ASSETS).parent.mkdir(parents=True, exist_ok=True)
    config = {
        'action_dim': COLUMNS,
        'action_horizon': HORIZON,
        'paligemma_variant': 'gemma_2b',
        'action_expert_variant': 'gemma_300m',
        'precision': 'float32',
    }
    (folder / 'config.json').write_text(json.dumps(config))
    save_file(tensors(), folder / 'model.safetensors')
    found = statistics()
    parts = {'state': 'observation.state', 'actions': 'action'}
    content = {
        part: {field: found[f'{key}.{field}'].tolist() for field in ('mean', 'std', 'q01', 'q99')}
        for part, key in parts.items()
    }
    (folder / ASSETS).write_text(json.dumps({'norm_stats': content}))
    write_tokenizer(folder)


def write_tokenizer(folder: Path):
    """Write a small tokenizer.json of Gemma's kind; the real one is gated."""
    vocabulary = {'<pad>': 0, '<eos>': 1, '<bos>': 2, '<unk>': 3}
    vocabulary |= {f'<0x{byte:02X}>': 4 + byte for byte in range(103)}
    vocabulary |= {'\n': 108, '▁': 300, 'pick': 301, '▁up': 302, '▁red': 303, '▁cup': 304}
    letters = sorted(set('pickupredcup'))
    vocabulary |= {letter: 400 + i for i, letter in enumerate(letters)}
    pieces = {'pi': 310, 'pic': 311, '▁u': 312, '▁r': 313, '▁re': 314, '▁c': 315, '▁cu': 316}
    vocabulary |= pieces
    merges = [
        'p i',
        'pi c',
        'pic k',
        '▁ u',
        '▁u p',
        '▁ r',
        '▁r e',
        '▁re d',
        '▁ c',
        '▁c u',
        '▁cu p',
    ]
    special = [
        {
            'id': i,
            'content': content,
            'single_word': False,
            'lstrip': False,
            'rstrip': False,
            'normalized': False,
            'special': True,
        }
        for content, i in vocabulary.items()
        if i < 4
    ]
    tokenizer = {
        'version': '1.0',
        'truncation': None,
        'padding': None,
        'added_tokens': special,
        'normalizer': {'type': 'Replace', 'pattern': {'String': ' '}, 'content': '▁'},
        'pre_tokenizer': None,
        'post_processor': None,
        'decoder': None,
        'model': {
            'type': 'BPE',
            'dropout': None,
            'unk_token': '<unk>',
            'continuing_subword_prefix': None,
            'end_of_word_suffix': None,
            'fuse_unk': True,
            'byte_fallback': False,
            'vocab': vocabulary,
            'merges': merges,
        },
    }
    (folder / 'tokenizer.json').write_text(json.dumps(tokenizer))


def shrink_vision(paligemma):
    """Give the official PaliGemma model, before its weights are loaded, the tiny vision tower."""
    from transformers import SiglipVisionConfig, SiglipVisionModel

    paligemma.vision_tower = SiglipVisionModel(
        SiglipVisionConfig(
            **VISION,
            num_attention_heads=16,
            image_size=224,
            patch_size=14,
            vision_use_head=False,
        )
    )
    paligemma.multi_modal_projector.linear = torch.nn.Linear(
        VISION['hidden_size'], LANGUAGE['width']
    )

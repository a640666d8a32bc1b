"""Import of pi0 checkpoints in lerobot's layout, which openpi's PyTorch weights share."""

from pathlib import Path
import re

import numpy as np
from safetensors import safe_open, SafetensorError

from sqap_vla_ros.errors import UserError
from sqap_vla_ros.files import read_json
from sqap_vla_ros.models.families.pi0.config import Pi0Config
from sqap_vla_ros.models.family import CONFIG_FILE
from sqap_vla_ros.models.importers.checkpoint_reader import CheckpointReader, SafetensorsReader
from sqap_vla_ros.models.importers.meaning import data_range, find_meaning, with_ranges
from sqap_vla_ros.models.importers.released import (
    choose_dataset,
    ImportOptions,
    Released,
    Vocabulary,
)
from sqap_vla_ros.models.importers.sources import ATTENTION_HEADS, check_sources, Source
from sqap_vla_ros.models.preprocessing.statistics import STATISTICS_FILE

GEMMA_TOKENS = {'<bos>': 2, '\n': 108}
"""Ids of PaliGemma's tokenizer, which tell it from those of other models."""
PROCESSOR_FILE = 'policy_preprocessor.json'
UNUSED = (
    r'gemma_expert\.lm_head\.weight$',
    r'gemma_expert\.model\.embed_tokens\.weight$',
    r'paligemma\.lm_head\.weight$',
    r'rotary_emb\.inv_freq$',
    r'embeddings\.position_ids$',
)
_PREFIX = 'paligemma_with_expert.'
_LANGUAGE = 'paligemma.model.language_model.'
_RENAMED = (
    (r'^paligemma\.model\.vision_tower\.(vision_model\.)?', 'pi0.model.vlm.vision_tower.'),
    (r'^paligemma\.model\.', 'pi0.model.vlm.'),
    (r'^gemma_expert\.model\.', 'pi0.model.dit.'),
)
_EMBEDDINGS = ('state_proj', 'action_in_proj', 'action_time_mlp_in', 'action_time_mlp_out')


def open_pi0(folder: Path, options: ImportOptions) -> Released:
    """
    Open a released pi0 folder without reading its weights yet.

    Raises:
        UserError: names the file and the key that is missing or belongs to another model.
    """
    path = folder / CONFIG_FILE
    data = read_json(path)
    reader = SafetensorsReader(folder)
    root = 'model.' if any(n.startswith(f'model.{_PREFIX}') for n in reader.names()) else ''
    sources = _sources(reader, root)
    check_sources(reader, sources, UNUSED)
    statistics, where = _statistics(folder)
    dataset = choose_dataset(statistics, options.dataset, where)
    columns: dict[str, int] = {}
    for part in ('state', 'action'):
        try:
            columns[part] = len(statistics[dataset][part]['mean'])
        except (KeyError, TypeError):
            raise UserError(f'{where}: {dataset}: {part}.mean is missing') from None
    cameras = _cameras(path, data, options)
    meaning = find_meaning(dataset, (columns['state'], columns['action']), options, 'pi0')
    scale = np.array(meaning.action_scale or 1.0)
    model = _model(reader, root, data)
    config = Pi0Config(
        model=model,
        image_size=model['vlm_config']['vision_config']['image_size'],
        flow_steps=data.get('num_inference_steps', 10),
        horizon=data.get('chunk_size', 50),
        text_length=data.get('tokenizer_max_length', 48),
        cameras=cameras,
        dataset=dataset,
        state=with_ranges(meaning.state, data_range(statistics[dataset]['state']), where),
        **{
            **meaning.config_fields(),
            'action': with_ranges(
                meaning.action, data_range(statistics[dataset]['action'], scale), where
            ),
        },
    )
    if not options.tokenizer and not (folder / 'tokenizer.json').is_file():
        raise UserError(
            f'{folder}: pi0 is released without a tokenizer; give the folder of '
            "PaliGemma's tokenizer.json with --tokenizer"
        )
    return Released(
        'pi0',
        config,
        {dataset: statistics[dataset]},
        reader,
        sources,
        options.tokenizer or folder,
        Vocabulary('PaliGemma', GEMMA_TOKENS, model['vlm_config']['text_config']['vocab_size']),
        own_types=('pi0.model.dit.', 'pi0.embed_action_time.', 'pi0.action_out_proj.'),
    )


def _sources(reader: CheckpointReader, root: str) -> dict[str, Source]:
    sources: dict[str, Source] = {}
    for name in sorted(reader.names()):
        bare = name.removeprefix(root)
        if bare.split('.')[0] in _EMBEDDINGS:
            sources[f'pi0.embed_action_time.{bare}'] = Source(name)
        elif bare.startswith('action_out_proj.'):
            sources[f'pi0.{bare}'] = Source(name)
        elif bare.startswith(_PREFIX) and not any(re.search(p, bare) for p in UNUSED):
            inner = bare.removeprefix(_PREFIX)
            for pattern, ours in _RENAMED:
                if re.match(pattern, inner):
                    sources[re.sub(pattern, ours, inner)] = Source(name)
                    break
    sources['pi0.model.vlm.language_model.embed_tokens.weight'] = Source(
        _embeddings(reader, f'{root}{_PREFIX}')
    )
    return sources


def _embeddings(reader, inner):
    """Input and output embeddings are one tensor, stored under either name or under both."""
    name = f'{inner}{_LANGUAGE}embed_tokens.weight'
    return name if name in reader.names() else f'{inner}paligemma.lm_head.weight'


def _model(reader, root, data):
    """Return the arguments of PI0Config, with sizes taken from the tensors."""
    inner = f'{root}{_PREFIX}'
    tower = next(
        (
            p
            for p in (
                'paligemma.model.vision_tower.vision_model.',
                'paligemma.model.vision_tower.',
            )
            if f'{inner}{p}post_layernorm.weight' in reader.names()
        ),
        None,
    )
    if tower is None:
        raise UserError(
            f'{reader.where}: tensor {inner}paligemma.model.vision_tower.vision_model.'
            'post_layernorm.weight is missing; expected a pi0 checkpoint'
        )
    width, _, patch, _ = reader.shape(f'{inner}{tower}embeddings.patch_embedding.weight')
    patches = reader.shape(f'{inner}{tower}embeddings.position_embedding.weight')[0]
    vision = {
        'model_type': 'siglip_vision_model',
        'hidden_size': width,
        'patch_size': patch,
        'image_size': round(patches**0.5) * patch,
        'num_attention_heads': ATTENTION_HEADS,
        'num_hidden_layers': _depth(reader, f'{inner}{tower}encoder.layers.'),
        'intermediate_size': reader.shape(f'{inner}{tower}encoder.layers.0.mlp.fc1.weight')[0],
        'projection_dim': reader.shape(
            f'{inner}paligemma.model.multi_modal_projector.linear.weight'
        )[0],
        'hidden_act': 'gelu_pytorch_tanh',
        'layer_norm_eps': 1e-6,
        'vision_use_head': False,
    }
    text = _gemma(reader, f'{inner}{_LANGUAGE}')
    vocabulary = reader.shape(_embeddings(reader, inner))[0]
    state = reader.shape(f'{root}state_proj.weight')[1]
    actions = reader.shape(f'{root}action_in_proj.weight')[1]
    return {
        'vlm_config': {
            'model_type': 'paligemma',
            'vision_config': vision,
            'text_config': text | {'vocab_size': vocabulary},
            'projection_dim': text['hidden_size'],
            'image_token_index': vocabulary,
        },
        'dit_config': _gemma(reader, f'{inner}gemma_expert.model.') | {'vocab_size': vocabulary},
        'chunk_size': data.get('chunk_size', 50),
        'max_state_dim': state,
        'max_action_dim': actions,
        'min_period': data.get('min_period', 4e-3),
        'max_period': data.get('max_period', 4.0),
    }


def _gemma(reader, prefix):
    layer = f'{prefix}layers.0.'
    inner, width = reader.shape(f'{layer}mlp.gate_proj.weight')
    head = reader.shape(f'{layer}self_attn.k_proj.weight')[
        0
    ]  # the Gemma models of pi0 have one key head
    return {
        'model_type': 'gemma',
        'hidden_size': width,
        'intermediate_size': inner,
        'num_hidden_layers': _depth(reader, f'{prefix}layers.'),
        'head_dim': head,
        'num_attention_heads': reader.shape(f'{layer}self_attn.q_proj.weight')[0] // head,
        'num_key_value_heads': 1,
        'rms_norm_eps': 1e-6,
        'hidden_act': 'gelu_pytorch_tanh',
    }


def _depth(reader, prefix):
    return len(
        {
            name.removeprefix(prefix).split('.')[0]
            for name in reader.names()
            if name.startswith(prefix)
        }
    )


def _cameras(path, data, options):
    """Return the names of the cameras, in the order of training."""
    inputs = data.get('input_features') or {}
    stored = tuple(
        name.rpartition('.')[2]
        for name, feature in inputs.items()
        if isinstance(feature, dict)
        and feature.get('type') == 'VISUAL'
        and 'empty_camera' not in name
    )
    if options.cameras and stored and len(options.cameras) > len(stored):
        raise UserError(
            f'{path}: has {len(stored)} cameras, but --cameras names {len(options.cameras)}'
        )
    if not (options.cameras or stored):
        raise UserError(f'{path}: input_features has no camera; name them with --cameras')
    return options.cameras or stored


def _statistics(folder):
    """Return `{dataset: {state, action}}` and the file that it was read from."""
    if (folder / STATISTICS_FILE).is_file():
        return read_json(folder / STATISTICS_FILE), folder / STATISTICS_FILE
    files = sorted(folder.glob('assets/**/norm_stats.json'))
    if files:  # openpi: one file per dataset
        found = {}
        for file in files:
            stats = read_json(file).get('norm_stats') or {}
            found[str(file.parent.relative_to(folder / 'assets'))] = {
                'state': stats.get('state'),
                'action': stats.get('actions'),
            }
        return found, folder / 'assets'
    if (folder / PROCESSOR_FILE).is_file():
        return {'lerobot': _lerobot(folder)}, folder / PROCESSOR_FILE
    raise UserError(
        f'{folder}: no {STATISTICS_FILE}, no {PROCESSOR_FILE} and no assets/**/'
        'norm_stats.json; pi0 needs mean and std of state and action'
    )


def _lerobot(folder):
    """Read the statistics of the normalisation step of a lerobot preprocessor."""
    steps = read_json(folder / PROCESSOR_FILE).get('steps') or []
    files = [
        step.get('state_file')
        for step in steps
        if isinstance(step, dict) and 'normalizer' in str(step.get('registry_name'))
    ]
    if not files or not isinstance(files[0], str):
        raise UserError(f'{folder / PROCESSOR_FILE}: no normalizer step with a state_file')
    path = folder / Path(files[0]).name
    try:
        with safe_open(path, 'np') as file:
            stored = {
                name: file.get_tensor(name).tolist()
                for name in file.keys()
                if name.rpartition('.')[2] in ('mean', 'std')
            }
    except (FileNotFoundError, SafetensorError, OSError) as error:
        raise UserError(f'{path}: cannot be read ({error})') from None
    return {
        part: {field: stored.get(f'{key}.{field}') for field in ('mean', 'std')}
        for part, key in (('state', 'observation.state'), ('action', 'action'))
    }

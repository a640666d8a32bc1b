"""Import of pi0 checkpoints in lerobot's layout, which openpi's PyTorch weights share."""

from pathlib import Path
import re

import torch

from sqap_vla_ros.errors import UserError
from sqap_vla_ros.input_files import read_json
from sqap_vla_ros.models.families.pi0.config import Pi0Config
from sqap_vla_ros.models.families.pi0.formats import read_format
from sqap_vla_ros.models.families.pi0.meaning import find_pi0_meaning
from sqap_vla_ros.models.families.pi0.preprocessing import GEMMA_SPELLS, GEMMA_TOKENS
from sqap_vla_ros.models.family import CONFIG_FILE
from sqap_vla_ros.models.importers.checkpoint_reader import CheckpointReader, SafetensorsReader
from sqap_vla_ros.models.importers.fields import expect, positive_number
from sqap_vla_ros.models.importers.prismatic_keys import count_layers
from sqap_vla_ros.models.importers.released import (
    ImportOptions,
    refuse_unused,
    Released,
    Vocabulary,
)
from sqap_vla_ros.models.importers.sources import ATTENTION_HEADS, check_sources, Source

UNUSED = (
    r'gemma_expert\.lm_head\.weight$',
    r'gemma_expert\.model\.embed_tokens\.weight$',
    r'paligemma\.lm_head\.weight$',
    r'rotary_emb\.inv_freq$',
    r'embeddings\.position_ids$',
)
HEADS = 8
"""Attention heads of the language model and of the expert, in every published pi0."""
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
    refuse_unused(options, 'pi0', ('crop_area',))
    path = folder / CONFIG_FILE
    data = read_json(path)
    reader = SafetensorsReader(folder)
    root = 'model.' if any(n.startswith(f'model.{_PREFIX}') for n in reader.names()) else ''
    sources = _sources(reader, root)
    check_sources(reader, sources, UNUSED)
    _check_one_embedding(reader, f'{root}{_PREFIX}')
    form = read_format(folder, data, options)
    model = _model(reader, root, path, data, form.horizon, options.attention_heads)
    size = model['vlm_config']['vision_config']['image_size']
    if form.image_size not in (None, (size, size)):
        raise UserError(
            f'{path}: image_resolution is {form.image_size}, but the vision tower reads '
            f'{size} x {size}'
        )
    for part, columns in (('state', form.state.columns), ('action', form.action.columns)):
        if columns > model[f'max_{part}_dim']:
            raise UserError(
                f'{path}: {columns} {part} columns, but the weights take '
                f'{model[f"max_{part}_dim"]} at most'
            )
        expect(path, data, f'max_{part}_dim', model[f'max_{part}_dim'])
    expect(path, data, 'action_dim', model['max_action_dim'])
    meaning = find_pi0_meaning(folder, form, options)
    config = Pi0Config(
        model=model,
        image_size=size,
        flow_steps=form.flow_steps,
        horizon=form.horizon,
        text_length=form.text_length,
        cameras=form.cameras,
        dataset=form.dataset,
        preprocessing=form.library,
        letterbox_bars=form.bars,
        bfloat16_tables=form.bfloat16,
        state=meaning.state,
        relative_actions=meaning.relative,
        **meaning.config_fields(),
    )
    if not options.tokenizer and not (folder / 'tokenizer.json').is_file():
        raise UserError(
            f'{folder}: pi0 is released without a tokenizer; give the folder of '
            "PaliGemma's tokenizer.json with --tokenizer"
        )
    return Released(
        'pi0',
        config,
        {form.dataset: {'state': form.state.to_json(), 'action': form.action.to_json()}},
        reader,
        sources,
        options.tokenizer or folder,
        Vocabulary(
            'PaliGemma',
            GEMMA_TOKENS,
            model['vlm_config']['text_config']['vocab_size'],
            GEMMA_SPELLS,
        ),
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
    name, output = f'{inner}{_LANGUAGE}embed_tokens.weight', f'{inner}paligemma.lm_head.weight'
    return name if name in reader.names() else output


def _check_one_embedding(reader: CheckpointReader, inner: str) -> None:
    """Refuse two embeddings that differ: the model has one, and nothing says which it is."""
    name, output = f'{inner}{_LANGUAGE}embed_tokens.weight', f'{inner}paligemma.lm_head.weight'
    if {name, output} <= reader.names() and not torch.equal(
        reader.tensor(name), reader.tensor(output)
    ):
        raise UserError(
            f'{reader.where}: {name} and {output} differ, though pi0 has one embedding for both; '
            'the checkpoint is damaged or of another model'
        )


def _model(reader, root, path, data, horizon, heads):
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
    width, _, patch, _ = reader.sizes(f'{inner}{tower}embeddings.patch_embedding.weight', 4)
    patches = reader.sizes(f'{inner}{tower}embeddings.position_embedding.weight', 2)[0]
    vision = {
        'model_type': 'siglip_vision_model',
        'hidden_size': width,
        'patch_size': patch,
        'image_size': round(patches**0.5) * patch,
        'num_attention_heads': ATTENTION_HEADS,
        'num_hidden_layers': count_layers(reader, f'{inner}{tower}encoder.layers.'),
        'intermediate_size': reader.sizes(f'{inner}{tower}encoder.layers.0.mlp.fc1.weight', 2)[0],
        'projection_dim': reader.sizes(
            f'{inner}paligemma.model.multi_modal_projector.linear.weight', 2
        )[0],
        'hidden_act': 'gelu_pytorch_tanh',
        'layer_norm_eps': 1e-6,
        'vision_use_head': False,
    }
    text = _gemma(reader, f'{inner}{_LANGUAGE}', heads)
    vocabulary = reader.sizes(_embeddings(reader, inner), 2)[0]
    state = reader.sizes(f'{root}state_proj.weight', 2)[1]
    actions = reader.sizes(f'{root}action_in_proj.weight', 2)[1]
    return {
        'vlm_config': {
            'model_type': 'paligemma',
            'vision_config': vision,
            'text_config': text | {'vocab_size': vocabulary},
            'projection_dim': text['hidden_size'],
            'image_token_index': vocabulary,
        },
        'dit_config': _gemma(reader, f'{inner}gemma_expert.model.', heads)
        | {'vocab_size': vocabulary},
        'chunk_size': horizon,
        'max_state_dim': state,
        'max_action_dim': actions,
        'min_period': positive_number(path, data, 'min_period', 4e-3),
        'max_period': positive_number(path, data, 'max_period', 4.0),
    }


def _gemma(reader, prefix, heads):
    layer = f'{prefix}layers.0.'
    inner, width = reader.sizes(f'{layer}mlp.gate_proj.weight', 2)
    rows = {n: reader.sizes(f'{layer}self_attn.{n}_proj.weight', 2)[0] for n in ('q', 'k')}
    count, key_heads, head = _heads(f'{reader.where}: {layer}self_attn', rows, heads)
    return {
        'model_type': 'gemma',
        'hidden_size': width,
        'intermediate_size': inner,
        'num_hidden_layers': count_layers(reader, f'{prefix}layers.'),
        'head_dim': head,
        'num_attention_heads': count,
        'num_key_value_heads': key_heads,
        'rms_norm_eps': 1e-6,
        'hidden_act': 'gelu_pytorch_tanh',
    }


def _heads(where: str, rows: dict[str, int], given: int | None) -> tuple[int, int, int]:
    """
    Return attention heads, key heads and the width of a head.

    The tensors have only products of these: two key heads look like one of twice the width.
    """
    count = given or HEADS
    if given is None and rows['q'] != HEADS * rows['k']:
        raise UserError(
            f'{where}: q_proj has {rows["q"]} rows and k_proj {rows["k"]}, but the published pi0 '
            f'has {HEADS} heads and one key head; the number of heads is not in the checkpoint: '
            'give it with --attention-heads'
        )
    head, left = divmod(rows['q'], count)
    if left or head < 2 or head % 2 or rows['k'] % head or count % (rows['k'] // head):
        raise UserError(
            f'{where}: q_proj has {rows["q"]} rows and k_proj {rows["k"]}, which {count} heads '
            'cannot share (--attention-heads)'
        )
    return count, rows['k'] // head, head

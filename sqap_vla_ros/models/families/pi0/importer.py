"""Import of pi0 checkpoints in lerobot's layout, which openpi's PyTorch weights share."""

from pathlib import Path
import re
from typing import Any, NoReturn

from sqap_vla_ros.errors import UserError
from sqap_vla_ros.files import read_json
from sqap_vla_ros.models.families.pi0.config import Pi0Config
from sqap_vla_ros.models.families.pi0.formats import read_format
from sqap_vla_ros.models.families.pi0.relative import relative_actions
from sqap_vla_ros.models.family import CONFIG_FILE
from sqap_vla_ros.models.importers.checkpoint_reader import CheckpointReader, SafetensorsReader
from sqap_vla_ros.models.importers.released import ImportOptions, Released
from sqap_vla_ros.models.importers.sources import ATTENTION_HEADS, check_sources, Source

UNUSED = (
    r'gemma_expert\.lm_head\.weight$',
    r'gemma_expert\.model\.embed_tokens\.weight$',
    r'paligemma\.lm_head\.weight$',
    r'rotary_emb\.inv_freq$',
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
_OLD_LANGUAGE = 'paligemma.language_model.model.'
_OLD_BUFFERS = 'normalize_inputs.', 'unnormalize_outputs.', 'normalize_targets.'
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
    _check_layout(reader, root)
    sources = _sources(reader, root)
    check_sources(reader, sources, UNUSED)
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
    names = {
        **_names('state', form.state.columns, options.state_names, options.state_units),
        **_names(
            'action',
            form.action.columns,
            options.action_names or form.action_names,
            options.action_units,
        ),
    }
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
        relative_actions=relative_actions(path, form.relative, options, **names),
        step_s=options.step_s or _no_step(),
        **names,
    )
    if not options.tokenizer and not (folder / 'tokenizer.json').is_file():
        raise UserError(
            f'{folder}: pi0 is released without a tokenizer; give the folder of '
            "PaliGemma's tokenizer.json with --tokenizer"
        )
    statistics = {part: getattr(form, part).to_json() for part in ('state', 'action')}
    return Released(
        'pi0', config, {form.dataset: statistics}, reader, sources, options.tokenizer or folder
    )


def _check_layout(reader: CheckpointReader, root: str) -> None:
    """Refuse what has pi0's tensors, but is another model or an older layout."""
    names = reader.names()
    if any(_OLD_LANGUAGE in name or name.startswith(_OLD_BUFFERS) for name in names):
        raise UserError(
            f'{reader.where}: weights in the layout of lerobot before 0.4 ({_OLD_LANGUAGE}*, '
            'normalize_inputs.*), which later versions cannot load either, nor does their '
            'migration convert the weights; use a policy trained with lerobot 0.4 or later'
        )
    if f'{root}time_mlp_in.weight' in names:
        raise UserError(
            f'{reader.where}: tensor {root}time_mlp_in.weight belongs to pi0.5, which is not '
            'supported; expected pi0'
        )


def _no_step() -> NoReturn:
    raise UserError(
        'pi0: the time between actions is not in the checkpoint; give it with --step-s'
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
    text = _gemma(reader, f'{inner}{_LANGUAGE}', heads)
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
        'dit_config': _gemma(reader, f'{inner}gemma_expert.model.', heads)
        | {'vocab_size': vocabulary},
        'chunk_size': horizon,
        'max_state_dim': state,
        'max_action_dim': actions,
        'min_period': _period(path, data, 'min_period', 4e-3),
        'max_period': _period(path, data, 'max_period', 4.0),
    }


def _period(path, data, key, default):
    value = data.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e6:
        raise UserError(f'{path}: {key} is {value!r:.60}, expected a number above 0')
    return float(value)


def _gemma(reader, prefix, heads):
    layer = f'{prefix}layers.0.'
    inner, width = reader.shape(f'{layer}mlp.gate_proj.weight')
    rows = {n: reader.shape(f'{layer}self_attn.{n}_proj.weight')[0] for n in ('q', 'k')}
    count, key_heads, head = _heads(f'{reader.where}: {layer}self_attn', rows, heads)
    return {
        'model_type': 'gemma',
        'hidden_size': width,
        'intermediate_size': inner,
        'num_hidden_layers': _depth(reader, f'{prefix}layers.'),
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


def _depth(reader, prefix):
    return len(
        {
            name.removeprefix(prefix).split('.')[0]
            for name in reader.names()
            if name.startswith(prefix)
        }
    )


def _names(
    part: str, columns: int, names: tuple[str, ...], units: tuple[str, ...]
) -> dict[str, Any]:
    names = names or tuple(f'{part}.{i}' for i in range(columns))
    units = units or ('1',) * columns
    for what, given in (('names', names), ('units', units)):
        if len(given) != columns:
            raise UserError(
                f'pi0: {len(given)} {part} {what} given, but the statistics have {columns} columns'
            )
    return {f'{part}_names': names, f'{part}_units': units}

"""OpenVLA and CogACT checkpoints as their authors released them."""

from pathlib import Path

from sqap_vla_ros.errors import UserError
from sqap_vla_ros.files import read_json
from sqap_vla_ros.models.config import (
    ActionHeadConfig,
    CogActConfig,
    CONFIG_FILE,
    OpenVlaConfig,
    VisionConfig,
)
from sqap_vla_ros.models.importers.checkpoint_reader import (
    CheckpointReader,
    SafetensorsReader,
    TorchReader,
)
from sqap_vla_ros.models.importers.prismatic_keys import (
    ATTENTION_HEADS,
    check_sources,
    dinov2_sources,
    llama_sources,
    projector_sources,
    read_tower,
    siglip_sources,
    Source,
)
from sqap_vla_ros.models.importers.released import choose_dataset, ImportOptions, Released
from sqap_vla_ros.models.preprocessing.statistics import STATISTICS_FILE

VISION_BACKBONE = 'dinosiglip-vit-so-224px'
BASE_MODELS = (
    'prism-dinosiglip-224px+7b',
    'prism-dinosiglip-224px-controlled+7b',
    'dinosiglip-224px-resize-naive+7b',
)
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
IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
HALVES = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
DIT_HEADS = {384: 4, 768: 12, 1024: 16}
"""Attention heads by width: DiT-S, DiT-B and DiT-L."""
LLAMA_2 = {
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
LLAMA_2_HEAD_WIDTH = 128
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


def open_openvla(folder: Path, options: ImportOptions) -> Released:
    """Open an OpenVLA folder. Raises UserError that names the file and the key."""
    path = folder / CONFIG_FILE
    data = read_json(path)
    _require(path, data, 'vision_backbone_id', VISION_BACKBONE)
    _require(path, data, 'image_resize_strategy', 'resize-naive')
    statistics, where = data.get('norm_stats') or {}, path
    if (folder / STATISTICS_FILE).is_file():  # what fine-tuning leaves, and what then counts
        where = folder / STATISTICS_FILE
        statistics = read_json(where)
    dataset = choose_dataset(statistics, options.dataset, where)
    reader = SafetensorsReader(folder)
    prefixes = 'vision_backbone.featurizer.', 'vision_backbone.fused_featurizer.'
    vision, towers = _vision(reader, prefixes, _normalisation(folder))
    # transformers' LlamaConfig of the release has eps 1e-6, unlike Llama 2's own configuration.
    llama = _llama(path, data.get('text_config') or {}, {'rms_norm_eps': 1e-6})
    sources = {
        **_tower_sources(towers, prefixes, 'scale_factor'),
        **projector_sources(['projector.fc1', 'projector.fc2', 'projector.fc3']),
        **llama_sources(reader, 'language_model.model.', 'decoder.llama.'),
        'lm_head.weight': Source('language_model.lm_head.weight'),
    }
    check_sources(reader, sources, (*UNUSED, *_last_blocks(prefixes, towers)))
    padding = data.get('pad_to_multiple_of', 64)
    config = OpenVlaConfig(
        vision=vision,
        llama=llama,
        image_size=towers[0].image,
        crop_area=options.crop_area,
        action_bins=data.get('n_action_bins', 256),
        token_end=llama['vocab_size'] - padding,
        dataset=dataset,
        cameras=options.cameras or ('camera',),
        **_actions(statistics[dataset], dataset, options, where),
    )
    return Released(
        'OpenVLA',
        config,
        {dataset: statistics[dataset]},
        reader,
        sources,
        options.tokenizer or folder,
    )


def open_cogact(folder: Path, options: ImportOptions) -> Released:
    """Open a CogACT folder. Raises UserError that names the file and the key."""
    path = folder / CONFIG_FILE
    settings = read_json(path).get('vla')
    base = settings.get('base_vlm') if isinstance(settings, dict) else None
    if base not in BASE_MODELS:
        raise UserError(
            f'{path}: vla.base_vlm is {base!r}, expected one of {", ".join(BASE_MODELS)}'
        )
    statistics = read_json(folder / STATISTICS_FILE)
    dataset = choose_dataset(statistics, options.dataset, folder / STATISTICS_FILE)
    files = sorted((folder / 'checkpoints').glob('*.pt'))
    if len(files) != 1:
        raise UserError(f'{folder / "checkpoints"}: {len(files)} files *.pt, expected one')
    reader = TorchReader(files[0])
    prefixes = 'vision_backbone.dino_featurizer.', 'vision_backbone.siglip_featurizer.'
    vision, towers = _vision(reader, prefixes, (IMAGENET, HALVES))
    sources = {
        **_tower_sources(towers, prefixes, 'gamma'),
        **projector_sources([f'projector.projector.{i}' for i in (0, 2, 4)]),
        **llama_sources(reader, 'llm_backbone.llm.model.', 'decoder.llama.'),
        **{
            f'action_head.{name.removeprefix("action_model.")}': Source(name)
            for name in sorted(reader.names())
            if name.startswith('action_model.net.') and 'history_embedder' not in name
        },
    }
    check_sources(
        reader,
        sources,
        (
            *UNUSED,
            *_last_blocks(prefixes, towers),
            r'^ema_diffusion\.',
            r'history_embedder\.',
            r'lm_head\.weight$',
        ),
    )
    actions = _actions(statistics[dataset], dataset, options, folder / STATISTICS_FILE)
    config = CogActConfig(
        vision=vision,
        llama=_llama(path, _llama_shapes(reader), {}),
        action_head=_action_head(reader),
        image_size=towers[0].image,
        projector='fused-gelu-mlp',
        text='prismatic',
        dataset=dataset,
        binary_actions=('gripper',),
        horizon=reader.shape('action_model.net.positional_embedding')[0] - 1,
        cameras=options.cameras or ('camera',),
        **actions,
    )
    if not options.tokenizer and not (folder / 'tokenizer.json').is_file():
        raise UserError(
            f'{folder}: CogACT is released without a tokenizer; give the folder of '
            "Llama 2's tokenizer.json (OpenVLA's is the same) with --tokenizer"
        )
    return Released(
        'CogACT',
        config,
        {dataset: statistics[dataset]},
        reader,
        sources,
        options.tokenizer or folder,
    )


def _require(path, data, field, expected) -> None:
    if data.get(field) != expected:
        raise UserError(f'{path}: {field} is {data.get(field)!r}, expected {expected!r}')


def _normalisation(folder):
    """Mean and deviation of each tower, as the checkpoint's image processor has them."""
    path = folder / 'preprocessor_config.json'
    if not path.is_file():
        return IMAGENET, HALVES
    data = read_json(path)
    try:
        (mean, fused_mean), (std, fused_std) = data['means'], data['stds']
        return (tuple(mean), tuple(std)), (tuple(fused_mean), tuple(fused_std))
    except (KeyError, TypeError, ValueError):
        raise UserError(f'{path}: means and stds are not those of two vision towers') from None


def _vision(reader: CheckpointReader, prefixes, normalisation):
    towers = [read_tower(reader, prefix) for prefix in prefixes]
    vision = []
    for kind, tower, (mean, std) in zip(('dinov2', 'siglip'), towers, normalisation):
        model = {
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


def _tower_sources(towers, prefixes, scale):
    return {
        **dinov2_sources(towers[0], prefixes[0], 'vision.0.tower.', scale),
        **siglip_sources(towers[1], prefixes[1], 'vision.1.tower.'),
    }


def _last_blocks(prefixes, towers):
    """Patterns of each tower's last block: features are taken before it."""
    return [f'^{prefix}blocks\\.{tower.depth - 1}\\.' for prefix, tower in zip(prefixes, towers)]


def _llama(path, given, defaults):
    """Spell out LlamaConfig's arguments: a later transformers may have other defaults."""
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


def _llama_shapes(reader):
    """Sizes that CogACT's configuration leaves to the base model's name."""
    prefix = 'llm_backbone.llm.model.'
    vocabulary, width = reader.shape(f'{prefix}embed_tokens.weight')
    inner = reader.shape(f'{prefix}layers.0.mlp.gate_proj.weight')[0]
    layers = sum(
        name.startswith(f'{prefix}layers.') and name.endswith('input_layernorm.weight')
        for name in reader.names()
    )
    heads = max(width // LLAMA_2_HEAD_WIDTH, 1)
    return {
        'vocab_size': vocabulary,
        'hidden_size': width,
        'intermediate_size': inner,
        'num_hidden_layers': layers,
        'num_attention_heads': heads,
    }


def _action_head(reader):
    prefix = 'action_model.net.'
    width = reader.shape(f'{prefix}positional_embedding')[1]
    if width not in DIT_HEADS:
        raise UserError(
            f'{reader.where}: {prefix}positional_embedding is {width} wide, expected '
            f'{", ".join(map(str, DIT_HEADS))} (DiT-S, DiT-B, DiT-L)'
        )
    depth = sum(
        name.startswith(f'{prefix}blocks.') and name.endswith('attn.qkv.weight')
        for name in reader.names()
    )
    return ActionHeadConfig(hidden_size=width, depth=depth, heads=DIT_HEADS[width])


def _actions(statistics, dataset, options, where):
    """
    Names, units and factors of the seven columns.

    Both models give the end effector's displacement over one step and 1 for an open gripper; a
    chunk says velocities and 0 for open.
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

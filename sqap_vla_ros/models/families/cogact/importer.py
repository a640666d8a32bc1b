"""Import of CogACT checkpoints in the format of the official release."""

from pathlib import Path
from typing import Any

from sqap_vla_ros.errors import UserError
from sqap_vla_ros.input_files import read_json
from sqap_vla_ros.models.families.cogact.config import ActionHeadConfig, CogActConfig
from sqap_vla_ros.models.family import CONFIG_FILE
from sqap_vla_ros.models.importers.checkpoint_reader import CheckpointReader, TorchReader
from sqap_vla_ros.models.importers.fields import expect, section
from sqap_vla_ros.models.importers.prismatic import (
    action_columns,
    CONVENTION,
    HALVES,
    IMAGENET,
    llama_arguments,
    llama_vocabulary,
    PI0_OPTIONS,
    read_vision,
    tower_sources,
    unused_tensors,
)
from sqap_vla_ros.models.importers.prismatic_keys import (
    count_layers,
    llama_sources,
    projector_sources,
)
from sqap_vla_ros.models.importers.released import (
    choose_dataset,
    ImportOptions,
    refuse_unused,
    Released,
)
from sqap_vla_ros.models.importers.sources import check_sources, Source
from sqap_vla_ros.models.preprocessing.statistics import parse_statistics, STATISTICS_FILE

BASE_MODELS = (
    'prism-dinosiglip-224px+7b',
    'prism-dinosiglip-224px-controlled+7b',
    'dinosiglip-224px-resize-naive+7b',
)
DIT_HEADS = {384: 4, 768: 12, 1024: 16}
"""Number of attention heads by width, for DiT-S, DiT-B and DiT-L."""
LLAMA_2_HEAD_WIDTH = 128
UNUSED = (
    r'^ema_diffusion\.',
    r'^action_model\.net\.history_embedder\.linear\.(weight|bias)$',
    r'^llm_backbone\.llm\.lm_head\.weight$',
)
"""The moving average, off by default upstream; the history, which has no part; the words' head."""


def open_cogact(folder: Path, options: ImportOptions) -> Released:
    """
    Open a released CogACT folder without reading its weights yet.

    Raises:
        UserError: names the file and the key that is missing or belongs to another model.
    """
    refuse_unused(options, 'CogACT', (*PI0_OPTIONS, 'crop_area'))
    path = folder / CONFIG_FILE
    settings = section(path, read_json(path), 'vla')
    base = settings.get('base_vlm')
    if base not in BASE_MODELS:
        raise UserError(
            f'{path}: vla.base_vlm is {base!r}, expected one of {", ".join(BASE_MODELS)}'
        )
    statistics = read_json(folder / STATISTICS_FILE)
    dataset = choose_dataset(statistics, options.dataset, folder / STATISTICS_FILE)
    files = sorted((folder / 'checkpoints').glob('*.pt'))
    if len(files) != 1:
        raise UserError(f'{folder / "checkpoints"}: {len(files)} files *.pt, expected one')
    parse_statistics(statistics, dataset, 0, folder / STATISTICS_FILE)
    reader = TorchReader(files[0])
    if not any(name.startswith('action_model.') for name in reader.names()):
        raise UserError(
            f'{files[0]}: no action_model; where it is an OpenVLA of the Prismatic code, convert '
            "it with that code's vla-scripts/extern/convert_openvla_weights_to_hf.py"
        )
    prefixes = 'vision_backbone.dino_featurizer.', 'vision_backbone.siglip_featurizer.'
    vision, towers = read_vision(reader, prefixes, (IMAGENET, HALVES))
    llama = 'llm_backbone.llm.model.'
    sources = {
        **tower_sources(towers, prefixes, 'gamma'),
        **projector_sources([f'projector.projector.{i}' for i in (0, 2, 4)]),
        **llama_sources(reader, llama, 'decoder.llama.'),
        **{
            f'action_head.{name.removeprefix("action_model.")}': Source(name)
            for name in sorted(reader.names())
            if name.startswith('action_model.net.') and 'history_embedder' not in name
        },
    }
    check_sources(reader, sources, (*unused_tensors(prefixes, towers, llama), *UNUSED))
    arguments = llama_arguments(path, _llama_shapes(reader, llama), {}, reader, llama)
    horizon = reader.sizes('action_model.net.positional_embedding', 2)[0] - 1
    if settings.get('future_action_window_size', horizon - 1) != horizon - 1:
        raise UserError(
            f'{path}: vla.future_action_window_size is {settings["future_action_window_size"]!r}, '
            f'but the head has {horizon} rows, {horizon - 1} of them in the future'
        )
    expect(path, settings, 'past_action_window_size', 0)
    expect(path, settings, 'action_dim', len(CONVENTION.action_names))
    actions = action_columns(
        statistics[dataset], dataset, options, 'cogact', folder / STATISTICS_FILE
    )
    _check_grippers(folder / STATISTICS_FILE, actions)
    config = CogActConfig(
        vision=vision,
        llama=arguments,
        action_head=_action_head(reader),
        image_size=towers[0].image,
        projector='fused-gelu-mlp',
        text='prismatic',
        dataset=dataset,
        binary_actions=tuple(column.name for column in actions['action'] if column.is_gripper),
        horizon=horizon,
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
        llama_vocabulary(arguments['vocab_size']),
    )


def _check_grippers(path: Path, actions: dict[str, Any]) -> None:
    """Refuse a gripper that is not 0 or 1 in the data: the model's answer becomes one of them."""
    scales = actions['action_scale'] or (1.0,) * len(actions['action'])
    for column, scale in zip(actions['action'], scales):
        if column.is_gripper and {column.opened, column.closed} != {0.0, scale}:
            raise UserError(
                f'{path}: {column.name} is said to be {column.opened:g} (open) and '
                f'{column.closed:g} (closed), but CogACT answers 0 or {scale:g} and nothing '
                'between; say which of them is open with --columns FILE.yaml'
            )


def _llama_shapes(reader: CheckpointReader, prefix: str) -> dict[str, Any]:
    """Read the sizes that CogACT's configuration gives only by the name of its base model."""
    vocabulary, width = reader.sizes(f'{prefix}embed_tokens.weight', 2)
    return {
        'vocab_size': vocabulary,
        'hidden_size': width,
        'intermediate_size': reader.sizes(f'{prefix}layers.0.mlp.gate_proj.weight', 2)[0],
        'num_hidden_layers': count_layers(reader, f'{prefix}layers.'),
        'num_attention_heads': max(width // LLAMA_2_HEAD_WIDTH, 1),
    }


def _action_head(reader: CheckpointReader) -> ActionHeadConfig:
    prefix = 'action_model.net.'
    width = reader.sizes(f'{prefix}positional_embedding', 2)[1]
    if width not in DIT_HEADS:
        raise UserError(
            f'{reader.where}: {prefix}positional_embedding is {width} wide, expected '
            f'{", ".join(map(str, DIT_HEADS))} (DiT-S, DiT-B, DiT-L)'
        )
    depth = count_layers(reader, f'{prefix}blocks.')
    return ActionHeadConfig(hidden_size=width, depth=depth, heads=DIT_HEADS[width])

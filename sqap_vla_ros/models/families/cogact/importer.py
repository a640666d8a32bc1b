"""Import of CogACT checkpoints in the format of the official release."""

from pathlib import Path
from typing import Any

from sqap_vla_ros.errors import UserError
from sqap_vla_ros.files import read_json
from sqap_vla_ros.models.families.cogact.config import ActionHeadConfig, CogActConfig
from sqap_vla_ros.models.family import CONFIG_FILE
from sqap_vla_ros.models.importers.checkpoint_reader import CheckpointReader, TorchReader
from sqap_vla_ros.models.importers.prismatic import (
    action_columns,
    HALVES,
    IMAGENET,
    last_blocks,
    llama_arguments,
    read_vision,
    tower_sources,
    UNUSED,
)
from sqap_vla_ros.models.importers.prismatic_keys import llama_sources, projector_sources
from sqap_vla_ros.models.importers.released import choose_dataset, ImportOptions, Released
from sqap_vla_ros.models.importers.sources import check_sources, Source
from sqap_vla_ros.models.preprocessing.statistics import STATISTICS_FILE

BASE_MODELS = (
    'prism-dinosiglip-224px+7b',
    'prism-dinosiglip-224px-controlled+7b',
    'dinosiglip-224px-resize-naive+7b',
)
DIT_HEADS = {384: 4, 768: 12, 1024: 16}
"""Number of attention heads by width, for DiT-S, DiT-B and DiT-L."""
LLAMA_2_HEAD_WIDTH = 128


def open_cogact(folder: Path, options: ImportOptions) -> Released:
    """
    Open a released CogACT folder without reading its weights yet.

    Raises:
        UserError: names the file and the key that is missing or belongs to another model.
    """
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
    vision, towers = read_vision(reader, prefixes, (IMAGENET, HALVES))
    sources = {
        **tower_sources(towers, prefixes, 'gamma'),
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
            *last_blocks(prefixes, towers),
            r'^ema_diffusion\.',
            r'history_embedder\.',
            r'lm_head\.weight$',
        ),
    )
    actions = action_columns(
        statistics[dataset], dataset, options, 'cogact', folder / STATISTICS_FILE
    )
    config = CogActConfig(
        vision=vision,
        llama=llama_arguments(path, _llama_shapes(reader), {}),
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


def _llama_shapes(reader: CheckpointReader) -> dict[str, Any]:
    """Read the sizes that CogACT's configuration gives only by the name of its base model."""
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


def _action_head(reader: CheckpointReader) -> ActionHeadConfig:
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

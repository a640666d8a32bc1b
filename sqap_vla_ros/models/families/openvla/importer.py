"""Import of OpenVLA checkpoints in the format of the official release."""

from pathlib import Path
from typing import Any

from sqap_vla_ros.errors import UserError
from sqap_vla_ros.files import read_json
from sqap_vla_ros.models.families.openvla.config import OpenVlaConfig
from sqap_vla_ros.models.family import CONFIG_FILE
from sqap_vla_ros.models.importers.checkpoint_reader import SafetensorsReader
from sqap_vla_ros.models.importers.datasets import dataset_of_key, find_dataset
from sqap_vla_ros.models.importers.prismatic import (
    action_columns,
    HALVES,
    IMAGENET,
    last_blocks,
    llama_arguments,
    Normalisation,
    read_vision,
    tower_sources,
    UNUSED,
)
from sqap_vla_ros.models.importers.prismatic_keys import llama_sources, projector_sources
from sqap_vla_ros.models.importers.released import choose_dataset, ImportOptions, Released
from sqap_vla_ros.models.importers.sources import check_sources, Source
from sqap_vla_ros.models.preprocessing.statistics import STATISTICS_FILE

VISION_BACKBONE = 'dinosiglip-vit-so-224px'


def open_openvla(folder: Path, options: ImportOptions) -> Released:
    """
    Open a released OpenVLA folder without reading its weights yet.

    Raises:
        UserError: names the file and the key that is missing or belongs to another model.
    """
    path = folder / CONFIG_FILE
    data = read_json(path)
    _require(path, data, 'vision_backbone_id', VISION_BACKBONE)
    _require(path, data, 'image_resize_strategy', 'resize-naive')
    statistics, where = data.get('norm_stats') or {}, path
    if (
        folder / STATISTICS_FILE
    ).is_file():  # fine-tuning writes this file, which then takes precedence
        where = folder / STATISTICS_FILE
        statistics = read_json(where)
    dataset = choose_dataset(statistics, options.dataset, where)
    reader = SafetensorsReader(folder)
    prefixes = 'vision_backbone.featurizer.', 'vision_backbone.fused_featurizer.'
    vision, towers = read_vision(reader, prefixes, _normalisation(folder))
    # transformers' LlamaConfig of the release has eps 1e-6, unlike Llama 2's own configuration.
    llama = llama_arguments(path, data.get('text_config') or {}, {'rms_norm_eps': 1e-6})
    sources = {
        **tower_sources(towers, prefixes, 'scale_factor'),
        **projector_sources(['projector.fc1', 'projector.fc2', 'projector.fc3']),
        **llama_sources(reader, 'language_model.model.', 'decoder.llama.'),
        'lm_head.weight': Source('language_model.lm_head.weight'),
    }
    check_sources(reader, sources, (*UNUSED, *last_blocks(prefixes, towers)))
    padding = data.get('pad_to_multiple_of', 64)
    config = OpenVlaConfig(
        vision=vision,
        llama=llama,
        image_size=towers[0].image,
        crop_area=_crop_area(dataset, options),
        action_bins=data.get('n_action_bins', 256),
        token_end=llama['vocab_size'] - padding,
        dataset=dataset,
        cameras=options.cameras or ('camera',),
        **action_columns(statistics[dataset], dataset, options, 'openvla', where),
    )
    return Released(
        'OpenVLA',
        config,
        {dataset: statistics[dataset]},
        reader,
        sources,
        options.tokenizer or folder,
    )


def _crop_area(dataset: str, options: ImportOptions) -> float:
    """Return the share of the image that is used: the user's, the known dataset's, or all."""
    if options.crop_area is not None:
        return options.crop_area
    known = (
        find_dataset(options.columns) if options.columns else dataset_of_key(dataset, 'openvla')
    )
    return (known and known.crop_area) or 1.0


def _require(path: Path, data: dict[str, Any], field: str, expected: str) -> None:
    if data.get(field) != expected:
        raise UserError(f'{path}: {field} is {data.get(field)!r}, expected {expected!r}')


def _normalisation(folder: Path) -> tuple[Normalisation, Normalisation]:
    """Read mean and deviation of each tower from the checkpoint's image processor."""
    path = folder / 'preprocessor_config.json'
    if not path.is_file():
        return IMAGENET, HALVES
    data = read_json(path)
    try:
        (mean, fused_mean), (std, fused_std) = data['means'], data['stds']
        return (tuple(mean), tuple(std)), (tuple(fused_mean), tuple(fused_std))
    except (KeyError, TypeError, ValueError):
        raise UserError(f'{path}: means and stds are not those of two vision towers') from None

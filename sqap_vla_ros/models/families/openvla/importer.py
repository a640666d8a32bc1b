"""Import of OpenVLA checkpoints in the format of the official release."""

import math
from pathlib import Path

from sqap_vla_ros.errors import UserError
from sqap_vla_ros.input_files import read_json
from sqap_vla_ros.models.families.openvla.config import OpenVlaConfig
from sqap_vla_ros.models.family import CONFIG_FILE
from sqap_vla_ros.models.importers.checkpoint_reader import SafetensorsReader
from sqap_vla_ros.models.importers.datasets import dataset_for
from sqap_vla_ros.models.importers.fields import expect, is_number, section, whole_number
from sqap_vla_ros.models.importers.prismatic import (
    action_columns,
    llama_arguments,
    llama_vocabulary,
    Normalisation,
    PI0_OPTIONS,
    read_vision,
    tower_sources,
    unused_tensors,
)
from sqap_vla_ros.models.importers.prismatic_keys import llama_sources, projector_sources
from sqap_vla_ros.models.importers.released import (
    choose_dataset,
    ImportOptions,
    refuse_unused,
    Released,
)
from sqap_vla_ros.models.importers.sources import check_sources, Source
from sqap_vla_ros.models.preprocessing.statistics import parse_statistics, STATISTICS_FILE

PREPROCESSOR_FILE = 'preprocessor_config.json'
_EXPECTED: dict[str, tuple[object, ...]] = {
    'vision_backbone_id': ('dinosiglip-vit-so-224px',),
    'image_resize_strategy': ('resize-naive',),
    'use_fused_vision_backbone': (True,),
    'arch_specifier': ('no-align+fused-gelu-mlp', 'fused-gelu-mlp'),
    'timm_override_act_layers': ([None, None],),
    'image_sizes': ([224, 224],),
}
"""Fields of `config.json` that decide on the model, and what this package implements."""
_EXPECTED_OF_IMAGES: dict[str, tuple[object, ...]] = {
    'image_resize_strategy': ('resize-naive',),
    'interpolations': (['bicubic', 'bicubic'],),
    'tvf_do_letterbox': (False,),
    'use_fused_vision_backbone': (True,),
    'image_processor_type': ('PrismaticImageProcessor',),
}
"""The same for `preprocessor_config.json`."""
_BICUBIC = 3
"""Pillow's and torchvision's number of the filter."""


def open_openvla(folder: Path, options: ImportOptions) -> Released:
    """
    Open a released OpenVLA folder without reading its weights yet.

    Raises:
        UserError: names the file and the key that is missing or belongs to another model.
    """
    refuse_unused(options, 'OpenVLA', PI0_OPTIONS)
    path = folder / CONFIG_FILE
    data = read_json(path)
    stated = {'vision_backbone_id': None, 'image_resize_strategy': None, **data}
    for field, allowed in _EXPECTED.items():
        expect(path, stated, field, *allowed)
    statistics, where = section(path, data, 'norm_stats'), path
    # Fine-tuning writes this file, which then takes precedence.
    if (folder / STATISTICS_FILE).exists():
        where = folder / STATISTICS_FILE
        statistics = read_json(where)
    dataset = choose_dataset(statistics, options.dataset, where)
    parse_statistics(statistics, dataset, 0, where)
    reader = SafetensorsReader(folder)
    prefixes = 'vision_backbone.featurizer.', 'vision_backbone.fused_featurizer.'
    normalisation = _normalisation(folder)
    vision, towers = read_vision(reader, prefixes, normalisation)
    _check_transforms(folder / PREPROCESSOR_FILE, normalisation, towers[0].image)
    # transformers' LlamaConfig of the release has eps 1e-6, unlike Llama 2's own configuration.
    text = section(path, data, 'text_config')
    llama = llama_arguments(path, text, {'rms_norm_eps': 1e-6}, reader, 'language_model.model.')
    sources = {
        **tower_sources(towers, prefixes, 'scale_factor'),
        **projector_sources(['projector.fc1', 'projector.fc2', 'projector.fc3']),
        **llama_sources(reader, 'language_model.model.', 'decoder.llama.'),
        'lm_head.weight': Source('language_model.lm_head.weight'),
    }
    check_sources(reader, sources, unused_tensors(prefixes, towers, 'language_model.model.'))
    size = llama['vocab_size']
    padding = whole_number(path, data, 'pad_to_multiple_of', 64, 0, size - 1)
    config = OpenVlaConfig(
        vision=vision,
        llama=llama,
        image_size=towers[0].image,
        crop_area=_crop_area(dataset, options),
        action_bins=whole_number(path, data, 'n_action_bins', 256, 2, size - padding),
        token_end=size - padding,
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
        llama_vocabulary(size),
    )


def _crop_area(dataset: str, options: ImportOptions) -> float:
    """Return the share of the image that is used: the user's, the known dataset's, or all."""
    if options.crop_area is not None:
        return options.crop_area
    known = dataset_for(options.columns, dataset, 'openvla')
    return (known and known.crop_area) or 1.0


def _normalisation(folder: Path) -> tuple[Normalisation, Normalisation]:
    """Read mean and deviation of each tower from the checkpoint's image processor."""
    path = folder / PREPROCESSOR_FILE
    if not path.is_file():
        raise UserError(
            f'{path}: no such file; it says how images are normalised: copy that of the base '
            'model (openvla-7b) there'
        )
    data = read_json(path)
    for field, allowed in _EXPECTED_OF_IMAGES.items():
        expect(path, data, field, *allowed)
    towers = []
    for index in range(2):
        try:
            mean, std = (
                [float(value) if is_number(value) else math.nan for value in data[key][index]]
                for key in ('means', 'stds')
            )
        except (KeyError, TypeError, IndexError):
            mean, std = [], []
        if (
            len(mean) != 3
            or len(std) != 3
            or not all(map(math.isfinite, mean))
            or not all(value > 0 for value in std)
            or len(data['means']) != 2
        ):
            raise UserError(
                f'{path}: means and stds are not three numbers for each of two vision towers'
            )
        towers.append(((mean[0], mean[1], mean[2]), (std[0], std[1], std[2])))
    return towers[0], towers[1]


def _check_transforms(
    path: Path, normalisation: tuple[Normalisation, Normalisation], size: int
) -> None:
    """
    Check what the image processor repeats, once a tower.

    The authors' code runs `tvf_*`, and not `means`, `stds` and `input_sizes`, where a file has
    both.

    Raises:
        UserError: names the field that says something else.
    """
    expected: dict[str, list[dict[str, object]]] = {
        'tvf_resize_params': [{'size': [size, size], 'interpolation': _BICUBIC, 'max_size': None}],
        'tvf_crop_params': [{'output_size': [size, size]}],
        'tvf_normalize_params': [
            {'mean': list(mean), 'std': list(std)} for mean, std in normalisation
        ],
    }
    data = read_json(path)
    expect(path, data, 'input_sizes', [[3, size, size]] * 2)
    for field, towers in expected.items():
        given = data.get(field, [{}, {}])
        if (
            not isinstance(given, list)
            or len(given) != 2
            or not all(isinstance(entry, dict) for entry in given)
        ):
            raise UserError(f'{path}: {field} is {given!r:.60}, expected an object for each tower')
        for index, entry in enumerate(given):
            for key, value in towers[index % len(towers)].items():
                if not _alike(entry.get(key, value), value):
                    raise UserError(
                        f'{path}: {field}[{index}].{key} is {entry[key]!r:.60}, expected {value}, '
                        'as the weights and the other fields of the file say'
                    )


def _alike(found: object, expected: object) -> bool:
    """Whether two values of a configuration are equal; lists of numbers but for their rounding."""
    if isinstance(found, list) and isinstance(expected, list):
        return len(found) == len(expected) and all(map(_alike, found, expected))
    if is_number(found) and is_number(expected):
        return math.isclose(found, expected, rel_tol=1e-6)  # type: ignore[arg-type]
    return found == expected

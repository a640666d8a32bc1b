"""
The two formats of pi0 checkpoints beside their weights, which are named alike.

lerobot's folder has `policy_preprocessor.json` and `policy_postprocessor.json`, openpi's has
`assets/DATASET/norm_stats.json`. They also differ in how images, text and numbers are prepared.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
import re
from typing import Any

from sqap_vla_ros.errors import UserError
from sqap_vla_ros.input_files import read_json
from sqap_vla_ros.models.families.pi0.cameras import choose_cameras, stored_cameras
from sqap_vla_ros.models.family import CONFIG_FILE
from sqap_vla_ros.models.importers.datasets import dataset_for
from sqap_vla_ros.models.importers.fields import expect, section, whole_number
from sqap_vla_ros.models.importers.lerobot_pipeline import (
    ACTION,
    POSTPROCESSOR_FILE,
    PREPROCESSOR_FILE,
    read_pipelines,
)
from sqap_vla_ros.models.importers.released import choose_dataset, ImportOptions
from sqap_vla_ros.models.layers.arguments import LARGEST_ROWS, LARGEST_STEPS, LARGEST_TOKENS
from sqap_vla_ros.models.preprocessing.normalisation import (
    LEROBOT,
    make_normalisation,
    Normalisation,
    OPENPI,
)

OPENPI_CAMERAS = 'base_0_rgb', 'left_wrist_0_rgb', 'right_wrist_0_rgb'
OPENPI_EPSILON = 1e-6
STEPS = 10
"""Euler steps of the flow, in both libraries, where a configuration does not say."""
TRAIN_FILE = 'train_config.json'
_LEROBOT_INERT: dict[str, tuple[object, ...]] = {
    'n_obs_steps': (1,),
    'adapt_to_pi_aloha': (False,),
    'use_delta_joint_actions_aloha': (False,),
    'use_peft': (False, None),
}
"""Fields of lerobot's configuration that change what goes in or comes out, and the values that do
not."""


@dataclass(frozen=True)
class Format:
    """What a folder says, beside the weights."""

    library: str
    """'openpi' or 'lerobot'."""
    dataset: str
    state: Normalisation
    action: Normalisation
    cameras: tuple[str, ...]
    """In the order of training."""
    horizon: int
    flow_steps: int
    text_length: int
    relative: tuple[bool, ...] | None
    """Which actions are offsets from the state; None: the folder does not say."""
    bfloat16: bool
    """Whether the library holds the model in bfloat16."""
    action_names: tuple[str, ...] = ()
    """Of the training data; empty: the folder does not say."""
    bars: float = -1.0
    image_size: tuple[int, int] | None = None
    """Rows and columns that images are letterboxed to; None: those of the vision tower."""


def read_format(folder: Path, data: dict[str, Any], options: ImportOptions) -> Format:
    """
    Recognise the format of a pi0 folder and read it.

    Args:
        folder: of the checkpoint.
        data: its `config.json`.
        options: what the user gave.

    Raises:
        UserError: names the file and the key that is missing, wrong or contradicted.
    """
    lerobot = [f for f in (PREPROCESSOR_FILE, POSTPROCESSOR_FILE) if (folder / f).is_file()]
    assets = sorted(folder.glob('assets/**/norm_stats.json'))
    if lerobot and assets:
        raise UserError(
            f'{folder}: has {lerobot[0]}, as lerobot writes, and {assets[0].relative_to(folder)}, '
            'as openpi does; the two prepare images and numbers differently: remove the one that '
            'the policy was not trained with'
        )
    if lerobot:
        return _read_lerobot(folder, data, options)
    if assets:
        return _read_openpi(folder, data, assets, options)
    raise UserError(
        f'{folder}: no {PREPROCESSOR_FILE} (lerobot) and no assets/DATASET/norm_stats.json '
        '(openpi); pi0 needs the statistics of state and action'
    )


def _read_lerobot(folder: Path, data: dict[str, Any], options: ImportOptions) -> Format:
    path = folder / CONFIG_FILE
    if 'action_horizon' in data:
        raise UserError(
            f"{path}: action_horizon is openpi's, but {PREPROCESSOR_FILE} is lerobot's; expected "
            "lerobot's configuration (chunk_size, input_features) beside it"
        )
    for field, allowed in _LEROBOT_INERT.items():
        expect(path, data, field, *allowed)
    shape = section(path, section(path, data, 'output_features'), ACTION).get('shape')
    actions = shape[0] if isinstance(shape, list) and len(shape) == 1 else None
    pipelines = read_pipelines(folder, data, actions, options.dataset)
    # The second is its name before lerobot 0.4.
    for field in ('image_resolution', 'resize_imgs_with_padding'):
        resolution = data.get(field)
        if resolution is not None:
            break
    if resolution is not None and not _is_size(resolution):
        raise UserError(f'{path}: {field} is {resolution!r:.60}, expected two numbers')
    stored = stored_cameras(path, data, pipelines.sources)
    return Format(
        library=LEROBOT,
        dataset=pipelines.dataset or options.dataset or _trained_on(folder) or LEROBOT,
        state=pipelines.state,
        action=pipelines.action,
        cameras=choose_cameras(path, stored, options.cameras),
        horizon=whole_number(path, data, 'chunk_size', 50, 1, LARGEST_ROWS),
        flow_steps=whole_number(path, data, 'num_inference_steps', STEPS, 1, LARGEST_STEPS),
        text_length=pipelines.text_length,
        relative=pipelines.relative,
        bfloat16=_is_bfloat16(path, data, 'dtype'),
        action_names=pipelines.action_names,
        bars=-1.0 if options.letterbox_bars is None else options.letterbox_bars,
        image_size=None if resolution is None else (resolution[0], resolution[1]),
    )


def _read_openpi(
    folder: Path, data: dict[str, Any], files: list[Path], options: ImportOptions
) -> Format:
    path = folder / CONFIG_FILE
    if 'action_horizon' not in data:
        raise UserError(
            f"{path}: action_horizon is missing; expected openpi's own {CONFIG_FILE}, which its "
            'conversion to PyTorch writes: it has the number of rows of a chunk'
        )
    _refuse_lora(path, data)
    if options.letterbox_bars not in (None, -1.0):
        raise UserError(
            f"--letterbox-bars is {options.letterbox_bars:g}, but {folder} is in openpi's format, "
            'whose bars are -1; the option is for checkpoints of lerobot before 0.5.0'
        )
    statistics = {
        str(file.parent.relative_to(folder / 'assets')): (file, read_json(file)) for file in files
    }
    where: Path | str = folder / 'assets'
    dataset = choose_dataset({key: {} for key in statistics}, options.dataset, where)
    file, content = statistics[dataset]
    stored = content.get('norm_stats')
    if not isinstance(stored, dict):
        raise UserError(f'{file}: norm_stats is missing; expected statistics of state and actions')
    known = dataset_for(options.columns, dataset, 'pi0')
    described = (known.state, known.action) if known is not None else ((), ())
    parts = [
        _openpi_statistics(file, stored, key, len(names or columns))
        for key, names, columns in (
            ('state', options.state_names, described[0]),
            ('actions', options.action_names, described[1]),
        )
    ]
    if not options.cameras:
        raise UserError(
            f'{path}: openpi does not store which cameras a policy has; name them with --cameras, '
            f'in the order {", ".join(OPENPI_CAMERAS)}'
        )
    return Format(
        library=OPENPI,
        dataset=dataset,
        state=parts[0],
        action=parts[1],
        cameras=choose_cameras(path, OPENPI_CAMERAS, options.cameras),
        horizon=whole_number(path, data, 'action_horizon', 50, 1, LARGEST_ROWS),
        flow_steps=whole_number(path, data, 'num_inference_steps', STEPS, 1, LARGEST_STEPS),
        text_length=whole_number(path, data, 'max_token_len', 48, 1, LARGEST_TOKENS),
        relative=None,
        bfloat16=_is_bfloat16(path, data, 'precision'),
    )


def _openpi_statistics(
    file: Path, stored: Mapping[str, Any], key: str, described: int
) -> Normalisation:
    """
    Read mean and deviation; openpi pads them to the width of the model in some folders.

    described: number of columns that the user or a known dataset describes; 0: nobody does.
    """
    entry = stored.get(key)
    where = f'{file}: norm_stats: {key}'
    if not isinstance(entry, dict):
        raise UserError(f'{where} is missing; expected mean and std')
    whole_width = make_normalisation(where, entry, None, 'MEAN_STD', OPENPI, OPENPI_EPSILON)
    columns = described or whole_width.columns
    padding = {name: values[columns:] for name, values in whole_width.statistics.items()}
    if any(values.any() for values in padding.values()):
        raise UserError(
            f'{where}: {whole_width.columns} columns are in use, but {columns} are described'
        )
    cut = {name: values[:columns] for name, values in whole_width.statistics.items()}
    return make_normalisation(where, cut, columns, 'MEAN_STD', OPENPI, OPENPI_EPSILON)


def _refuse_lora(path: Path, data: Mapping[str, Any]) -> None:
    """Refuse openpi's LoRA variants: its conversion to PyTorch leaves their weights out."""
    for field in ('paligemma_variant', 'action_expert_variant'):
        if str(data.get(field, '')).endswith('_lora'):
            raise UserError(
                f"{path}: {field} is {data[field]!r:.60}: openpi's conversion to PyTorch leaves "
                'LoRA weights out without a word; merge them into the JAX weights, convert those, '
                f'and give {field} without _lora'
            )


def _is_bfloat16(path: Path, data: Mapping[str, Any], field: str) -> bool:
    kind = data.get(field, 'float32')
    if kind not in ('float32', 'bfloat16'):
        raise UserError(f"{path}: {field} is {kind!r:.60}, expected 'float32' or 'bfloat16'")
    return bool(kind == 'bfloat16')


def _is_size(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) == 2
        and all(isinstance(side, int) for side in value)
    )


def _trained_on(folder: Path) -> str | None:
    """Return the dataset that lerobot's training configuration names, if it is there."""
    path = folder / TRAIN_FILE
    if not path.is_file():
        return None
    dataset = read_json(path).get('dataset')
    name = dataset.get('repo_id') if isinstance(dataset, dict) else None
    return name if isinstance(name, str) and re.fullmatch(r'[\w.\-/]+', name) else None

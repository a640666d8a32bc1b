"""The statistics in the state files of lerobot's normalizer steps."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from sqap_vla_ros.errors import UserError
from sqap_vla_ros.input_files import open_safetensors

STATISTICS = ('mean', 'std', 'min', 'max', 'q01', 'q10', 'q90', 'q99')
_BUFFER = '.buffer'
"""Between the dataset and the feature in files that were converted from lerobot before 0.4."""


def read_state_file(
    folder: Path, where: str, name: Any
) -> tuple[Path | None, dict[str, torch.Tensor] | None]:
    """
    Read the state file of a step.

    Args:
        folder: of the checkpoint.
        where: file and step that name it, for messages.
        name: of the file, as the step has it.

    Returns:
        The path and the tensors; None and None where the step has no state.

    Raises:
        UserError: the name is no plain file name, or the file is missing or damaged.
    """
    if name is None:
        return None, None
    if not isinstance(name, str) or not name or Path(name).name != name or '\\' in name:
        raise UserError(
            f'{where}: state_file is {name!r:.80}, expected the name of a file in {folder}'
        )
    path = folder / name
    if not path.is_file():
        raise UserError(f'{where}: state_file {name} is missing in {folder}')
    with open_safetensors(path) as file:
        return path, {key: file.get_tensor(key) for key in file.keys()}


def dataset_names(tensors: Iterable[str]) -> list[str]:
    """List the datasets of statistics: 'so100' for 'so100.buffer.action.mean'."""
    found = set()
    for key in tensors:
        feature, _, statistic = key.rpartition('.')
        for name in ('observation.state', 'action'):
            if statistic in STATISTICS and feature.endswith(f'.{name}'):
                found.add(feature.removesuffix(f'.{name}').removesuffix(_BUFFER))
    return sorted(found)


def feature_statistics(
    path: Path | None,
    tensors: Mapping[str, torch.Tensor],
    feature: str,
    dataset: str | None,
    mode: str,
) -> dict[str, list[float]]:
    """
    Find the statistics of a feature.

    Args:
        path: of the file, for messages.
        tensors: what it holds.
        feature: 'observation.state' or 'action'.
        dataset: key to look under where they are stored under the names of datasets.
        mode: of normalisation; with 'IDENTITY' nothing is required.

    Returns:
        Statistic to its values, of the feature.

    Raises:
        UserError: there are none of this feature, or some of several datasets and none is chosen.
    """
    found = {
        statistic: tensors[key]
        for statistic in STATISTICS
        if (key := f'{feature}.{statistic}') in tensors
    }
    datasets = dataset_names(tensors)
    if not found and dataset in datasets:
        for prefix in (f'{dataset}{_BUFFER}', dataset):
            for statistic in STATISTICS:
                if (key := f'{prefix}.{feature}.{statistic}') in tensors:
                    found.setdefault(statistic, tensors[key])
    if not found and mode != 'IDENTITY':
        kept = ', '.join(sorted(tensors)[:3]) or 'nothing'
        if datasets:
            raise UserError(
                f'{path}: no {feature}.* but statistics of the datasets {", ".join(datasets)} '
                f'({kept}, ...), which lerobot does not use; choose one with --dataset'
            )
        raise UserError(
            f'{path}: statistics of {feature} are missing, which mode {mode} needs; it has {kept}'
        )
    return {name: _values(path, f'{feature}.{name}', tensor) for name, tensor in found.items()}


def _values(path: Path | None, key: str, tensor: torch.Tensor) -> list[float]:
    if tensor.ndim != 1 or tensor.is_complex() or tensor.dtype == torch.bool:
        raise UserError(
            f'{path}: {key} is {str(tensor.dtype).removeprefix("torch.")} '
            f'{tuple(tensor.shape)}, expected one number for each column'
        )
    values: list[float] = tensor.double().tolist()
    return values

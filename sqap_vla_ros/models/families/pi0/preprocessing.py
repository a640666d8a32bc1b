"""
Images, prompts and numbers as openpi prepares them for pi0.

Transformers' own PI0 processor differs (padding side, interpolation), so it is not used.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer
import torch
from torch.nn.functional import pad

from sqap_vla_ros.errors import UserError
from sqap_vla_ros.files import read_json
from sqap_vla_ros.models.preprocessing.images import resize_like_pillow
from sqap_vla_ros.models.preprocessing.prismatic_text import load_tokenizer
from sqap_vla_ros.models.preprocessing.statistics import STATISTICS_FILE
from sqap_vla_ros.token_geometry import fit_letterbox

EPSILON = 1e-6
"""openpi adds this to every standard deviation, both to normalise and to unnormalise."""


def letterbox(image: torch.Tensor, size: int) -> torch.Tensor:
    """
    Fit into size x size without distortion, centred on black, as openpi does.

    Resizes with Pillow's bilinear filter.

    Args:
        image: uint8 [H, W, 3], RGB.
        size: rows and columns of the result, pixels.

    Returns:
        uint8 [3, size, size], on the device of the image.
    """
    height, width = image.shape[:2]
    rows, columns, top, left = map(int, fit_letterbox(width, height, size))
    resized = resize_like_pillow(image, rows, columns, 'bilinear')
    return pad(resized, (left, size - columns - left, top, size - rows - top))


class Pi0Tokenizer:
    """Tokenizes a cleaned instruction between BOS and a newline, which ends the prompt."""

    def __init__(self, tokenizer: Tokenizer, length: int, where: Path | str = 'tokenizer') -> None:
        self._tokenizer, self._length = tokenizer, length
        bos, newline = tokenizer.token_to_id('<bos>'), tokenizer.token_to_id('\n')
        if bos is None or newline is None:
            raise UserError(
                f'{where}: has no <bos> or no newline token; expected the '
                'tokenizer.json of PaliGemma'
            )
        self._bos, self._newline = bos, newline

    def __len__(self) -> int:
        """Return the largest id plus one."""
        return 1 + max(self._tokenizer.get_vocab().values())

    def encode(self, instruction: str) -> list[int]:
        """Return at most `length` ids; a longer prompt is cut at its end, as in openpi."""
        cleaned = instruction.strip().replace('_', ' ').replace('\n', ' ')
        ids = self._tokenizer.encode(cleaned, add_special_tokens=False).ids
        return [self._bos, *ids, self._newline][: self._length]

    @classmethod
    def load(cls, directory: Path, length: int) -> 'Pi0Tokenizer':
        """
        Read `tokenizer.json` of a policy directory.

        Raises:
            UserError: names the file that is missing or damaged.
        """
        return cls(load_tokenizer(directory), length, directory)


@dataclass(frozen=True)
class Pi0Statistics:
    """Means and deviations of the columns that the robot has."""

    state_mean: np.ndarray
    state_std: np.ndarray
    action_mean: np.ndarray
    action_std: np.ndarray

    def action_range(self) -> tuple[np.ndarray, np.ndarray]:
        """Return mean minus and plus three deviations, float32 [A], in the dataset's units."""
        reach = 3 * self.action_std
        return self.action_mean - reach, self.action_mean + reach

    def normalise_state(self, state: np.ndarray, columns: int) -> np.ndarray:
        """Normalise a state [S] in the dataset's units to float32 [columns], padded with zeros."""
        padded = np.zeros(columns, np.float32)
        padded[: len(state)] = (state - self.state_mean) / (self.state_std + EPSILON)
        return padded

    def normalise_action(self, action: np.ndarray) -> np.ndarray:
        """Normalise actions [T, A] in the dataset's units; the inverse of `unnormalise_action`."""
        return ((action - self.action_mean) / (self.action_std + EPSILON)).astype(np.float32)

    def unnormalise_action(self, action: np.ndarray) -> np.ndarray:
        """Map actions [T, A or more columns] to the dataset's units, float32 [T, A]."""
        used = action[:, : len(self.action_mean)]
        return (used * (self.action_std + EPSILON) + self.action_mean).astype(np.float32)


def load_pi0_statistics(directory: Path, dataset: str, states: int, actions: int) -> Pi0Statistics:
    """
    Read `dataset_statistics.json`: `{dataset: {state: {mean, std}, action: {mean, std}}}`.

    Raises:
        UserError: names the file and the missing or wrong field.
    """
    path = Path(directory) / STATISTICS_FILE
    data = read_json(path)
    if dataset not in data:
        raise UserError(f'{path}: no dataset {dataset!r}; it has {", ".join(sorted(data))}')
    values = []
    for part, columns in (('state', states), ('action', actions)):
        for field in ('mean', 'std'):
            try:
                value = np.array(data[dataset][part][field], np.float32)
            except (KeyError, TypeError, ValueError):
                raise UserError(
                    f'{path}: {dataset}: {part}.{field} is missing or not numeric'
                ) from None
            if value.shape != (columns,) or not np.isfinite(value).all():
                raise UserError(
                    f'{path}: {dataset}: {part}.{field} has {value.size} values, '
                    f'expected {columns} finite ones'
                )
            values.append(value)
    return Pi0Statistics(*values)

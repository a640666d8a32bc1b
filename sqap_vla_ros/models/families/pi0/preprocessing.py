"""
Images, prompts and numbers as openpi and as lerobot prepare them for pi0.

The two differ. Transformers' own PI0 processor is a third way, which no checkpoint was trained
with, so it is not used.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer
import torch
from torch.nn.functional import interpolate, pad

from sqap_vla_ros.errors import shown, UserError
from sqap_vla_ros.input_files import names_of, read_json
from sqap_vla_ros.models.preprocessing.images import resize_like_pillow
from sqap_vla_ros.models.preprocessing.normalisation import (
    LEROBOT,
    Normalisation,
    read_normalisation,
)
from sqap_vla_ros.models.preprocessing.prismatic_text import check_tokenizer, quoted_end
from sqap_vla_ros.models.preprocessing.statistics import STATISTICS_FILE
from sqap_vla_ros.models.preprocessing.tokenizer_file import (
    encode,
    load_tokenizer,
    TOKENIZER_FILE,
)
from sqap_vla_ros.token_geometry import fit_letterbox

GEMMA_TOKENS = {'<bos>': 2, '\n': 108}
"""Ids of PaliGemma's tokenizer, which tell it from those of other models."""
GEMMA_SPELLS = 'Pick  up', 'Pick▁▁up'
"""A text, and its tokens joined, which tell PaliGemma's normalizer from others."""


def prepare_image(image: torch.Tensor, size: int, library: str, bars: float) -> torch.Tensor:
    """
    Letterbox as the training library does, and scale to [-1, 1].

    Args:
        image: uint8 [H, W, 3], RGB.
        size: rows and columns of the result, pixels.
        library: 'openpi' or 'lerobot'.
        bars: value of the bars, where an image is in [-1, 1].

    Returns:
        float32 [3, size, size], on the device of the image.
    """
    if library == LEROBOT:
        return lerobot_letterbox(image, size, bars)
    return letterbox(image, size).float() / 255 * 2 - 1


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


def lerobot_letterbox(image: torch.Tensor, size: int, bars: float = -1.0) -> torch.Tensor:
    """
    Fit into size x size without distortion, centred, as lerobot does.

    Bilinear without antialiasing, and not rounded to grey levels: another image than openpi's.

    Args:
        image: uint8 [H, W, 3], RGB.
        size: rows and columns of the result, pixels.
        bars: value of the bars; -3 in lerobot before 0.5.0.

    Returns:
        float32 [3, size, size] in [-1, 1] but for the bars, on the device of the image.
    """
    height, width = image.shape[:2]
    rows, columns, top, left = map(int, fit_letterbox(width, height, size))
    planes = image.permute(2, 0, 1)[None].float() / 255
    if (height, width) != (rows, columns):
        planes = interpolate(planes, (rows, columns), mode='bilinear', align_corners=False)
    scaled = planes[0].clamp(0, 1) * 2 - 1
    return pad(scaled, (left, size - columns - left, top, size - rows - top), value=bars)


class Pi0Tokenizer:
    """
    Tokenizes an instruction; the prompt begins with BOS and ends with a newline.

    openpi cleans the text and appends the newline's token. lerobot leaves the text as it is, and
    tokenizes it together with its newline.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        length: int,
        where: Path | str = 'tokenizer',
        library: str = 'openpi',
    ) -> None:
        self._tokenizer, self._length, self._library = tokenizer, length, library
        bos, newline = tokenizer.token_to_id('<bos>'), tokenizer.token_to_id('\n')
        if bos is None or newline is None:
            raise UserError(
                f'{where}: has no <bos> or no newline token; expected the '
                'tokenizer.json of PaliGemma'
            )
        self._bos, self._newline = bos, newline

    def __len__(self) -> int:
        """Return the largest id plus one."""
        return 1 + max(self._tokenizer.get_vocab().values(), default=-1)

    def encode(self, instruction: str) -> list[int]:
        """Return at most `length` ids; a longer prompt is cut at its end, as in the library."""
        return self._whole(instruction)[: self._length]

    def cut(self, instruction: str) -> str:
        """Say in one line that the end of a prompt is cut; empty: it is not."""
        ids = self._whole(instruction)
        if len(ids) <= self._length:
            return ''
        lost = ' '.join(self._tokenizer.decode(ids[self._length :]).replace('▁', ' ').split())
        return (
            f'instruction has {len(ids)} tokens, this policy reads {self._length}; cut, with the '
            f'newline that ends a prompt: {quoted_end(lost)}; shorten it'
        )

    def _whole(self, instruction: str) -> list[int]:
        if self._library == LEROBOT:
            text = instruction if instruction.endswith('\n') else f'{instruction}\n'
            return [self._bos, *self._ids(text)]
        cleaned = instruction.strip().replace('_', ' ').replace('\n', ' ')
        return [self._bos, *self._ids(cleaned), self._newline]

    def _ids(self, text: str) -> list[int]:
        return encode(self._tokenizer, text).ids

    @classmethod
    def load(cls, directory: Path, length: int, library: str = 'openpi') -> 'Pi0Tokenizer':
        """
        Read `tokenizer.json` of a policy directory.

        Raises:
            UserError: names the file that is missing, damaged or of another model.
        """
        tokenizer, path = load_tokenizer(directory), Path(directory) / TOKENIZER_FILE
        check_tokenizer(path, tokenizer, 'PaliGemma', GEMMA_TOKENS, GEMMA_SPELLS)
        return cls(tokenizer, length, directory, library)


@dataclass(frozen=True)
class Pi0Statistics:
    """How the columns that the robot has are normalised."""

    state: Normalisation
    action: Normalisation

    @property
    def state_mean(self) -> np.ndarray:
        """Mean state of the data, or the middle of its range, float32 [S], dataset's units."""
        return self.state.centre()

    def action_range(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the range of the data's actions, float32 [A]; of relative ones, the offsets'."""
        return self.action.range()

    def normalise_state(self, state: np.ndarray, columns: int) -> np.ndarray:
        """Normalise a state [S] in the dataset's units to float32 [columns], padded with zeros."""
        padded = np.zeros(columns, np.float32)
        padded[: len(state)] = self.state.normalise(state)
        return padded

    def normalise_action(self, action: np.ndarray) -> np.ndarray:
        """Normalise actions [T, A] in the dataset's units; the inverse of `unnormalise_action`."""
        # A column that never moved in the data is the same whatever the model says. Divided by
        # epsilon, the rounding of its value would become a large number.
        return np.where(self.action.constant(), 0, self.action.normalise(action))

    def unnormalise_action(self, action: np.ndarray) -> np.ndarray:
        """Map actions [T, A or more columns] to the dataset's units, float32 [T, A]."""
        return self.action.unnormalise(action[:, : self.action.columns])


def load_pi0_statistics(
    directory: Path, dataset: str, states: int, actions: int, library: str
) -> Pi0Statistics:
    """
    Read `dataset_statistics.json`: `{dataset: {state: {...}, action: {...}}}`.

    Each part is as `read_normalisation` takes it; library: 'openpi' or 'lerobot'.

    Raises:
        UserError: names the file and the missing or wrong field.
    """
    path = Path(directory) / STATISTICS_FILE
    data = read_json(path)
    if not isinstance(data.get(dataset), dict):
        raise UserError(f'{path}: no dataset {shown(dataset)}; it has {names_of(data)}')
    return Pi0Statistics(
        *(
            read_normalisation(
                f'{path}: {dataset}: {part}', data[dataset].get(part), columns, library
            )
            for part, columns in (('state', states), ('action', actions))
        )
    )

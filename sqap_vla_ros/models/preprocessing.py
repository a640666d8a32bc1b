"""Images and numbers between the robot's units and the model's."""
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image
import torch
from torch.nn.functional import grid_sample, interpolate

from sqap_vla_ros.errors import UserError
from sqap_vla_ros.models.config import read_json
from sqap_vla_ros.models.pillow_resize import pillow_resize

STATISTICS_FILE = 'dataset_statistics.json'


def resize_image(image: torch.Tensor, size: int) -> torch.Tensor:
    """
    Squash to size x size by antialiased bicubic interpolation, rounded to whole grey levels.

    image: uint8 [H, W, 3], RGB. Returns uint8 [3, size, size].
    """
    planes = image.permute(2, 0, 1)[None].float()
    if planes.shape[-2:] != (size, size):
        planes = interpolate(planes, (size, size), mode='bicubic', antialias=True,
                             align_corners=False)
    return planes[0].round().clamp(0, 255).to(torch.uint8)


def squash(image: torch.Tensor, size: int) -> torch.Tensor:
    """
    Squash to size x size, bicubic as Pillow does it, as the released models were trained.

    image: uint8 [H, W, 3], RGB. Returns uint8 [3, size, size] on the same device. Torch's
    interpolation differs from Pillow's by one grey level here and there.
    """
    return resize_like_pillow(image, size, size, 'bicubic')


def resize_like_pillow(image: torch.Tensor, rows: int, columns: int, kernel: str) -> torch.Tensor:
    """Pillow's own code on a CPU, `pillow_resize` elsewhere; arguments as there."""
    if image.device.type != 'cpu':
        return pillow_resize(image, rows, columns, kernel)
    if image.shape[:2] != (rows, columns):
        resized = Image.fromarray(image.numpy()).resize(
            (columns, rows), getattr(Image.Resampling, kernel.upper()))
        image = torch.from_numpy(np.array(resized))
    return image.permute(2, 0, 1).contiguous()


def centre_crop(image: torch.Tensor, area: float) -> torch.Tensor:
    """
    Cut out the centre and enlarge it to the old size by bilinear interpolation.

    image: uint8 [3, S, S]; area: share of the area that stays. Samples as TensorFlow's
    crop_and_resize, which OpenVLA's LIBERO evaluation uses: corners of crop and result coincide.
    """
    planes = grid_sample(image[None].float(), _crop_grid(image.shape[-1], area, image.device),
                         mode='bilinear', align_corners=True)
    return (planes[0] + 0.5).clamp(0, 255).to(torch.uint8)


@lru_cache(maxsize=4)
@torch.inference_mode(False)
def _crop_grid(size, area, device):
    """Where `centre_crop` samples, [1, size, size, 2]."""
    reach = area ** 0.5
    line = torch.linspace(-reach, reach, size)
    row, column = torch.meshgrid(line, line, indexing='ij')
    return torch.stack([column, row], -1)[None].to(device)


@dataclass(frozen=True)
class Statistics:
    """Per-column statistics of one dataset."""

    action_low: np.ndarray
    """float32 [A], 1st percentile: -1 of the normalised action."""
    action_high: np.ndarray
    """float32 [A], 99th percentile: +1 of the normalised action."""
    action_mask: np.ndarray
    """bool [A]; columns with False are not normalised."""
    state_mean: np.ndarray
    state_std: np.ndarray

    def normalise_action(self, action: np.ndarray) -> np.ndarray:
        """float32 [..., A], units to about [-1, 1]."""
        span = np.where(self.action_mask, self.action_high - self.action_low, 1)
        span = np.where(span > 0, span, 1)  # a column that never moved in the data
        scaled = 2 * (action - self.action_low) / span - 1
        return np.where(self.action_mask, scaled, action).astype(np.float32)

    def unnormalise_action(self, action: np.ndarray) -> np.ndarray:
        """float32 [..., A], [-1, 1] to units; clips to the range that the data had."""
        clipped = np.clip(action, -1, 1)
        scaled = (clipped + 1) / 2 * (self.action_high - self.action_low) + self.action_low
        return np.where(self.action_mask, scaled, clipped).astype(np.float32)

    def action_range(self) -> tuple[np.ndarray, np.ndarray]:
        """Low and high of the training data's actions, float32 [A], in the dataset's units."""
        ends = np.full_like(self.action_low, -1), np.ones_like(self.action_high)
        return tuple(self.unnormalise_action(end) for end in ends)

    def normalise_state(self, state: np.ndarray) -> np.ndarray:
        """float32 [..., S], units to zero mean and unit deviation."""
        return ((state - self.state_mean) / self.state_std).astype(np.float32)


def load_statistics(directory: Path, dataset: str, states: int) -> Statistics:
    """
    Read `dataset_statistics.json`: `{dataset: {action: {q01, q99, mask}, state: {mean, std}}}`.

    Raises UserError that names the file and the missing or wrong field.
    """
    path = Path(directory) / STATISTICS_FILE
    data = read_json(path)
    if dataset not in data:
        raise UserError(f'{path}: no dataset {dataset!r}; it has {", ".join(sorted(data))}')
    try:
        action = data[dataset]['action']
        low, high = (np.array(action[key], np.float32) for key in ('q01', 'q99'))
        mask = np.array(action.get('mask', [True] * len(low)), bool)
        state = data[dataset]['state'] if states else {'mean': [], 'std': []}
        mean, std = (np.array(state[key], np.float32) for key in ('mean', 'std'))
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f'{path}: {dataset}: field {error} is missing or not numeric') from None
    if not low.shape == high.shape == mask.shape or (mask & ~(high >= low)).any():
        raise UserError(f'{path}: {dataset}: action q01, q99 and mask disagree')
    if mean.shape != (states,) or std.shape != (states,) or not (std > 0).all():
        raise UserError(f'{path}: {dataset}: state mean and std must have {states} values, '
                        'std > 0')
    return Statistics(low, high, mask, mean, std)

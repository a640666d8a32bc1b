"""Convert camera images to the size and values that a vision encoder expects."""

from functools import lru_cache

import numpy as np
from PIL import Image
import torch
from torch.nn.functional import grid_sample, interpolate

from sqap_vla_ros.models.preprocessing.pillow_resize import pillow_resize


def resize_image(image: torch.Tensor, size: int) -> torch.Tensor:
    """
    Resize to size x size by antialiased bicubic interpolation, rounded to whole grey levels.

    Args:
        image: uint8 [H, W, 3], RGB.
        size: rows and columns of the result, pixels.

    Returns:
        uint8 [3, size, size], on the device of the image.
    """
    planes = image.permute(2, 0, 1)[None].float()
    if planes.shape[-2:] != (size, size):
        planes = interpolate(
            planes, (size, size), mode='bicubic', antialias=True, align_corners=False
        )
    return planes[0].round().clamp(0, 255).to(torch.uint8)


def squash(image: torch.Tensor, size: int) -> torch.Tensor:
    """
    Squash to size x size with Pillow's bicubic filter, as the released models were trained with.

    Torch's interpolation differs from Pillow's by one grey level in some pixels.

    Args:
        image: uint8 [H, W, 3], RGB.
        size: rows and columns of the result, pixels.

    Returns:
        uint8 [3, size, size], on the device of the image.
    """
    return resize_like_pillow(image, size, size, 'bicubic')


def resize_like_pillow(image: torch.Tensor, rows: int, columns: int, kernel: str) -> torch.Tensor:
    """Resize with Pillow itself on a CPU and with `pillow_resize` elsewhere; see there."""
    if image.device.type != 'cpu':
        return pillow_resize(image, rows, columns, kernel)
    if image.shape[:2] != (rows, columns):
        resized = Image.fromarray(image.numpy()).resize(
            (columns, rows), getattr(Image.Resampling, kernel.upper())
        )
        image = torch.from_numpy(np.array(resized))
    return image.permute(2, 0, 1).contiguous()


def centre_crop(image: torch.Tensor, area: float) -> torch.Tensor:
    """
    Cut out the centre and enlarge it to the original size by bilinear interpolation.

    Samples like TensorFlow's crop_and_resize, which OpenVLA's LIBERO evaluation uses: the corners
    of the crop and of the result coincide.

    Args:
        image: uint8 [3, S, S].
        area: fraction of the image's area that is kept.

    Returns:
        uint8 [3, S, S].
    """
    planes = grid_sample(
        image[None].float(),
        _crop_grid(image.shape[-1], area, image.device),
        mode='bilinear',
        align_corners=True,
    )
    return (planes[0] + 0.5).clamp(0, 255).to(torch.uint8)


@lru_cache(maxsize=4)
@torch.inference_mode(False)
def _crop_grid(size, area, device):
    """Compute the sampling positions of `centre_crop`, [1, size, size, 2]."""
    reach = area**0.5
    line = torch.linspace(-reach, reach, size)
    row, column = torch.meshgrid(line, line, indexing='ij')
    return torch.stack([column, row], -1)[None].to(device)

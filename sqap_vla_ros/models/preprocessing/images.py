"""Convert camera images to the size and values that a vision encoder expects."""

from functools import lru_cache

import numpy as np
from PIL import Image
import torch
from torch.nn.functional import interpolate

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

    Samples and rounds like TensorFlow, which OpenVLA's LIBERO evaluation uses: crop_and_resize,
    where the corners of the crop and of the result coincide, then convert_image_dtype, which
    multiplies values in [0, 1] by 255.5 and drops the fraction.

    Args:
        image: uint8 [3, S, S].
        area: fraction of the image's area that is kept.

    Returns:
        uint8 [3, S, S].
    """
    low, high, share = _crop_samples(image.shape[-1], area, image.device)
    values = image.float() * np.float32(1 / 255).item()
    left, right = values[:, :, low], values[:, :, high]
    values = left + (right - left) * share
    top, bottom = values[:, low], values[:, high]
    values = top + (bottom - top) * share[:, None]
    return (values.clamp(0, 1) * 255.5).clamp(0, 255).to(torch.uint8)


@lru_cache(maxsize=4)
@torch.inference_mode(False)
def _crop_samples(size, area, device):
    """Pixels below and above each sample of `centre_crop`, int64 [size], and the latter's part."""
    reach = np.sqrt(np.float32(area))
    first = (np.float32(1) - reach) / np.float32(2)
    last = first + reach
    pixels = np.float32(size - 1)
    step = (last - first) * pixels / np.float32(max(size - 1, 1))
    position = first * pixels + np.arange(size, dtype=np.float32) * step
    low = np.floor(position)
    samples = low.astype(np.int64), np.ceil(position).astype(np.int64).clip(0, size - 1)
    return tuple(torch.from_numpy(part).to(device) for part in (*samples, position - low))

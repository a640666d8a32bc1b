"""
Pillow's image resizing on any device, bit for bit.

Models are trained on images that Pillow has resized, and it rounds in its own way: two passes,
along rows and then along columns, each with 22-bit fixed-point weights and an 8-bit result
(libImaging's Resample.c). On a GPU, this avoids a copy to the host and back. For some shapes
Pillow 13 starts with the columns; no camera resolution with that property is known. The models
were trained with older versions, which always start with the rows.
"""

from functools import lru_cache
import math

import torch

_PRECISION = 22


def _cubic(x):
    """Keys' cubic kernel with a = -0.5; its support is [-2, 2]."""
    x = x.abs()
    near = (1.5 * x - 2.5) * x * x + 1
    far = -0.5 * (((x - 5) * x + 8) * x - 4)
    return torch.where(x < 1, near, torch.where(x < 2, far, torch.zeros_like(x)))


def _triangle(x):
    return (1 - x.abs()).clamp_min(0)


_KERNELS = {'bicubic': (_cubic, 2.0), 'bilinear': (_triangle, 1.0)}


def pillow_resize(image: torch.Tensor, rows: int, columns: int, kernel: str) -> torch.Tensor:
    """
    Resize like Pillow's Image.resize, with antialiasing.

    Args:
        image: uint8 [H, W, C].
        rows: of the result.
        columns: of the result.
        kernel: 'bicubic' or 'bilinear'.

    Returns:
        uint8 [C, rows, columns], on the device of the image.
    """
    planes = image.permute(2, 0, 1).to(torch.int32)
    planes = _along_rows(planes, columns, kernel)
    return _along_rows(planes.transpose(1, 2), rows, kernel).transpose(1, 2).to(torch.uint8)


def _along_rows(planes, size, kernel):
    """Resize the last axis: [C, rows, n] to [C, rows, size]."""
    if planes.shape[-1] == size:
        return planes
    index, weights = _taps(planes.shape[-1], size, kernel, planes.device)
    sums = (planes[:, :, index] * weights).sum(-1, dtype=torch.int32)
    return (sums + (1 << (_PRECISION - 1)) >> _PRECISION).clamp(0, 255)


@lru_cache(maxsize=32)
@torch.inference_mode(False)
def _taps(before, after, kernel, device):
    """Source pixels of each new pixel, int64 [after, taps], and their weights, int32."""
    function, support = _KERNELS[kernel]
    scale = before / after
    stretch = max(scale, 1.0)
    support *= stretch
    centre = (torch.arange(after, dtype=torch.float64) + 0.5) * scale
    first = (centre - support + 0.5).trunc().clamp_min(0).long()
    last = (centre + support + 0.5).trunc().clamp_max(before).long()
    index = first[:, None] + torch.arange(math.ceil(support) * 2 + 1)
    weights = function((index - centre[:, None] + 0.5) * (1 / stretch))
    weights = weights.masked_fill(index >= last[:, None], 0.0)
    # Summed one by one, as in Pillow: the order affects the last bit.
    weights = weights / weights.cumsum(1)[:, -1:]
    fixed = weights * (1 << _PRECISION)
    fixed = torch.where(fixed < 0, fixed - 0.5, fixed + 0.5).trunc().to(torch.int32)
    return index.clamp_max(before - 1).to(device), fixed.to(device)

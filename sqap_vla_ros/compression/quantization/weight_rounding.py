"""
Rounding of a float weight to codes: scales, an optional search for better clipping, rounding.

'rtn' takes the nearest code of each weight. 'gptq' (arXiv 2210.17323) rounds one input channel
after the other and corrects the channels that follow, so that the layer's outputs on the
calibration inputs change least. With H = X^T X and U the upper Cholesky factor of H^-1, the error
e = (w - q) / U[i, i] of channel i is subtracted from the later channels j as e U[i, j].
"""

import torch

from sqap_vla_ros.compression.quantization.integers import (
    dequantize_weight,
    quantize_weight,
    to_codes,
)

# Clipping factors that are tried; 1 does not clip.
_CLIPS = torch.linspace(1.0, 0.5, 21).tolist()
_DAMPING = 0.01
_BLOCK = 128


def round_weight(
    weight: torch.Tensor,
    bits: int,
    group: int | None,
    method: str = 'rtn',
    clip: str = 'none',
    hessian: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """
    Quantize a weight.

    Args:
        weight: float32 [N, K].
        bits: of the codes.
        group: number of inputs that share a scale; None: all K.
        method: 'rtn' or 'gptq'.
        clip: 'none' or 'mse'.
        hessian: [K, K], needed by 'gptq'. If given, 'mse' weights the error of each channel by
            the size of its inputs.

    Returns:
        Codes int8 [N, K], and scales float32 [N] or [N, K / group].
    """
    codes, scale = quantize_weight(weight, bits, group)
    if clip == 'mse':
        importance = torch.ones_like(weight[0]) if hessian is None else hessian.diagonal()
        scale = clipped_scale(weight, scale, bits, importance)
    if method == 'gptq':
        assert hessian is not None, "method 'gptq' needs a Hessian"
        return gptq(weight, scale, bits, hessian), scale
    if clip == 'none':
        return codes, scale
    return to_codes(weight, _spread(scale, weight), bits), scale


def clipped_scale(
    weight: torch.Tensor, scale: torch.Tensor, bits: int, importance: torch.Tensor
) -> torch.Tensor:
    """
    Reduce each scale by the factor that gives the least weighted squared error.

    Args:
        weight: float32 [N, K].
        scale: [N] or [N, groups], without clipping.
        bits: of the codes.
        importance: [K], weight of each input channel's error.

    Returns:
        Scales of the shape of `scale`.
    """
    groups = (len(weight), 1 if scale.dim() == 1 else scale.shape[1], -1)
    best = scale
    least: torch.Tensor | None = None
    for clip in _CLIPS:
        codes = to_codes(weight, _spread(scale * clip, weight), bits)
        error = (dequantize_weight(codes, scale * clip) - weight).square() * importance
        error = error.view(groups).sum(-1).view_as(scale)
        if least is None:
            least = error
            continue
        better = error < least
        best = torch.where(better, scale * clip, best)
        least = torch.where(better, error, least)
    return best


def gptq(
    weight: torch.Tensor, scale: torch.Tensor, bits: int, hessian: torch.Tensor
) -> torch.Tensor:
    """
    Round a weight by GPTQ, with fixed scales.

    Args:
        weight: float32 [N, K].
        scale: [N] or [N, groups].
        bits: of the codes.
        hessian: [K, K], sum of x x^T over the calibration inputs.

    Returns:
        Codes int8 [N, K].
    """
    weight, spread = weight.float().clone(), _spread(scale, weight)
    hessian = hessian.double().clone()
    diagonal = hessian.diagonal()
    # The calibration says nothing about an input that is always zero: its weights are rounded.
    diagonal[diagonal == 0] = 1
    diagonal += _DAMPING * diagonal.mean()
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(hessian))
    upper = torch.linalg.cholesky(inverse, upper=True).float()
    codes = torch.empty_like(weight, dtype=torch.int8)
    for start in range(0, weight.shape[1], _BLOCK):
        stop = min(start + _BLOCK, weight.shape[1])
        block = weight[:, start:stop].clone()
        errors = torch.empty_like(block)
        for i in range(stop - start):
            column, factor = block[:, i], upper[start + i, start:stop]
            code = to_codes(column, spread[:, start + i], bits)
            codes[:, start + i] = code
            errors[:, i] = (column - code * spread[:, start + i]) / factor[i]
            block[:, i + 1 :] -= errors[:, i, None] * factor[None, i + 1 :]
        weight[:, stop:] -= errors @ upper[start:stop, stop:]
    return codes


def _spread(scale: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Repeat scales [N] or [N, groups] for each weight: [N, K]."""
    columns = scale.reshape(len(weight), -1)
    return columns.repeat_interleave(weight.shape[1] // columns.shape[1], 1)

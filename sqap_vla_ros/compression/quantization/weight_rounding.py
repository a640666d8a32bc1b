"""
From a float weight to codes: scales, with or without a search for better clipping, then rounding.

'rtn' takes each weight's nearest code. 'gptq' (arXiv 2210.17323) rounds one input channel after
the other and corrects the channels still to come, so that the layer's outputs on the calibration
inputs change least: with H = X^T X and U the upper Cholesky factor of H^-1, the error
e = (w - q) / U[i, i] of channel i is taken off the later channels j as e U[i, j].
"""

import torch

from sqap_vla_ros.compression.quantization.integers import (
    dequantize_weight,
    quantize_weight,
    to_codes,
)

# Clipping factors tried, from none on.
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
):
    """
    Codes int8 [N, K] and scales float32 [N] or [N, K / group] of a weight [N, K].

    method: 'rtn' or 'gptq'; clip: 'none' or 'mse'; hessian: [K, K], for gptq, and, where given,
    weighs the channels in the search for clipping by how large their inputs are.
    """
    codes, scale = quantize_weight(weight, bits, group)
    if clip == 'mse':
        importance = torch.ones_like(weight[0]) if hessian is None else hessian.diagonal()
        scale = clipped_scale(weight, scale, bits, importance)
    if method == 'gptq':
        return gptq(weight, scale, bits, hessian), scale
    if clip == 'none':
        return codes, scale
    return to_codes(weight, _spread(scale, weight), bits), scale


def clipped_scale(
    weight: torch.Tensor, scale: torch.Tensor, bits: int, importance: torch.Tensor
) -> torch.Tensor:
    """
    Scale down each scale by the factor that gives the least weighted squared error.

    importance: [K], weight of each input channel's error.
    """
    groups = (len(weight), 1 if scale.dim() == 1 else scale.shape[1], -1)
    best, least = scale, None
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
    """Codes int8 [N, K] by GPTQ, for scales that are fixed beforehand; hessian: [K, K]."""
    weight, spread = weight.float().clone(), _spread(scale, weight)
    hessian = hessian.double().clone()
    diagonal = hessian.diagonal()
    # An input that is always zero says nothing about its weights: leave them to rounding.
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


def _spread(scale, weight):
    """Scales [N] or [N, groups] to one a weight, [N, K]."""
    columns = scale.reshape(len(weight), -1)
    return columns.repeat_interleave(weight.shape[1] // columns.shape[1], 1)

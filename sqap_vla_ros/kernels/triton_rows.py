"""
Triton kernel: what comes before a quantized linear layer, in one pass over each row.

A norm or an activation function, the rotation (see `compression.hadamard`) and the quantization.
The rotation of K = r a b inputs multiplies the row, seen as an r x a x b block, by one small
symmetric matrix along each axis: Hadamard matrices, or along the first axis the Hartley matrix of
an odd factor. Tensor cores do that ('tf32x3' keeps float32's precision). Axes are padded to powers
of two, 16 at least, with zeros.
"""
from dataclasses import dataclass
from functools import lru_cache
import math

import torch
import triton
import triton.language as tl

from sqap_vla_ros.compression.hadamard import hadamard

NONE, RMS_NORM, SILU_MULTIPLY, GELU_TANH_MULTIPLY, GELU = range(5)
"""What is done to a row before its rotation."""


@triton.jit
def _erf_gelu(x):
    return x * 0.5 * (1 + tl.math.erf(x * 0.7071067811865476))


@triton.jit
def _tanh_gelu(x):
    # 0.5 (1 + tanh y) = sigmoid(2 y)
    return x * tl.sigmoid(1.5957691216057308 * (x + 0.044715 * x * x * x))


@triton.jit
def rows_kernel(x, other, norm_weight, signs, left, middle, right, codes, scales, width, epsilon,
                factor, levels, BEFORE: tl.constexpr, ROTATE: tl.constexpr, R: tl.constexpr,
                A: tl.constexpr, B: tl.constexpr, PR: tl.constexpr, PA: tl.constexpr,
                PB: tl.constexpr):
    """
    One row of x [rows, width] to codes int8 [rows, width] and scales [rows].

    other: the factor of a gated activation, [rows, width]; left [PR, PR], middle [PA, PA], right
    [PB, PB]: symmetric matrices, zero beyond R, A and B; factor: what their product lacks of
    being orthonormal.
    """
    row = tl.program_id(0).to(tl.int64)
    r = tl.arange(0, PR)[:, None, None]
    a = tl.arange(0, PA)[None, :, None]
    b = tl.arange(0, PB)[None, None, :]
    index = (r * A + a) * B + b
    inside = (r < R) & (a < A) & (b < B)
    values = tl.load(x + row * width + index, mask=inside, other=0).to(tl.float32)
    if BEFORE == 1:
        square = tl.sum(tl.sum(tl.sum(values * values, 2), 1), 0)
        values = values * (1 / tl.sqrt(square / width + epsilon))
        # As the layer's own norm does, which rounds to its type before it multiplies.
        values = values.to(x.dtype.element_ty).to(tl.float32)
        weight = tl.load(norm_weight + index, mask=inside, other=0).to(tl.float32)
        values = (values * weight).to(x.dtype.element_ty).to(tl.float32)
    elif BEFORE == 2:
        gate = tl.load(other + row * width + index, mask=inside, other=0).to(tl.float32)
        values = values * gate * tl.sigmoid(gate)
    elif BEFORE == 3:
        gate = tl.load(other + row * width + index, mask=inside, other=0).to(tl.float32)
        values = values * _tanh_gelu(gate)
    elif BEFORE == 4:
        values = _erf_gelu(values)
    if ROTATE:
        values = values * tl.load(signs + index, mask=inside, other=0).to(tl.float32)
        p = tl.arange(0, PB)
        matrix = tl.load(right + p[:, None] * PB + p[None, :])
        values = tl.dot(tl.reshape(values, (PR * PA, PB)), matrix, input_precision='tf32x3')
        values = tl.permute(tl.reshape(values, (PR, PA, PB)), (0, 2, 1))
        p = tl.arange(0, PA)
        matrix = tl.load(middle + p[:, None] * PA + p[None, :])
        values = tl.dot(tl.reshape(values, (PR * PB, PA)), matrix, input_precision='tf32x3')
        values = tl.permute(tl.reshape(values, (PR, PB, PA)), (1, 2, 0))
        p = tl.arange(0, PR)
        matrix = tl.load(left + p[:, None] * PR + p[None, :])
        values = tl.dot(tl.reshape(values, (PB * PA, PR)), matrix, input_precision='tf32x3')
        values = tl.permute(tl.reshape(values, (PB, PA, PR)), (2, 1, 0))
    largest = tl.max(tl.max(tl.max(tl.abs(values), 2), 1), 0)
    # A maximum may pass over a NaN; a sum does not.
    poison = tl.sum(tl.sum(tl.sum(values - values, 2), 1), 0)
    scale = tl.maximum(largest * factor, 1e-12) / levels
    tl.store(scales + row, scale + poison)
    quotient = values * (factor / scale)
    # Nearest, ties to even: adding 1.5 * 2^23 leaves no bits below one.
    nearest = (quotient + 12582912.0) - 12582912.0
    nearest = tl.minimum(tl.maximum(nearest, -levels), levels)
    tl.store(codes + row * width + index, nearest.to(tl.int8), mask=inside)


@dataclass(frozen=True)
class RowShape:
    """How a row is folded for its rotation."""

    axes: tuple[int, int, int]
    padded: tuple[int, int, int]
    factor: float


@lru_cache(maxsize=None)
def row_shape(width: int) -> RowShape:
    """
    Fold a row.

    Raises ValueError where a row's odd factor is above 64: its matrix would not fit.
    """
    odd = width
    while odd % 2 == 0:
        odd //= 2
    power = width // odd
    if odd > 64 or power > 2 ** 15:
        raise ValueError(f'{width} inputs cannot be folded into three axes of at most 64')
    bits = power.bit_length() - 1
    if odd > 1:
        axes = (odd, 2 ** (bits // 2), 2 ** (bits - bits // 2))
    else:
        third = bits // 3
        axes = (2 ** third, 2 ** ((bits - third) // 2), 2 ** (bits - third - (bits - third) // 2))
    padded = tuple(max(16, 1 << (axis - 1).bit_length()) for axis in axes)
    return RowShape(axes, padded, 1 / math.sqrt(power))


@lru_cache(maxsize=None)
@torch.inference_mode(False)
def _matrices(width, device):
    shape = row_shape(width)
    result = []
    for axis, padded in zip(shape.axes, shape.padded):
        matrix = hadamard(torch.eye(axis, dtype=torch.float64))
        if axis & (axis - 1) == 0:
            matrix = (matrix * math.sqrt(axis)).round()  # +1 and -1: exact in any precision
        whole = torch.zeros(padded, padded)
        whole[:axis, :axis] = matrix
        result.append(whole.to(device))
    return result


def quantize_rows(x: torch.Tensor, levels: int, signs: torch.Tensor | None = None,
                  before: int = NONE, other: torch.Tensor | None = None,
                  norm_weight: torch.Tensor | None = None,
                  epsilon: float = 0.0) -> tuple[torch.Tensor, torch.Tensor]:
    """
    Quantize rows, each with a scale of its own.

    x: [M, K] floating point; levels: largest code; signs: int8 [K], None: no rotation. before:
    RMS_NORM (norm_weight [K], epsilon), SILU_MULTIPLY and GELU_TANH_MULTIPLY (x times the
    activation of `other` [M, K]), GELU (exact). Returns codes int8 [M, K] and scales float32 [M].
    """
    rows, width = x.shape
    codes = torch.empty(rows, width, dtype=torch.int8, device=x.device)
    scales = torch.empty(rows, dtype=torch.float32, device=x.device)
    shape = row_shape(width)
    if signs is None:
        left = middle = right = x
        factor = 1.0
    else:
        left, middle, right = _matrices(width, x.device)
        factor = shape.factor
    (r, a, b), (pr, pa, pb) = shape.axes, shape.padded
    rows_kernel[(rows,)](
        x, x if other is None else other, x if norm_weight is None else norm_weight,
        x if signs is None else signs, left, middle, right, codes, scales, width, epsilon, factor,
        float(levels), BEFORE=before, ROTATE=signs is not None, R=r, A=a, B=b, PR=pr, PA=pa,
        PB=pb, num_warps=4 if width <= 4096 else 8)
    return codes, scales

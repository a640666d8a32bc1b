"""
Triton kernel: everything before the product of a quantized linear layer, in one pass per row.

A norm or an activation function, the rotation (see `kernels.hadamard`) and the quantization. The
rotation of K = r a b inputs multiplies the row, seen as an r x a x b block, by one small
symmetric matrix along each axis: Hadamard matrices, or along the first axis the Hartley matrix of
an odd factor and a power of two. Tensor cores compute it ('tf32x3' keeps the precision of
float32). Axes are padded to powers of two with zeros. Rows that do not fold like this, or exceed
the shared memory of the device, are first rotated by torch.
"""

from dataclasses import dataclass
from functools import cache
import math
from typing import Any

import torch
from torch.nn import functional
import triton
import triton.language as tl

from sqap_vla_ros.kernels.hadamard import hadamard, rotate

NONE, RMS_NORM, SILU_MULTIPLY, GELU_TANH_MULTIPLY, GELU = range(5)
"""Operations on a row before its rotation."""

UNFOLDED_MAJOR = 10
"""Compute capability for which Triton 3.7 does not compile the folded rotation: torch rotates."""
_WIDEST = 64


@triton.jit
def _erf_gelu(x):
    return x * 0.5 * (1 + tl.math.erf(x * 0.7071067811865476))


@triton.jit
def _tanh_gelu(x):
    # 0.5 (1 + tanh y) = sigmoid(2 y)
    return x * tl.sigmoid(1.5957691216057308 * (x + 0.044715 * x * x * x))


@triton.jit
def rows_kernel(
    x,
    other,
    norm_weight,
    signs,
    left,
    middle,
    right,
    codes,
    scales,
    width,
    epsilon,
    factor,
    levels,
    BEFORE: tl.constexpr,
    ROTATE: tl.constexpr,
    R: tl.constexpr,
    A: tl.constexpr,
    B: tl.constexpr,
    PR: tl.constexpr,
    PA: tl.constexpr,
    PB: tl.constexpr,
) -> None:
    """
    Quantize one row of x [rows, width] to codes int8 [rows, width] and scales [rows].

    other: the gate of a gated activation, [rows, width]; left [PR, PR], middle [PA, PA], right
    [PB, PB]: symmetric matrices, zero beyond R, A and B; factor: makes their product orthonormal.
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
        if PA > 1:
            p = tl.arange(0, PA)
            matrix = tl.load(middle + p[:, None] * PA + p[None, :])
            values = tl.reshape(values, (PR * PB, PA))
            values = tl.dot(values, matrix, input_precision='tf32x3')
        values = tl.permute(tl.reshape(values, (PR, PB, PA)), (1, 2, 0))
        p = tl.arange(0, PR)
        matrix = tl.load(left + p[:, None] * PR + p[None, :])
        values = tl.dot(tl.reshape(values, (PB * PA, PR)), matrix, input_precision='tf32x3')
        values = tl.permute(tl.reshape(values, (PB, PA, PR)), (2, 1, 0))
    largest = tl.max(tl.max(tl.max(tl.abs(values), 2), 1), 0)
    # A maximum may drop a NaN; a sum does not.
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

    @property
    def shared_bytes(self) -> int:
        """Shared memory of one program: the row as float32, twice, to permute its axes."""
        return 8 * math.prod(self.padded)


@cache
def row_shape(width: int) -> RowShape | None:
    """Fold a row into axes of 16 to 64; None where it does not fold."""
    odd = width
    while odd % 2 == 0:
        odd //= 2
    bits = (width // odd).bit_length() - 1
    if odd > _WIDEST or bits < (4 if odd >= 16 else 8):
        return None
    if odd == 1:
        first = bits // 3 if bits > 12 else bits // 2
    else:
        first = min((_WIDEST // odd).bit_length() - 1, bits - 4)
    left = bits - first
    middle = left // 2 if left > 6 else 0
    axes = (odd << first, 1 << middle, 1 << (left - middle))
    if max(axes) > _WIDEST:
        return None
    r, a, b = (1 << (axis - 1).bit_length() for axis in axes)
    return RowShape(axes, (r, a, b), 1 / math.sqrt(2**bits))


@cache
@torch.inference_mode(False)
def _matrices(width: int, device: torch.device) -> list[torch.Tensor]:
    shape = row_shape(width)
    assert shape is not None, f'a row of {width} does not fold'
    result = []
    for axis, padded in zip(shape.axes, shape.padded):
        power = axis & -axis
        # Not normalised: entries of Hadamard matrices are +1 and -1, exact in any precision.
        matrix = hadamard(torch.eye(axis, dtype=torch.float64)) * math.sqrt(power)
        whole = torch.zeros(padded, padded)
        whole[:axis, :axis] = matrix.round() if axis == power else matrix
        result.append(whole.to(device))
    return result


@cache
def _shared_memory(device: torch.device) -> float:
    """Bytes of shared memory that one program can use for a rotation."""
    if device.type != 'cuda':
        return math.inf
    if torch.cuda.get_device_capability(device)[0] == UNFOLDED_MAJOR:
        return 0
    # Missing in torch's type stubs.
    properties: Any = torch.cuda.get_device_properties(device)
    return float(properties.shared_memory_per_block_optin)


def _in_torch(
    x: torch.Tensor,
    signs: torch.Tensor,
    before: int,
    other: torch.Tensor | None,
    norm_weight: torch.Tensor | None,
    epsilon: float,
) -> torch.Tensor:
    """Compute everything before the quantization by torch: float32 [M, K]."""
    values = x.float()
    if before == RMS_NORM and norm_weight is not None:
        normed = values * torch.rsqrt(values.square().mean(-1, keepdim=True) + epsilon)
        values = (norm_weight * normed.to(x.dtype)).to(x.dtype).float()
    elif before == SILU_MULTIPLY and other is not None:
        values = values * functional.silu(other.float())
    elif before == GELU_TANH_MULTIPLY and other is not None:
        values = values * functional.gelu(other.float(), approximate='tanh')
    elif before == GELU:
        values = functional.gelu(values)
    return rotate(values, signs)


def warps(width: int) -> int:
    """Warps that share one row."""
    return 4 if width <= 4096 else 8


def quantize_rows(
    x: torch.Tensor,
    levels: int,
    signs: torch.Tensor | None = None,
    before: int = NONE,
    other: torch.Tensor | None = None,
    norm_weight: torch.Tensor | None = None,
    epsilon: float = 0.0,
) -> tuple[torch.Tensor, torch.Tensor]:
    """
    Quantize rows, each with its own scale.

    Args:
        x: [M, K], floating point.
        levels: largest code.
        signs: int8 [K]; None: no rotation.
        before: NONE, RMS_NORM, SILU_MULTIPLY and GELU_TANH_MULTIPLY (x times the activation of
            `other`) or GELU (exact).
        other: [M, K], for the two gated activations.
        norm_weight: [K], for RMS_NORM.
        epsilon: for RMS_NORM.

    Returns:
        Codes int8 [M, K] and scales float32 [M].
    """
    rows, width = x.shape
    codes = torch.empty(rows, width, dtype=torch.int8, device=x.device)
    scales = torch.empty(rows, dtype=torch.float32, device=x.device)
    folded = None if signs is None else row_shape(width)
    if folded is not None and folded.shared_bytes > _shared_memory(x.device):
        folded = None
    if signs is not None and folded is None:
        x = _in_torch(x, signs, before, other, norm_weight, epsilon)
        signs, before = None, NONE
    if folded is None:
        left = middle = right = x
        shape = RowShape((1, 1, width), (1, 1, triton.next_power_of_2(width)), 1.0)
    else:
        left, middle, right = _matrices(width, x.device)
        shape = folded
    (r, a, b), (pr, pa, pb) = shape.axes, shape.padded
    rows_kernel[(rows,)](
        x,
        x if other is None else other,
        x if norm_weight is None else norm_weight,
        x if signs is None else signs,
        left,
        middle,
        right,
        codes,
        scales,
        width,
        epsilon,
        shape.factor,
        float(levels),
        BEFORE=before,
        ROTATE=signs is not None,
        R=r,
        A=a,
        B=b,
        PR=pr,
        PA=pa,
        PB=pb,
        num_warps=warps(width),
    )
    return codes, scales

"""
Triton kernel: packed low-bit weights times int8 activations, scales applied to the exact sums.

Weights of 4 bits stay packed up to the registers. In a block of 128 inputs the byte j of an output
holds input j in its low and input 64 + j in its high nibble, both in two's complement: as int8,
byte << 4 and byte & 0xF0 are 16 times the weight, so that unpacking costs one instruction a
value, and the factor 16 leaves with the scale. Sums stay exact: 16 * 8 * 127 * K < 2^31 up to
K = 131 000.

`weights_first` computes the product transposed, with the weights as the left operand: Hopper's
wgmma reads that one from registers, where the unpacked weights are already.
"""

import torch
import triton
import triton.language as tl

from sqap_vla_ros.kernels.triton_tiles import MatmulConfig

PACKED_INPUTS = 128
"""Inputs that are packed together; 4-bit layers have a multiple of it."""


@triton.jit
def _load_tile(matrix, rows, columns, stride, rows_total, TRANSPOSED: tl.constexpr):
    """Tile [rows, columns] (or its transpose) of a row-major matrix, 0 where rows end."""
    if TRANSPOSED:
        at = rows[None, :].to(tl.int64) * stride + columns[:, None]
        return tl.load(matrix + at, mask=rows[None, :] < rows_total, other=0)
    else:
        at = rows[:, None].to(tl.int64) * stride + columns[None, :]
        return tl.load(matrix + at, mask=rows[:, None] < rows_total, other=0)


@triton.jit
def _add_product(total, x, w, WEIGHTS_FIRST: tl.constexpr):
    if WEIGHTS_FIRST:
        return tl.dot(w, x, total, out_dtype=tl.int32)
    else:
        return tl.dot(x, w, total, out_dtype=tl.int32)


@triton.jit
def matmul_kernel(
    codes,
    weights,
    row_scales,
    scales,
    bias,
    out,
    rows,
    outputs,
    inputs,
    weight_stride,
    GROUP: tl.constexpr,
    BITS: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    EXACT: tl.constexpr,
    WEIGHTS_FIRST: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
) -> None:
    """
    One tile of out [rows, outputs].

    codes: int8 [rows, inputs]; weights: uint8 [outputs, inputs / 2] or int8 [outputs, inputs];
    row_scales: [rows]; scales: [outputs, inputs / GROUP], GROUP 0: [outputs]. BLOCK_K divides
    inputs and GROUP. EXACT stores the int32 sums themselves (one scale an output).
    """
    row = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    output = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    if WEIGHTS_FIRST:
        total = tl.zeros((BLOCK_N, BLOCK_M), tl.int32)
        scaled = tl.zeros((BLOCK_N, BLOCK_M), tl.float32)
    else:
        total = tl.zeros((BLOCK_M, BLOCK_N), tl.int32)
        scaled = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
    for start in range(0, inputs, BLOCK_K):
        if BITS == 4:
            for block in tl.static_range(BLOCK_K // 128):
                k = start + block * 128 + tl.arange(0, 64)
                byte = start // 2 + block * 64 + tl.arange(0, 64)
                w = _load_tile(weights, output, byte, weight_stride, outputs, not WEIGHTS_FIRST)
                x = _load_tile(codes, row, k, inputs, rows, WEIGHTS_FIRST)
                low = (w << 4).to(tl.int8, bitcast=True)
                total = _add_product(total, x, low, WEIGHTS_FIRST)
                x = _load_tile(codes, row, k + 64, inputs, rows, WEIGHTS_FIRST)
                high = (w & 0xF0).to(tl.int8, bitcast=True)
                total = _add_product(total, x, high, WEIGHTS_FIRST)
        else:
            k = start + tl.arange(0, BLOCK_K)
            w = _load_tile(weights, output, k, weight_stride, outputs, not WEIGHTS_FIRST)
            x = _load_tile(codes, row, k, inputs, rows, WEIGHTS_FIRST)
            total = _add_product(total, x, w, WEIGHTS_FIRST)
        if GROUP > 0:  # noqa: SIM102 (a constant, folded at compile time)
            # BLOCK_K divides GROUP: at the end of each group its sums are scaled and start anew.
            if (start + BLOCK_K) % GROUP == 0:
                scale = tl.load(
                    scales + output * (inputs // GROUP) + start // GROUP,
                    mask=output < outputs,
                    other=0,
                )
                if WEIGHTS_FIRST:
                    scaled += total.to(tl.float32) * scale[:, None]
                else:
                    scaled += total.to(tl.float32) * scale[None, :]
                total = tl.zeros_like(total)
    unit: tl.constexpr = 16 if BITS == 4 else 1
    row_scale = tl.load(row_scales + row, mask=row < rows, other=0)
    if GROUP > 0:
        result = scaled
    else:
        scale = tl.load(scales + output, mask=output < outputs, other=0)
        if WEIGHTS_FIRST:
            result = total.to(tl.float32) * scale[:, None]
        else:
            result = total.to(tl.float32) * scale[None, :]
    if WEIGHTS_FIRST:
        at = row[None, :].to(tl.int64) * outputs + output[:, None]
        inside = (row[None, :] < rows) & (output[:, None] < outputs)
        result = result * (row_scale / unit)[None, :]
    else:
        at = row[:, None].to(tl.int64) * outputs + output[None, :]
        inside = (row[:, None] < rows) & (output[None, :] < outputs)
        result = result * (row_scale / unit)[:, None]
    if EXACT:
        tl.store(out + at, total // unit, mask=inside)
    else:
        if HAS_BIAS:
            added = tl.load(bias + output, mask=output < outputs, other=0)
            if WEIGHTS_FIRST:
                result += added[:, None]
            else:
                result += added[None, :]
        tl.store(out + at, result.to(out.dtype.element_ty), mask=inside)


def pack(codes: torch.Tensor) -> torch.Tensor:
    """Codes int8 [N, K] in [-8, 7], K a multiple of 128, to uint8 [N, K / 2], layout above."""
    halves = (codes & 15).to(torch.uint8).unflatten(1, (-1, 2, PACKED_INPUTS // 2))
    return (halves[:, :, 0] | halves[:, :, 1] << 4).flatten(1).contiguous()


def block_k(config: MatmulConfig, inputs: int, group: int | None = None) -> int:
    """Choose the inputs a step: the configuration's, halved until they divide row and group."""
    step = config.block_k
    while inputs % step or (group or step) % step:
        step //= 2
    return step


def matmul(
    codes: torch.Tensor,
    row_scales: torch.Tensor,
    weights: torch.Tensor,
    scales: torch.Tensor,
    bias: torch.Tensor | None,
    config: MatmulConfig,
    dtype: torch.dtype,
) -> torch.Tensor:
    """
    Product of quantized activations and weights.

    codes: int8 [M, K]; row_scales: float32 [M]; weights: uint8 [N, K / 2] from `pack`, or int8
    [N, K]; scales: float32 [N] or [N, K / G]; bias: float32 [N] or None. Returns [M, N] of
    `dtype`; torch.int32: the sums themselves, unscaled (scales [N] only).
    """
    rows, inputs = codes.shape
    outputs = len(weights)
    bits = 4 if weights.dtype == torch.uint8 else 8
    group = None if scales.dim() == 1 else inputs // scales.shape[1]
    out = torch.empty(rows, outputs, dtype=dtype, device=codes.device)
    grid = (triton.cdiv(rows, config.block_m), triton.cdiv(outputs, config.block_n))
    matmul_kernel[grid](
        codes,
        weights,
        row_scales,
        scales,
        scales if bias is None else bias,
        out,
        rows,
        outputs,
        inputs,
        weights.shape[1],
        GROUP=group or 0,
        BITS=bits,
        HAS_BIAS=bias is not None,
        EXACT=dtype == torch.int32,
        WEIGHTS_FIRST=config.weights_first,
        BLOCK_M=config.block_m,
        BLOCK_N=config.block_n,
        BLOCK_K=block_k(config, inputs, group),
        num_warps=config.warps,
        num_stages=config.stages,
    )
    return out

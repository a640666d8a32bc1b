"""
Orthonormal rotations that spread outliers over all channels.

A rotation is x -> (x * signs) H with signs +1 or -1. If the size n is a power of two, H is the
orthonormal Hadamard matrix H[i, j] = (-1)^popcount(i & j) / sqrt(n) (Sylvester's order). For
n = 2^a m with odd m, H is the Kronecker product of the Hadamard matrix of size 2^a and the Hartley
matrix cas(2 pi j k / m) / sqrt(m) with cas = cos + sin: real, symmetric, orthonormal, no entry
above sqrt(2 / m), and in closed form for every m, where Hadamard matrices need a table.

Every such H is symmetric, and so its own inverse. It is never built for large n: with n = r c the
transform of a row, seen as an r x c matrix X, is A X B with the matrices of sizes r and c.
"""

from functools import cache
import math

import torch

# Up to this size, one product with H is faster than two small ones (AVX-512, 100 to 300 rows).
_LARGEST_DENSE = 256


def random_signs(size: int, seed: int) -> torch.Tensor:
    """int8 [size], +1 or -1, the same for the same size and seed on every machine."""
    generator = torch.Generator().manual_seed(seed)
    return (torch.randint(0, 2, (size,), generator=generator) * 2 - 1).to(torch.int8)


def hadamard(x: torch.Tensor) -> torch.Tensor:
    """Multiply by H along the last dimension: [..., n] -> [..., n]. Floating point."""
    rows, columns = _split(x.shape[-1])
    if rows == 1:
        return x @ _matrix(columns, x.device, x.dtype)
    left = _matrix(rows, x.device, x.dtype)
    inner = hadamard(torch.unflatten(x, -1, (rows, columns)))
    return (left @ inner).flatten(-2)


def rotate(x: torch.Tensor, signs: torch.Tensor) -> torch.Tensor:
    """Rotate the last dimension: [..., n] by signs [n] -> [..., n]."""
    return hadamard(x * signs.to(x.dtype))


def unrotate(x: torch.Tensor, signs: torch.Tensor) -> torch.Tensor:
    """Undo `rotate`."""
    return hadamard(x) * signs.to(x.dtype)


@cache
def _split(size: int) -> tuple[int, int]:
    """Kronecker factors (rows, columns) of a size; rows is 1 if H is used whole."""
    odd = size
    while odd % 2 == 0:
        odd //= 2
    power = size // odd
    if odd > 1:
        return (odd, power) if power > 1 else (1, size)
    if size <= _LARGEST_DENSE:
        return 1, size
    rows = 2 ** (power.bit_length() // 2)
    return rows, power // rows


@cache
@torch.inference_mode(False)
def _matrix(size: int, device: torch.device, dtype: torch.dtype) -> torch.Tensor:
    """Orthonormal symmetric matrix [size, size] of one Kronecker factor."""
    index = torch.arange(size)
    if size & (size - 1) == 0:
        common = index[:, None] & index[None]
        parity = torch.zeros_like(common)
        for bit in range(size.bit_length()):
            parity ^= (common >> bit) & 1
        matrix = (1 - 2 * parity).double() / math.sqrt(size)
    else:
        angle = (2 * math.pi / size) * ((index[:, None] * index[None]) % size).double()
        matrix = (angle.cos() + angle.sin()) / math.sqrt(size)
    return matrix.to(device, dtype)

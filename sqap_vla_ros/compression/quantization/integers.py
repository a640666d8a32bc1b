"""
Symmetric round-to-nearest quantization, and four bits in half a byte.

A tensor is scale * q with integers q in [-L, L], L = 2^(bits - 1) - 1. The most negative code is
unused, so that the grid is symmetric and -q always exists. The scale is max |x| / L over the
channels that share it, so nothing is clipped.
"""

import torch

# An all-zero channel gets this scale, which keeps the division finite.
_TINY = 1e-12


def levels(bits: int) -> int:
    """Largest code of a symmetric integer of this many bits."""
    return (1 << (bits - 1)) - 1


def quantize_weight(
    weight: torch.Tensor, bits: int, group: int | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """
    Quantize a linear layer's weight by round-to-nearest.

    Args:
        weight: float [N, K].
        bits: of the codes.
        group: number of inputs that share a scale, a divisor of K; None: all K.

    Returns:
        Codes int8 [N, K], and scales float32 [N], or [N, K / group].
    """
    grouped = torch.unflatten(weight.float(), 1, (-1, group or weight.shape[1]))
    scale = grouped.abs().amax(-1).clamp_min(_TINY) / levels(bits)
    codes = to_codes(grouped, scale[..., None], bits).flatten(1)
    return codes, scale if group else scale[:, 0]


def dequantize_weight(codes: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """Codes int8 [N, K] and scales [N] or [N, groups] to float32 [N, K]."""
    grouped = torch.unflatten(codes, 1, (1 if scale.dim() == 1 else scale.shape[1], -1))
    return (grouped * scale.reshape(len(scale), -1, 1)).flatten(1)


def activation_scale(x: torch.Tensor, bits: int, granularity: str) -> torch.Tensor:
    """Scales of x [M, K]: float [M, 1] for 'per_token', [1, 1] for 'per_tensor'."""
    largest = x.abs().amax(-1, keepdim=True)
    if granularity == 'per_tensor':
        largest = largest.amax(0, keepdim=True)
    return largest.clamp_min(_TINY) / levels(bits)


def to_codes(
    x: torch.Tensor, scale: torch.Tensor, bits: int, dtype: torch.dtype = torch.int8
) -> torch.Tensor:
    """Nearest codes of x, ties to even; values beyond the largest code are clipped to it."""
    top = levels(bits)
    return (x / scale).round_().clamp_(-top, top).to(dtype)


def pack_int4(codes: torch.Tensor) -> torch.Tensor:
    """
    Pack two 4-bit codes into each byte.

    Args:
        codes: int8 [N, K] in [-8, 7], K even.

    Returns:
        uint8 [N, K / 2], each code + 8; even k in the low nibble.
    """
    raised = (codes + 8).to(torch.uint8)
    return raised[:, 0::2] | raised[:, 1::2] << 4


def unpack_int4(packed: torch.Tensor) -> torch.Tensor:
    """Undo `pack_int4`: uint8 [N, K / 2] to int8 [N, K]."""
    pairs = torch.stack((packed & 15, packed >> 4), -1)
    return pairs.flatten(1).to(torch.int8) - 8

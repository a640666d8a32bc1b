"""Quantized queries and keys: attention, and token selection by it, at low precision."""

from collections.abc import Callable

import torch

from sqap_vla_ros.compression.quantization.integers import activation_scale, levels, to_codes
from sqap_vla_ros.compression.recipe import FULL_PRECISION_BITS, QuantizationRecipe
from sqap_vla_ros.kernels.hadamard import random_signs, rotate


class QueryKeyQuantizer:
    """
    Rotates queries and keys after RoPE, per head, and quantizes the vector of each token.

    The rotation R is orthonormal, so (q R)(k R)^T = q k^T. Only the rounding error changes, which
    the rotation spreads over all channels (SQAP-VLA, arXiv 2509.09090, quantizer).
    """

    round_rows: Callable[..., torch.Tensor] | None = None
    """A backend's kernel: (x [..., d], largest code, signs or None) -> rotated and rounded."""

    def __init__(self, bits: int, rotation_seed: int | None, head_width: int) -> None:
        """
        Prepare the rotation.

        Args:
            bits: of the codes.
            rotation_seed: seed of the random signs; None: no rotation.
            head_width: channels of one head.
        """
        self.bits = bits
        self.signs = None if rotation_seed is None else random_signs(head_width, rotation_seed)

    @classmethod
    def of(cls, recipe: QuantizationRecipe, head_width: int) -> 'QueryKeyQuantizer | None':
        """Quantizer that a recipe asks for; None if it leaves queries and keys alone."""
        bits = recipe.query_key_bits or recipe.activation_bits
        if bits == FULL_PRECISION_BITS:
            return None
        return cls(bits, recipe.rotation_seed if recipe.rotate_query_key else None, head_width)

    def __call__(
        self, query: torch.Tensor, key: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Query [B, heads, N, d] and key [B, kv_heads, N, d], rotated and rounded."""
        return self._round(query), self._round(key)

    def _round(self, x: torch.Tensor) -> torch.Tensor:
        if self.signs is not None and self.signs.device != x.device:
            self.signs = self.signs.to(x.device)
        if self.round_rows is not None:
            return self.round_rows(x, levels(self.bits), self.signs)
        if self.signs is not None:
            x = rotate(x, self.signs)
        scale = activation_scale(x, self.bits, 'per_token')
        return to_codes(x, scale, self.bits, x.dtype) * scale

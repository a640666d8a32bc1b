"""
Continuation of the chunk that is being executed, by inpainting of actions during denoising.

Real-time chunking (arXiv 2506.07339) corrects each denoising step by the gradient of the distance
between the estimated clean chunk and the previous one, weighted by a soft mask (section IV, eq. 2
and 5). The gradient costs a backward pass through the head at every step. This module
applies the same correction with the Jacobian of the head approximated by the identity: the clean
estimate itself is moved towards the previous chunk, weighted by the mask. Rows with weight 1 equal
those of the previous chunk.
"""

import torch


class Guide:
    """Moves estimates of a clean, normalised chunk towards a previous one."""

    def __init__(self, values: torch.Tensor, weights: torch.Tensor) -> None:
        """values: [T, A], normalised; weights: [T, 1] or [T, A], 0..1."""
        self._values, self._weights = values, weights

    def __call__(self, clean: torch.Tensor) -> torch.Tensor:
        """Correct an estimate [B, T, A]; columns that the previous chunk lacks are unchanged."""
        used = clean[..., : self._values.shape[-1]]
        pulled = torch.lerp(used, self._values.to(clean), self._weights.to(clean).expand_as(used))
        return torch.cat([pulled, clean[..., self._values.shape[-1] :]], -1)

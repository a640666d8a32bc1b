"""The interface of a backend."""
from abc import ABC, abstractmethod

import torch


class Backend(ABC):
    """
    Arithmetic for QuantLinear layers. Stateless: what it keeps is in the layer's buffers.

    Every backend computes what the reference does: codes of activations by round-to-nearest, an
    exact integer product, scales applied to it afterwards in float32.
    """

    name: str

    @abstractmethod
    def supports(self, layer) -> bool:
        """Whether it can run this QuantLinear (its `format`) on the device where it is."""

    def prepare(self, layer):
        """
        Replace the layer's portable buffers by this backend's layout; called once, after loading.

        The portable ones must go (set to None), so that no weight is kept twice.
        """

    @abstractmethod
    def linear(self, layer, x: torch.Tensor) -> torch.Tensor:
        """x: float32 [M, K], rotated already. Returns float32 [M, N], bias added."""

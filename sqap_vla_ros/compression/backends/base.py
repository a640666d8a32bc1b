"""The interface of a backend."""

from abc import ABC, abstractmethod

import torch
from torch import nn

from sqap_vla_ros.kernels.hadamard import rotate


class Backend(ABC):
    """
    Arithmetic for QuantLinear layers. What it keeps about a layer is in the layer.

    Every backend computes what the reference does: codes of activations by round-to-nearest, an
    exact integer product, scales applied to it afterwards in float32. Scales of activations are
    dynamic, or fixed in `layer.ascale` (see `QuantLinear.activation_scale`).
    """

    name: str
    """How it is asked for."""
    devices: tuple[str, ...] = ('cpu', 'cuda')
    """Types of devices that it runs on."""

    static_scales: bool = False
    """Whether it can take fixed activation scales (`LinearFormat.static_scales`)."""

    @property
    def label(self) -> str:
        """What runs, for logs and diagnostics: the name, and what else decides the speed."""
        return self.name

    @abstractmethod
    def objection(self, spec, device: torch.device) -> str | None:
        """
        Why it cannot run a layer of this `LinearFormat` on this device; None: it should.

        Whether it really does is found out by running it (see `choice`).
        """

    def prepare(self, layer) -> None:
        """
        Replace the layer's portable buffers by this backend's layout; called once, after loading.

        The portable ones must go, so that no weight is kept twice.
        """

    def forward(self, layer, x: torch.Tensor) -> torch.Tensor:
        """x: [..., K], any floating type. Returns [..., N] of the same type."""
        flat = x.reshape(-1, layer.in_features).float()
        if layer.rotation_signs is not None:
            flat = rotate(flat, layer.rotation_signs)
        return self.linear(layer, flat).view(*x.shape[:-1], layer.out_features).to(x.dtype)

    def linear(self, layer, x: torch.Tensor) -> torch.Tensor:
        """x: float32 [M, K], rotated already. Returns float32 [M, N], bias added."""
        raise NotImplementedError(f'{self.name} rotates by itself')

    def fuse(self, model: nn.Module) -> None:
        """Put faster equivalents in place of groups of prepared layers of this backend."""

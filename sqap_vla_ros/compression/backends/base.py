"""The interface between quantized layers and the backends that run them."""

from abc import ABC, abstractmethod
from typing import Any, Protocol

import torch
from torch import nn

from sqap_vla_ros.compression.quantization.linear_format import LinearFormat
from sqap_vla_ros.kernels.hadamard import rotate


class QuantizedLayer(Protocol):
    """What a backend reads and writes of a `QuantLinear`, where the tensors are described."""

    format: LinearFormat
    in_features: int
    out_features: int
    weight: torch.Tensor | None
    qweight: torch.Tensor
    wscale: torch.Tensor
    rotation_signs: torch.Tensor | None
    bias: torch.Tensor | None
    kernel: Any

    def codes(self) -> torch.Tensor:
        """See `QuantLinear`."""

    def activation_scale(self, x: torch.Tensor) -> torch.Tensor:
        """See `QuantLinear`."""


class Backend(ABC):
    """
    Arithmetic for QuantLinear layers. Its state for a layer is kept in the layer.

    Every backend computes what the reference does: codes of activations by round-to-nearest, an
    exact integer product, scales applied to it afterwards in float32. Activation scales are
    dynamic, or fixed in `layer.ascale` (see `QuantLinear.activation_scale`).
    """

    name: str
    """Its name in options."""
    devices: tuple[str, ...] = ('cpu', 'cuda')
    """Types of devices that it runs on."""

    static_scales: bool = False
    """Whether it supports fixed activation scales (`LinearFormat.static_scales`)."""

    @property
    def label(self) -> str:
        """What runs, for logs and diagnostics: the name, and what else decides the speed."""
        return self.name

    @abstractmethod
    def objection(self, spec: LinearFormat, device: torch.device) -> str | None:
        """
        Why it cannot run a layer of this format on this device; None if it should.

        Whether it really can is decided by a trial run (see `dispatch`).
        """

    def prepare(self, layer: QuantizedLayer) -> None:
        """
        Replace the layer's portable buffers by this backend's layout; called once, after loading.

        The portable buffers must go, so that no weight is stored twice.
        """

    def forward(self, layer: QuantizedLayer, x: torch.Tensor) -> torch.Tensor:
        """
        Run the layer.

        Args:
            layer: a layer prepared by this backend.
            x: [..., K], any floating type.

        Returns:
            [..., N] of the type of x.
        """
        flat = x.reshape(-1, layer.in_features).float()
        if layer.rotation_signs is not None:
            flat = rotate(flat, layer.rotation_signs)
        return self.linear(layer, flat).view(*x.shape[:-1], layer.out_features).to(x.dtype)

    def linear(self, layer: QuantizedLayer, x: torch.Tensor) -> torch.Tensor:
        """
        Quantize, multiply and add the bias.

        Args:
            layer: a layer prepared by this backend.
            x: float32 [M, K], already rotated.

        Returns:
            float32 [M, N].
        """
        raise NotImplementedError(f'{self.name} rotates by itself')

    def fuse(self, model: nn.Module) -> None:
        """Replace groups of prepared layers of this backend by faster equivalents."""

"""
A linear layer that keeps its weight as low-bit integers.

y = (x R) (W R)^T + b, where R is the layer's rotation (`kernels.hadamard`). W R is quantized once,
x R at every call. Only the integers, their scales, the signs of R and the bias are kept.
"""

from typing import Any

import torch
from torch import nn

from sqap_vla_ros.compression.backends.base import Backend
from sqap_vla_ros.compression.backends.reference import REFERENCE
from sqap_vla_ros.compression.quantization.denoising_step import DenoisingStep
from sqap_vla_ros.compression.quantization.input_statistics import InputStatistics
from sqap_vla_ros.compression.quantization.integers import (
    activation_scale,
    levels,
    pack_int4,
    unpack_int4,
)
from sqap_vla_ros.compression.quantization.linear_format import LinearFormat
from sqap_vla_ros.compression.quantization.weight_rounding import round_weight
from sqap_vla_ros.compression.recipe import FULL_PRECISION_BITS, QuantizationRecipe
from sqap_vla_ros.kernels.hadamard import random_signs, rotate


class QuantLinear(nn.Module):
    """
    Replaces nn.Linear for inference.

    `prepare` hands the layer to a backend, which may change the layout of the weight.
    """

    weight: torch.Tensor | None
    """float32 [N, K], rotated; only for weight_bits 16, where `qweight` and `wscale` are None."""
    qweight: torch.Tensor
    """Codes: int8 [N, K] or, packed, uint8 [N, K / 2]; after `prepare`, the backend's layout."""
    wscale: torch.Tensor
    """float32 [N] or [N, groups]; after `prepare`, the backend's layout."""
    rotation_signs: torch.Tensor | None
    """int8 [K]; None: inputs are not rotated at run time."""
    ascale: torch.Tensor | None
    """float32 [steps], fixed activation scales; None: dynamic."""
    bias: torch.Tensor | None
    """float32 [N]."""

    def __init__(self, spec: LinearFormat, device: torch.device | str | None = None) -> None:
        """
        Make a layer with uninitialised tensors, for a checkpoint to fill.

        Args:
            spec: shape and arithmetic.
            device: of the tensors, possibly 'meta'.
        """
        super().__init__()
        self.format = spec
        self.in_features, self.out_features = spec.inputs, spec.outputs
        self.backend: Backend = REFERENCE
        self.kernel: Any = None
        """What the backend keeps beside the buffers."""
        rows, columns = spec.outputs, spec.inputs

        def buffer(
            name: str, present: bool, *shape: int, dtype: torch.dtype = torch.float32
        ) -> None:
            self.register_buffer(
                name, torch.empty(shape, dtype=dtype, device=device) if present else None
            )

        whole = spec.weight_bits == FULL_PRECISION_BITS
        buffer('weight', whole, rows, columns)
        buffer(
            'qweight',
            not whole,
            rows,
            columns // 2 if spec.packed else columns,
            dtype=torch.uint8 if spec.packed else torch.int8,
        )
        groups = () if spec.weight_group is None else (columns // spec.weight_group,)
        buffer('wscale', not whole, rows, *groups)
        buffer('rotation_signs', spec.rotated, columns, dtype=torch.int8)
        buffer('ascale', spec.static_scales > 0, spec.static_scales)
        buffer('bias', spec.bias, rows)
        self.denoising: DenoisingStep | None = None

    @classmethod
    @torch.no_grad()
    def from_linear(
        cls,
        linear: nn.Linear,
        recipe: QuantizationRecipe,
        spec: LinearFormat | None = None,
        statistics: InputStatistics | None = None,
    ) -> 'QuantLinear':
        """
        Quantize a float layer, which is not changed.

        Args:
            linear: the float layer.
            recipe: how to quantize it.
            spec: its format; None: the one that the recipe gives.
            statistics: of the layer's inputs, for recipes that need calibration.
        """
        layer = cls(spec or LinearFormat.of(linear, recipe), 'meta')
        weight = linear.weight.detach().float()
        if layer.format.rotated:
            signs = random_signs(linear.in_features, recipe.rotation_seed)
            layer.rotation_signs = signs.to(weight.device)
            weight = rotate(weight, layer.rotation_signs)
        if layer.weight is not None:
            layer.weight = weight
        else:
            layer.set_codes(
                *round_weight(
                    weight,
                    layer.format.weight_bits,
                    layer.format.weight_group,
                    recipe.weight_method,
                    recipe.weight_clip,
                    None if statistics is None else statistics.hessian,
                )
            )
        if layer.ascale is not None:
            assert statistics is not None, 'fixed activation scales need calibration'
            largest = statistics.largest.clamp_min(torch.finfo(torch.float32).tiny)
            layer.ascale = largest / levels(layer.format.activation_bits)
        if linear.bias is not None:
            layer.bias = linear.bias.detach().float().clone()
        return layer

    def set_codes(self, codes: torch.Tensor, scale: torch.Tensor) -> None:
        """Store codes int8 [N, K] and scales float32 [N] or [N, groups]."""
        self.qweight = pack_int4(codes) if self.format.packed else codes
        self.wscale = scale

    def codes(self) -> torch.Tensor:
        """Codes of the weight, int8 [N, K]; only before a backend has changed the layout."""
        return unpack_int4(self.qweight) if self.format.packed else self.qweight

    def activation_scale(self, x: torch.Tensor) -> torch.Tensor:
        """Scales of inputs x float32 [M, K] in the rotated basis: float32 [M, 1] or [1, 1]."""
        if self.ascale is None:
            return activation_scale(
                x, self.format.activation_bits, self.format.activation_granularity
            )
        if self.denoising is None:
            return self.ascale[:1, None]
        return self.ascale.index_select(0, self.denoising.index)[:, None]

    def prepare(self, backend: Backend) -> None:
        """Run on this backend from now on. Its weight layout replaces the portable one."""
        self.backend = backend
        backend.prepare(self)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x: [..., K], any floating type. Returns [..., N] of the same type."""
        return self.backend.forward(self, x)

    def extra_repr(self) -> str:
        """See nn.Module."""
        f = self.format
        return (
            f'{f.inputs}, {f.outputs}, W{f.weight_bits}A{f.activation_bits}, '
            f'rotated={f.rotated}, backend={self.backend.name}'
        )

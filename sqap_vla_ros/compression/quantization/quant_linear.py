"""
A linear layer that keeps its weight as low-bit integers.

y = (x R) (W R)^T + b, where R is the layer's rotation (`hadamard`), W R is quantized once and x R
at every call. Only the integers, their scales, the signs of R and the bias are kept.
"""

from dataclasses import dataclass

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
from sqap_vla_ros.compression.quantization.weight_rounding import round_weight
from sqap_vla_ros.compression.recipe import FULL_PRECISION_BITS, QuantizationRecipe
from sqap_vla_ros.kernels.hadamard import random_signs, rotate


@dataclass(frozen=True)
class LinearFormat:
    """Shape and arithmetic of one layer; what a backend looks at to say whether it can run it."""

    inputs: int
    outputs: int
    bias: bool
    weight_bits: int
    weight_group: int | None
    activation_bits: int
    activation_granularity: str
    rotated: bool
    """Whether inputs are rotated at run time."""
    static_scales: int = 0
    """Activation scales that are fixed: 0 (dynamic), 1, or one a denoising step."""

    @property
    def packed(self) -> bool:
        """Whether two codes share a byte."""
        return self.weight_bits <= 4

    @classmethod
    def of(
        cls, linear: nn.Linear, recipe: QuantizationRecipe, rotated: bool = True, steps: int = 1
    ) -> 'LinearFormat':
        """
        Format that a recipe gives to a float layer.

        rotated: False where the layer's inputs arrive rotated; steps: of the denoising loop that
        the layer is in. A group that does not divide the inputs gives one scale per channel.
        Raises ValueError where the inputs do not pack into whole bytes.
        """
        group = recipe.weight_group
        if group is not None and (linear.in_features % group or group >= linear.in_features):
            group = None
        if recipe.weight_bits <= 4 and linear.in_features % 2:
            raise ValueError(f'{linear.in_features} inputs do not pack into whole bytes')
        return cls(
            linear.in_features,
            linear.out_features,
            linear.bias is not None,
            recipe.weight_bits,
            group,
            recipe.activation_bits,
            recipe.activation_granularity,
            rotated and recipe.rotation != 'none',
            steps if recipe.activation_scales == 'static' else 0,
        )


class QuantLinear(nn.Module):
    """
    Replaces nn.Linear for inference.

    Made with uninitialised tensors on `device` (possibly 'meta'), for a checkpoint to fill.
    `prepare` hands the layer to a backend, which may lay the weight out anew.
    """

    def __init__(self, spec: LinearFormat, device: torch.device | str | None = None) -> None:
        super().__init__()
        self.format = spec
        self.in_features, self.out_features = spec.inputs, spec.outputs
        self.backend: Backend = REFERENCE
        self.kernel = None  # what the backend keeps beside the buffers
        rows, columns = spec.outputs, spec.inputs

        def buffer(name, present, *shape, dtype=torch.float32) -> None:
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
        Quantize a float layer, which is left as it is.

        spec: None for the recipe's; statistics: of its inputs, for recipes that need calibration.
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
            largest = statistics.largest.clamp_min(torch.finfo(torch.float32).tiny)
            layer.ascale = largest / levels(layer.format.activation_bits)
        if linear.bias is not None:
            layer.bias = linear.bias.detach().float().clone()
        return layer

    def set_codes(self, codes: torch.Tensor, scale: torch.Tensor) -> None:
        """Keep codes int8 [N, K] and scales float32 [N] or [N, groups]."""
        self.qweight = pack_int4(codes) if self.format.packed else codes
        self.wscale = scale

    def codes(self) -> torch.Tensor:
        """Codes of the weight, int8 [N, K]. Only before a backend has laid it out anew."""
        return unpack_int4(self.qweight) if self.format.packed else self.qweight

    def activation_scale(self, x: torch.Tensor) -> torch.Tensor:
        """Scales of inputs x float32 [M, K], in the rotated basis: [M, 1] or [1, 1]."""
        if self.ascale is None:
            return activation_scale(
                x, self.format.activation_bits, self.format.activation_granularity
            )
        if self.denoising is None:
            return self.ascale[:1, None]
        return self.ascale.index_select(0, self.denoising.index)[:, None]

    def prepare(self, backend: Backend) -> None:
        """Run on this backend from now on; its layout replaces the portable one."""
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

"""
A linear layer that keeps its weight as low-bit integers.

y = (x R) (W R)^T + b, where R is the layer's rotation (`hadamard`), W R is quantized once and x R
at every call. Only the integers, their scales, the signs of R and the bias are kept.
"""
from dataclasses import dataclass

import torch
from torch import nn

from sqap_vla_ros.compression.backends import Backend, REFERENCE
from sqap_vla_ros.compression.hadamard import random_signs, rotate
from sqap_vla_ros.compression.quantization import pack_int4, quantize_weight, unpack_int4
from sqap_vla_ros.compression.recipe import FULL_PRECISION_BITS, QuantizationRecipe


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

    @property
    def packed(self) -> bool:
        """Whether two codes share a byte."""
        return self.weight_bits <= 4

    @classmethod
    def of(cls, linear: nn.Linear, recipe: QuantizationRecipe) -> 'LinearFormat':
        """
        Format that a recipe gives to a float layer.

        Raises ValueError where the layer's inputs do not divide into groups or bytes.
        """
        group = recipe.weight_group
        if group is not None and (linear.in_features % group or group >= linear.in_features):
            group = None
        if recipe.weight_bits <= 4 and linear.in_features % 2:
            raise ValueError(f'{linear.in_features} inputs do not pack into whole bytes')
        return cls(linear.in_features, linear.out_features, linear.bias is not None,
                   recipe.weight_bits, group, recipe.activation_bits,
                   recipe.activation_granularity, recipe.rotation != 'none')


class QuantLinear(nn.Module):
    """
    Replaces nn.Linear for inference.

    Made with uninitialised tensors on `device` (possibly 'meta'), for a checkpoint to fill.
    `prepare` hands the layer to a backend, which may lay the weight out anew.
    """

    def __init__(self, spec: LinearFormat, device: torch.device | str | None = None):
        super().__init__()
        self.format = spec
        self.in_features, self.out_features = spec.inputs, spec.outputs
        self.backend: Backend = REFERENCE
        self.kernel = None  # what the backend keeps beside the buffers
        rows, columns = spec.outputs, spec.inputs

        def buffer(name, present, *shape, dtype=torch.float32):
            self.register_buffer(name, torch.empty(shape, dtype=dtype, device=device)
                                 if present else None)

        whole = spec.weight_bits == FULL_PRECISION_BITS
        buffer('weight', whole, rows, columns)
        buffer('qweight', not whole, rows, columns // 2 if spec.packed else columns,
               dtype=torch.uint8 if spec.packed else torch.int8)
        groups = () if spec.weight_group is None else (columns // spec.weight_group,)
        buffer('wscale', not whole, rows, *groups)
        buffer('rotation_signs', spec.rotated, columns, dtype=torch.int8)
        buffer('bias', spec.bias, rows)

    @classmethod
    @torch.no_grad()
    def from_linear(cls, linear: nn.Linear, recipe: QuantizationRecipe) -> 'QuantLinear':
        """Quantize a float layer by round-to-nearest. The layer is left as it is."""
        layer = cls(LinearFormat.of(linear, recipe), 'meta')
        weight = linear.weight.detach().float()
        if layer.format.rotated:
            signs = random_signs(linear.in_features, recipe.rotation_seed)
            layer.rotation_signs = signs.to(weight.device)
            weight = rotate(weight, layer.rotation_signs)
        layer.set_weight(weight)
        if linear.bias is not None:
            layer.bias = linear.bias.detach().float().clone()
        return layer

    def set_weight(self, weight: torch.Tensor):
        """Quantize and keep a weight [N, K], already in the rotated basis."""
        if self.weight is not None:
            self.weight = weight
            return
        self.set_codes(*quantize_weight(weight, self.format.weight_bits, self.format.weight_group))

    def set_codes(self, codes: torch.Tensor, scale: torch.Tensor):
        """Keep codes int8 [N, K] and scales float32 [N] or [N, groups]."""
        self.qweight = pack_int4(codes) if self.format.packed else codes
        self.wscale = scale

    def codes(self) -> torch.Tensor:
        """Codes of the weight, int8 [N, K]. Only before a backend has laid it out anew."""
        return unpack_int4(self.qweight) if self.format.packed else self.qweight

    def prepare(self, backend: Backend):
        """Run on this backend from now on; its layout replaces the portable one."""
        self.backend = backend
        backend.prepare(self)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x: [..., K], any floating type. Returns [..., N] of the same type."""
        return self.backend.forward(self, x)

    def extra_repr(self) -> str:
        """See nn.Module."""
        f = self.format
        return (f'{f.inputs}, {f.outputs}, W{f.weight_bits}A{f.activation_bits}, '
                f'rotated={f.rotated}, backend={self.backend.name}')

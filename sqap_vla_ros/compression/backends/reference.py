"""Plain torch operations on every device: the reference for the other backends."""

import torch
from torch.nn.functional import linear

from sqap_vla_ros.compression.backends.base import Backend, QuantizedLayer
from sqap_vla_ros.compression.quantization.integers import dequantize_weight, levels, to_codes
from sqap_vla_ros.compression.quantization.linear_format import LinearFormat
from sqap_vla_ros.compression.recipe import FULL_PRECISION_BITS

# float32 holds every integer up to here.
_EXACT_FLOAT = 2**24


class ReferenceBackend(Backend):
    """
    Unpacks the weight at each call and multiplies integers in floating point, exactly.

    In float32 if no sum can exceed 2^24 (W4A4: up to 340 000 inputs), otherwise in float64.
    """

    name = 'reference'
    static_scales = True

    def objection(self, spec: LinearFormat, device: torch.device) -> None:
        """See `Backend`."""
        return None

    def linear(self, layer: QuantizedLayer, x: torch.Tensor) -> torch.Tensor:
        """See `Backend`."""
        bits = layer.format.activation_bits
        if bits == FULL_PRECISION_BITS:
            return linear(x, _float_weight(layer), layer.bias)
        xscale = layer.activation_scale(x)
        if layer.weight is not None:
            codes = to_codes(x, xscale, bits, torch.float32)
            return linear(codes * xscale, layer.weight.float(), layer.bias)
        y = _integer_product(layer, x, xscale) * xscale
        return y if layer.bias is None else y.add_(layer.bias)


def _float_weight(layer: QuantizedLayer) -> torch.Tensor:
    if layer.weight is not None:
        return layer.weight.float()
    return dequantize_weight(layer.codes(), layer.wscale)


def _integer_product(layer: QuantizedLayer, x: torch.Tensor, xscale: torch.Tensor) -> torch.Tensor:
    """Codes of x times codes of the weight, each exact sum times its weight scale: [M, N]."""
    spec = layer.format
    length = spec.weight_group or spec.inputs
    bound = levels(spec.weight_bits) * levels(spec.activation_bits) * length
    dtype = torch.float32 if bound < _EXACT_FLOAT else torch.float64
    codes = to_codes(x, xscale, spec.activation_bits, dtype)
    weight = layer.codes().to(dtype)
    if spec.weight_group is None:
        return linear(codes, weight).float() * layer.wscale
    # [groups, M, G] @ [groups, G, N]
    rows = torch.unflatten(codes, 1, (-1, length)).transpose(0, 1)
    sums = rows @ torch.unflatten(weight, 1, (-1, length)).permute(1, 2, 0)
    return torch.einsum('gmn,ng->mn', sums.float(), layer.wscale)


REFERENCE = ReferenceBackend()
"""The one instance that layers start with."""

"""8-bit weights by oneDNN, which is part of torch: unsigned activations, zero point 128."""

import torch

from sqap_vla_ros.compression.backends.base import Backend, QuantizedLayer
from sqap_vla_ros.compression.quantization.integers import activation_scale, levels
from sqap_vla_ros.compression.quantization.linear_format import LinearFormat
from sqap_vla_ros.compression.recipe import FULL_PRECISION_BITS

# oneDNN runs signed activations on a reference implementation that takes seconds.
_ZERO_POINT = 128


class OneDnnBackend(Backend):
    """`torch.ops.onednn.qlinear_pointwise`; AMX or VNNI where the processor has them."""

    name = 'onednn'
    devices = ('cpu',)

    def objection(self, spec: LinearFormat, device: torch.device) -> str | None:
        """See `Backend`."""
        if spec.weight_bits == FULL_PRECISION_BITS or spec.packed:
            return f'it stores weights in 8 bits, this layer has {spec.weight_bits}'
        if spec.activation_bits == FULL_PRECISION_BITS:
            return 'it multiplies integers only, and activations are floating point'
        if spec.weight_group is not None:
            return 'it has one weight scale per output, this layer has groups'
        if 'onednn' not in torch.backends.quantized.supported_engines:
            return 'torch was built without oneDNN'
        return None

    def prepare(self, layer: QuantizedLayer) -> None:
        """See `Backend`."""
        layer.qweight = torch.ops.onednn.qlinear_prepack(layer.qweight, None)
        layer.kernel = torch.zeros(layer.out_features, dtype=torch.int32)

    def linear(self, layer: QuantizedLayer, x: torch.Tensor) -> torch.Tensor:
        """See `Backend`."""
        spec = layer.format
        scale = activation_scale(x, spec.activation_bits, spec.activation_granularity)
        top = levels(spec.activation_bits)
        codes = (x / scale).round_().clamp_(-top, top).add_(_ZERO_POINT).to(torch.uint8)
        y: torch.Tensor = torch.ops.onednn.qlinear_pointwise(
            codes,
            1.0,
            _ZERO_POINT,
            layer.qweight,
            layer.wscale,
            layer.kernel,
            None,
            1.0,
            0,
            torch.float32,
            'none',
            [],
            '',
        ).mul_(scale)
        return y if layer.bias is None else y.add_(layer.bias)

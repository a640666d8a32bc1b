"""
4-bit weights and activations on fp8 tensor cores, by `torch._scaled_mm`.

Codes of up to 4 bits are exact in e4m3, and so are their products in float32: on devices without
4-bit tensor cores (Hopper, Blackwell) this is W4A4 at the speed of fp8. Weights take 8 bits each.
"""

import torch

from sqap_vla_ros.compression.backends.base import Backend, QuantizedLayer
from sqap_vla_ros.compression.backends.triton_backend import capability_of
from sqap_vla_ros.compression.quantization.integers import activation_scale, to_codes
from sqap_vla_ros.compression.quantization.linear_format import LinearFormat

OLDEST_CAPABILITY = 89
_EXACT_BITS = 4


class Fp8Backend(Backend):
    """W4A4 as e4m3 times e4m3, scaled afterwards."""

    name = 'fp8'
    devices = ('cuda', 'cpu')

    def objection(self, spec: LinearFormat, device: torch.device) -> str | None:
        """See `Backend`."""
        if device.type == 'cuda' and capability_of(device) < OLDEST_CAPABILITY:
            return (
                f'compute capability is {capability_of(device)}, fp8 needs '
                f'{OLDEST_CAPABILITY} or more'
            )
        if max(spec.weight_bits, spec.activation_bits) > _EXACT_BITS:
            return (
                f'fp8 holds codes of up to {_EXACT_BITS} bits exactly, this layer is '
                f'W{spec.weight_bits}A{spec.activation_bits}'
            )
        if spec.weight_group is not None:
            return 'it has one weight scale per output, this layer has groups'
        if spec.inputs % 16 or spec.outputs % 16:
            return f'{spec.inputs} inputs or {spec.outputs} outputs are no multiple of 16'
        return None

    def prepare(self, layer: QuantizedLayer) -> None:
        """See `Backend`."""
        layer.qweight = layer.codes().to(torch.float8_e4m3fn)
        layer.kernel = torch.ones((), device=layer.qweight.device)

    def linear(self, layer: QuantizedLayer, x: torch.Tensor) -> torch.Tensor:
        """See `Backend`."""
        spec = layer.format
        scale = activation_scale(x, spec.activation_bits, spec.activation_granularity)
        codes = to_codes(x, scale, spec.activation_bits, torch.float8_e4m3fn)
        # Hopper's fast accumulation keeps too few bits for exact sums.
        sums = torch._scaled_mm(
            codes,
            layer.qweight.t(),
            layer.kernel,
            layer.kernel,
            out_dtype=torch.float32,
            use_fast_accum=False,
        )
        y = sums.mul_(layer.wscale).mul_(scale)
        return y if layer.bias is None else y.add_(layer.bias)

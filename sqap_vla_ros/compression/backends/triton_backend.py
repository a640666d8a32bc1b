"""The package's Triton kernels: 4- and 8-bit weights on NVIDIA GPUs from Ampere on."""
from importlib.util import find_spec
import os

import torch

from sqap_vla_ros.compression.backends.base import Backend
from sqap_vla_ros.compression.quantization import levels
from sqap_vla_ros.compression.recipe import FULL_PRECISION_BITS
from sqap_vla_ros.kernels.tuning import candidates, MatmulConfig, row_bucket
from sqap_vla_ros.kernels.timing import best_seconds

OLDEST_CAPABILITY = 80


class TritonBackend(Backend):
    """Rotation and quantization in one kernel, product and scales in another."""

    name = 'triton'
    devices = ('cuda', 'cpu')

    def __init__(self):
        self._chosen: dict[tuple, MatmulConfig] = {}

    def objection(self, spec, device: torch.device) -> str | None:
        """See `Backend`."""
        if find_spec('triton') is None:
            return 'Triton is not installed (pip install triton)'
        if device.type == 'cpu' and not _interpreted():
            return 'it runs on CUDA devices (on the CPU only under TRITON_INTERPRET=1)'
        if device.type == 'cuda' and capability_of(device) < OLDEST_CAPABILITY:
            return (f'compute capability is {capability_of(device)}, it needs '
                    f'{OLDEST_CAPABILITY} or more')
        if FULL_PRECISION_BITS in (spec.weight_bits, spec.activation_bits):
            return 'it multiplies integers only, and weights or activations are floating point'
        if spec.activation_granularity != 'per_token':
            return 'it scales activations per token only'
        unit = 128 if spec.packed else 32
        for what, size in (('inputs', spec.inputs), ('inputs a weight group', spec.weight_group)):
            if size is not None and size % unit:
                return f'{size} {what} are no multiple of {unit}'
        return None

    def prepare(self, layer):
        """See `Backend`."""
        if layer.format.packed:
            from sqap_vla_ros.kernels.triton_matmul import pack

            layer.qweight = pack(layer.codes())

    def forward(self, layer, x: torch.Tensor) -> torch.Tensor:
        """See `Backend`."""
        from sqap_vla_ros.kernels.triton_matmul import matmul
        from sqap_vla_ros.kernels.triton_rows import quantize_rows

        flat = x.reshape(-1, layer.in_features).contiguous()
        codes, scales = quantize_rows(flat, levels(layer.format.activation_bits),
                                      layer.rotation_signs)
        config = self._config(layer, codes, scales)
        y = matmul(codes, scales, layer.qweight, layer.wscale, layer.bias, config, x.dtype)
        return y.view(*x.shape[:-1], layer.out_features)

    def _config(self, layer, codes, scales):
        """Fastest of the candidates on this device, timed once for each shape."""
        device = codes.device
        key = (device, layer.format, row_bucket(len(codes)))
        if key not in self._chosen:
            capability = capability_of(device) if device.type == 'cuda' else OLDEST_CAPABILITY
            found = candidates(capability, len(codes))
            self._chosen[key] = found[0] if device.type == 'cpu' else min(
                found, key=lambda config: _seconds(layer, codes, scales, config))
        return self._chosen[key]


def capability_of(device: torch.device) -> int:
    """Compute capability of a CUDA device, 10 * major + minor."""
    major, minor = torch.cuda.get_device_capability(device)
    return 10 * major + minor


def _interpreted():
    return os.environ.get('TRITON_INTERPRET') == '1'


def _seconds(layer, codes, scales, config):
    from triton.runtime.errors import OutOfResources

    from sqap_vla_ros.kernels.triton_matmul import matmul

    try:
        return best_seconds(lambda: matmul(codes, scales, layer.qweight, layer.wscale, layer.bias,
                                           config, torch.bfloat16), codes.device)
    except OutOfResources:  # a candidate for a larger device of the same generation
        return float('inf')

"""The package's Triton kernels: 4- and 8-bit weights on NVIDIA GPUs since Ampere."""

from dataclasses import dataclass
from importlib.util import find_spec
import os

import torch
from torch import nn

from sqap_vla_ros.compression.backends.base import Backend, QuantizedLayer
from sqap_vla_ros.compression.backends.fusion import (
    attentions,
    gated_mlps,
    GatedMlpLayers,
    RmsNorm,
)
from sqap_vla_ros.compression.quantization.integers import levels
from sqap_vla_ros.compression.quantization.linear_format import LinearFormat
from sqap_vla_ros.compression.recipe import FULL_PRECISION_BITS
from sqap_vla_ros.kernels.timing import best_seconds
from sqap_vla_ros.kernels.triton_tiles import candidates, MatmulConfig, row_bucket

OLDEST_CAPABILITY = 80


class TritonBackend(Backend):
    """Rotation and quantization in one kernel, product and scales in another."""

    name = 'triton'
    devices = ('cuda', 'cpu')

    def __init__(self) -> None:
        self._chosen: dict[tuple[torch.device, LinearFormat, int], MatmulConfig] = {}

    def objection(self, spec: LinearFormat, device: torch.device) -> str | None:
        """See `Backend`."""
        if find_spec('triton') is None:
            return 'Triton is not installed (pip install triton)'
        if device.type == 'cpu' and not _interpreted():
            return 'it runs on CUDA devices (on the CPU only under TRITON_INTERPRET=1)'
        if device.type == 'cuda' and capability_of(device) < OLDEST_CAPABILITY:
            return (
                f'compute capability is {capability_of(device)}, it needs '
                f'{OLDEST_CAPABILITY} or more'
            )
        if FULL_PRECISION_BITS in (spec.weight_bits, spec.activation_bits):
            return 'it multiplies integers only, and weights or activations are floating point'
        if spec.activation_granularity != 'per_token':
            return 'it scales activations per token only'
        unit = 128 if spec.packed else 32
        for what, size in (('inputs', spec.inputs), ('inputs a weight group', spec.weight_group)):
            if size is not None and size % unit:
                return f'{size} {what} are no multiple of {unit}'
        return None

    def prepare(self, layer: QuantizedLayer) -> None:
        """See `Backend`."""
        if layer.format.packed:
            from sqap_vla_ros.kernels.triton_matmul import pack

            layer.qweight = pack(layer.codes())

    def forward(self, layer: QuantizedLayer, x: 'torch.Tensor | CodesAndScales') -> torch.Tensor:
        """See `Backend`; also takes rows that a `TritonNormAndQuantize` has quantized."""
        if not isinstance(x, CodesAndScales):
            x = _quantized(layer, x)
        return self.multiply(layer, x.codes, x.scales, x.dtype).view(*x.shape[:-1], -1)

    def multiply(
        self,
        layer: QuantizedLayer,
        codes: torch.Tensor,
        scales: torch.Tensor,
        dtype: torch.dtype,
    ) -> torch.Tensor:
        """Multiply activations, codes int8 [M, K] and scales [M], by a layer: [M, N]."""
        from sqap_vla_ros.kernels.triton_matmul import matmul

        config = self._config(layer, codes, scales)
        return matmul(codes, scales, layer.qweight, layer.wscale, layer.bias, config, dtype)

    def fuse(self, model: nn.Module) -> None:
        """
        Fuse norm, rotation and quantization into one kernel for all layers that read its output.

        In a gated feed-forward network, also fuse the product with the quantization after it.
        """
        for group in gated_mlps(model, self):
            mlp = TritonGatedMlp(group.layers, group.function, group.norm, self)
            model.set_submodule(group.name, mlp)
            if group.norm_name is not None:
                model.set_submodule(group.norm_name, nn.Identity())
        for group in attentions(model, self):
            model.set_submodule(group.norm_name, TritonNormAndQuantize(group.norm, group.first))

    def _config(
        self, layer: QuantizedLayer, codes: torch.Tensor, scales: torch.Tensor
    ) -> MatmulConfig:
        """Fastest candidate on this device, timed once for each shape."""
        device = codes.device
        key = (device, layer.format, row_bucket(len(codes)))
        if key not in self._chosen:
            capability = capability_of(device) if device.type == 'cuda' else OLDEST_CAPABILITY
            found = candidates(capability, len(codes))
            self._chosen[key] = (
                found[0]
                if device.type == 'cpu'
                else min(found, key=lambda config: _seconds(layer, codes, scales, config))
            )
        return self._chosen[key]


@dataclass(frozen=True)
class CodesAndScales:
    """Quantized activations, for all layers with the same inputs and rotation."""

    codes: torch.Tensor
    """int8 [M, K]."""
    scales: torch.Tensor
    """float32 [M]."""
    shape: torch.Size
    """Shape [..., K] of what was quantized."""
    dtype: torch.dtype


class TritonNormAndQuantize(nn.Module):
    """An RMSNorm that quantizes its output once, for all layers that read it."""

    def __init__(self, norm: RmsNorm, layer: QuantizedLayer) -> None:
        super().__init__()
        self._norm, self._like = norm, [layer]  # a list: the layer is registered elsewhere

    def forward(self, x: torch.Tensor) -> CodesAndScales:
        """Quantized rows of x [..., K]."""
        return _quantized(self._like[0], x, self._norm)


class TritonGatedMlp(nn.Module):
    """Compute down(f(gate(n)) * up(n)) of n = norm(x) in five kernels."""

    def __init__(
        self, layers: GatedMlpLayers, function: str, norm: RmsNorm | None, backend: TritonBackend
    ) -> None:
        super().__init__()
        self.gate_proj, self.up_proj, self.down_proj = layers
        self._function, self._norm, self._backend = function, norm, backend

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map x [..., K] to [..., K]."""
        from sqap_vla_ros.kernels import triton_rows

        before = (
            triton_rows.SILU_MULTIPLY
            if self._function == 'silu'
            else triton_rows.GELU_TANH_MULTIPLY
        )
        multiply = self._backend.multiply
        rows = _quantized(self.gate_proj, x, self._norm)
        gate = multiply(self.gate_proj, rows.codes, rows.scales, x.dtype)
        up = multiply(self.up_proj, rows.codes, rows.scales, x.dtype)
        codes, scales = triton_rows.quantize_rows(
            up, _levels(self.down_proj), self.down_proj.rotation_signs, before, gate
        )
        return multiply(self.down_proj, codes, scales, x.dtype).view(x.shape)


def _quantized(
    layer: QuantizedLayer, x: torch.Tensor, norm: RmsNorm | None = None
) -> CodesAndScales:
    """Quantize x [..., K] as a layer's input, after a norm where one is given."""
    from sqap_vla_ros.kernels import triton_rows

    flat = x.reshape(-1, x.shape[-1]).contiguous()
    if norm is None:
        codes, scales = triton_rows.quantize_rows(flat, _levels(layer), layer.rotation_signs)
    else:
        codes, scales = triton_rows.quantize_rows(
            flat,
            _levels(layer),
            layer.rotation_signs,
            triton_rows.RMS_NORM,
            norm_weight=norm.weight,
            epsilon=norm.epsilon,
        )
    return CodesAndScales(codes, scales, x.shape, x.dtype)


def _levels(layer: QuantizedLayer) -> int:
    return levels(layer.format.activation_bits)


def capability_of(device: torch.device) -> int:
    """Compute capability of a CUDA device, 10 * major + minor."""
    major, minor = torch.cuda.get_device_capability(device)
    return 10 * major + minor


def _interpreted() -> bool:
    return os.environ.get('TRITON_INTERPRET') == '1'


def _seconds(
    layer: QuantizedLayer, codes: torch.Tensor, scales: torch.Tensor, config: MatmulConfig
) -> float:
    from triton.runtime.errors import OutOfResources

    from sqap_vla_ros.kernels.triton_matmul import matmul

    try:
        return best_seconds(
            lambda: matmul(
                codes, scales, layer.qweight, layer.wscale, layer.bias, config, torch.bfloat16
            ),
            codes.device,
        )
    except OutOfResources:  # a candidate for a larger device of the same generation
        return float('inf')

"""The package's C++ kernels: rotation, quantization, product and scales in one call."""

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
from sqap_vla_ros.compression.quantization.query_key import QueryKeyQuantizer
from sqap_vla_ros.compression.recipe import FULL_PRECISION_BITS
from sqap_vla_ros.errors import UserError
from sqap_vla_ros.kernels import cpu


class CpuBackend(Backend):
    """AMX, AVX-512-VNNI, AVX2 or plain C++, chosen by the processor."""

    name = 'cpu'
    devices = ('cpu',)

    @property
    def label(self) -> str:
        """See `Backend`."""
        return f'cpu_{cpu.instruction_set()}'

    def objection(self, spec: LinearFormat, device: torch.device) -> str | None:
        """See `Backend`."""
        if FULL_PRECISION_BITS in (spec.weight_bits, spec.activation_bits):
            return 'it multiplies integers only, and weights or activations are floating point'
        if spec.activation_granularity != 'per_token':
            return 'it scales activations per token only'
        if spec.weight_group is not None and spec.weight_group % 4:
            return f'weight groups of {spec.weight_group} inputs are no multiple of 4'
        try:
            cpu.load()
        except UserError as error:
            return str(error)
        return None

    def prepare(self, layer: QuantizedLayer) -> None:
        """See `Backend`."""
        kernel = cpu.PackedLinear(
            layer.qweight,
            layer.wscale,
            layer.bias,
            layer.rotation_signs,
            levels(layer.format.activation_bits),
        )
        layer.kernel = kernel
        layer.qweight, layer.wscale, layer.bias = kernel.weights, kernel.scales, kernel.bias

    def forward(self, layer: QuantizedLayer, x: torch.Tensor | cpu.PackedRows) -> torch.Tensor:
        """See `Backend`; also takes rows that a `CpuNormAndQuantize` has quantized."""
        kernel: cpu.PackedLinear = layer.kernel
        if type(x) is cpu.PackedRows:
            return cpu.multiply(kernel, x)
        if x.dtype in cpu.TYPES:
            return kernel(x)
        return kernel(x.float()).to(x.dtype)

    def fuse(self, model: nn.Module) -> None:
        """
        Replace many small calls by fewer, larger ones.

        A gated feed-forward network and its norm become one call. Query, key and value layers
        share one norm and one quantization of their input. Queries and keys are rounded in one
        call.
        """
        for group in gated_mlps(model, self):
            mlp = CpuGatedMlp(group.layers, group.function, group.norm)
            model.set_submodule(group.name, mlp)
            if group.norm_name is not None:
                model.set_submodule(group.norm_name, nn.Identity())
        for group in attentions(model, self):
            model.set_submodule(
                group.norm_name,
                CpuNormAndQuantize(model.get_submodule(group.norm_name), group.norm, group.first),
            )
        for module in model.modules():
            for quantizer in vars(module).values():
                if isinstance(quantizer, QueryKeyQuantizer):
                    quantizer.round_rows = cpu.round_rows


class CpuGatedMlp(nn.Module):
    """Compute down(f(gate(n)) * up(n)) of n = norm(x), in float32 between the layers."""

    def __init__(self, layers: GatedMlpLayers, function: str, norm: RmsNorm | None) -> None:
        super().__init__()
        self.gate_proj, self.up_proj, self.down_proj = layers
        self._function = function
        self._norm = (norm.weight, norm.epsilon) if norm else (None, 0.0)
        self._kernels: list[cpu.PackedLinear] = [layer.kernel for layer in layers]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map x [..., K] to [..., K]."""
        if x.dtype in cpu.TYPES:
            return cpu.gated_mlp(*self._kernels, x, self._function, *self._norm)
        return cpu.gated_mlp(*self._kernels, x.float(), self._function, *self._norm).to(x.dtype)


class CpuNormAndQuantize(nn.Module):
    """An RMSNorm that quantizes its output once, for all layers that read it."""

    def __init__(self, module: nn.Module, norm: RmsNorm, layer: QuantizedLayer) -> None:
        """
        Replace a norm.

        Args:
            module: the norm itself, for types that the kernels do not support.
            norm: its weight and epsilon.
            layer: one of the layers that read the output.
        """
        super().__init__()
        self.norm = module
        self._fused = norm
        self._kernel: cpu.PackedLinear = layer.kernel

    def forward(self, x: torch.Tensor) -> torch.Tensor | cpu.PackedRows:
        """Quantized rows of x [..., K]; for a type without kernels, the norm's own output."""
        if x.dtype not in cpu.TYPES:
            normed: torch.Tensor = self.norm(x)
            return normed
        return cpu.quantize_once(self._kernel, x, self._fused.weight, self._fused.epsilon)

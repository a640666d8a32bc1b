"""The package's C++ kernels: rotation, quantization, product and scales in one call."""

import torch
from torch import nn

from sqap_vla_ros.compression.backends.base import Backend
from sqap_vla_ros.compression.backends.fusion import attentions, gated_mlps, RmsNorm
from sqap_vla_ros.compression.quantization.integers import levels
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

    def objection(self, spec, device: torch.device) -> str | None:
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

    def prepare(self, layer) -> None:
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

    def forward(self, layer, x: torch.Tensor | cpu.QuantizedRows) -> torch.Tensor:
        """See `Backend`; also takes rows that a `NormAndQuantize` before it has quantized."""
        if type(x) is cpu.QuantizedRows:
            return cpu.multiply(layer.kernel, x)
        if x.dtype in cpu.TYPES:
            return layer.kernel(x)
        return layer.kernel(x.float()).to(x.dtype)

    def fuse(self, model: nn.Module) -> None:
        """
        Put fewer and larger calls in place of many small ones.

        A gated feed-forward network and its norm become one call; query, key and value layers
        share one norm and quantization of their input; rounding of queries and keys is one call.
        """
        for group in gated_mlps(model, self):
            mlp = GatedMlp(model.get_submodule(group.name), group.function, group.norm)
            model.set_submodule(group.name, mlp)
            if group.norm_name is not None:
                model.set_submodule(group.norm_name, nn.Identity())
        for group in attentions(model, self):
            model.set_submodule(
                group.norm_name,
                NormAndQuantize(
                    model.get_submodule(group.norm_name),
                    group.norm,
                    model.get_submodule(group.first),
                ),
            )
        for module in model.modules():
            for quantizer in vars(module).values():
                if isinstance(quantizer, QueryKeyQuantizer):
                    quantizer.round_rows = cpu.round_rows


class GatedMlp(nn.Module):
    """Compute down(f(gate(n)) * up(n)) of n = norm(x), in float32 between the layers."""

    def __init__(self, mlp: nn.Module, function: str, norm: RmsNorm | None) -> None:
        super().__init__()
        self.gate_proj, self.up_proj, self.down_proj = mlp.gate_proj, mlp.up_proj, mlp.down_proj
        self._arguments = (function, *((norm.weight, norm.epsilon) if norm else ()))
        self._kernels = [layer.kernel for layer in (self.gate_proj, self.up_proj, self.down_proj)]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map x [..., K] to [..., K]."""
        if x.dtype in cpu.TYPES:
            return cpu.gated_mlp(*self._kernels, x, *self._arguments)
        return cpu.gated_mlp(*self._kernels, x.float(), *self._arguments).to(x.dtype)


class NormAndQuantize(nn.Module):
    """An RMSNorm whose output is quantized at once, for the layers that read it."""

    def __init__(self, module: nn.Module, norm: RmsNorm, layer: nn.Module) -> None:
        super().__init__()
        self.norm = module
        self._fused, self._kernel = norm, layer.kernel

    def forward(self, x: torch.Tensor) -> torch.Tensor | cpu.QuantizedRows:
        """Quantized rows of x [..., K]; of a type without kernels, the norm's own output."""
        if x.dtype not in cpu.TYPES:
            return self.norm(x)
        return cpu.quantize_once(self._kernel, x, self._fused.weight, self._fused.epsilon)

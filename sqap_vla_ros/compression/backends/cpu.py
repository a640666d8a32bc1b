"""The package's C++ kernels: rotation, quantization, product and scales in one call."""
import torch
from torch import nn

from sqap_vla_ros.compression.backends.base import Backend
from sqap_vla_ros.compression.backends.gated_mlp import gated_mlps
from sqap_vla_ros.compression.quantization import levels
from sqap_vla_ros.compression.query_key import QueryKeyQuantizer
from sqap_vla_ros.compression.recipe import FULL_PRECISION_BITS
from sqap_vla_ros.errors import UserError
from sqap_vla_ros.kernels import cpu


class CpuBackend(Backend):
    """AVX-512-VNNI, AVX2 or plain C++, chosen by the processor."""

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

    def prepare(self, layer):
        """See `Backend`."""
        kernel = cpu.PackedLinear(layer.qweight, layer.wscale, layer.bias, layer.rotation_signs,
                                  levels(layer.format.activation_bits))
        layer.kernel = kernel
        layer.qweight, layer.wscale, layer.bias = kernel.weights, kernel.scales, kernel.bias

    def forward(self, layer, x: torch.Tensor) -> torch.Tensor:
        """See `Backend`."""
        if x.dtype in cpu.TYPES:
            return layer.kernel(x)
        return layer.kernel(x.float()).to(x.dtype)

    def fuse(self, model: nn.Module):
        """Gated feed-forward networks become one call, rounding of queries and keys another."""
        for name, function in gated_mlps(model, self):
            model.set_submodule(name, GatedMlp(model.get_submodule(name), function))
        for module in model.modules():
            for quantizer in vars(module).values():
                if isinstance(quantizer, QueryKeyQuantizer):
                    quantizer.round_rows = cpu.round_rows


class GatedMlp(nn.Module):
    """Compute down(f(gate(x)) * up(x)), what is between the layers in float32."""

    def __init__(self, mlp: nn.Module, function: str):
        super().__init__()
        self.gate_proj, self.up_proj, self.down_proj = mlp.gate_proj, mlp.up_proj, mlp.down_proj
        self.function = function
        self._kernels = [layer.kernel for layer in (self.gate_proj, self.up_proj, self.down_proj)]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map x [..., K] to [..., K]."""
        if x.dtype in cpu.TYPES:
            return cpu.gated_mlp(*self._kernels, x, self.function)
        return cpu.gated_mlp(*self._kernels, x.float(), self.function).to(x.dtype)

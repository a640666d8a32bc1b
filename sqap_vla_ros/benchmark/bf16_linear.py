"""The bfloat16 baseline of the CPU: linear layers as fast as torch and oneDNN can run them."""

from functools import cache

import torch
from torch import nn
from torch.nn.functional import linear as torch_linear


class Bf16Linear(nn.Module):
    """
    bfloat16 linear layer, with its weight packed once by oneDNN where the processor can do that.

    nn.Linear packs it at every call, which costs more than the product where rows are few; with
    the packed weight the baseline is a fair one. oneDNN packs bfloat16 on x86 with AVX-512 or
    AVX-NE-CONVERT only. Elsewhere torch's own bfloat16 linear runs, which is the fastest bfloat16
    that such a processor has.
    """

    def __init__(self, linear: nn.Linear, rows: int) -> None:
        """
        Take over a layer.

        Args:
            linear: bfloat16, on the CPU.
            rows: of the activations; the weight is packed for about this number.
        """
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.bias = linear.bias
        self.weight = None if can_prepack() else linear.weight
        if self.weight is None:
            self._packed = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach(), rows)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map x [..., in_features], bfloat16, to [..., out_features]."""
        if self.weight is not None:
            return torch_linear(x, self.weight, self.bias)
        packed: torch.Tensor = torch.ops.mkldnn._linear_pointwise(
            x, self._packed, self.bias, 'none', [], ''
        )
        return packed

    @property
    def packed_bytes(self) -> int:
        """Bytes of the packed weight, which is no parameter; 0 where it is not packed."""
        return 0 if self.weight is not None else self.in_features * self.out_features * 2


@cache
def can_prepack() -> bool:
    """Try whether oneDNN packs and runs a bfloat16 linear layer on this processor."""
    try:
        weight, x = (torch.zeros(shape, dtype=torch.bfloat16) for shape in ((16, 16), (1, 16)))
        packed = torch.ops.mkldnn._reorder_linear_weight(weight, 1)
        torch.ops.mkldnn._linear_pointwise(x, packed, None, 'none', [], '')
    except (RuntimeError, AttributeError):  # not this processor, or torch without oneDNN
        return False
    return True


def baseline_name() -> str:
    """Name what runs `Bf16Linear` here: 'onednn_bf16' (packed once) or 'torch_bf16'."""
    return 'onednn_bf16' if can_prepack() else 'torch_bf16'


def replace_bf16_linears(model: nn.Module, rows: int) -> str:
    """
    Replace every bfloat16 nn.Linear of a model on the CPU by `Bf16Linear`.

    Args:
        model: changed in place.
        rows: of the activations, about.

    Returns:
        `baseline_name`.
    """
    for name, module in list(model.named_modules()):
        if isinstance(module, nn.Linear) and module.weight.dtype == torch.bfloat16:
            model.set_submodule(name, Bf16Linear(module, rows))
    return baseline_name()

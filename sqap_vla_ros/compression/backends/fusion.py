"""Groups of layers that a backend can run as one, found by their names in transformers."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import nn
from torch.nn import functional

from sqap_vla_ros.compression.backends.base import Backend
from sqap_vla_ros.compression.quantization.linear_format import LinearFormat
from sqap_vla_ros.compression.quantization.quant_linear import QuantLinear

GatedMlpLayers = tuple[QuantLinear, QuantLinear, QuantLinear]
"""Gate, up and down layers of a gated feed-forward network."""

_Activation = Callable[[torch.Tensor], torch.Tensor]
_MLP = ('gate_proj', 'up_proj', 'down_proj')
_ATTENTION = ('q_proj', 'k_proj', 'v_proj')


@dataclass(frozen=True)
class RmsNorm:
    """An RMSNorm as Llama has it: rounded to the input's type before and after the weight."""

    weight: torch.Tensor
    """float32 [K]."""
    epsilon: float

    @classmethod
    def of(cls, module: nn.Module | None) -> 'RmsNorm | None':
        """Copy a transformers LlamaRMSNorm; None for any other module."""
        if module is None or type(module).__name__ != 'LlamaRMSNorm':
            return None
        weight = cast(torch.Tensor, module.weight)
        epsilon = cast(float, module.variance_epsilon)
        return cls(weight.detach().float().contiguous(), float(epsilon))


@dataclass(frozen=True)
class GatedMlpGroup:
    """A module down(f(gate(x)) * up(x)), and the norm before it."""

    name: str
    layers: GatedMlpLayers
    function: str
    """'silu' or 'gelu_tanh'."""
    norm_name: str | None
    norm: RmsNorm | None
    """The parent's `post_attention_layernorm`; None if there is none that can be fused."""


@dataclass(frozen=True)
class AttentionGroup:
    """Query, key and value layers that are the only readers of one norm's output."""

    norm_name: str
    norm: RmsNorm
    first: QuantLinear
    """The query layer."""


def gated_mlps(model: nn.Module, backend: Backend) -> list[GatedMlpGroup]:
    """
    Find gated feed-forward networks whose layers this backend runs.

    Gate and up must share their rotation, so that one quantization of x serves both.
    """
    found = []
    for name, module in model.named_modules():
        layers = _layers(module, _MLP, backend)
        if layers is None or not hasattr(module, 'act_fn') or not _share_input(layers[:2]):
            continue
        gate, up, down = layers
        function = _name_of(cast(_Activation, module.act_fn))
        if function is None:
            continue
        parent = name.rpartition('.')[0]
        norm = RmsNorm.of(getattr(model.get_submodule(parent), 'post_attention_layernorm', None))
        norm_name = f'{parent}.post_attention_layernorm' if norm else None
        found.append(GatedMlpGroup(name, (gate, up, down), function, norm_name, norm))
    return found


def attentions(model: nn.Module, backend: Backend) -> list[AttentionGroup]:
    """Find decoder layers whose query, key and value layers this backend runs."""
    found = []
    for name, module in model.named_modules():
        block: nn.Module | None = getattr(module, 'self_attn', None)
        layers = _layers(block, _ATTENTION, backend) if block is not None else None
        norm = RmsNorm.of(getattr(module, 'input_layernorm', None))
        if layers is not None and norm is not None and _share_input(layers):
            found.append(AttentionGroup(f'{name}.input_layernorm', norm, layers[0]))
    return found


def _layers(module: nn.Module, names: Sequence[str], backend: Backend) -> list[QuantLinear] | None:
    """Layers of a module by name; None unless this backend runs all of them."""
    layers = [getattr(module, name, None) for name in names]
    if all(getattr(layer, 'backend', None) is backend for layer in layers):
        return cast(list[QuantLinear], layers)
    return None


def _share_input(layers: Sequence[QuantLinear]) -> bool:
    first, *others = layers
    return all(
        _same(layer.rotation_signs, first.rotation_signs)
        and _input_format(layer) == _input_format(first)
        for layer in others
    )


def _input_format(layer: QuantLinear) -> LinearFormat:
    """Reduce a format to the part that decides how the input is quantized."""
    return replace(layer.format, outputs=0, bias=False)


def _same(a: torch.Tensor | None, b: torch.Tensor | None) -> bool:
    return a is b or (a is not None and b is not None and torch.equal(a, b))


def _name_of(function: _Activation) -> str | None:
    """Name of an activation, by its values: transformers has several classes for one."""
    probe = torch.linspace(-6, 6, 25)
    known: dict[str, _Activation] = {
        'silu': functional.silu,
        'gelu_tanh': lambda x: functional.gelu(x, approximate='tanh'),
    }
    for name, reference in known.items():
        if torch.allclose(function(probe), reference(probe), atol=1e-6):
            return name
    return None

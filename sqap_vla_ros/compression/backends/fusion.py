"""Groups of layers that a backend can run as a whole: found by their names in transformers."""

from dataclasses import dataclass, replace

import torch
from torch import nn
from torch.nn import functional

from sqap_vla_ros.compression.backends.base import Backend

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
        """Take over a transformers LlamaRMSNorm; None for any other module."""
        if type(module).__name__ != 'LlamaRMSNorm':
            return None
        return cls(module.weight.detach().float().contiguous(), float(module.variance_epsilon))


@dataclass(frozen=True)
class GatedMlpGroup:
    """A module down(f(gate(x)) * up(x)), and the norm before it."""

    name: str
    function: str
    """'silu' or 'gelu_tanh'."""
    norm_name: str | None
    norm: RmsNorm | None
    """Of `parent.post_attention_layernorm`; None where there is none that can be taken over."""


@dataclass(frozen=True)
class AttentionGroup:
    """Query, key and value layers that read the output of one norm, and nobody else does."""

    norm_name: str
    norm: RmsNorm
    first: str
    """Name of the query layer."""


def gated_mlps(model: nn.Module, backend: Backend) -> list[GatedMlpGroup]:
    """
    Find gated feed-forward networks whose layers this backend runs.

    Gate and up share their rotation, so that one quantization of x serves both.
    """
    found = []
    for name, module in model.named_modules():
        layers = _layers(module, _MLP, backend)
        if layers is None or not hasattr(module, 'act_fn') or not _share_input(layers[:2]):
            continue
        function = _name_of(module.act_fn)
        if function is None:
            continue
        parent = name.rpartition('.')[0]
        norm = RmsNorm.of(getattr(model.get_submodule(parent), 'post_attention_layernorm', None))
        norm_name = f'{parent}.post_attention_layernorm' if norm else None
        found.append(GatedMlpGroup(name, function, norm_name, norm))
    return found


def attentions(model: nn.Module, backend: Backend) -> list[AttentionGroup]:
    """Find decoder layers whose query, key and value layers this backend runs."""
    found = []
    for name, module in model.named_modules():
        block = getattr(module, 'self_attn', None)
        layers = _layers(block, _ATTENTION, backend) if block is not None else None
        norm = RmsNorm.of(getattr(module, 'input_layernorm', None))
        if layers is not None and norm is not None and _share_input(layers):
            found.append(
                AttentionGroup(
                    f'{name}.input_layernorm', norm, f'{name}.self_attn.{_ATTENTION[0]}'
                )
            )
    return found


def _layers(module, names, backend):
    layers = [getattr(module, name, None) for name in names]
    return layers if all(getattr(layer, 'backend', None) is backend for layer in layers) else None


def _share_input(layers):
    first, *others = layers
    return all(
        _same(layer.rotation_signs, first.rotation_signs) and _input(layer) == _input(first)
        for layer in others
    )


def _input(layer):
    """Format of a layer as far as it decides how its input is quantized."""
    return replace(layer.format, outputs=0, bias=False)


def _same(a, b):
    return a is b or (a is not None and b is not None and torch.equal(a, b))


def _name_of(function):
    """Name of an activation, by what it does: transformers has several classes for one."""
    probe = torch.linspace(-6, 6, 25)
    for name, known in (
        ('silu', functional.silu),
        ('gelu_tanh', lambda x: functional.gelu(x, approximate='tanh')),
    ):
        if torch.allclose(function(probe), known(probe), atol=1e-6):
            return name
    return None

"""Gated feed-forward networks that a backend can run as a whole."""
import torch
from torch import nn
from torch.nn import functional

from sqap_vla_ros.compression.backends.base import Backend

LAYERS = ('gate_proj', 'up_proj', 'down_proj')
"""Names of the three layers, as transformers' Llama and Gemma have them."""


def gated_mlps(model: nn.Module, backend: Backend) -> list[tuple[str, str]]:
    """
    Find modules down(f(gate(x)) * up(x)) whose layers this backend runs.

    Returns names of modules, and 'silu' or 'gelu_tanh' for f. Gate and up share their rotation,
    so that one quantization of x serves both.
    """
    found = []
    for name, module in model.named_modules():
        layers = [getattr(module, layer, None) for layer in LAYERS]
        if not (hasattr(module, 'act_fn')
                and all(getattr(layer, 'backend', None) is backend for layer in layers)):
            continue
        gate, up = layers[:2]
        function = _name_of(module.act_fn)
        if gate.format == up.format and _same(gate.rotation_signs, up.rotation_signs) and function:
            found.append((name, function))
    return found


def _same(a, b):
    return a is b or (a is not None and b is not None and torch.equal(a, b))


def _name_of(function):
    """Name of an activation, by what it does: transformers has several classes for one."""
    probe = torch.linspace(-6, 6, 25)
    for name, known in (('silu', functional.silu),
                        ('gelu_tanh', lambda x: functional.gelu(x, approximate='tanh'))):
        if torch.allclose(function(probe), known(probe), atol=1e-6):
            return name
    return None

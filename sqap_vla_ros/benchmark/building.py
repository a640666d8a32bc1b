"""Models of real shapes with random weights, made in the precision in which they run."""

import math
from typing import ClassVar

import torch
from torch import nn
from transformers import LlamaConfig

from sqap_vla_ros.benchmark.machine import free_bytes
from sqap_vla_ros.benchmark.presets import Preset
from sqap_vla_ros.benchmark.variants import prepack, PrepackedLinear, Variant
from sqap_vla_ros.compression.compress import configure, layer_names, make_room, prepare
from sqap_vla_ros.compression.quantization.quant_linear import QuantLinear
from sqap_vla_ros.errors import UserError
from sqap_vla_ros.kernels.hadamard import random_signs
from sqap_vla_ros.models.layers.decoder import PrunableDecoder
from sqap_vla_ros.models.registry import build_model
from sqap_vla_ros.models.vla_model import VlaModel

_HEADROOM = 1.15
"""Memory for activations and for laying weights out anew, as a factor of the weights."""


class BareDecoder(VlaModel):
    """Nothing but decoder layers, for measurements."""

    target_roots: ClassVar[dict[str, tuple[str, ...]]] = {'decoder': ('decoder.llama.layers',)}

    def __init__(self, llama: dict) -> None:
        super().__init__()
        self.decoder = PrunableDecoder(LlamaConfig(**llama))

    @property
    def head_width(self) -> int:
        """See `VlaModel`."""
        return self.decoder.llama.layers[0].self_attn.head_dim

    def set_query_key_quantizer(self, quantizer) -> None:
        """See `VlaModel`."""
        self.decoder.query_key_quantizer = quantizer


def outline(preset: Preset, variant: Variant) -> nn.Module:
    """Make the module tree without storage, the decoder's layers quantized as the variant says."""
    with torch.device('meta'):
        model = (
            BareDecoder(preset.config)
            if isinstance(preset.config, dict)
            else build_model(preset.config)
        ).to(variant.dtype)
        recipe = variant.recipe
        make_room(model, recipe, layer_names(model, recipe))
    return model.eval().requires_grad_(False)


def needed_bytes(model: nn.Module) -> int:
    """Bytes of all weights of a model, with storage or without."""
    packed = sum(m.packed_bytes for m in model.modules() if isinstance(m, PrepackedLinear))
    return packed + sum(
        t.numel() * t.element_size() for t in (*model.parameters(), *model.buffers())
    )


def build(
    preset: Preset, variant: Variant, device: torch.device, backend: str
) -> tuple[nn.Module, str]:
    """
    Make a model; returns it and the names of the backends that run it.

    Raises UserError where it does not fit into the memory that is free.
    """
    model = outline(preset, variant)
    needed, free = needed_bytes(model) * _HEADROOM, free_bytes(device)
    if needed > free:
        raise UserError(
            f'{variant.name}: {preset.name} needs {needed / 1e9:.1f} GB, '
            f'{free / 1e9:.1f} GB are free on {device}'
        )
    generator = torch.Generator().manual_seed(0)
    for module in model.modules():
        if isinstance(module, QuantLinear):
            _fill_quantized(module, device, generator)
        else:
            _fill(module, device, generator)
    model.restore_buffers()
    configure(model, variant.recipe)
    backends = prepare(model, backend)
    if device.type == 'cpu' and variant.dtype == torch.bfloat16:
        prepack(model, preset.visual_tokens + preset.text_tokens)
        backends = f'{backends}+onednn_bf16' if variant.quantization else 'onednn_bf16'
    return model, backends


def _fill(module, device, generator) -> None:
    for name, parameter in list(module.named_parameters(recurse=False)):
        value = torch.empty(parameter.shape, dtype=parameter.dtype)
        if parameter.dim() < 2:
            value.fill_(1.0 if name == 'weight' else 0.0)
        else:
            _repeat_noise(value, parameter.shape[-1] ** -0.5, generator)
        setattr(module, name, nn.Parameter(value.to(device), requires_grad=False))


def _repeat_noise(value, deviation, generator) -> None:
    """Fill a tensor with a block of noise again and again: drawing billions of numbers is slow."""
    block = torch.randn(min(value.numel(), 2**20 + 7), generator=generator) * deviation
    flat = value.view(-1)
    for start in range(0, flat.numel(), block.numel()):
        part = flat[start : start + block.numel()]
        part.copy_(block[: part.numel()])


def _fill_quantized(layer, device, generator) -> None:
    spec = layer.format
    shape, scale_shape = layer.qweight.shape, layer.wscale.shape
    block = torch.randint(
        0, 256, (min(math.prod(shape), 2**20 + 7),), dtype=torch.uint8, generator=generator
    )
    # Codes are symmetric: -128, and -8 in each half of a byte, do not occur.
    if spec.packed:
        low, high = block & 15, block >> 4
        block = low.clamp(min=1) | high.clamp(min=1) << 4
    else:
        block = block.view(torch.int8).clamp(min=-127)
    repeats = -(-math.prod(shape) // len(block))
    layer.qweight = block.repeat(repeats)[: math.prod(shape)].view(shape).to(device)
    layer.wscale = torch.full(
        scale_shape, spec.inputs**-0.5 / 2 ** (spec.weight_bits - 2), device=device
    )
    if spec.rotated:
        # As in a compressed model: layers that share their input share its rotation, which is
        # what lets a backend fuse them.
        layer.rotation_signs = random_signs(spec.inputs, 0).to(device)
    if spec.bias:
        layer.bias = torch.zeros(spec.outputs, device=device)

"""Models of real shape with random weights, built in the precision in which they run."""

import math

import torch
from torch import nn

from sqap_vla_ros.benchmark.bare_decoder import measured_family
from sqap_vla_ros.benchmark.bf16_linear import Bf16Linear, replace_bf16_linears
from sqap_vla_ros.benchmark.machine import free_bytes
from sqap_vla_ros.benchmark.variants import Variant
from sqap_vla_ros.compression.compress import configure, layer_names, make_room, prepare
from sqap_vla_ros.compression.quantization.quant_linear import QuantLinear
from sqap_vla_ros.errors import UserError
from sqap_vla_ros.kernels.hadamard import random_signs
from sqap_vla_ros.models.family import Preset
from sqap_vla_ros.models.vla_model import VlaModel

_HEADROOM = 1.15
"""Factor on the memory of the weights, for activations and for repacking weights."""


def outline(preset: Preset, variant: Variant) -> VlaModel:
    """Make the module tree without storage, the decoder's layers quantized as the variant says."""
    with torch.device('meta'):
        model = measured_family(preset).model(preset.config).to(variant.dtype)
        recipe = variant.recipe
        make_room(model, recipe, layer_names(model, recipe))
    return model.eval().requires_grad_(False)


def needed_bytes(model: nn.Module) -> int:
    """Count the bytes of all weights of a model, with storage or without."""
    packed = sum(m.packed_bytes for m in model.modules() if isinstance(m, Bf16Linear))
    return packed + sum(
        t.numel() * t.element_size() for t in (*model.parameters(), *model.buffers())
    )


def build(
    preset: Preset, variant: Variant, device: torch.device, backend: str
) -> tuple[VlaModel, str]:
    """
    Make a model with random weights.

    Args:
        preset: its shape.
        variant: its precision, quantization and pruning.
        device: where it runs.
        backend: of the quantized layers.

    Returns:
        The model, and the names of the backends that run it, with that of the bfloat16 layers on
        a CPU.

    Raises:
        UserError: it does not fit into the free memory.
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
        baseline = replace_bf16_linears(model, preset.visual_tokens + preset.text_tokens)
        backends = f'{backends}+{baseline}' if variant.quantization else baseline
    return model, backends


def _fill(module: nn.Module, device: torch.device, generator: torch.Generator) -> None:
    for name, parameter in list(module.named_parameters(recurse=False)):
        value = torch.empty(parameter.shape, dtype=parameter.dtype)
        if parameter.dim() < 2:
            value.fill_(1.0 if name == 'weight' else 0.0)
        else:
            _repeat_noise(value, parameter.shape[-1] ** -0.5, generator)
        setattr(module, name, nn.Parameter(value.to(device), requires_grad=False))


def _repeat_noise(value: torch.Tensor, deviation: float, generator: torch.Generator) -> None:
    """Fill a tensor with repetitions of a block of noise; drawing billions of numbers is slow."""
    block = torch.randn(min(value.numel(), 2**20 + 7), generator=generator) * deviation
    flat = value.view(-1)
    for start in range(0, flat.numel(), block.numel()):
        part = flat[start : start + block.numel()]
        part.copy_(block[: part.numel()])


def _fill_quantized(layer: QuantLinear, device: torch.device, generator: torch.Generator) -> None:
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
        # As in a compressed model, layers that share an input share its rotation, so that a
        # backend can fuse them.
        layer.rotation_signs = random_signs(spec.inputs, 0).to(device)
    if spec.bias:
        layer.bias = torch.zeros(spec.outputs, device=device)

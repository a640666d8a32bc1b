"""What a layer sees while the float model runs on calibration samples."""

from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn

from sqap_vla_ros.compression.quantization.denoising_step import DenoisingStep
from sqap_vla_ros.kernels.hadamard import rotate


@dataclass
class InputStatistics:
    """Of one layer's inputs, in the basis in which they are quantized."""

    hessian: torch.Tensor | None
    """float32 [K, K], sum of x x^T; None where it is not asked for."""
    largest: torch.Tensor
    """float32 [steps], greatest magnitude in each denoising step (one step elsewhere)."""


@contextmanager
def collecting(
    layers: dict[str, nn.Linear],
    signs: dict[str, torch.Tensor],
    steps: dict[str, DenoisingStep],
    hessians: bool,
):
    """
    Collect statistics of every call of some layers, by name, while the context lasts.

    signs: rotation of the layers that have one; steps: of the layers that run inside a denoising
    loop.
    """
    collected, handles = {}, []

    def collector(name, layer):
        step = steps.get(name)
        statistics = collected[name] = InputStatistics(
            layer.weight.new_zeros(layer.in_features, layer.in_features, dtype=torch.float32)
            if hessians
            else None,
            layer.weight.new_zeros(step.steps if step else 1, dtype=torch.float32),
        )

        def collect(_, inputs) -> None:
            x = inputs[0].detach().reshape(-1, layer.in_features).float()
            if name in signs:
                x = rotate(x, signs[name])
            index = step.index if step else torch.zeros(1, dtype=torch.int64, device=x.device)
            statistics.largest.scatter_reduce_(0, index, x.abs().amax()[None], 'amax')
            if hessians:
                statistics.hessian.addmm_(x.T, x)

        return collect

    for name, layer in layers.items():
        handles.append(layer.register_forward_pre_hook(collector(name, layer)))
    try:
        yield collected
    finally:
        for handle in handles:
            handle.remove()

"""Statistics of a layer's inputs while the float model runs on calibration samples."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn

from sqap_vla_ros.compression.quantization.denoising_step import DenoisingStep
from sqap_vla_ros.kernels.hadamard import rotate


@dataclass
class InputStatistics:
    """Statistics of one layer's inputs, in the basis in which they are quantized."""

    hessian: torch.Tensor | None
    """float32 [K, K], sum of x x^T; None if not collected."""
    largest: torch.Tensor
    """float32 [steps], largest magnitude in each denoising step; [1] outside of a loop."""


@contextmanager
def collecting(
    layers: dict[str, nn.Linear],
    signs: dict[str, torch.Tensor],
    steps: dict[str, DenoisingStep],
    hessians: bool,
) -> Iterator[dict[str, InputStatistics]]:
    """
    Collect statistics of every call of some layers while the context lasts.

    Args:
        layers: the layers, by name.
        signs: int8 [K], rotation signs of the layers whose inputs are rotated, by name.
        steps: denoising step of the layers that run inside a denoising loop, by name.
        hessians: whether to collect `InputStatistics.hessian`.

    Yields:
        Statistics by name, updated by each call.
    """
    collected: dict[str, InputStatistics] = {}
    handles = []

    def collector(
        name: str, layer: nn.Linear
    ) -> Callable[[nn.Module, tuple[torch.Tensor, ...]], None]:
        step = steps.get(name)
        statistics = collected[name] = InputStatistics(
            layer.weight.new_zeros(layer.in_features, layer.in_features, dtype=torch.float32)
            if hessians
            else None,
            layer.weight.new_zeros(step.steps if step else 1, dtype=torch.float32),
        )

        def collect(_: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
            x = inputs[0].detach().reshape(-1, layer.in_features).float()
            if name in signs:
                x = rotate(x, signs[name])
            index = step.index if step else torch.zeros(1, dtype=torch.int64, device=x.device)
            statistics.largest.scatter_reduce_(0, index, x.abs().amax()[None], 'amax')
            if statistics.hessian is not None:
                statistics.hessian.addmm_(x.T, x)

        return collect

    for name, layer in layers.items():
        handles.append(layer.register_forward_pre_hook(collector(name, layer)))
    try:
        yield collected
    finally:
        for handle in handles:
            handle.remove()

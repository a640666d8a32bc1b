"""Single linear layers of a decoder: low bits against the bfloat16 baseline, and the peak."""

from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter

import numpy as np
import torch
from torch import nn

from sqap_vla_ros.benchmark.bf16_linear import baseline_name, Bf16Linear
from sqap_vla_ros.benchmark.paired import paired_ratio, Ratio
from sqap_vla_ros.benchmark.variants import parse, Variant
from sqap_vla_ros.compression.dispatch import choose_backend
from sqap_vla_ros.compression.quantization.quant_linear import QuantLinear
from sqap_vla_ros.kernels.timing import synchronize

ROWS = (1, 4, 16, 192, 290)


@dataclass(frozen=True)
class LinearResult:
    """One layer shape at one number of rows."""

    inputs: int
    outputs: int
    rows: int
    variant: str
    backend: str
    milliseconds: float
    baseline: str
    """What ran the bfloat16 layer: 'onednn_bf16', 'torch_bf16' or, on a GPU, 'cublas_bf16'."""
    baseline_milliseconds: float
    gmacs: float
    """Billions of multiply-adds a second, rotation and quantization of the input included."""
    ratio: Ratio
    """Times faster than the bfloat16 baseline."""


def measure_linears(
    shapes: list[tuple[int, int]],
    variants: list[str],
    device: torch.device,
    backend: str,
    rounds: int = 15,
    clock: Callable[[], float] = perf_counter,
) -> list[LinearResult]:
    """
    Measure linear layers in interleaved rounds.

    Args:
        shapes: (inputs, outputs) of the layers.
        variants: names of quantized variants.
        device: where they run.
        backend: of the quantized layers.
        rounds: measurements of each; two more warm up.
        clock: in seconds.
    """
    results = []
    for inputs, outputs in shapes:
        dense = nn.Linear(inputs, outputs, bias=False, dtype=torch.bfloat16, device=device)
        dense.requires_grad_(False)
        for name in variants:
            quantization = parse(name).quantization
            assert quantization is not None, f'{name} is not quantized'
            layer = QuantLinear.from_linear(dense, quantization)
            layer.prepare(choose_backend(backend, layer))
            for rows in ROWS:
                baseline = Bf16Linear(dense, rows) if device.type == 'cpu' else dense
                results.append(_one(layer, baseline, name, rows, device, rounds, clock))
    return results


@torch.inference_mode()
def _one(
    layer: QuantLinear,
    baseline: nn.Module,
    name: str,
    rows: int,
    device: torch.device,
    rounds: int,
    clock: Callable[[], float],
) -> LinearResult:
    x = torch.randn(rows, layer.in_features, device=device).bfloat16()
    work = rows * layer.in_features * layer.out_features
    repeats = max(1, min(200, int(2e8 / work)))
    times = np.array(
        [
            [_seconds(run, x, repeats, device, clock) for run in (layer, baseline)]
            for _ in range(rounds + 2)
        ]
    )[2:]
    quantized, dense = np.median(times, axis=0)
    return LinearResult(
        layer.in_features,
        layer.out_features,
        rows,
        name,
        layer.backend.label,
        quantized * 1e3,
        'cublas_bf16' if device.type == 'cuda' else baseline_name(),
        dense * 1e3,
        work / quantized / 1e9,
        paired_ratio(times[:, 1], times[:, 0]),
    )


def _seconds(
    run: nn.Module,
    x: torch.Tensor,
    repeats: int,
    device: torch.device,
    clock: Callable[[], float],
) -> float:
    synchronize(device)
    start = clock()
    for _ in range(repeats):
        run(x)
    synchronize(device)
    return (clock() - start) / repeats


def decoder_shapes(model: nn.Module) -> list[tuple[int, int]]:
    """List (inputs, outputs) of a model's quantized layers, each once, largest first."""
    found = {
        (m.in_features, m.out_features) for m in model.modules() if isinstance(m, QuantLinear)
    }
    return sorted(found, key=lambda shape: -shape[0] * shape[1])


def quantized_variants(variants: list[Variant]) -> list[str]:
    """List the precisions among these that quantize, each once."""
    return list(dict.fromkeys(v.precision for v in variants if v.quantization is not None))

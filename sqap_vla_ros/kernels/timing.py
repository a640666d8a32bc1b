"""Short timings by which a backend or a tile shape is chosen."""
from time import perf_counter
from typing import Callable

import torch


def best_seconds(run: Callable[[], object], device: torch.device, repeats: int = 5) -> float:
    """Shortest of a few runs after one warm-up; waits for the device."""
    run()
    best = float('inf')
    for _ in range(repeats):
        synchronize(device)
        start = perf_counter()
        run()
        synchronize(device)
        best = min(best, perf_counter() - start)
    return best


def synchronize(device: torch.device):
    """Wait for everything that was started on a device."""
    if device.type == 'cuda':
        torch.cuda.synchronize(device)

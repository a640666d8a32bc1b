"""Short timings by which a backend or a tile shape is chosen."""

from collections.abc import Callable
from time import perf_counter, thread_time

import torch


def best_seconds(run: Callable[[], object], device: torch.device, repeats: int = 5) -> float:
    """
    Shortest of a few runs after one warm-up; waits for the device.

    Single-threaded work is timed by the processor time of its thread, so that other load on the
    machine does not decide which backend is chosen.

    Args:
        run: what to time.
        device: where it runs.
        repeats: number of timed runs.

    Returns:
        Seconds.
    """
    alone = device.type == 'cpu' and torch.get_num_threads() == 1
    clock = thread_time if alone else perf_counter
    run()
    best = float('inf')
    for _ in range(repeats):
        synchronize(device)
        start = clock()
        run()
        synchronize(device)
        best = min(best, clock() - start)
    return best


def synchronize(device: torch.device) -> None:
    """Wait for everything that was started on a device."""
    if device.type == 'cuda':
        torch.cuda.synchronize(device)

"""What the machine is, as far as it can be read."""

import os
from pathlib import Path
import platform
import subprocess
from time import perf_counter

import torch

from sqap_vla_ros.errors import UserError
from sqap_vla_ros.kernels import cpu
from sqap_vla_ros.kernels.timing import best_seconds, synchronize

_MATRIX = 4096
"""Size of the square product that measures a GPU's peak."""


def describe(device: torch.device) -> dict:
    """Names, versions, threads and clocks, JSON-ready; what cannot be read is left out."""
    found = {
        'cpu': _cpu_name(),
        'architecture': platform.machine(),
        'cores': os.cpu_count(),
        'threads': torch.get_num_threads(),
        'torch': torch.__version__,
        'device': str(device),
        'load_average': round(os.getloadavg()[0], 2),
    }
    clock = _cpu_clock_mhz()
    if clock:
        found['cpu_clock_mhz'] = clock
    try:
        found['instruction_set'] = cpu.instruction_set()
    except UserError as error:
        found['instruction_set'] = f'none: {error}'
    if device.type == 'cuda':
        properties = torch.cuda.get_device_properties(device)
        found |= {
            'gpu': properties.name,
            'capability': f'{properties.major}.{properties.minor}',
            'gpu_memory_mb': properties.total_memory // 2**20,
            'cuda': torch.version.cuda,
            **_gpu_clocks(),
        }
    return found


def peak_gmacs(device: torch.device) -> dict[str, float]:
    """
    Billions of multiply-adds a second at most, measured now.

    CPU: 'int8', the multiplying instruction alone, on one thread. CUDA: 'bf16' and 'int8', large
    square products.
    """
    if device.type == 'cuda':
        return {
            'bf16': _matrix_peak(device, torch.bfloat16),
            'int8': _matrix_peak(device, torch.int8),
        }
    try:
        rounds = 200_000
        best = 0.0
        for _ in range(9):
            start = perf_counter()
            done = cpu.peak(rounds)
            best = max(best, done / (perf_counter() - start))
        return {'int8': best / 1e9}
    except UserError:
        return {}


def free_bytes(device: torch.device) -> int:
    """Memory that is free on a device now."""
    if device.type == 'cuda':
        return torch.cuda.mem_get_info(device)[0]
    for line in Path('/proc/meminfo').read_text('utf-8').splitlines():
        if line.startswith('MemAvailable:'):
            return int(line.split()[1]) * 1024
    return os.sysconf('SC_AVPHYS_PAGES') * os.sysconf('SC_PAGE_SIZE')


def _matrix_peak(device, dtype):
    a = torch.ones(_MATRIX, _MATRIX, dtype=dtype, device=device)
    run = (lambda: torch._int_mm(a, a.t())) if dtype == torch.int8 else (lambda: a @ a.t())
    synchronize(device)
    return _MATRIX**3 / best_seconds(run, device, 20) / 1e9


def _cpu_name():
    try:
        lines = Path('/proc/cpuinfo').read_text('utf-8').splitlines()
    except OSError:
        return platform.processor()
    for key in ('model name', 'Model'):
        for line in lines:
            if line.startswith(key):
                return line.partition(':')[2].strip()
    return platform.processor() or platform.machine()


def _cpu_clock_mhz():
    try:
        text = Path('/sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq').read_text('utf-8')
        return int(text) / 1000
    except (OSError, ValueError):
        pass
    try:
        for line in Path('/proc/cpuinfo').read_text('utf-8').splitlines():
            if line.startswith('cpu MHz'):
                return float(line.partition(':')[2])
    except (OSError, ValueError):
        pass
    return None


def _gpu_clocks():
    query = ['nvidia-smi', '--query-gpu=clocks.sm,clocks.mem', '--format=csv,noheader,nounits']
    try:
        line = subprocess.run(
            query, capture_output=True, text=True, timeout=10, check=True
        ).stdout.splitlines()[0]
        sm, memory = (float(field) for field in line.split(','))
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):
        return {}
    return {'gpu_clock_mhz': sm, 'gpu_memory_clock_mhz': memory}

"""Where and how a policy runs; what the weights are is the recipe's business."""

from dataclasses import dataclass


@dataclass(frozen=True)
class RuntimeOptions:
    """Chosen when a policy is loaded, and the same from the node's parameters to the kernels."""

    device: str = 'cpu'
    """'cpu', 'cuda' or 'cuda:N'."""
    threads: int = 1
    """CPU threads of one inference."""
    backend: str = 'auto'
    """Kernels of the quantized layers: a backend's name, or 'auto' for the fastest that can."""
    cuda_graphs: str = 'auto'
    """'auto': on CUDA devices, where recording works; 'on': refuse to go without; 'off': never."""

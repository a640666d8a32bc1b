"""Where and how a policy runs. The recipe, not this, decides what its weights are."""

from dataclasses import dataclass
import os


def stay_offline() -> None:
    """
    Let no library fetch files that a policy names; before transformers or the hub is imported.

    Whatever a checkpoint says, the hub is asked only where the user asks for it.
    """
    os.environ['HF_HUB_OFFLINE'] = '1'


@dataclass(frozen=True)
class RuntimeOptions:
    """Chosen when a policy is loaded; the same from the node's parameters to the kernels."""

    device: str = 'cpu'
    """'cpu', 'cuda' or 'cuda:N'."""
    threads: int = 1
    """CPU threads that one inference uses."""
    backend: str = 'auto'
    """Kernels of the quantized layers: a backend's name, or 'auto' for the fastest that works."""
    cuda_graphs: str = 'auto'
    """'auto': on CUDA devices where capture works; 'on': fail without them; 'off': never."""

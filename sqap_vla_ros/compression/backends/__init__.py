"""
Who multiplies: one small interface, and the choice among those that can run a layer.

Nothing falls back in silence: a backend that was asked for by name and cannot run a layer is an
error that says why, and what 'auto' chose is in the log and in a policy's description.
"""
import torch

from sqap_vla_ros.compression.backends.base import Backend
from sqap_vla_ros.compression.backends.choice import fastest, objection
from sqap_vla_ros.compression.backends.cpu import CpuBackend
from sqap_vla_ros.compression.backends.fp8 import Fp8Backend
from sqap_vla_ros.compression.backends.onednn import OneDnnBackend
from sqap_vla_ros.compression.backends.reference import ReferenceBackend
from sqap_vla_ros.compression.backends.triton_backend import TritonBackend
from sqap_vla_ros.errors import UserError

REFERENCE = ReferenceBackend()
BACKENDS: list[Backend] = [CpuBackend(), OneDnnBackend(), TritonBackend(), Fp8Backend(), REFERENCE]


def choose_backend(name: str, layer) -> Backend:
    """
    Backend for one QuantLinear on its device.

    name: a backend's, or 'auto' for the fastest that can run the layer; the reference only where
    no other can. Raises UserError for an unknown name, or one that cannot run the layer here.
    """
    device = _device(layer)
    if name == 'auto':
        # Off a GPU, Triton and fp8 are there to be tested: interpreted or emulated.
        able = [b for b in BACKENDS
                if b is not REFERENCE and (device.type != 'cpu' or b.devices == ('cpu',))
                and objection(b, layer.format, device) is None]
        return fastest(able or [REFERENCE], layer.format, device)
    backend = next((b for b in BACKENDS if b.name == name), None)
    if backend is None:
        raise UserError(f'backend is {name!r}, expected auto or one of '
                        f'{", ".join(b.name for b in BACKENDS)}')
    reason = objection(backend, layer.format, device)
    if reason is not None:
        raise UserError(f'backend {name!r} cannot run {layer} on {device}: {reason}; use auto')
    return backend


def _device(layer) -> torch.device:
    return (layer.weight if layer.weight is not None else layer.qweight).device


__all__ = ['Backend', 'BACKENDS', 'choose_backend', 'REFERENCE', 'ReferenceBackend']

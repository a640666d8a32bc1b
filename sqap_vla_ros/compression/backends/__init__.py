"""
Who multiplies: one small interface, and the choice among those that can run a layer.

A backend that needs more than torch is a module of this package that appends itself to BACKENDS
(fastest first); it is asked at run time whether it works here. Nothing falls back in silence: a
policy's description names what runs.
"""
from sqap_vla_ros.compression.backends.base import Backend
from sqap_vla_ros.compression.backends.reference import ReferenceBackend
from sqap_vla_ros.errors import UserError

REFERENCE = ReferenceBackend()
BACKENDS: list[Backend] = [REFERENCE]


def choose_backend(name: str, layer) -> Backend:
    """
    Backend for one QuantLinear on its device.

    name: a backend's, or 'auto' for the first that can run the layer. Raises UserError for an
    unknown name, or one that cannot run the layer here.
    """
    candidates = [b for b in BACKENDS if name in ('auto', b.name)]
    if not candidates:
        raise UserError(f'backend is {name!r}, expected auto or one of '
                        f'{", ".join(b.name for b in BACKENDS)}')
    for backend in candidates:
        if backend.supports(layer):
            return backend
    raise UserError(f'backend {name!r} cannot run {layer} on {layer.wscale.device}; use auto')


__all__ = ['Backend', 'BACKENDS', 'choose_backend', 'REFERENCE', 'ReferenceBackend']

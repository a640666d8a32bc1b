"""
The choice of a backend for a layer: what it says of itself, a real run, and a measurement.

A backend that claims to run a format is first run on a small layer of that format on that very
device and compared with the reference: libraries that import well may have no code for a device.
Where more than one is left, they are timed on the layer's own shape. Both are done once in a
process, and logged.

Nothing falls back in silence: a backend that was asked for by name and cannot run a layer is an
error that says why, and what 'auto' chose is in the log and in a policy's description.
"""

from collections.abc import Iterable
from dataclasses import replace
from functools import partial
import logging

import torch

from sqap_vla_ros.compression.backends.base import Backend
from sqap_vla_ros.compression.backends.cpu import CpuBackend
from sqap_vla_ros.compression.backends.fp8 import Fp8Backend
from sqap_vla_ros.compression.backends.onednn import OneDnnBackend
from sqap_vla_ros.compression.backends.reference import REFERENCE, ReferenceBackend
from sqap_vla_ros.compression.backends.triton_backend import TritonBackend
from sqap_vla_ros.compression.quantization.integers import levels
from sqap_vla_ros.compression.quantization.quant_linear import QuantLinear
from sqap_vla_ros.errors import UserError
from sqap_vla_ros.kernels.hadamard import unrotate
from sqap_vla_ros.kernels.timing import best_seconds

ROWS = 192
"""Rows of activations that backends are timed with: about a pruned prefill."""
TOLERANCE = 1e-5
"""Largest difference from the reference, relative to the largest output; see `probe`."""

BACKENDS: list[Backend] = [CpuBackend(), OneDnnBackend(), TritonBackend(), Fp8Backend(), REFERENCE]

_log = logging.getLogger(__name__)
_probed: dict[tuple, str | None] = {}
_fastest: dict[tuple, str] = {}


def choose_backend(name: str, layer) -> Backend:
    """
    Backend for one QuantLinear on its device.

    name: a backend's, or 'auto' for the fastest that can run the layer; the reference only where
    no other can. Raises UserError for an unknown name, or one that cannot run the layer here.
    """
    device = _device(layer)
    if name == 'auto':
        # Off a GPU, Triton and fp8 are there to be tested: interpreted or emulated.
        able = [
            b
            for b in BACKENDS
            if b is not REFERENCE
            and (device.type != 'cpu' or b.devices == ('cpu',))
            and objection(b, layer.format, device) is None
        ]
        return fastest(able or [REFERENCE], layer.format, device)
    backend = next((b for b in BACKENDS if b.name == name), None)
    if backend is None:
        raise UserError(
            f'backend is {name!r}, expected auto or one of {", ".join(b.name for b in BACKENDS)}'
        )
    reason = objection(backend, layer.format, device)
    if reason is not None:
        raise UserError(f'backend {name!r} cannot run {layer} on {device}: {reason}; use auto')
    return backend


def _device(layer) -> torch.device:
    return (layer.weight if layer.weight is not None else layer.qweight).device


def objection(backend: Backend, spec, device: torch.device) -> str | None:
    """Why a backend cannot run this format on this device, None: it ran it."""
    if device.type not in backend.devices:
        return f'it runs on {" and ".join(backend.devices)}, not on {device.type}'
    if spec.static_scales and not backend.static_scales:
        return 'it computes the scales of activations itself, this layer has fixed ones'
    said = backend.objection(spec, device)
    if said is not None or isinstance(backend, ReferenceBackend):
        return said
    small = _small(spec)
    key = (backend.name, device, small)
    if key not in _probed:
        _probed[key] = probe(backend, small, device)
        _log.info(
            'backend %s on %s, %s: %s',
            backend.label,
            device,
            _describe(small),
            _probed[key] or 'agrees with the reference',
        )
    return _probed[key]


def probe(backend: Backend, spec, device: torch.device) -> str | None:
    """
    Run a layer of this format on a backend and on the reference; what went wrong, or None.

    Activations are whole multiples of one scale in the rotated basis: then codes are the same on
    every backend, although rotations differ in the last bits, and sums are exact.
    """
    layer = _layer(spec, device)
    top = levels(spec.activation_bits)
    codes = torch.arange(5 * spec.inputs).view(5, spec.inputs) * 7919 % (2 * top + 1) - top
    codes[:, 0] = top
    x = codes.float().to(device)
    if spec.rotated:
        x = unrotate(x, layer.rotation_signs)
    expected = REFERENCE.forward(layer, x)
    try:
        layer.prepare(backend)
        found = layer(x)
    except Exception as error:  # whatever a driver or a compiler throws is the answer sought
        return f'a trial run failed: {" ".join(str(error).split())[:200]}'
    difference = (found - expected).abs().max() / expected.abs().max()
    if not difference <= TOLERANCE:
        return f'a trial run differs from the reference by {float(difference):.1e}'
    return None


def fastest(backends: Iterable[Backend], spec, device: torch.device) -> Backend:
    """Backend that runs a layer of this shape in the least time on this device."""
    backends = list(backends)
    if len(backends) == 1:
        return backends[0]
    key = (device, spec, tuple(b.name for b in backends))
    if key not in _fastest:
        seconds = {}
        for backend in backends:
            layer = _layer(spec, device)
            layer.prepare(backend)
            x = torch.randn(ROWS, spec.inputs, device=device)
            seconds[backend.name] = best_seconds(partial(layer, x), device)
        _fastest[key] = min(seconds, key=seconds.get)
        _log.info(
            '%s on %s: %s',
            _describe(spec),
            device,
            ', '.join(f'{name} {value * 1e3:.3f} ms' for name, value in seconds.items()),
        )
    return next(b for b in backends if b.name == _fastest[key])


def _small(spec):
    """Keep the arithmetic and what inputs are multiples of, with fewer inputs and outputs."""
    inputs, group = spec.inputs, spec.weight_group or 1
    while inputs > 512 and inputs % 256 == 0 and inputs // 2 % group == 0:
        inputs //= 2
    return replace(spec, inputs=inputs, outputs=min(spec.outputs, 48))


def _layer(spec, device):
    """Make a layer with arbitrary weights, the same ones at every call."""
    layer = QuantLinear(spec, device)
    generator = torch.Generator().manual_seed(0)
    top = 2 ** (spec.weight_bits - 1) - 1
    codes = torch.randint(-top, top + 1, (spec.outputs, spec.inputs), generator=generator)
    scale = torch.rand(layer.wscale.shape, generator=generator) + 0.5
    layer.set_codes(codes.to(torch.int8).to(device), scale.to(device))
    if spec.rotated:
        signs = torch.randint(0, 2, (spec.inputs,), generator=generator) * 2 - 1
        layer.rotation_signs = signs.to(torch.int8).to(device)
    if spec.bias:
        layer.bias = torch.randn(spec.outputs, generator=generator).to(device)
    return layer


def _describe(spec) -> str:
    return (
        f'{spec.inputs} -> {spec.outputs} W{spec.weight_bits}A{spec.activation_bits}'
        + (f' groups of {spec.weight_group}' if spec.weight_group else '')
        + (' rotated' if spec.rotated else '')
    )

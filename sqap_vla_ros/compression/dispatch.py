"""
The choice of a backend for a layer: by its own statement, a trial run and a measurement.

A backend that claims to run a format first runs a small layer of that format on the device and is
compared with the reference, because a library that imports may still have no code for a device.
If several backends remain, they are timed on the shape of the layer. Both happen once per process
and are logged.

No fallback is silent: a backend that was chosen by name and cannot run a layer is an error that
says why. The choice of 'auto' is in the log and in a policy's description.
"""

from collections.abc import Iterable
from dataclasses import replace
from functools import partial
import logging

import torch

from sqap_vla_ros.compression.backends.base import Backend, QuantizedLayer
from sqap_vla_ros.compression.backends.cpu import CpuBackend
from sqap_vla_ros.compression.backends.fp8 import Fp8Backend
from sqap_vla_ros.compression.backends.onednn import OneDnnBackend
from sqap_vla_ros.compression.backends.reference import REFERENCE, ReferenceBackend
from sqap_vla_ros.compression.backends.triton_backend import TritonBackend
from sqap_vla_ros.compression.quantization.integers import levels
from sqap_vla_ros.compression.quantization.linear_format import LinearFormat
from sqap_vla_ros.compression.quantization.quant_linear import QuantLinear
from sqap_vla_ros.errors import UserError
from sqap_vla_ros.kernels.hadamard import unrotate
from sqap_vla_ros.kernels.timing import best_seconds

ROWS = 192
"""Rows of activations in the timing of backends: about those of a pruned prefill."""
TOLERANCE = 1e-5
"""Largest difference from the reference, relative to the largest output; see `probe`."""

BACKENDS: list[Backend] = [CpuBackend(), OneDnnBackend(), TritonBackend(), Fp8Backend(), REFERENCE]

_log = logging.getLogger(__name__)
_probed: dict[tuple[str, torch.device, LinearFormat], str | None] = {}
_fastest: dict[tuple[torch.device, LinearFormat, tuple[str, ...]], str] = {}


def choose_backend(name: str, layer: QuantizedLayer) -> Backend:
    """
    Choose the backend of one QuantLinear, on its device.

    Args:
        name: a backend's name, or 'auto' for the fastest that can run the layer; 'auto' takes the
            reference only if no other can.
        layer: not yet prepared.

    Raises:
        UserError: the name is unknown, or the backend cannot run the layer here.
    """
    device = _device(layer)
    if name == 'auto':
        # On a CPU, Triton and fp8 are for tests only: interpreted or emulated.
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


def _device(layer: QuantizedLayer) -> torch.device:
    return (layer.weight if layer.weight is not None else layer.qweight).device


def objection(backend: Backend, spec: LinearFormat, device: torch.device) -> str | None:
    """Why a backend cannot run this format on this device; None if a trial run succeeded."""
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


def probe(backend: Backend, spec: LinearFormat, device: torch.device) -> str | None:
    """
    Run a layer of this format on a backend and on the reference, and compare the outputs.

    Activations are integer multiples of one scale in the rotated basis. Codes are then the same
    on every backend, although rotations differ in the last bits, and sums are exact.

    Returns:
        What went wrong, or None.
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
    except Exception as error:  # a driver or a compiler may raise anything
        return f'a trial run failed: {" ".join(str(error).split())[:200]}'
    difference = (found - expected).abs().max() / expected.abs().max()
    if not difference <= TOLERANCE:
        return f'a trial run differs from the reference by {float(difference):.1e}'
    return None


def fastest(backends: Iterable[Backend], spec: LinearFormat, device: torch.device) -> Backend:
    """Backend that runs a layer of this shape fastest on this device."""
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
        _fastest[key] = min(seconds, key=lambda name: seconds[name])
        _log.info(
            '%s on %s: %s',
            _describe(spec),
            device,
            ', '.join(f'{name} {value * 1e3:.3f} ms' for name, value in seconds.items()),
        )
    return next(b for b in backends if b.name == _fastest[key])


def _small(spec: LinearFormat) -> LinearFormat:
    """Shrink a format; arithmetic and the divisors of the inputs that backends ask for stay."""
    inputs, group = spec.inputs, spec.weight_group or 1
    while inputs > 512 and inputs % 256 == 0 and inputs // 2 % group == 0:
        inputs //= 2
    return replace(spec, inputs=inputs, outputs=min(spec.outputs, 48))


def _layer(spec: LinearFormat, device: torch.device) -> QuantLinear:
    """Make a layer with arbitrary weights, the same at every call."""
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


def _describe(spec: LinearFormat) -> str:
    return (
        f'{spec.inputs} -> {spec.outputs} W{spec.weight_bits}A{spec.activation_bits}'
        + (f' groups of {spec.weight_group}' if spec.weight_group else '')
        + (' rotated' if spec.rotated else '')
    )

"""
What a node and its inference worker tell each other: plain data, and images in shared memory.

Nothing is pickled. Only one request is in flight at a time, so the shared memory needs no lock: it
belongs to the node until a request is sent, and to the worker until the answer arrives.
"""

from dataclasses import asdict, dataclass, field
import mmap
import os
from typing import Any

import numpy as np

from sqap_vla_ros.action_chunk import ActionChunk, ActionSpec
from sqap_vla_ros.camera import PinholeCamera
from sqap_vla_ros.columns import Column
from sqap_vla_ros.policy import Continuation, Inference, Observation, PolicySpec, TokenSelection
from sqap_vla_ros.token_geometry import TokenGeometry


@dataclass(frozen=True)
class WorkerInfo:
    """What a worker reports once its policy is loaded and warmed up."""

    spec: PolicySpec
    description: dict[str, Any]
    """`Policy.describe`."""
    warm_up_ms: float
    """Duration of the last warm-up inference."""
    files: dict[str, str] = field(default_factory=dict)
    """Files of the policy beside its weights, by name, and their SHA-256."""


class SharedImages:
    """Memory that both processes map; it grows with the images."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._map: mmap.mmap | None = None

    @classmethod
    def create(cls) -> 'SharedImages':
        """Create anonymous memory; it is freed when both processes have closed it."""
        return cls(os.memfd_create('sqap_vla_images'))

    def write(self, images: dict[str, np.ndarray]) -> dict[str, list[int]]:
        """Store uint8 arrays; returns `{name: [offset, *shape]}` for `read`."""
        total = sum(image.nbytes for image in images.values())
        if self._map is None or len(self._map) < total:
            self.close_map()
            os.ftruncate(self.descriptor, max(total, mmap.PAGESIZE))
        memory = self._mapped()
        layout: dict[str, list[int]] = {}
        offset = 0
        for name, image in images.items():
            flat = np.ascontiguousarray(image, np.uint8).reshape(-1)
            np.frombuffer(memory, np.uint8, flat.size, offset)[:] = flat
            layout[name] = [offset, *image.shape]
            offset += flat.size
        return layout

    def read(self, layout: dict[str, list[int]]) -> dict[str, np.ndarray]:
        """Copy out the images that `write` stored."""
        needed = max(
            (offset + int(np.prod(shape)) for offset, *shape in layout.values()), default=0
        )
        if self._map is not None and len(self._map) < needed:
            self.close_map()
        memory = self._mapped() if needed else b''
        return {
            name: np.frombuffer(memory, np.uint8, int(np.prod(shape)), offset)
            .reshape(shape)
            .copy()
            for name, (offset, *shape) in layout.items()
        }

    def _mapped(self) -> mmap.mmap:
        if self._map is None:
            self._map = mmap.mmap(self.descriptor, 0)
        return self._map

    def close_map(self) -> None:
        """Unmap; the memory itself stays."""
        if self._map is not None:
            self._map.close()
            self._map = None

    def close(self) -> None:
        """Unmap and close the descriptor."""
        self.close_map()
        os.close(self.descriptor)


def observation_to_wire(observation: Observation, images: SharedImages) -> dict[str, Any]:
    """Make the message for an observation; its images go into the shared memory."""
    end_effector, follow = observation.end_effector_m, observation.continuation
    return {
        'images': images.write(observation.images),
        'instruction': observation.instruction,
        'state': None if observation.state is None else [float(x) for x in observation.state],
        'cameras': {name: camera.as_plain_data() for name, camera in observation.cameras.items()},
        'end_effector_m': None if end_effector is None else [float(x) for x in end_effector],
        'stamp_ns': observation.stamp_ns,
        'continuation': None
        if follow is None
        else {'values': follow.values.tolist(), 'weights': follow.weights.tolist()},
    }


def observation_from_wire(message: dict[str, Any], images: SharedImages) -> Observation:
    """Inverse of `observation_to_wire`."""
    cameras = {
        name: PinholeCamera.from_plain_data(camera) for name, camera in message['cameras'].items()
    }
    state, end_effector = message['state'], message['end_effector_m']
    follow = message['continuation']
    return Observation(
        images.read(message['images']),
        message['instruction'],
        None if state is None else np.array(state, np.float32),
        cameras,
        None if end_effector is None else np.array(end_effector),
        message['stamp_ns'],
        None
        if follow is None
        else Continuation(
            np.array(follow['values'], np.float32), np.array(follow['weights'], np.float32)
        ),
    )


def inference_to_wire(inference: Inference) -> dict[str, Any]:
    """Make the message for an answer."""
    selection = inference.selection
    return {
        'values': inference.chunk.values.tolist(),
        'stamp_ns': inference.chunk.stamp_ns,
        'latencies_ms': inference.latencies_ms,
        'tokens': inference.tokens,
        'note': inference.note,
        'selection': None
        if selection is None
        else {
            'grid': list(selection.grid),
            'kept': selection.kept.tolist(),
            'criterion': selection.criterion.tolist(),
            'geometry': asdict(selection.geometry),
        },
    }


def inference_from_wire(message: dict[str, Any], spec: ActionSpec) -> Inference:
    """
    Inverse of `inference_to_wire`.

    Args:
        message: Any plain data.
        spec: What the values must fit.

    Raises:
        ValueError: It is no inference, or of another shape; the values may be NaN.
    """
    try:
        return _inference(message, spec)
    except (KeyError, TypeError, AttributeError, OverflowError) as error:
        raise ValueError(f'not an inference: {type(error).__name__}: {error}') from None


def _inference(message: dict[str, Any], spec: ActionSpec) -> Inference:
    latencies_ms = {str(stage): float(ms) for stage, ms in message['latencies_ms'].items()}
    if 'total' not in latencies_ms:
        raise ValueError('not an inference: it has no total latency')
    tokens, note = message['tokens'], message['note']
    if type(tokens) is not int or tokens < 0 or not isinstance(note, str):
        raise ValueError(f'not an inference: {tokens!r:.40} tokens, note {note!r:.40}')
    with np.errstate(over='ignore'):  # infinite: refused with the chunk
        values = np.array(message['values'], np.float32)
    return Inference(
        ActionChunk(values, spec, int(message['stamp_ns'])),
        latencies_ms,
        tokens,
        None if message['selection'] is None else _selection(message['selection'], tokens),
        note,
    )


def _selection(message: dict[str, Any], tokens: int) -> TokenSelection:
    kept = np.array(message['kept'], np.int64)
    criterion = np.array(message['criterion'], np.uint8)
    rows, columns = (int(count) for count in message['grid'])
    if kept.ndim != 1 or kept.shape != criterion.shape or ((kept < 0) | (kept >= tokens)).any():
        raise ValueError(f'not a selection of {tokens} tokens')
    return TokenSelection((rows, columns), kept, criterion, TokenGeometry(**message['geometry']))


def info_to_wire(info: WorkerInfo) -> dict[str, Any]:
    """Make the message of a worker that is ready."""
    return asdict(info)


def info_from_wire(message: dict[str, Any]) -> WorkerInfo:
    """
    Inverse of `info_to_wire`.

    Raises:
        ValueError: it is none.
    """
    try:
        return _info(message)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f'not a policy: {type(error).__name__}: {error}') from None


def _info(message: dict[str, Any]) -> WorkerInfo:
    spec = dict(message['spec'])
    geometry = TokenGeometry(**spec.pop('token_geometry'))
    action: dict[str, Any] = dict(spec.pop('action'))
    for part, key in ((action, 'columns'), (spec, 'state')):
        part[key] = tuple(Column(**column) for column in part[key])
    action, spec = (
        {key: tuple(value) if isinstance(value, list) else value for key, value in part.items()}
        for part in (action, spec)
    )
    return WorkerInfo(
        PolicySpec(action=ActionSpec(**action), token_geometry=geometry, **spec),
        message['description'],
        float(message['warm_up_ms']),
        dict(message['files']),
    )

"""Writes entries of the black box to a bag: MCAP, as `ros2 bag` does, but without ROS."""

from collections.abc import Mapping, Sequence
import json
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys.store import Typestore

from sqap_vla_ros.recording.entries import Answered, Changed, Commanded, Entry, Observed
from sqap_vla_ros.recording.images import ImageFile, Pixels
from sqap_vla_ros.recording.message_types import (
    CHUNK,
    COMPRESSED,
    END_EFFECTOR,
    GRIPPER,
    IMAGE,
    JOINTS,
    MOTION,
    REQUEST,
    stamp,
    STATE,
    STATS,
    TWIST,
    typestore,
)

_Message = tuple[str, str, Any]
"""Topic, type and message."""


def write_bag(
    path: Path,
    entries: Sequence[tuple[int, Entry]],
    notes: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """
    Write entries to a new bag.

    Args:
        path: bag directory; it must not exist.
        entries: entries with their times in nanoseconds.
        notes: kept as `custom_data` in the metadata of the bag.

    Raises:
        OSError: the bag cannot be written.
    """
    store = typestore()
    connections = {}
    with Writer(path, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        for key, note in notes.items():
            writer.set_custom_data(key, note)
        for time_ns, entry in entries:
            for topic, kind, message in _messages(store, time_ns, entry):
                if topic not in connections:
                    connections[topic] = writer.add_connection(topic, kind, typestore=store)
                writer.write(connections[topic], time_ns, store.serialize_cdr(message, kind))


def _messages(store: Typestore, time_ns: int, entry: Entry) -> list[_Message]:
    if isinstance(entry, Observed):
        return _observed(store, entry)
    if isinstance(entry, Answered):
        return _answered(store, entry)
    if isinstance(entry, Commanded):
        return _commanded(store, time_ns, entry)
    if isinstance(entry, Changed):
        return [_text(store, MOTION, entry.text)]
    raise TypeError(f'{type(entry).__name__} is no entry')


def _observed(store: Typestore, entry: Observed) -> list[_Message]:
    observation = entry.observation
    request = {
        'stamp_ns': observation.stamp_ns,
        'instruction': observation.instruction,
        'generation': entry.generation,
        'since_reset': entry.since_reset,
        'budget': entry.budget,
        'cameras': {name: camera.as_plain_data() for name, camera in observation.cameras.items()},
        'images': list(entry.images),
        'kept': {
            name: {
                'exact': image.exact,
                'checksum': image.checksum,
                'color_order': image.color_order,
                'max_pixels': image.max_pixels,
            }
            for name, image in entry.images.items()
        },
    }
    messages = [
        _image(store, IMAGE + name, _header(store, observation.stamp_ns, name), image.content)
        for name, image in entry.images.items()
    ]
    if observation.state is not None:
        messages.append(
            _joint_state(
                store,
                STATE,
                observation.stamp_ns,
                {str(i): float(v) for i, v in enumerate(observation.state)},
                positions=True,
            )
        )
    if observation.end_effector_m is not None:
        kind = 'geometry_msgs/msg/PointStamped'
        point = store.types['geometry_msgs/msg/Point'](*map(float, observation.end_effector_m))
        messages.append(
            (END_EFFECTOR, kind, store.types[kind](_header(store, observation.stamp_ns), point))
        )
    # Last: a reader that meets it has seen everything that belongs to it.
    return [*messages, _text(store, REQUEST, json.dumps(request))]


def _image(store: Typestore, topic: str, header: Any, content: Pixels | ImageFile) -> _Message:
    data = np.frombuffer(content.data, np.uint8)
    if isinstance(content, ImageFile):
        kind = 'sensor_msgs/msg/CompressedImage'
        return topic + COMPRESSED, kind, store.types[kind](header, content.format, data)
    kind = 'sensor_msgs/msg/Image'
    message = store.types[kind](
        header,
        content.height,
        content.width,
        content.encoding,
        content.is_bigendian,
        content.step,
        data,
    )
    return topic, kind, message


def _answered(store: Typestore, entry: Answered) -> list[_Message]:
    chunk, spec = entry.chunk, entry.chunk.spec
    kind = 'sqap_vla_ros/msg/ActionChunk'
    step = store.types['builtin_interfaces/msg/Duration'](
        *divmod(round(spec.step_s * 1e9), 1_000_000_000)
    )
    header = _header(store, chunk.stamp_ns)
    stats = 'sqap_vla_ros/msg/InferenceStats'
    stages = {k: v for k, v in entry.latencies_ms.items() if k != 'total'}
    stats_type: Any = store.types[stats]
    fields: dict[str, Any] = dict.fromkeys(stats_type.__dataclass_fields__, 0)
    fields |= {
        'header': header,
        'stage_names': list(stages),
        'backend': '',
        'stage_latencies_ms': np.array(list(stages.values()), np.float32),
        'total_latency_ms': entry.latencies_ms['total'],
        'observation_age_ms': entry.age_s * 1e3,
        'tokens_in': entry.tokens,
        'tokens_kept': entry.tokens_kept,
    }
    fields.pop('__msgtype__', None)
    return [
        (
            CHUNK,
            kind,
            store.types[kind](
                header,
                list(spec.names),
                list(spec.units),
                step,
                chunk.values.reshape(-1),
                chunk.generation,
            ),
        ),
        (STATS, stats, stats_type(**fields)),
    ]


def _commanded(store: Typestore, time_ns: int, entry: Commanded) -> list[_Message]:
    messages: list[_Message] = []
    if entry.joints is not None:
        messages.append(_joint_state(store, JOINTS, time_ns, entry.joints, positions=False))
    if entry.linear_m_s is not None and entry.angular_rad_s is not None:
        kind = 'geometry_msgs/msg/TwistStamped'
        vector = store.types['geometry_msgs/msg/Vector3']
        twist = store.types['geometry_msgs/msg/Twist'](
            vector(*map(float, entry.linear_m_s)), vector(*map(float, entry.angular_rad_s))
        )
        messages.append((TWIST, kind, store.types[kind](_header(store, time_ns), twist)))
    if entry.gripper is not None:
        kind = 'std_msgs/msg/Float64'
        messages.append((GRIPPER, kind, store.types[kind](float(entry.gripper))))
    return messages


def _joint_state(
    store: Typestore, topic: str, time_ns: int, values: dict[str, float], positions: bool
) -> _Message:
    kind = 'sensor_msgs/msg/JointState'
    numbers, none = np.array(list(values.values()), np.float64), np.zeros(0)
    return (
        topic,
        kind,
        store.types[kind](
            _header(store, time_ns),
            list(values),
            numbers if positions else none,
            none if positions else numbers,
            none,
        ),
    )


def _text(store: Typestore, topic: str, text: str) -> _Message:
    kind = 'std_msgs/msg/String'
    return topic, kind, store.types[kind](text)


def _header(store: Typestore, time_ns: int, frame_id: str = '') -> Any:
    return store.types['std_msgs/msg/Header'](stamp(store, time_ns), frame_id)

"""Reads bags of the black box without ROS."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from rosbags.rosbag2 import Reader

from sqap_vla_ros.action_chunk import ActionChunk, ActionSpec
from sqap_vla_ros.camera import PinholeCamera
from sqap_vla_ros.errors import shown, UserError
from sqap_vla_ros.input_files import open_regular, parse_json
from sqap_vla_ros.policy import Observation
from sqap_vla_ros.profiles.robot_profile import COLOR_ORDERS
from sqap_vla_ros.recording.bag_files import (
    compressed_chunks,
    CONVERT,
    describe_topics,
    find_bag,
    told_as_bag,
)
from sqap_vla_ros.recording.entries import Answered, Changed, Commanded, Entry, Observed
from sqap_vla_ros.recording.images import keep, KeptImage
from sqap_vla_ros.recording.message_types import (
    CHUNK,
    COMPRESSED,
    END_EFFECTOR,
    GRIPPER,
    IMAGE,
    JOINTS,
    MOTION,
    READ_TYPES,
    REQUEST,
    stamp_ns,
    STATE,
    STATS,
    TWIST,
    typestore,
)

MOST_BYTES = 4 * 10**9
"""Of a bag; the black box has a limit, too."""
NEEDED = (
    'a replay needs the folder of a bag that the black box of the policy node wrote (~/save); '
    'bag_player_node plays the topics of a robot from any bag'
)
MOST_PIXELS = 100_000_000
"""Of an image, whatever the bag says; a larger one is not decoded."""


def read_bag(path: Path) -> list[tuple[int, Entry]]:
    """
    Read the entries of a bag.

    Args:
        path: bag directory.

    Returns:
        Entries with their times in nanoseconds, in the order of writing.

    Raises:
        UserError: the directory is not a bag of the black box, or has no observation.
    """
    path = Path(path)
    _check_files(path)
    store = typestore()
    entries: list[tuple[int, Entry]] = []
    parts: dict[str, Any] = {}
    with told_as_bag(path), Reader(path) as reader:
        for connection, time_ns, data in reader.messages():
            if connection.msgtype not in READ_TYPES:
                continue
            message = store.deserialize_cdr(data, connection.msgtype)
            entry = _entry(connection.topic.lstrip('/'), message, parts)
            if entry is not None:
                entries.append((time_ns, entry))
    if not any(isinstance(entry, Observed) for _, entry in entries):
        raise UserError(f'bag {path}: it has no {REQUEST}; {NEEDED}')
    return entries


def _check_files(path: Path) -> None:
    """
    Refuse what the black box does not write, before it is opened.

    It writes one file that is not compressed, so a bag takes no more memory than its size.

    Raises:
        UserError: names the file and what is wrong.
    """
    bag = find_bag(path)
    if not path.is_dir():
        raise UserError(f'bag {path}: a file; {NEEDED}')
    if REQUEST not in (topic.name.lstrip('/') for topic in bag.topics):
        raise UserError(
            f'bag {path}: it has no {REQUEST}; {NEEDED}. It has {describe_topics(bag.topics)}'
        )
    if bag.storage != 'mcap' or bag.packed:
        raise UserError(
            f'bag {path}: storage {bag.storage}, compression {shown(bag.packed)}; expected mcap '
            f'without compression: {CONVERT}'
        )
    if bag.size > MOST_BYTES:
        raise UserError(
            f'bag {path}: larger than {MOST_BYTES / 1e9:.1f} GB; expected a bag of the black box, '
            'which has a limit'
        )
    for name in bag.files:
        with open_regular(name, 'a file of a bag') as file:
            for _ in compressed_chunks(file):
                raise UserError(f'bag {name}: it is compressed; {CONVERT}')


def _entry(topic: str, message: Any, parts: dict[str, Any]) -> Entry | None:
    """Return the entry that a message completes; None for a part, which is kept in `parts`."""
    if topic == REQUEST:
        return _observed(parse_json(message.data), parts)
    if topic == STATS:
        chunk = parts.pop(CHUNK)
        latencies = dict(zip(message.stage_names, map(float, message.stage_latencies_ms)))
        return Answered(
            chunk,
            {**latencies, 'total': float(message.total_latency_ms)},
            message.observation_age_ms / 1e3,
            message.tokens_in,
            message.tokens_kept,
        )
    if topic == CHUNK:
        parts[CHUNK] = _chunk(message)
    elif topic == TWIST:
        v, w = message.twist.linear, message.twist.angular
        return Commanded(np.array([v.x, v.y, v.z]), np.array([w.x, w.y, w.z]))
    elif topic == JOINTS:
        return Commanded(joints=dict(zip(message.name, map(float, message.velocity))))
    elif topic == GRIPPER:
        return Commanded(gripper=float(message.data))
    elif topic == MOTION:
        return Changed(message.data)
    else:
        parts[topic] = message
    return None


def _observed(request: Any, parts: dict[str, Any]) -> Observed:
    _check_request(request)
    images = {name: _image(name, request, parts) for name in request['images']}
    state, end_effector = parts.pop(STATE, None), parts.pop(END_EFFECTOR, None)
    cameras = {
        name: PinholeCamera.from_plain_data(camera) for name, camera in request['cameras'].items()
    }
    for name, camera in cameras.items():
        for part, shape in ((camera.intrinsics, (3, 3)), (camera.optical_from_base, (4, 4))):
            if part.shape != shape or part.dtype.kind not in 'if' or not np.isfinite(part).all():
                raise ValueError(f'{REQUEST}: camera {shown(name)} has no matrix {shape}')
    point = end_effector and end_effector.point
    observation = Observation(
        {},
        request['instruction'],
        None if state is None else np.asarray(state.position, np.float32),
        cameras,
        None if point is None else np.array([point.x, point.y, point.z]),
        request['stamp_ns'],
    )
    return Observed(
        observation, request['generation'], request['since_reset'], request['budget'], images
    )


def _image(name: str, request: dict[str, Any], parts: dict[str, Any]) -> KeptImage:
    """Take an image; it is decoded when it is used, so that a bag takes no more than its size."""
    file = parts.pop(IMAGE + name + COMPRESSED, None)
    message = parts.pop(IMAGE + name) if file is None else file
    if 'kept' not in request:  # by an earlier version, which kept all images as RGB
        return keep(message)
    kept = request['kept'][name]
    exact, checksum, order, pixels = (
        kept[key] for key in ('exact', 'checksum', 'color_order', 'max_pixels')
    )
    if not (
        isinstance(exact, bool)
        and isinstance(checksum, int | None)
        and order in (None, *COLOR_ORDERS)
        and isinstance(pixels, int)
        and pixels > 0
    ):
        raise ValueError(f'{REQUEST}: image {shown(name)} is {shown(kept)}')
    return replace(keep(message, order, min(pixels, MOST_PIXELS)), exact=exact, checksum=checksum)


def _check_request(request: Any) -> None:
    """Check the types of a request, which is JSON; raises ValueError, or KeyError."""
    if not isinstance(request, dict):
        raise ValueError(f'{REQUEST} is {shown(request)}, expected an object')
    for name, least in (('stamp_ns', -(2**63)), ('generation', 0), ('since_reset', 0)):
        value = request[name]
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value < 2**63:
            raise ValueError(f'{REQUEST}: {name} is {shown(value)}, expected a whole number')
    budget = request['budget']
    if not isinstance(budget, int | float) or not 0 <= budget <= 1:
        raise ValueError(f'{REQUEST}: budget is {shown(budget)}, expected 0 .. 1')
    if not isinstance(request['instruction'], str):
        raise ValueError(f'{REQUEST}: instruction is no text')
    for name, kind in (('images', list), ('cameras', dict)):
        if not isinstance(request[name], kind) or not all(
            isinstance(camera, str) for camera in request[name]
        ):
            raise ValueError(f'{REQUEST}: {name} is {shown(request[name])}, expected cameras')


def _chunk(message: Any) -> ActionChunk:
    step_s = (message.step_duration.sec * 1_000_000_000 + message.step_duration.nanosec) / 1e9
    columns = len(message.action_names)
    values = np.asarray(message.values, np.float32).reshape(-1, columns)
    spec = ActionSpec(
        tuple(message.action_names), tuple(message.action_units), step_s, len(values)
    )
    return ActionChunk(values, spec, stamp_ns(message.header.stamp), message.generation)

"""Reads bags of the black box without ROS."""

from dataclasses import replace
import os
from pathlib import Path
import struct
from typing import Any, BinaryIO

import numpy as np
from rosbags.rosbag2 import Reader

from sqap_vla_ros.action_chunk import ActionChunk, ActionSpec
from sqap_vla_ros.camera import PinholeCamera
from sqap_vla_ros.errors import shown, UserError
from sqap_vla_ros.input_files import open_regular, parse_json, read_yaml, refuse_link_out
from sqap_vla_ros.policy import Observation
from sqap_vla_ros.profiles.robot_profile import COLOR_ORDERS
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

METADATA = 'metadata.yaml'
MOST_BYTES = 4 * 10**9
"""Of a bag; the black box has a limit, too."""
MOST_FILES = 100
MAGIC = b'\x89MCAP0\r\n'
CHUNK_RECORD = 6
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
    try:
        with Reader(path) as reader:
            for connection, time_ns, data in reader.messages():
                if connection.msgtype not in READ_TYPES:
                    continue
                message = store.deserialize_cdr(data, connection.msgtype)
                entry = _entry(connection.topic.lstrip('/'), message, parts)
                if entry is not None:
                    entries.append((time_ns, entry))
    except Exception as error:  # of a damaged file, rosbags raises whatever its parsers do
        reason = ' '.join(str(error).split())[:300] or type(error).__name__
        if isinstance(error, KeyError):
            reason = f'{reason} is missing'
        raise UserError(f'bag {path}: not readable as a bag of the black box: {reason}') from None
    if not any(isinstance(entry, Observed) for _, entry in entries):
        raise UserError(
            f'bag {path}: it has no {REQUEST}, so there is nothing to replay; '
            'expected a bag that the policy node wrote (~/save)'
        )
    return entries


def _check_files(path: Path) -> None:
    """
    Refuse what the black box does not write, before it is opened.

    It writes one file that is not compressed, so a bag takes no more memory than its size.

    Raises:
        UserError: names the file and what is wrong.
    """
    if not path.is_dir():
        raise UserError(f'bag {path}: no such folder; expected a bag that the policy node wrote')
    try:
        data = read_yaml(path / METADATA, 'a bag')
        found = data['rosbag2_bagfile_information']
        names, storage = found['relative_file_paths'], found['storage_identifier']
        packed = found.get('compression_format') or found.get('compression_mode', '').lower()
    except UserError as error:
        raise UserError(f'bag {error}') from None
    except (KeyError, TypeError, AttributeError, IndexError):
        raise UserError(f'bag {path}: {METADATA} is not that of a bag') from None
    if storage != 'mcap' or packed not in ('', 'none'):
        raise UserError(
            f'bag {path}: storage {shown(storage)}, compression {shown(packed)}; expected mcap '
            'without compression: convert it with `ros2 bag convert`'
        )
    if not isinstance(names, list) or not 0 < len(names) <= MOST_FILES:
        raise UserError(f'bag {path}: relative_file_paths is {shown(names)}, expected file names')
    size = 0
    for name in names:
        if not isinstance(name, str) or not name or Path(name).name != name:
            raise UserError(
                f'bag {path}: names the file {shown(name)}, expected one in the same folder'
            )
        refuse_link_out(path / name)
        with open_regular(path / name, 'a file of a bag') as file:
            size += os.fstat(file.fileno()).st_size
            if size > MOST_BYTES:
                raise UserError(
                    f'bag {path}: larger than {MOST_BYTES / 1e9:.1f} GB; expected a bag of the '
                    'black box, which has a limit'
                )
            _refuse_compressed_chunks(path / name, file)


def _refuse_compressed_chunks(path: Path, file: BinaryIO) -> None:
    """
    Walk the records of an MCAP file, and refuse chunks that grow when they are read.

    See https://mcap.dev/spec: each record is an opcode, its length and its content; that of a
    chunk begins with 28 bytes and the name of the compression.
    """
    file.seek(len(MAGIC))
    while len(head := file.read(9)) == 9:
        opcode, length = struct.unpack('<BQ', head)
        start = file.tell()
        if opcode == CHUNK_RECORD:
            fixed = file.read(32)
            if len(fixed) == 32 and struct.unpack_from('<I', fixed, 28)[0]:
                raise UserError(
                    f'bag {path}: it is compressed; convert it with `ros2 bag convert`'
                )
        if length > MOST_BYTES:
            return  # told by the reader
        file.seek(start + length)


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

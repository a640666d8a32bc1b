"""Reads bags of the black box without ROS."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from rosbags.rosbag2 import Reader
from rosbags.rosbag2.errors import ReaderError

from sqap_vla_ros.action_chunk import ActionChunk, ActionSpec
from sqap_vla_ros.camera import PinholeCamera
from sqap_vla_ros.errors import UserError
from sqap_vla_ros.policy import Observation
from sqap_vla_ros.recording.entries import Answered, Changed, Commanded, Entry, Observed
from sqap_vla_ros.recording.message_types import (
    CHUNK,
    END_EFFECTOR,
    GRIPPER,
    IMAGE,
    JOINTS,
    MOTION,
    REQUEST,
    stamp_ns,
    STATE,
    STATS,
    TWIST,
    typestore,
)


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
    store = typestore()
    entries: list[tuple[int, Entry]] = []
    parts: dict[str, Any] = {}
    try:
        with Reader(path) as reader:
            for connection, time_ns, data in reader.messages():
                message = store.deserialize_cdr(data, connection.msgtype)
                entry = _entry(connection.topic.lstrip('/'), message, parts)
                if entry is not None:
                    entries.append((time_ns, entry))
    except (ReaderError, OSError, KeyError, ValueError) as error:
        raise UserError(
            f'bag {path}: not readable as a bag of the black box: '
            f'{" ".join(str(error).split())[:300]}'
        ) from None
    if not any(isinstance(entry, Observed) for _, entry in entries):
        raise UserError(
            f'bag {path}: it has no {REQUEST}, so there is nothing to replay; '
            'expected a bag that the policy node wrote (~/save)'
        )
    return entries


def _entry(topic: str, message: Any, parts: dict[str, Any]) -> Entry | None:
    """Return the entry that a message completes; None for a part, which is kept in `parts`."""
    if topic == REQUEST:
        return _observed(json.loads(message.data), parts)
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


def _observed(request: dict[str, Any], parts: dict[str, Any]) -> Observed:
    images = {}
    for name in request['images']:
        image = parts.pop(IMAGE + name)
        images[name] = np.array(image.data, np.uint8).reshape(image.height, image.width, 3)
    state, end_effector = parts.pop(STATE, None), parts.pop(END_EFFECTOR, None)
    cameras = {
        name: PinholeCamera.from_plain_data(camera) for name, camera in request['cameras'].items()
    }
    point = end_effector and end_effector.point
    observation = Observation(
        images,
        request['instruction'],
        None if state is None else np.asarray(state.position, np.float32),
        cameras,
        None if point is None else np.array([point.x, point.y, point.z]),
        request['stamp_ns'],
    )
    return Observed(observation, request['generation'], request['since_reset'], request['budget'])


def _chunk(message: Any) -> ActionChunk:
    step_s = (message.step_duration.sec * 1_000_000_000 + message.step_duration.nanosec) / 1e9
    columns = len(message.action_names)
    values = np.asarray(message.values, np.float32).reshape(-1, columns)
    spec = ActionSpec(
        tuple(message.action_names), tuple(message.action_units), step_s, len(values)
    )
    return ActionChunk(values, spec, stamp_ns(message.header.stamp), message.generation)

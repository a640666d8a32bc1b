"""Checks of single input messages: stamp, frame, names and finite values."""

from collections.abc import Iterable, Mapping

from geometry_msgs.msg import PoseStamped
import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, JointState

from sqap_vla_ros.errors import UserError
from sqap_vla_ros.profiles.ranges import MAX_DISTANCE_M

DAY_S = 86400.0
FUTURE_STAMP_S = 0.1
"""How far in the future a stamp may be: clocks of two machines differ."""
SHOWN = 40
"""Characters of a name from a message that are shown."""
QUATERNION_TOLERANCE = 0.01
"""By which the length of a quaternion may differ from 1; the same as in tf2."""
MAX_BYTES = {PoseStamped: 10_000, CameraInfo: 100_000, JointState: 500_000}
"""Type of message to its largest size; that of images depends on their pixels."""
PIXEL_BYTES, IMAGE_HEADER_BYTES = 8, 100_000
"""Bytes of a pixel, and of everything else in an image, at most."""
MAX_JOINTS = 10_000
Pose = tuple[NDArray[np.float64], NDArray[np.float64]]
"""Position [3], m, and quaternion [4], x y z w."""


class InvalidMessage(UserError):
    """A message is rejected; `reason` is the key that /diagnostics counts it under."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


def check_bytes(kind: type, size: int, max_pixels: int) -> None:
    """
    Check the size of a serialized message, before time is spent on reading it.

    Args:
        kind: Type of the message.
        size: Bytes.
        max_pixels: Largest accepted width * height of an image.

    Raises:
        InvalidMessage: It is larger than any message of its type should be.
    """
    limit = MAX_BYTES.get(kind)
    if kind in (Image, CompressedImage):
        limit = PIXEL_BYTES * max_pixels + IMAGE_HEADER_BYTES
    if limit is not None and size > limit:
        raise InvalidMessage('too_large', f'message has {size} bytes, expected at most {limit}')


def check_age(stamp_ns: int, now_ns: int, max_age_s: float) -> None:
    """
    Check the stamp of a message.

    Args:
        stamp_ns: Stamp of the message, ns.
        now_ns: Time on the clock of the node, ns.
        max_age_s: Oldest accepted stamp, s.

    Raises:
        InvalidMessage: The stamp is older, or more than FUTURE_STAMP_S in the future.
    """
    age_s = (now_ns - stamp_ns) / 1e9
    if age_s > max_age_s or age_s < -FUTURE_STAMP_S:
        raise InvalidMessage('stamp', _wrong_stamp(stamp_ns, now_ns, age_s, max_age_s))


def _wrong_stamp(stamp_ns: int, now_ns: int, age_s: float, max_age_s: float) -> str:
    """Say what is wrong with a stamp, and what is the most likely cause."""
    if now_ns == 0:
        return (
            'use_sim_time is set, and no /clock has arrived; start what publishes /clock, or set '
            'use_sim_time to false'
        )
    if stamp_ns == 0:
        return 'stamp is 0: its publisher does not fill header.stamp; expected the time of capture'
    expected = f'expected {-FUTURE_STAMP_S:g} .. {max_age_s:g} s'
    if abs(age_s) > DAY_S:
        return (
            f'stamp is {age_s:.0f} s old by this clock, {expected}: it counts from another '
            'beginning, such as the start of the machine or of a simulation; let its publisher '
            'use the ROS clock, or set use_sim_time as it does'
        )
    return (
        f'stamp is {age_s:.2f} s old by this clock, {expected}; synchronise the clocks or set '
        'use_sim_time as the publisher does'
    )


def read_pose(message: PoseStamped, base_frame: str) -> Pose:
    """
    Read a pose.

    Args:
        message: The message.
        base_frame: Frame that it must be in.

    Returns:
        Position [3] and quaternion [4] (x y z w), float64.

    Raises:
        InvalidMessage: The pose is in another frame, not finite or farther away than any robot
            reaches, or the quaternion is not of unit length.
    """
    if message.header.frame_id != base_frame:
        raise InvalidMessage(
            'frame',
            f'frame_id is {message.header.frame_id[:60]!a}, expected '
            f'{base_frame!r} (parameter base_frame)',
        )
    p, q = message.pose.position, message.pose.orientation
    position, quaternion = np.array([p.x, p.y, p.z]), np.array([q.x, q.y, q.z, q.w])
    if not (np.isfinite(position).all() and np.isfinite(quaternion).all()):
        raise InvalidMessage('not_finite', 'pose has NaN or infinite values')
    distance_m = float(np.linalg.norm(position))
    if distance_m > MAX_DISTANCE_M:
        raise InvalidMessage(
            'range',
            f'position is {distance_m:.4g} m from {base_frame!r}, expected at most '
            f'{MAX_DISTANCE_M:g} m; are these millimetres? Poses are in metres (REP 103)',
        )
    length = float(np.linalg.norm(quaternion))
    if abs(length - 1) > QUATERNION_TOLERANCE:
        raise InvalidMessage(
            'quaternion',
            f'orientation has length {length:.4f}, expected 1: x y z w of a rotation; 0 0 0 1 is '
            'none',
        )
    return position, quaternion


def read_joints(
    message: JointState,
    needed: Iterable[str],
    plausible: Mapping[str, tuple[float, float]] | None = None,
) -> dict[str, float]:
    """
    Read joint positions.

    Args:
        message: The message; it may have more joints, in any order.
        needed: Names of the joints that must be there, once, and finite.
        plausible: Joint name to its lowest and highest plausible position, rad or m; a joint
            that is not in it may be anywhere.

    Returns:
        Joint name to position, rad or m.

    Raises:
        InvalidMessage: There are too many joints, one is missing, there twice, not finite or
            where it cannot be, or the lengths differ.
    """
    if len(message.name) > MAX_JOINTS:
        raise InvalidMessage(
            'too_large', f'{len(message.name)} joints, expected at most {MAX_JOINTS}'
        )
    if len(message.name) != len(message.position):
        raise InvalidMessage(
            'shape', f'{len(message.name)} names but {len(message.position)} positions'
        )
    joints = dict(zip(message.name, message.position))
    for name in needed:
        if name not in joints:
            there = ', '.join(ascii(known[:SHOWN]) for known in message.name[:10]) or 'none'
            raise InvalidMessage(
                'missing_joint',
                f'joint {name!r} is missing, there are {there}; the policy needs it (parameter '
                'gripper_joint for the gripper, joint_states.policy_names of the profile for '
                'others)',
            )
        if len(joints) < len(message.name) and message.name.count(name) > 1:
            raise InvalidMessage(
                'repeated_joint', f'joint {name!r} is there twice; expected each joint once'
            )
        if not np.isfinite(joints[name]):
            raise InvalidMessage('not_finite', 'positions have NaN or infinite values')
        low, high = (plausible or {}).get(name, (-np.inf, np.inf))
        if not low <= joints[name] <= high:
            raise InvalidMessage(
                'range',
                f'joint {name!r} is at {joints[name]:.4g}, and its limits in the profile, with a '
                f'margin, are {low:.4g} .. {high:.4g}; positions are in rad and m (REP 103): is '
                'this degrees, millimetres or percent, or are the limits wrong?',
            )
    return joints

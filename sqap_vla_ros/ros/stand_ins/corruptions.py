"""Corruptions of messages: each takes a message and returns a changed copy."""

from copy import copy
import math

from geometry_msgs.msg import PoseStamped
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import String

ELSEWHERE_M = 0.1
"""How far a pose is moved that is valid and wrong."""


def _changed(message, **fields):
    """Make a shallow copy of a message and replace fields of the copy."""
    changed = copy(message)
    for name, value in fields.items():
        setattr(changed, name, value)
    return changed


def _shifted_position(pose, value):
    inner, position = copy(pose.pose), copy(pose.pose.position)
    position.x = value
    inner.position = position
    return _changed(pose, pose=inner)


def _without_rotation(pose):
    inner, orientation = copy(pose.pose), copy(pose.pose.orientation)
    orientation.x = orientation.y = orientation.z = orientation.w = 0.0
    inner.orientation = orientation
    return _changed(pose, pose=inner)


def _with_frame(message, frame_id):
    header = copy(message.header)
    header.frame_id = frame_id
    return _changed(message, header=header)


CORRUPTIONS = {
    Image: {
        'wrong_encoding': lambda m: _changed(m, encoding='rgb9'),
        'bad_step': lambda m: _changed(m, step=m.step // 2),
        'truncated': lambda m: _changed(m, data=m.data[: len(m.data) // 2]),
        'empty': lambda m: _changed(m, width=0, height=0, step=0, data=b''),
        'huge': lambda m: _changed(m, width=60_000, height=60_000, step=180_000),
    },
    PoseStamped: {
        'nan': lambda m: _shifted_position(m, math.nan),
        'infinite': lambda m: _shifted_position(m, math.inf),
        'zero_quaternion': _without_rotation,
        'wrong_frame': lambda m: _with_frame(m, 'somewhere_else'),
        'elsewhere': lambda m: _shifted_position(m, m.pose.position.x + ELSEWHERE_M),
    },
    JointState: {
        'nan': lambda m: _changed(m, position=[math.nan] * len(m.position)),
        'missing': lambda m: _changed(
            m,
            name=m.name[:-1],
            position=m.position[:-1],
            velocity=m.velocity[:-1],
            effort=m.effort[:-1],
        ),
        'wrong_length': lambda m: _changed(m, position=m.position[:-1]),
        # Valid: joints are found by name, so this must have no effect.
        'reversed': lambda m: _changed(
            m,
            name=m.name[::-1],
            position=m.position[::-1],
            velocity=m.velocity[::-1],
            effort=m.effort[::-1],
        ),
    },
    String: {
        'megabyte': lambda m: _changed(m, data='x' * 1_000_000),
        'control_characters': lambda m: _changed(m, data='\x1b[2J\r\n\x00\x07' + m.data),
        'special_tokens': lambda m: _changed(m, data='<s></s><pad><unk>[INST] ' + m.data),
        'format_string': lambda m: _changed(m, data='%s%n%x{0}{} ' + m.data),
    },
}
"""Message type to the corruptions of it, by name."""

"""Message types and topics of the bags, for reading and writing without ROS."""

import functools
from typing import Any

from rosbags.typesys import get_types_from_msg, get_typestore, Stores
from rosbags.typesys.store import Typestore

from sqap_vla_ros.resources import find_resource

REQUEST, STATE, END_EFFECTOR = (
    'observation/request',
    'observation/state',
    'observation/end_effector',
)
IMAGE = 'observation/image/'
"""Followed by the name of the camera, and by `COMPRESSED` where it is a file."""
COMPRESSED = '/compressed'
CHUNK, STATS, TWIST, JOINTS, GRIPPER, MOTION = (
    'action_chunk',
    'inference_stats',
    'twist_command',
    'joint_command',
    'gripper_command',
    'state',
)
READ_TYPES = (
    'geometry_msgs/msg/PointStamped',
    'geometry_msgs/msg/TwistStamped',
    'sensor_msgs/msg/CompressedImage',
    'sensor_msgs/msg/Image',
    'sensor_msgs/msg/JointState',
    'sqap_vla_ros/msg/ActionChunk',
    'sqap_vla_ros/msg/InferenceStats',
    'std_msgs/msg/Float64',
    'std_msgs/msg/String',
)
"""Of all topics above; a bag may have others."""
OWN_TYPES = ('ActionChunk', 'InferenceStats')


@functools.cache
def typestore() -> Typestore:
    """Return the types of ROS 2 and of this package; made once, because it is expensive."""
    store = get_typestore(Stores.ROS2_JAZZY)
    for name in OWN_TYPES:
        text = find_resource(f'msg/{name}.msg').read_text('utf-8')
        store.register(get_types_from_msg(text, f'sqap_vla_ros/msg/{name}'))
    return store


def stamp(store: Typestore, time_ns: int) -> Any:
    """Convert nanoseconds to builtin_interfaces/Time."""
    return store.types['builtin_interfaces/msg/Time'](*divmod(time_ns, 1_000_000_000))


def stamp_ns(time: Any) -> int:
    """Convert builtin_interfaces/Time to nanoseconds."""
    return time.sec * 1_000_000_000 + time.nanosec

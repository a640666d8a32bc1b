"""Message types of the bags, for writing and for reading without ROS."""

import functools

from rosbags.typesys import get_types_from_msg, get_typestore, Stores

from sqap_vla_ros.resources import find_resource

REQUEST, STATE, END_EFFECTOR = (
    'observation/request',
    'observation/state',
    'observation/end_effector',
)
IMAGE = 'observation/image/'
"""And the camera's name."""
CHUNK, STATS, TWIST, JOINTS, GRIPPER, MOTION = (
    'action_chunk',
    'inference_stats',
    'twist_command',
    'joint_command',
    'gripper_command',
    'state',
)
OWN_TYPES = ('ActionChunk', 'InferenceStats')


@functools.cache
def typestore():
    """Types of ROS 2 and of this package; costs much memory and time, so that there is one."""
    store = get_typestore(Stores.ROS2_JAZZY)
    for name in OWN_TYPES:
        text = find_resource(f'msg/{name}.msg').read_text('utf-8')
        store.register(get_types_from_msg(text, f'sqap_vla_ros/msg/{name}'))
    return store


def stamp(store, time_ns: int):
    """builtin_interfaces/Time."""
    return store.types['builtin_interfaces/msg/Time'](*divmod(time_ns, 1_000_000_000))


def stamp_ns(time) -> int:
    """Inverse of `stamp`."""
    return time.sec * 1_000_000_000 + time.nanosec

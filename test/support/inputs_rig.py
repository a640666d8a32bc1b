"""Inputs of the policy node with a stand-in for the node, and messages for them."""

import io
from types import SimpleNamespace
from unittest.mock import patch

from geometry_msgs.msg import PoseStamped, TransformStamped
import numpy as np
from PIL import Image as Picture
from rclpy.serialization import serialize_message
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, JointState

from sqap_vla_ros.action_chunk import ActionSpec
from sqap_vla_ros.policy import PolicySpec
from sqap_vla_ros.profiles.robot_profile import (
    Camera,
    RobotProfile,
)
from sqap_vla_ros.ros.common.image_messages import rgb_to_image
from sqap_vla_ros.ros.common.messages import header
from sqap_vla_ros.ros.policy_node import inputs as module
from sqap_vla_ros.ros.policy_node.inputs import Inputs
from sqap_vla_ros.ros.policy_node.parameters import PolicyNodeSettings

OPTICAL = 'camera_optical_frame'
NOW_NS = 100_000_000_000
SETTINGS = PolicyNodeSettings(
    base_frame='base_link',
    max_image_pixels=1_000_000,
    gripper_joint='finger',
    gripper_open_position=0.04,
    gripper_closed_position=0.0,
)
PROFILE = RobotProfile(
    'arm',
    'base_link',
    'tool',
    (Camera('wrist', 'wrist/image'), Camera('side', 'side/image', compressed=True)),
    (),
    policy_joints={'j0': 'shoulder'},
)


class StandInNode:
    """Gives callbacks instead of subscriptions; its clock stands still."""

    def __init__(self):
        self.callbacks, self.kinds, self.warnings = {}, {}, []
        self.publishers = {}

    def resolve_topic_name(self, topic):
        return f'/arm/{topic}'

    def count_publishers(self, topic):
        return self.publishers.get(topic, 0)

    def create_subscription(self, kind, topic, callback, qos, **options):
        self.callbacks[topic], self.kinds[topic] = callback, kind
        return topic

    def destroy_subscription(self, topic):
        del self.callbacks[topic]

    def create_timer(self, period_s, callback, clock):
        return callback

    def destroy_timer(self, timer):
        pass

    def get_clock(self):
        return SimpleNamespace(now=lambda: SimpleNamespace(nanoseconds=NOW_NS))

    def get_logger(self):
        return SimpleNamespace(warning=self.warnings.append)


def spec(cameras=('wrist', 'side'), state=('end_effector.x', 'joint.j0', 'gripper')):
    action = ActionSpec(('linear.x', 'linear.y', 'linear.z'), ('m/s',) * 3, 0.05, 4)
    units = {'end_effector': 'm', 'joint': 'rad', 'gripper': '1'}
    return PolicySpec(
        cameras, state, tuple(units[name.split('.')[0]] for name in state), action, 2, (1, 1)
    )


class AtOnce:
    """Stands in for `NewestOnly`: works in the thread that puts."""

    def __init__(self, work, name):
        self.put = work

    def close(self):
        """There is no thread."""


class Rig:
    """Inputs with a stand-in node, and messages for them; images are read at once."""

    def __init__(self, profile=PROFILE, policy=None, settings=SETTINGS):
        self.node, self.valid = StandInNode(), []
        with patch.object(module, 'NewestOnly', AtOnce):
            self.inputs = Inputs(
                self.node,
                settings,
                profile,
                policy or spec(),
                lambda topic, _: self.valid.append(topic),
            )

    def send(self, topic, message, age_s=0.0, frame=None):
        if frame is None:
            seen = isinstance(message, (Image, CompressedImage, CameraInfo))
            frame = OPTICAL if seen else 'base_link'
        message.header = header(NOW_NS - round(age_s * 1e9), frame)
        self.node.callbacks[topic](serialize_message(message))

    def send_all(self, wrist_age_s=0.0, side_age_s=0.0):
        self.send('wrist/image', rgb_to_image(np.full((4, 4, 3), 7, np.uint8)), wrist_age_s)
        self.send('side/image', jpeg(), side_age_s)
        self.send('end_effector_pose', pose(0.5))
        self.send('joint_states', joints())

    def rejected(self, topic):
        return {key for key in self.inputs.rejected if key.startswith(topic)}


def jpeg():
    data = io.BytesIO()
    Picture.fromarray(np.full((8, 8, 3), 200, np.uint8)).save(data, 'JPEG')
    return CompressedImage(format='jpeg', data=data.getvalue())


def pose(x, y=0.0, z=0.0):
    message = PoseStamped()
    message.pose.position.x, message.pose.position.y, message.pose.position.z = x, y, z
    message.pose.orientation.w = 1.0
    return message


def joints(names=('finger', 'other', 'shoulder'), positions=(0.01, 9.0, 1.25)):
    return JointState(name=list(names), position=list(positions))


def transform(x, age_s=0.0):
    message = TransformStamped(header=header(NOW_NS - round(age_s * 1e9), 'base_link'))
    message.transform.translation.x = x
    message.transform.rotation.w = 1.0
    return message

"""
Publishes the inputs that a profile names, without a robot: for a first dry run.

Images are a moving test pattern. Joints are in the middle of their ranges, and the end effector is
in the middle of the workspace. Commands have no effect. Profiles with poses from TF need tf2_ros.
"""

from collections.abc import Iterable
import math
import sys
from typing import Any

import cv2
from geometry_msgs.msg import PoseStamped
import numpy as np
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, JointState
from std_msgs.msg import Header

from sqap_vla_ros.profiles.reading import load_profile
from sqap_vla_ros.ros.common.image_messages import rgb_to_image
from sqap_vla_ros.ros.common.node_process import run_node
from sqap_vla_ros.ros.common.poses import import_tf2_ros, make_pose, pose_to_transform
from sqap_vla_ros.ros.common.qos import LATCHED
from sqap_vla_ros.ros.common.setting import Setting

SETTINGS = (
    Setting('profile', 'sim_sawyer', 'robot profile whose inputs are published', read_only=True),
    Setting('rate_hz', 20.0, 'of all messages', 0.5, 200.0, read_only=True),
    Setting(
        'image_size',
        224,
        'rows and columns of the images, pixels; where the profile gives intrinsics: theirs',
        32,
        1080,
        read_only=True,
    ),
)


class FakeRobotNode(Node):
    """A robot that stands still."""

    def __init__(self) -> None:
        super().__init__('fake_robot_node')
        values = {
            s.name: self.declare_parameter(s.name, s.default, s.descriptor()).value
            for s in SETTINGS
        }
        self._profile = profile = load_profile(values['profile'])
        self._size, self._count = values['image_size'], 0
        self._images = [
            (
                camera,
                self.create_publisher(
                    CompressedImage if camera.compressed else Image, camera.topic, 5
                ),
            )
            for camera in profile.cameras
        ]
        self._infos = [
            (camera, self.create_publisher(CameraInfo, camera.info_topic, 5))
            for camera in profile.cameras
            if camera.info_topic
        ]
        self._joints = self.create_publisher(JointState, profile.joint_states_topic, 5)
        self._pose = None
        if profile.pose_source == 'topic':
            self._pose = self.create_publisher(PoseStamped, profile.pose_topic, 5)
        self._broadcaster: Any = None
        if profile.pose_source == 'tf' or any(c.extrinsics == 'tf' for c in profile.cameras):
            self._broadcaster = import_tf2_ros().TransformBroadcaster(self)
        for camera in profile.cameras:
            if camera.extrinsics == 'topic':
                self.create_publisher(PoseStamped, camera.extrinsics_topic, LATCHED).publish(
                    self._above()
                )
        self.create_timer(1 / values['rate_hz'], self._publish)

    def _publish(self) -> None:
        self._count += 1
        for camera, publisher in self._images:
            width, height = self._size, self._size
            if camera.intrinsics is not None:
                width, height = camera.intrinsics.width, camera.intrinsics.height
            pattern = _pattern(width, height, self._count)
            message = rgb_to_image(pattern)
            if camera.compressed:
                data = cv2.imencode('.jpg', pattern[..., ::-1])[1].tobytes()
                message = CompressedImage(format='jpeg', data=data)
            publisher.publish(self._stamped(message, camera.optical_frame))
        for camera, publisher in self._infos:
            size, focal = self._size, float(self._size)
            info = CameraInfo(width=size, height=size)
            info.k = [focal, 0.0, size / 2, 0.0, focal, size / 2, 0.0, 0.0, 1.0]
            info.p = [*info.k[:3], 0.0, *info.k[3:6], 0.0, *info.k[6:], 0.0]
            publisher.publish(self._stamped(info, camera.optical_frame))
        self._joints.publish(self._joint_state())
        if self._pose is not None:
            self._pose.publish(self._middle())
        if self._broadcaster is not None:
            frames = [(self._profile.end_effector_frame, self._middle())]
            frames += [
                (camera.optical_frame, self._above())
                for camera in self._profile.cameras
                if camera.extrinsics == 'tf'
            ]
            self._broadcaster.sendTransform(
                [pose_to_transform(pose, name) for name, pose in frames]
            )

    def _joint_state(self) -> JointState:
        profile = self._profile
        middles = {
            joint.name: (joint.lower + joint.upper) / 2
            if math.isfinite(joint.lower + joint.upper)
            else 0.0
            for joint in profile.joints
        }
        if profile.gripper.joint:
            middles[profile.gripper.joint] = profile.gripper.opened
        message = JointState(
            name=list(middles), position=list(middles.values()), velocity=[0.0] * len(middles)
        )
        return self._stamped(message, profile.base_frame)

    def _middle(self) -> PoseStamped:
        settings = self._profile.settings
        low = settings.get('workspace_low_m', [0.0, 0.0, 0.0])
        high = settings.get('workspace_high_m', [0.0, 0.0, 0.0])
        return self._pose_of((np.array(low) + high) / 2, (0.0, 0.0, 0.0, 1.0))

    def _above(self) -> PoseStamped:
        middle = self._middle().pose.position
        return self._pose_of((middle.x, middle.y, middle.z + 1.0), (1.0, 0.0, 0.0, 0.0))

    def _pose_of(
        self, position_m: Iterable[float], quaternion: tuple[float, float, float, float]
    ) -> PoseStamped:
        stamp = self.get_clock().now().to_msg()
        header = Header(stamp=stamp, frame_id=self._profile.base_frame)
        return make_pose(header, position_m, quaternion)

    def _stamped(self, message: Any, frame_id: str) -> Any:
        message.header.stamp = self.get_clock().now().to_msg()
        message.header.frame_id = frame_id
        return message


def _pattern(width: int, height: int, count: int) -> np.ndarray:
    across, down = (np.linspace(0, 255, n, dtype=np.uint8) for n in (width, height))
    image = np.stack(np.broadcast_arrays(across[None], down[:, None], np.uint8(count % 256)), -1)
    return np.ascontiguousarray(image)


def main(arguments: list[str] | None = None) -> int:
    """Run the fake robot until SIGINT or SIGTERM."""
    return run_node('fake_robot_node', FakeRobotNode, arguments)


if __name__ == '__main__':
    sys.exit(main())

"""Publishers of the simulated arm: image, camera, end effector, joints, success, time."""

from typing import Any, TYPE_CHECKING

import cv2
from geometry_msgs.msg import PoseStamped
import numpy as np
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.qos_overriding_options import QoSOverridingOptions
from rclpy.time import Time
from rosgraph_msgs.msg import Clock
from scipy.spatial.transform import Rotation
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, JointState
from std_msgs.msg import Bool, Header

from sqap_vla_ros.ros.common.image_messages import rgb_to_image
from sqap_vla_ros.ros.common.poses import make_pose, pose_to_transform
from sqap_vla_ros.ros.common.qos import LATCHED

if TYPE_CHECKING:
    from sqap_vla_ros.simulation.arm import SimulatedArm

BASE_FRAME = 'base'
OPTICAL_FRAME = 'camera_optical_frame'
END_EFFECTOR_FRAME = 'end_effector'
FINGER_JOINT = 'r_close'
# Reliable: with best effort, an image is lost silently unless a shared-memory segment can hold it
# several times. A best-effort subscriber matches too. Parameters can override it.
IMAGE_QOS = QoSProfile(depth=5)
JPEG = 95
"""Quality of camera/image_raw/compressed."""
STATE_QOS = QoSProfile(depth=5)
CLOCK_QOS = QoSProfile(depth=1)


class SimArmPublisher:
    """
    Publishes what a `SimulationLoop` simulates; called in the loop's thread.

    Transforms are published too if tf2_ros is installed.

    Args:
        node: Node that publishes.
        joints: Names of the arm's joints.
        publish_clock: Publish /clock and stamp with simulation time.
    """

    def __init__(self, node: Node, joints: tuple[str, ...], publish_clock: bool) -> None:
        self.simulated_ns = 0
        """Simulated time; a reset does not set it back."""
        self._node, self._joints = node, joints
        self._stamp = Time().to_msg()
        self._outcome: str | None = None
        self._image = node.create_publisher(
            Image,
            'camera/image_raw',
            IMAGE_QOS,
            qos_overriding_options=QoSOverridingOptions.with_default_policies(),
        )
        self._compressed = node.create_publisher(
            CompressedImage, 'camera/image_raw/compressed', IMAGE_QOS
        )
        self._camera_info = node.create_publisher(CameraInfo, 'camera/camera_info', IMAGE_QOS)
        self._extrinsics = node.create_publisher(PoseStamped, 'camera/extrinsics', LATCHED)
        self._pose = node.create_publisher(PoseStamped, 'end_effector_pose', STATE_QOS)
        self._joint_states = node.create_publisher(JointState, 'joint_states', STATE_QOS)
        self._success = node.create_publisher(Bool, 'task_success', LATCHED)
        self._clock = node.create_publisher(Clock, '/clock', CLOCK_QOS) if publish_clock else None
        self._moving_frames: Any = None
        self._fixed_frames: Any = None
        try:
            import tf2_ros
        except ImportError:
            node.get_logger().info('no transforms on /tf: tf2_ros is not installed')
        else:
            self._moving_frames = tf2_ros.TransformBroadcaster(node)
            self._fixed_frames = tf2_ros.StaticTransformBroadcaster(node)

    @property
    def publishes_clock(self) -> bool:
        """Whether stamps are simulation time."""
        return self._clock is not None

    def on_tick(self, simulated_ns: int) -> None:
        """Set the stamp of the messages of this tick, and publish the time."""
        self.simulated_ns = simulated_ns
        if self._clock is None:
            self._stamp = self._node.get_clock().now().to_msg()
        else:
            self._stamp = Time(nanoseconds=simulated_ns).to_msg()
            self._clock.publish(Clock(clock=self._stamp))

    def on_state(self, arm: 'SimulatedArm', simulated_ns: int) -> None:
        """Publish end effector, joints and success."""
        pose = self._pose_message(arm.end_effector_m, arm.end_effector_quaternion)
        self._pose.publish(pose)
        if self._moving_frames is not None:
            self._moving_frames.sendTransform(pose_to_transform(pose, END_EFFECTOR_FRAME))
        finger = arm.data.joint(FINGER_JOINT)
        self._joint_states.publish(
            JointState(
                header=self._header(BASE_FRAME),
                name=[*self._joints, FINGER_JOINT],
                position=[*arm.joint_positions.tolist(), float(finger.qpos[0])],
                velocity=[*arm.joint_velocities.tolist(), float(finger.qvel[0])],
            )
        )
        self._success.publish(Bool(data=bool(arm.succeeded)))
        self._log_outcome(arm)

    def on_image(self, arm: 'SimulatedArm', image: np.ndarray, simulated_ns: int) -> None:
        """Publish the image (uint8 [size, size, 3], RGB) and the camera that took it."""
        header = self._header(OPTICAL_FRAME)
        self._image.publish(rgb_to_image(image, header))
        if self._compressed.get_subscription_count():
            _, data = cv2.imencode('.jpg', image[..., ::-1], (cv2.IMWRITE_JPEG_QUALITY, JPEG))
            self._compressed.publish(
                CompressedImage(header=header, format='jpeg', data=data.tobytes())
            )
        camera = arm.camera
        k = camera.intrinsics
        projection = np.hstack([k, np.zeros((3, 1))])
        self._camera_info.publish(
            CameraInfo(
                header=header,
                width=camera.width,
                height=camera.height,
                distortion_model='plumb_bob',
                d=[0.0] * 5,
                k=k.ravel().tolist(),
                r=np.eye(3).ravel().tolist(),
                p=projection.ravel().tolist(),
            )
        )
        base_from_optical = np.linalg.inv(camera.optical_from_base)
        pose = self._pose_message(
            base_from_optical[:3, 3], Rotation.from_matrix(base_from_optical[:3, :3]).as_quat()
        )
        self._extrinsics.publish(pose)
        if self._fixed_frames is not None:
            self._fixed_frames.sendTransform(pose_to_transform(pose, OPTICAL_FRAME))
            self._fixed_frames = (
                None  # once is enough: it is latched, and the camera does not move
            )

    def on_slow(self, achieved_factor: float, wanted_factor: float, image_ms: float) -> None:
        """Warn that this machine is too slow."""
        self._node.get_logger().warning(
            f'simulated time runs at {achieved_factor:.2f} of real time, not at '
            f'{wanted_factor:g} (an image takes {image_ms:.0f} ms): lower camera_rate_hz, '
            'image_size or real_time_factor'
        )

    def _log_outcome(self, arm: 'SimulatedArm') -> None:
        outcome = 'succeeded' if arm.succeeded else 'failed' if arm.failed else None
        if outcome is not None and outcome != self._outcome:
            self._node.get_logger().info(
                f'{arm.task.name} {outcome} after {arm.time_s:.1f} s of simulated time'
            )
        self._outcome = outcome

    def _header(self, frame_id: str) -> Header:
        return Header(stamp=self._stamp, frame_id=frame_id)

    def _pose_message(self, position_m: np.ndarray, quaternion: np.ndarray) -> PoseStamped:
        return make_pose(self._header(BASE_FRAME), position_m, quaternion)

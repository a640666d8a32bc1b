"""What the simulated arm tells: image, camera, end effector, joints, success, time."""

import cv2
from geometry_msgs.msg import PoseStamped, TransformStamped
import numpy as np
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from rclpy.qos_overriding_options import QoSOverridingOptions
from rclpy.time import Time
from rosgraph_msgs.msg import Clock
from scipy.spatial.transform import Rotation
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, JointState
from std_msgs.msg import Bool, Header

from sqap_vla_ros.ros.common.image_conversion import rgb_to_image

BASE_FRAME = 'base'
OPTICAL_FRAME = 'camera_optical_frame'
END_EFFECTOR_FRAME = 'end_effector'
FINGER_JOINT = 'r_close'
# Reliable, because with best effort an image that a shared-memory segment cannot hold a few times
# over is lost silently; a best-effort subscriber matches too. Parameters can override it.
IMAGE_QOS = QoSProfile(depth=5)
JPEG = 95
"""Quality of camera/image_raw/compressed."""
STATE_QOS = QoSProfile(depth=5)
CLOCK_QOS = QoSProfile(depth=1)
LATCHED_QOS = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)


class SimArmPublisher:
    """
    Listens to a `SimulationLoop` and publishes on a node; called in the loop's thread.

    Transforms are sent too where tf2_ros is installed.
    """

    def __init__(self, node: Node, joints: tuple[str, ...], publish_clock: bool) -> None:
        self.simulated_ns = 0
        """Simulated time; grows through resets."""
        self._node, self._joints = node, joints
        self._stamp = Time().to_msg()
        self._outcome = None
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
        self._extrinsics = node.create_publisher(PoseStamped, 'camera/extrinsics', LATCHED_QOS)
        self._pose = node.create_publisher(PoseStamped, 'end_effector_pose', STATE_QOS)
        self._joint_states = node.create_publisher(JointState, 'joint_states', STATE_QOS)
        self._success = node.create_publisher(Bool, 'task_success', LATCHED_QOS)
        self._clock = node.create_publisher(Clock, '/clock', CLOCK_QOS) if publish_clock else None
        self._moving_frames = self._fixed_frames = None
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
        """Decide on the stamp of what is published at this tick, and publish the time."""
        self.simulated_ns = simulated_ns
        if self._clock is None:
            self._stamp = self._node.get_clock().now().to_msg()
        else:
            self._stamp = Time(nanoseconds=simulated_ns).to_msg()
            self._clock.publish(Clock(clock=self._stamp))

    def on_state(self, arm, simulated_ns: int) -> None:
        """Publish end effector, joints and success."""
        pose = self._pose_message(arm.end_effector_m, arm.end_effector_quaternion)
        self._pose.publish(pose)
        if self._moving_frames is not None:
            self._moving_frames.sendTransform(_transform(pose, END_EFFECTOR_FRAME))
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

    def on_image(self, arm, image: np.ndarray, simulated_ns: int) -> None:
        """Publish the image and the camera that took it."""
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
            self._fixed_frames.sendTransform(_transform(pose, OPTICAL_FRAME))
            self._fixed_frames = None  # it is latched and the camera does not move

    def on_slow(self, achieved_factor: float, wanted_factor: float, image_ms: float) -> None:
        """Say that this machine does not keep up."""
        self._node.get_logger().warning(
            f'simulated time runs at {achieved_factor:.2f} of real time, not at '
            f'{wanted_factor:g} (an image takes {image_ms:.0f} ms): lower camera_rate_hz, '
            'image_size or real_time_factor'
        )

    def _log_outcome(self, arm) -> None:
        outcome = 'succeeded' if arm.succeeded else 'failed' if arm.failed else None
        if outcome is not None and outcome != self._outcome:
            self._node.get_logger().info(
                f'{arm.task.name} {outcome} after {arm.time_s:.1f} s of simulated time'
            )
        self._outcome = outcome

    def _header(self, frame_id):
        return Header(stamp=self._stamp, frame_id=frame_id)

    def _pose_message(self, position_m, quaternion):
        message = PoseStamped(header=self._header(BASE_FRAME))
        p, q = message.pose.position, message.pose.orientation
        p.x, p.y, p.z = map(float, position_m)
        q.x, q.y, q.z, q.w = map(float, quaternion)
        return message


def _transform(pose, child_frame_id):
    message = TransformStamped(header=pose.header, child_frame_id=child_frame_id)
    p, translation = pose.pose.position, message.transform.translation
    translation.x, translation.y, translation.z = p.x, p.y, p.z
    message.transform.rotation = pose.pose.orientation
    return message

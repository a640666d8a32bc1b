"""What the robot tells the policy node: checked, counted and put together to observations."""
from collections import Counter
from dataclasses import dataclass
from threading import Lock
import time
from typing import Callable

from geometry_msgs.msg import PoseStamped
import numpy as np
from rclpy.qos import DurabilityPolicy, qos_profile_sensor_data, QoSProfile
from sensor_msgs.msg import CameraInfo, Image, JointState

from sqap_vla_ros.errors import UserError
from sqap_vla_ros.models.policy import Observation, PolicySpec
from sqap_vla_ros.ros.image_conversion import image_to_rgb
from sqap_vla_ros.ros.messages import pinhole_camera, stamp_to_ns
from sqap_vla_ros.ros.rate import RateMeter

FUTURE_STAMP_S = 0.1
LATCHED_QOS = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
IMAGE, POSE, JOINTS, INFO, EXTRINSICS = (
    'camera/image_raw', 'end_effector_pose', 'joint_states', 'camera/camera_info',
    'camera/extrinsics')


@dataclass(frozen=True)
class Sample:
    """The newest valid message of a topic."""

    value: object
    stamp_ns: int
    received_s: float
    """Steady clock."""


class Inputs:
    """
    Subscriptions of one camera, the end effector and the joints.

    Callbacks run in the executor's thread, `observation` in any thread. A message that is not
    valid is counted by reason, logged (throttled) and otherwise as if it had never come.
    """

    def __init__(self, node, settings: dict, spec: PolicySpec,
                 on_valid: Callable[[str, Sample], None]):
        """`on_valid(topic, sample)` is called for every valid message."""
        self._node, self._settings, self._spec = node, settings, spec
        self._on_valid = on_valid
        self._lock = Lock()
        self._latest: dict[str, Sample] = {}
        self.rejected = Counter()
        """Topic and reason to number of messages."""
        self.required = [IMAGE, POSE]  # the pose for the workspace limits
        if any(not name.startswith('end_effector.') for name in spec.state_names):
            self.required.append(JOINTS)
        kinds = {IMAGE: (Image, self._read_image), POSE: (PoseStamped, self._read_pose),
                 JOINTS: (JointState, self._read_joints), INFO: (CameraInfo, lambda info: info),
                 EXTRINSICS: (PoseStamped, self._read_pose)}
        self.rates = {topic: RateMeter() for topic in kinds}
        self._subscriptions = [
            node.create_subscription(kind, topic, self._receiver(topic, read),
                                     LATCHED_QOS if topic == EXTRINSICS
                                     else qos_profile_sensor_data)
            for topic, (kind, read) in kinds.items()]

    def close(self):
        """Stop listening."""
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)

    def age_s(self, topic: str) -> float:
        """Steady time since the last valid message; infinite when there was none."""
        with self._lock:
            sample = self._latest.get(topic)
        return np.inf if sample is None else time.monotonic() - sample.received_s

    def sample(self, topic: str) -> Sample | None:
        """Newest valid message of a topic."""
        with self._lock:
            return self._latest.get(topic)

    def observation(self, instruction: str) -> tuple[Observation, float] | None:
        """
        Put the newest valid messages together; None while a required one is missing.

        Also returns when the image was received, steady clock. The stamp is the image's.
        """
        with self._lock:
            latest = dict(self._latest)
        if any(topic not in latest for topic in self.required):
            return None
        image = latest[IMAGE]
        pose = latest[POSE].value[0] if POSE in latest else None
        camera = self._camera(latest)
        name = self._spec.cameras[0]
        return Observation(
            {name: image.value}, instruction, self._state(latest),
            {} if camera is None else {name: camera}, pose, image.stamp_ns), image.received_s

    def camera(self):
        """Where the camera is, `PinholeCamera` or None."""
        with self._lock:
            return self._camera(self._latest)

    def _receiver(self, topic, read):
        def receive(message):
            try:
                stamp_ns = self._check_stamp(topic, message)
                sample = Sample(read(message), stamp_ns, time.monotonic())
            except UserError as error:
                self._reject(topic, error)
                return
            with self._lock:
                self._latest[topic] = sample
            self.rates[topic].tick(sample.received_s)
            self._on_valid(topic, sample)
        return receive

    def _reject(self, topic, error):
        reason = getattr(error, 'reason', None)
        self.rejected[f'{topic}: {getattr(reason, "value", reason) or "invalid"}'] += 1
        self._node.get_logger().warning(f'{topic}: {error}', throttle_duration_sec=2.0)

    def _check_stamp(self, topic, message):
        stamp_ns = stamp_to_ns(message.header.stamp)
        if topic in (INFO, EXTRINSICS):  # may be sent once
            return stamp_ns
        age_s = (self._node.get_clock().now().nanoseconds - stamp_ns) / 1e9
        limit_s = self._settings['max_stamp_age_s']
        if age_s > limit_s or age_s < -FUTURE_STAMP_S:
            raise _invalid('stamp', f'stamp is {age_s:.2f} s old by this clock, expected '
                           f'{-FUTURE_STAMP_S:g} .. {limit_s:g} s; synchronise the clocks or set '
                           'use_sim_time as the publisher does')
        return stamp_ns

    def _read_image(self, message):
        return image_to_rgb(message, self._settings['max_image_pixels'])

    def _read_pose(self, message):
        frame = self._settings['base_frame']
        if message.header.frame_id != frame:
            raise _invalid('frame', f'frame_id is {message.header.frame_id[:60]!a}, expected '
                           f'{frame!r} (parameter base_frame)')
        p, q = message.pose.position, message.pose.orientation
        position, quaternion = np.array([p.x, p.y, p.z]), np.array([q.x, q.y, q.z, q.w])
        if not (np.isfinite(position).all() and np.isfinite(quaternion).all()):
            raise _invalid('not_finite', 'pose has NaN or infinite values')
        return position, quaternion

    def _read_joints(self, message):
        if len(message.name) != len(message.position):
            raise _invalid('shape', f'{len(message.name)} names but {len(message.position)} '
                           'positions')
        joints = dict(zip(message.name, message.position))
        wanted = [name for name in map(self._joint, self._spec.state_names) if name]
        missing = [name for name in wanted if name not in joints]
        if missing:
            raise _invalid('missing_joint', f'joint {missing[0]!r} is missing; the policy needs '
                           'it (parameter gripper_joint for the gripper)')
        if not all(np.isfinite(joints[name]) for name in wanted):
            raise _invalid('not_finite', 'positions have NaN or infinite values')
        return joints

    def _joint(self, state_name):
        if state_name == 'gripper':
            return self._settings['gripper_joint']
        return state_name.removeprefix('joint.') if state_name.startswith('joint.') else None

    def _state(self, latest):
        if not self._spec.state_names:
            return None
        return np.array([self._state_value(name, latest) for name in self._spec.state_names],
                        np.float32)

    def _state_value(self, name, latest):
        if name.startswith('end_effector.'):
            return latest[POSE].value[0]['xyz'.index(name[-1])]
        position = latest[JOINTS].value[self._joint(name)]
        if name != 'gripper':
            return position
        opened = self._settings['gripper_open_position']
        closed = self._settings['gripper_closed_position']
        return min(max((position - opened) / (closed - opened), 0.0), 1.0)

    def _camera(self, latest):
        if INFO not in latest or EXTRINSICS not in latest:
            return None
        try:
            return pinhole_camera(latest[INFO].value, *latest[EXTRINSICS].value)
        except UserError as error:
            self._reject(INFO, error)
            return None


def _invalid(reason: str, message: str) -> UserError:
    error = UserError(message)
    error.reason = reason
    return error


def check_state_names(spec: PolicySpec):
    """Raise UserError for a policy whose state this node cannot put together."""
    for name in spec.state_names:
        known = name in ('end_effector.x', 'end_effector.y', 'end_effector.z', 'gripper')
        if not known and not name.startswith('joint.'):
            raise UserError(f'policy: its state has {name!r}; this node knows end_effector.x, .y, '
                            '.z, gripper and joint.NAME')
    if len(spec.cameras) != 1:
        raise UserError(f'policy: it needs the cameras {", ".join(spec.cameras)}; this node has '
                        'one camera')

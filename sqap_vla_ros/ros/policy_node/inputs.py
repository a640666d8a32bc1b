"""What the robot tells the policy node: checked, counted and put together to observations."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock
import time

from geometry_msgs.msg import PoseStamped
import numpy as np
from rclpy.qos import DurabilityPolicy, qos_profile_sensor_data, QoSProfile
from scipy.spatial.transform import Rotation
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, JointState

from sqap_vla_ros.errors import UserError
from sqap_vla_ros.policy import Observation, PolicySpec
from sqap_vla_ros.profiles.robot_profile import RobotProfile
from sqap_vla_ros.ros.common.image_conversion import compressed_image_to_rgb, image_to_rgb
from sqap_vla_ros.ros.common.messages import pinhole_camera, stamp_to_ns
from sqap_vla_ros.ros.common.rate import RateMeter
from sqap_vla_ros.ros.policy_node.graph_checks import IncompatibleQos
from sqap_vla_ros.ros.policy_node.transforms import TransformPoller

FUTURE_STAMP_S = 0.1
LATCHED_QOS = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
END_EFFECTOR = ('end_effector.x', 'end_effector.y', 'end_effector.z')


@dataclass(frozen=True)
class Sample:
    """The newest valid message of a topic."""

    value: object
    stamp_ns: int
    received_s: float
    """Steady clock."""


class Inputs:
    """
    Subscriptions of the cameras, the end effector and the joints, as the profile names them.

    Callbacks run in the executor's thread, `observation` in any thread. A message that is not
    valid is counted by reason, logged (throttled) and otherwise as if it had never come. Poses
    from TF count as messages on 'tf FRAME'.
    """

    def __init__(
        self,
        node,
        settings: dict,
        profile: RobotProfile,
        spec: PolicySpec,
        on_valid: Callable[[str, Sample], None],
    ) -> None:
        """`on_valid(topic, sample)` is called for every valid message. Raises UserError."""
        self._node, self._settings, self._profile = node, settings, profile
        self._spec, self._on_valid = spec, on_valid
        self._base_frame = settings['base_frame']
        self._lock = Lock()
        self._latest: dict[str, Sample] = {}
        self.rejected = Counter()
        """Topic and reason to number of messages."""
        self.incompatible = IncompatibleQos()
        names = topics_of(profile, spec)
        if (
            'gripper' in spec.state_names
            and not settings['gripper_joint']
            and profile.gripper.assumed is None
        ):
            raise UserError(
                'policy: its state has the gripper, and nothing tells how far it is '
                'closed; set gripper.joint in the profile or parameter gripper_joint, '
                'or gripper.assumed where nothing measures it'
            )
        self.images, self.pose, self.joints = names.images, names.pose, names.joints
        self.required = list(names.required)
        self._cameras = {
            camera.name: camera for camera in profile.cameras if camera.name in spec.cameras
        }
        self._places = {}  # camera name to what its extrinsics are known by
        self.camera_places = set()
        """Topics that tell where a camera is and how it sees."""
        self.rates = {}
        self._readers = {}
        self._frames = {}
        self._subscriptions = []
        self._listen()
        self._poller = None
        if self._frames:
            self._poller = TransformPoller(node, self._base_frame, self._frames, self._receive)

    def close(self) -> None:
        """Stop listening."""
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)
        if self._poller is not None:
            self._poller.close()

    def age_s(self, topic: str) -> float:
        """Steady time since the last valid message; infinite when there was none."""
        with self._lock:
            sample = self._latest.get(topic)
        return np.inf if sample is None else time.monotonic() - sample.received_s

    def why_missing(self, topic: str) -> str:
        """Say what a topic without a single valid message lacks: its source, or more."""
        if any(rejected.startswith(f'{topic}: ') for rejected in self.rejected):
            return 'those that come are not valid; the log says why'
        if topic in self._frames:
            return 'nobody broadcasts this transform'
        count = self._node.count_publishers(self._node.resolve_topic_name(topic))
        if not count:
            return 'nobody publishes it; start its source, or remap the topic'
        return (
            f'{count} publisher{"s" * (count > 1)}, and nothing arrives; compare the quality '
            'of service, and restart the source where this node was restarted (Fast DDS)'
        )

    def sample(self, topic: str) -> Sample | None:
        """Newest valid message of a topic."""
        with self._lock:
            return self._latest.get(topic)

    def observation(self, instruction: str) -> tuple[Observation, float] | None:
        """
        Put the newest valid messages together; None while a required one is missing.

        None, too, while the stamps of the images are too far apart. Also returns when the images
        were received, steady clock. Stamp and time are those of the oldest image.
        """
        with self._lock:
            latest = dict(self._latest)
        if any(topic not in latest for topic in self.required):
            return None
        images = {name: latest[self.images[name]] for name in self._spec.cameras}
        stamps = [image.stamp_ns for image in images.values()]
        if (max(stamps) - min(stamps)) / 1e9 > self._profile.max_camera_skew_s:
            self._reject(
                ', '.join(self.images.values()),
                _invalid(
                    'skew',
                    f'stamps are {(max(stamps) - min(stamps)) / 1e9:.3f} s apart, expected at '
                    f'most {self._profile.max_camera_skew_s:g} s (max_camera_skew of the profile)',
                ),
            )
            return None
        pose = latest[self.pose].value[0] if self.pose in latest else None
        cameras = {name: self._camera(name, latest) for name in images}
        return Observation(
            {name: image.value for name, image in images.items()},
            instruction,
            self._state(latest),
            {name: camera for name, camera in cameras.items() if camera is not None},
            pose,
            min(stamps),
        ), min(image.received_s for image in images.values())

    def camera(self):
        """Where the policy's first camera is, `PinholeCamera` or None."""
        with self._lock:
            return self._camera(self._spec.cameras[0], self._latest)

    def _listen(self) -> None:
        profile = self._profile
        for name, camera in self._cameras.items():
            kind = CompressedImage if camera.compressed else Image
            self._subscribe(
                kind,
                camera.topic,
                self._read_compressed if camera.compressed else self._read_image,
            )
            if camera.info_topic is not None:
                self._subscribe(CameraInfo, camera.info_topic, lambda info: info)
                self.camera_places.add(camera.info_topic)
            if camera.extrinsics == 'topic':
                self._places[name] = camera.extrinsics_topic
                self._subscribe(PoseStamped, camera.extrinsics_topic, self._read_pose, LATCHED_QOS)
            elif camera.extrinsics == 'tf':
                self._places[name] = f'tf {camera.optical_frame}'
                self._follow(self._places[name], camera.optical_frame)
        self.camera_places |= set(self._places.values())
        if profile.pose_source == 'tf':
            if self.pose in self.required or self._frames:
                self._follow(self.pose, profile.end_effector_frame)
        else:
            self._subscribe(PoseStamped, profile.pose_topic, self._read_pose)
        self._subscribe(JointState, profile.joint_states_topic, self._read_joints)

    def _subscribe(self, kind, topic, read, qos=qos_profile_sensor_data) -> None:
        if topic in self._readers:
            return
        self._readers[topic], self.rates[topic] = read, RateMeter()
        self._subscriptions.append(
            self._node.create_subscription(
                kind,
                topic,
                lambda message: self._receive(topic, message),
                qos,
                event_callbacks=self.incompatible.callbacks(topic),
            )
        )

    def _follow(self, topic, frame) -> None:
        self._readers[topic], self.rates[topic] = self._read_pose, RateMeter()
        self._frames[topic] = frame

    def _receive(self, topic, message) -> None:
        try:
            stamp_ns = self._check_stamp(topic, message)
            sample = Sample(self._readers[topic](message), stamp_ns, time.monotonic())
        except UserError as error:
            self._reject(topic, error)
            return
        with self._lock:
            self._latest[topic] = sample
        self.rates[topic].tick(sample.received_s)
        self._on_valid(topic, sample)

    def _reject(self, topic, error) -> None:
        reason = getattr(error, 'reason', None)
        self.rejected[f'{topic}: {getattr(reason, "value", reason) or "invalid"}'] += 1
        self._node.get_logger().warning(f'{topic}: {error}', throttle_duration_sec=2.0)

    def _check_stamp(self, topic, message):
        stamp_ns = stamp_to_ns(message.header.stamp)
        if topic not in (*self.images.values(), self.pose, self.joints):  # may be sent once
            return stamp_ns
        age_s = (self._node.get_clock().now().nanoseconds - stamp_ns) / 1e9
        limit_s = self._settings['max_stamp_age_s']
        if age_s > limit_s or age_s < -FUTURE_STAMP_S:
            raise _invalid(
                'stamp',
                f'stamp is {age_s:.2f} s old by this clock, expected '
                f'{-FUTURE_STAMP_S:g} .. {limit_s:g} s; synchronise the clocks or set '
                'use_sim_time as the publisher does',
            )
        return stamp_ns

    def _read_image(self, message):
        return image_to_rgb(message, self._settings['max_image_pixels'])

    def _read_compressed(self, message):
        return compressed_image_to_rgb(message, self._settings['max_image_pixels'])

    def _read_pose(self, message):
        if message.header.frame_id != self._base_frame:
            raise _invalid(
                'frame',
                f'frame_id is {message.header.frame_id[:60]!a}, expected '
                f'{self._base_frame!r} (parameter base_frame)',
            )
        p, q = message.pose.position, message.pose.orientation
        position, quaternion = np.array([p.x, p.y, p.z]), np.array([q.x, q.y, q.z, q.w])
        if not (np.isfinite(position).all() and np.isfinite(quaternion).all()):
            raise _invalid('not_finite', 'pose has NaN or infinite values')
        return position, quaternion

    def _read_joints(self, message):
        if len(message.name) != len(message.position):
            raise _invalid(
                'shape', f'{len(message.name)} names but {len(message.position)} positions'
            )
        joints = dict(zip(message.name, message.position))
        wanted = [name for name in map(self._joint, self._spec.state_names) if name]
        if self._profile.joint_space:
            wanted += [joint.name for joint in self._profile.joints]
        missing = [name for name in wanted if name not in joints]
        if missing:
            raise _invalid(
                'missing_joint',
                f'joint {missing[0]!r} is missing; the policy needs '
                'it (parameter gripper_joint for the gripper)',
            )
        if not all(np.isfinite(joints[name]) for name in wanted):
            raise _invalid('not_finite', 'positions have NaN or infinite values')
        return joints

    def _joint(self, state_name):
        if state_name == 'gripper':
            return self._settings['gripper_joint']
        if not state_name.startswith('joint.'):
            return None
        return self._profile.robot_joint(state_name.removeprefix('joint.'))

    def _state(self, latest):
        if not self._spec.state_names:
            return None
        position = None
        if self.pose in latest:
            frame = self._profile.action.policy_frame
            position = (
                Rotation.from_quat(frame.quaternion_xyzw)
                .inv()
                .apply(latest[self.pose].value[0] - np.array(frame.position_m))
            )
        return np.array(
            [self._state_value(name, latest, position) for name in self._spec.state_names],
            np.float32,
        )

    def _state_value(self, name, latest, position):
        if name in END_EFFECTOR:
            return position[END_EFFECTOR.index(name)]
        if not self._joint(name):
            return self._profile.gripper.assumed
        angle = latest[self.joints].value[self._joint(name)]
        if name != 'gripper':
            return angle
        opened = self._settings['gripper_open_position']
        closed = self._settings['gripper_closed_position']
        return min(max((angle - opened) / (closed - opened), 0.0), 1.0)

    def _camera(self, name, latest):
        camera = self._cameras[name]
        info, pose = camera.intrinsics, None
        if info is not None:
            info = _camera_info(info)
        elif camera.info_topic in latest:
            info = latest[camera.info_topic].value
        if camera.extrinsics == 'fixed':
            pose = np.array(camera.pose.position_m), np.array(camera.pose.quaternion_xyzw)
        elif self._places.get(name) in latest:
            pose = latest[self._places[name]].value
        if info is None or pose is None:
            return None
        try:
            return pinhole_camera(info, *pose)
        except UserError as error:
            self._reject(camera.info_topic or name, error)
            return None


@dataclass(frozen=True)
class InputTopics:
    """What a policy needs of a robot."""

    images: dict[str, str]
    """Camera name to topic, of the policy's cameras."""
    pose: str
    joints: str
    required: tuple[str, ...]
    """Without them there is no observation, and none of them may become stale."""


def topics_of(profile: RobotProfile, spec: PolicySpec) -> InputTopics:
    """Topics by their part. Raises UserError for a policy that this robot cannot serve."""
    for name in spec.state_names:
        if name not in (*END_EFFECTOR, 'gripper') and not name.startswith('joint.'):
            raise UserError(
                f'policy: its state has {name!r}; this node knows end_effector.x, .y, '
                '.z, gripper and joint.NAME'
            )
    cameras = {camera.name: camera.topic for camera in profile.cameras}
    missing = [name for name in spec.cameras if name not in cameras]
    if missing:
        raise UserError(
            f'policy: it needs the camera {missing[0]!r}; the profile of '
            f'{profile.robot} has {", ".join(cameras) or "none"}. Give a camera of '
            'the profile that name'
        )
    pose = (
        profile.pose_topic
        if profile.pose_source == 'topic'
        else f'tf {profile.end_effector_frame}'
    )
    images = {name: cameras[name] for name in spec.cameras}
    required = list(images.values())
    # The workspace limits need the pose, whatever the policy needs.
    if not profile.joint_space or any(name in END_EFFECTOR for name in spec.state_names):
        required.append(pose)
    if profile.joint_space or any(name not in END_EFFECTOR for name in spec.state_names):
        required.append(profile.joint_states_topic)
    return InputTopics(images, pose, profile.joint_states_topic, tuple(required))


def _camera_info(intrinsics):
    info = CameraInfo(width=intrinsics.width, height=intrinsics.height)
    info.k = [intrinsics.fx, 0.0, intrinsics.cx, 0.0, intrinsics.fy, intrinsics.cy, 0.0, 0.0, 1.0]
    return info


def _invalid(reason: str, message: str) -> UserError:
    error = UserError(message)
    error.reason = reason
    return error

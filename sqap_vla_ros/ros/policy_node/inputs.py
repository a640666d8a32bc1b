"""Subscriptions of the policy node: messages are checked, counted and combined to observations."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from threading import Lock
import time
from typing import Any, NamedTuple

from geometry_msgs.msg import PoseStamped
import numpy as np
from numpy.typing import NDArray
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data, QoSProfile
from rclpy.subscription import Subscription
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, JointState

from sqap_vla_ros.camera import PinholeCamera
from sqap_vla_ros.errors import describe, UserError
from sqap_vla_ros.images.conversion import compressed_image_to_rgb, image_to_rgb
from sqap_vla_ros.policy import Observation, PolicySpec
from sqap_vla_ros.profiles.robot_profile import Camera, RobotProfile
from sqap_vla_ros.recording.images import keep, KeptImage
from sqap_vla_ros.ros.common.messages import stamp_to_ns
from sqap_vla_ros.ros.common.newest_only import NewestOnly
from sqap_vla_ros.ros.common.qos import LATCHED, subscribe
from sqap_vla_ros.ros.common.serialized import read_serialized
from sqap_vla_ros.ros.common.throttle import Throttle
from sqap_vla_ros.ros.policy_node.camera_models import CameraModels
from sqap_vla_ros.ros.policy_node.input_messages import (
    check_age,
    check_bytes,
    InvalidMessage,
    Pose,
    read_joints,
    read_pose,
)
from sqap_vla_ros.ros.policy_node.input_topics import topics_of
from sqap_vla_ros.ros.policy_node.measurements import RateMeter
from sqap_vla_ros.ros.policy_node.parameters import PolicyNodeSettings
from sqap_vla_ros.ros.policy_node.robot_state import RobotState
from sqap_vla_ros.ros.policy_node.transforms import TransformPoller

REJECTION_PERIOD_S = 2.0
"""Shortest time between two lines about rejected messages of one topic."""
UNLIKELY_PERIOD_S = 10.0
"""The same for one column of the state."""


@dataclass(frozen=True)
class Received:
    """A valid message of a topic."""

    value: Any
    """Image, pose, joint positions or CameraInfo, as the reader of the topic returns it."""
    stamp_ns: int
    """Stamp of the message, ns."""
    received_s: float
    """Arrival, steady clock."""
    age_s: float = 0.0
    """Age by its stamp, clock of the node, when it had been read."""
    message: Any = None
    """Of an image: as it came."""


class Taken(NamedTuple):
    """An observation, and where it comes from."""

    observation: Observation
    """Stamped like its oldest image."""
    received_s: float
    """When that image arrived, steady clock."""
    images: dict[str, KeptImage]
    """Camera name to its image as it came, for the black box."""


@dataclass(frozen=True)
class _Arrived:
    """A message that has not been read yet."""

    message: Any
    """Serialized; from TF: a PoseStamped."""
    now_ns: int
    """When it arrived, clock of the node, ns."""
    received_s: float
    """The same, steady clock."""


class Inputs:
    """
    Subscriptions of the cameras, the end effector and the joints that a profile names.

    Images are read in a thread of their own, the newest of each topic only; other messages in that
    of the executor. `observation` may be called from any thread. A message that is invalid, or
    that cannot be read for whatever reason, is counted by reason, logged (throttled) and otherwise
    ignored. Poses from TF count as messages on 'tf FRAME'.

    Args:
        node: Node that subscribes.
        settings: Parameters of the node.
        profile: Robot profile.
        spec: What the policy needs.
        on_valid: Called with the topic and each valid message, in the thread that has read it.

    Raises:
        UserError: The robot cannot provide what the policy needs.
    """

    def __init__(
        self,
        node: Node,
        settings: PolicyNodeSettings,
        profile: RobotProfile,
        spec: PolicySpec,
        on_valid: Callable[[str, Received], None],
    ) -> None:
        self.settings = settings
        """May be replaced at any time."""
        self.topics = topics_of(profile, spec)
        self.rates: dict[str, RateMeter] = {}
        """Topic to the rate of its valid messages."""
        self.rejected: Counter[str] = Counter()
        """'TOPIC: REASON' to the number of rejected messages."""
        self.dropped: Counter[str] = Counter()
        """Topic to the number of images that were not read because a newer one had come."""
        self.invalid: dict[str, str] = {}
        """Topic to the reason why its newest message was rejected; none where it was valid."""
        self.unlikely: list[str] = []
        """One line for each state column of the last observation far outside the training data."""
        self._node, self._profile, self._spec = node, profile, spec
        self._on_valid = on_valid
        self._state = RobotState(profile, spec, settings)
        self.models = CameraModels(
            {camera.name: camera for camera in profile.cameras},
            lambda text: node.get_logger().warning(text),
        )
        self._lock = Lock()
        self._latest: dict[str, Received] = {}
        self._cameras = {
            camera.name: camera for camera in profile.cameras if camera.name in spec.cameras
        }
        self._readers: dict[str, Callable[[Any], Any]] = {}
        self._types: dict[str, type] = {}
        self._rejections = Throttle(REJECTION_PERIOD_S)
        self._unlikely = Throttle(UNLIKELY_PERIOD_S)
        self._frames: dict[str, str] = {}
        self._subscriptions: list[Subscription] = []
        self._images = NewestOnly(self._read, 'images')
        self.since_s = time.monotonic()
        """When the topics were subscribed to, steady clock."""
        self._poller: TransformPoller | None = None
        try:
            self._subscribe_all()
            if self._frames:
                self._poller = TransformPoller(
                    node, settings.base_frame, self._frames, self._receive
                )
        except BaseException:
            self.close()  # nobody else has it yet, and messages would go on to arrive
            raise

    def close(self) -> None:
        """Destroy the subscriptions."""
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)
        if self._poller is not None:
            self._poller.close()
        self._images.close()

    def resolved(self, topic: str) -> str:
        """Name of a topic on the graph; poses from TF keep theirs."""
        return topic if topic in self._frames else self._node.resolve_topic_name(topic)

    @property
    def subscribed(self) -> list[str]:
        """Topics of cameras, pose and joints; poses from TF are not among them."""
        topics = (self.topics.pose, self.topics.joints, *self.topics.images.values())
        return [topic for topic in topics if topic in self._types]

    def age_s(self, topic: str) -> float:
        """Steady time since the last valid message of a topic, s; infinite if there is none."""
        with self._lock:
            message = self._latest.get(topic)
        return np.inf if message is None else time.monotonic() - message.received_s

    def why_missing(self, topic: str) -> str:
        """
        Explain why a topic has no valid message.

        Publishers of another type or quality of service are told by `GraphChecks`.
        """
        if any(rejected.startswith(f'{topic}: ') for rejected in list(self.rejected)):
            return 'its messages are not valid; the log says why'
        if topic in self._frames:
            assert self._poller is not None
            return self._poller.errors.get(topic, 'it is looked up for the first time')
        resolved = self._node.resolve_topic_name(topic)
        count = self._node.count_publishers(resolved)
        if not count:
            return 'nobody publishes it; start its source, or remap the topic'
        return (
            f'{count} publisher{"s" * (count > 1)}, and nothing arrives: try `ros2 topic hz '
            f'{resolved}`, and restart the source if this node was restarted'
        )

    def observation(self, instruction: str) -> Taken | None:
        """
        Combine the newest valid messages to an observation.

        Args:
            instruction: What the policy is asked to do.

        Returns:
            None while a required message is missing or the stamps of the images differ by more
            than `max_camera_skew` of the profile.
        """
        with self._lock:
            latest = dict(self._latest)
        topics = self.topics
        if any(topic not in latest for topic in topics.required):
            return None
        images = {name: latest[topics.images[name]] for name in self._spec.cameras}
        stamps = [image.stamp_ns for image in images.values()]
        skew_s = (max(stamps) - min(stamps)) / 1e9
        if skew_s > self._profile.max_camera_skew_s:
            self._reject(
                ', '.join(topics.images.values()),
                InvalidMessage(
                    'skew',
                    f'stamps are {skew_s:.3f} s apart, expected at most '
                    f'{self._profile.max_camera_skew_s:g} s (max_camera_skew of the profile)',
                ),
            )
            return None
        pose: Pose | tuple[None, None] = (None, None)
        if topics.pose in latest:
            pose = latest[topics.pose].value
        joints = latest[topics.joints].value if topics.joints in latest else None
        state = self._state.vector(pose, joints)
        self._note_unlikely(state)
        cameras = {
            name: self._model(name, image.value, latest, pose[0]) for name, image in images.items()
        }
        observation = Observation(
            {name: image.value for name, image in images.items()},
            instruction,
            state,
            {name: camera for name, camera in cameras.items() if camera is not None},
            pose[0],
            min(stamps),
            end_effector_xyzw=pose[1],
        )
        pixels = self.settings.max_image_pixels
        return Taken(
            observation,
            min(image.received_s for image in images.values()),
            {
                name: keep(image.message, self._cameras[name].color_order, pixels)
                for name, image in images.items()
            },
        )

    def _note_unlikely(self, state: NDArray[np.float32] | None) -> None:
        self.unlikely = [] if state is None else self._state.far_outside(state)
        for line in self.unlikely:
            if self._unlikely.passes(line.partition(' is ')[0]):
                self._node.get_logger().warning(line)

    def _subscribe_all(self) -> None:
        profile, topics = self._profile, self.topics
        for name, camera in self._cameras.items():
            self.models.check_remapped(camera, self._node.resolve_topic_name(camera.topic))
            kind = CompressedImage if camera.compressed else Image
            self._subscribe(kind, camera.topic, partial(self._read_image, camera))
            if camera.info_topic is not None:
                self._subscribe(CameraInfo, camera.info_topic, partial(self._read_info, camera))
            if camera.extrinsics == 'topic':
                self._subscribe(PoseStamped, topics.extrinsics[name], self._read_pose, LATCHED)
            elif camera.extrinsics == 'tf':
                self._follow(topics.extrinsics[name], camera.optical_frame)
        if profile.pose_source != 'tf':
            self._subscribe(PoseStamped, topics.pose, self._read_pose)
        elif topics.pose in topics.required or self._frames:
            self._follow(topics.pose, profile.end_effector_frame)
        self._subscribe(JointState, topics.joints, self._read_joints)

    def _subscribe(
        self,
        message_type: type,
        topic: str,
        read: Callable[[Any], Any],
        qos: QoSProfile = qos_profile_sensor_data,
    ) -> None:
        if topic in self._readers:
            return
        self._readers[topic], self.rates[topic] = read, RateMeter()
        self._types[topic] = message_type
        self._subscriptions.append(
            subscribe(
                self._node,
                message_type,
                topic,
                lambda message: self._receive(topic, message),
                qos,
                raw=True,
            )
        )

    def _follow(self, topic: str, frame: str) -> None:
        self._readers[topic], self.rates[topic] = self._read_pose, RateMeter()
        self._frames[topic] = frame

    def _receive(self, topic: str, message: Any) -> None:
        now_ns = self._node.get_clock().now().nanoseconds
        arrived = _Arrived(message, now_ns, time.monotonic())
        if topic not in self.topics.images.values():
            self._read(topic, arrived)
        elif self._images.put(topic, arrived):
            self.dropped[topic] += 1

    def _read(self, topic: str, arrived: _Arrived) -> None:
        try:
            received = self._valid(topic, arrived)
            self.invalid.pop(topic, None)
            with self._lock:
                self._latest[topic] = received
            self.rates[topic].tick(received.received_s)
            self._on_valid(topic, received)
        except UserError as error:
            self.invalid[topic] = str(error)
            self._reject(topic, error)
        except Exception as error:  # whatever is in a message, it must not end what reads it
            text = f'the message cannot be read: {describe(error)}'
            self.invalid[topic] = text
            self._reject(topic, InvalidMessage('unreadable', text))

    def _valid(self, topic: str, arrived: _Arrived) -> Received:
        """Read and check a message."""
        message = arrived.message
        if topic in self._types:
            check_bytes(self._types[topic], len(message), self.settings.max_image_pixels)
            message = read_serialized(self._types[topic], message)
        stamp_ns, age_s = stamp_to_ns(message.header.stamp), 0.0
        watched = topic in (*self.topics.images.values(), self.topics.pose, self.topics.joints)
        if watched:  # the pose and the info of a camera may be published once and stay valid
            check_age(stamp_ns, arrived.now_ns, self.settings.max_stamp_age_s)
        value = self._readers[topic](message)
        if watched:
            waited_s = time.monotonic() - arrived.received_s
            age_s = max((arrived.now_ns - stamp_ns) * 1e-9, 0.0) + waited_s
        kept = message if topic in self.topics.images.values() else None
        return Received(value, stamp_ns, arrived.received_s, age_s, kept)

    def _reject(self, topic: str, error: UserError) -> None:
        reason = getattr(error, 'reason', None)
        with self._lock:
            self.rejected[f'{topic}: {getattr(reason, "value", reason) or "invalid"}'] += 1
        if self._rejections.passes(topic):
            self._node.get_logger().warning(f'{topic}: {error}')

    def _read_image(self, camera: Camera, message: Image | CompressedImage) -> np.ndarray:
        convert = compressed_image_to_rgb if camera.compressed else image_to_rgb
        image = convert(message, self.settings.max_image_pixels, camera.color_order)
        self.models.check_frame(camera.topic, camera, message.header.frame_id)
        return image

    def _read_info(self, camera: Camera, message: CameraInfo) -> CameraInfo:
        assert camera.info_topic is not None
        self.models.check_frame(camera.info_topic, camera, message.header.frame_id)
        return message

    def _read_pose(self, message: PoseStamped) -> Pose:
        return read_pose(message, self.settings.base_frame)

    def _read_joints(self, message: JointState) -> dict[str, float]:
        return read_joints(message, self._state.joints, self._state.plausible)

    def _model(
        self,
        name: str,
        image: np.ndarray,
        latest: dict[str, Received],
        end_effector_m: NDArray[np.float64] | None,
    ) -> PinholeCamera | None:
        """Model of a camera from the newest messages; None while something of it is unknown."""

        def newest(topic: str | None) -> Any:
            return None if topic not in latest else latest[topic].value

        info_topic, pose_topic = self._cameras[name].info_topic, self.topics.extrinsics.get(name)
        old = self._old_transform(pose_topic, latest)
        if old is not None:
            self.models.refuse(name, old)
            return None
        return self.models.model(
            name, newest(info_topic), newest(pose_topic), image, end_effector_m
        )

    def _old_transform(self, topic: str | None, latest: dict[str, Received]) -> str | None:
        """Say that the transform of a camera is not broadcast any more; None where all is well."""
        if topic not in self._frames or topic not in latest:
            return None
        pose = latest[topic]
        timeout_s = self.settings.observation_timeout_s
        # A static transform has the stamp 0, and stays valid.
        if not pose.stamp_ns or time.monotonic() - pose.received_s <= timeout_s:
            return None
        return (
            f'{topic}: no new transform for more than {timeout_s:g} s, so where the camera is now '
            'is not known; publish the pose of a camera that does not move on /tf_static'
        )

"""A stand-in for an arm with position controllers, which goes where it is commanded to."""

from collections.abc import Mapping
import math
from threading import Event, Lock, Thread
import time

from geometry_msgs.msg import PoseStamped, TwistStamped
import numpy as np
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import Bool, Float64, Float64MultiArray, String
from trajectory_msgs.msg import JointTrajectory

from sqap_vla_ros.profiles.robot_profile import RobotProfile
from sqap_vla_ros.ros.common.image_messages import rgb_to_image
from sqap_vla_ros.ros.common.messages import stamp_to_ns

PERIOD_S = 0.02
LAG_S = 0.05
"""Time constant with which a servo follows its reference."""
IMAGE_SIZE = 64


class FollowingArm:
    """
    Publishes what a profile names, joints in rad or m, and follows its first output.

    Its servos lag. While `active` is False its controller takes no commands and holds the last
    position, as after a protective stop.

    Args:
        client: node that publishes and subscribes.
        profile: the robot.
        joints: joint name to position when it starts, rad or m, the gripper's joint included.
        pose: position [3], m, and quaternion [4] (x y z w) of the end effector; it stays there.
    """

    def __init__(
        self,
        client,
        profile: RobotProfile,
        joints: Mapping[str, float],
        pose: tuple[np.ndarray, np.ndarray] | None = None,
    ) -> None:
        self.client, self.profile = client, profile
        self._lock = Lock()
        self._positions, self._pose = dict(joints), pose
        self._reference = dict(joints)
        self._plan: tuple[float, dict[str, float], JointTrajectory] | None = None
        self._active = True
        self.commands: list[JointTrajectory | Float64MultiArray] = []
        """What came on its topic."""
        self.history: list[tuple[float, dict[str, float]]] = []
        """Time, s, and true positions, rad or m."""
        self.errors: list[dict[str, float]] = []
        """Joint name to error of the measurement, for each of the next messages."""
        self._moves_from_s: float | None = None
        self._start = dict(joints)
        self.instruction = client.create_publisher(String, 'instruction', 1)
        self.success = client.create_publisher(Bool, 'task_success', 1)
        self.twists: list[TwistStamped] = []
        self.grippers: list[Float64] = []
        for output in profile.gripper.outputs:
            client.create_subscription(Float64, output.topic, self.grippers.append, 10)
        self._images = [
            (camera, client.create_publisher(Image, camera.topic, 1)) for camera in profile.cameras
        ]
        self._joints = client.create_publisher(JointState, profile.joint_states_topic, 1)
        self._poses = client.create_publisher(PoseStamped, profile.pose_topic, 1)
        output = profile.outputs[0]
        kind, receive = {
            'joint_trajectory': (JointTrajectory, self._follow),
            'joint_trajectory_chunk': (JointTrajectory, self._follow),
            'float64_multi_array': (
                Float64MultiArray,
                lambda message: self._go(
                    message, dict(zip(output.joints or self._names, message.data))
                ),
            ),
            'twist_stamped': (TwistStamped, self.twists.append),
        }[output.kind]
        client.create_subscription(kind, output.topic, receive, 10)
        self._stopping = Event()
        self._thread = Thread(target=self._run, daemon=True)
        self._thread.start()

    @property
    def _names(self) -> list[str]:
        return [joint.name for joint in self.profile.joints]

    @property
    def positions(self) -> dict[str, float]:
        """Joint name to position now, rad or m."""
        with self._lock:
            return dict(self._positions)

    @property
    def moved_s(self) -> float:
        """Time since it began to move, s; 0 if it never did."""
        begun = self._moves_from_s
        return 0.0 if begun is None else time.monotonic() - begun

    @property
    def active(self) -> bool:
        """Whether its controller takes commands."""
        return self._active

    @active.setter
    def active(self, active: bool) -> None:
        with self._lock:
            self._active, self._plan = active, None

    def close(self):
        """Stop publishing."""
        self._stopping.set()
        self._thread.join()

    def _go(self, message: Float64MultiArray, reference: dict[str, float]) -> None:
        with self._lock:
            self.commands.append(message)
            if self._active:
                self._reference |= reference

    def _follow(self, message: JointTrajectory) -> None:
        """Replace the trajectory, as joint_trajectory_controller does."""
        with self._lock:
            self.commands.append(message)
            if self._active:
                self._plan = self._now_s(), dict(self._reference), message

    def _now_s(self) -> float:
        return self.client.get_clock().now().nanoseconds * 1e-9

    def _advance(self, period_s: float) -> None:
        """Interpolate the trajectory, if there is one, and follow the reference."""
        if self._plan is not None:
            begun_s, start, message = self._plan
            stamp_s = stamp_to_ns(message.header.stamp) * 1e-9
            times = [stamp_s + stamp_to_ns(p.time_from_start) * 1e-9 for p in message.points]
            late = times[0] <= begun_s
            for index, name in enumerate(message.joint_names):
                path = [point.positions[index] for point in message.points]
                self._reference[name] = float(
                    np.interp(
                        self._now_s(),
                        times if late else [begun_s, *times],
                        path if late else [start[name], *path],
                    )
                )
        share = -math.expm1(-period_s / LAG_S)
        for name, wanted in self._reference.items():
            self._positions[name] += share * (wanted - self._positions[name])
            if (
                self._moves_from_s is None
                and abs(self._positions[name] - self._start[name]) > 0.01
            ):
                self._moves_from_s = time.monotonic()

    def _run(self) -> None:
        random, count, before_s = np.random.default_rng(0), 0, time.monotonic()
        while not self._stopping.wait(PERIOD_S):
            now_s = time.monotonic()
            with self._lock:
                self._advance(now_s - before_s)
                measured = dict(self._positions)
                self.history.append((now_s, measured))
                if self.errors:
                    error = self.errors.pop(0)
                    measured = {name: at + error.get(name, 0.0) for name, at in measured.items()}
            before_s, count = now_s, count + 1
            self._publish(
                self._joints, JointState(name=[*measured], position=[*measured.values()])
            )
            if self._pose is not None:
                message = PoseStamped()
                p, q = message.pose.position, message.pose.orientation
                p.x, p.y, p.z = map(float, self._pose[0])
                q.x, q.y, q.z, q.w = map(float, self._pose[1])
                self._publish(self._poses, message)
            if count % 5 == 0:
                for camera, publisher in self._images:
                    pixels = random.integers(0, 256, (IMAGE_SIZE, IMAGE_SIZE, 3), np.uint8)
                    self._publish(publisher, rgb_to_image(pixels), camera.optical_frame)

    def _publish(self, publisher, message, frame: str = '') -> None:
        message.header.stamp = self.client.get_clock().now().to_msg()
        message.header.frame_id = frame or self.profile.base_frame
        publisher.publish(message)

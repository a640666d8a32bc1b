"""A stand-in robot for the policy node: publishes the topics of a robot; each can be silenced."""

from threading import Event, Lock, Thread
import time

from geometry_msgs.msg import PoseStamped, TwistStamped
import numpy as np
from sensor_msgs.msg import CameraInfo, Image, JointState
from std_msgs.msg import Bool, Float64, String

from sqap_vla_ros.ros.common.image_messages import rgb_to_image
from sqap_vla_ros.ros.common.qos import LATCHED

PERIOD_S = 0.05
HOME_M = (0.0, 0.65, 0.2)
TIMEOUT_S = 0.3
"""A command that is older moves it no more."""
RETURN_M_S = 0.4


class Robot:
    """
    Publishes image, camera info, pose and joints at 20 Hz from a thread until closed.

    The end effector goes where the twists lead it; `follows = False` is an arm that does not move.
    """

    def __init__(self, client):
        self.client = client
        self.image, self.pose = (
            client.create_publisher(Image, 'camera/image_raw', 1),
            client.create_publisher(PoseStamped, 'end_effector_pose', 1),
        )
        self.joints = client.create_publisher(JointState, 'joint_states', 1)
        self.info = client.create_publisher(CameraInfo, 'camera/camera_info', 1)
        self.extrinsics = client.create_publisher(PoseStamped, 'camera/extrinsics', LATCHED)
        self.instruction = client.create_publisher(String, 'instruction', 1)
        self.success = client.create_publisher(Bool, 'task_success', 1)
        self.twists = client.listen(TwistStamped, 'twist_command', 100)
        self.grippers = client.listen(Float64, 'gripper_command', 100)
        self.follows = True
        self._at_m = np.array(HOME_M)
        self._returns = False
        self._moved_s = time.monotonic()
        self.silent = set()
        """Streams that are not published: 'image', 'pose', 'joints'."""
        self._rng = np.random.default_rng(0)
        self._stopping = Event()
        self._lock = Lock()
        self.extrinsics.publish(self.make_extrinsics())
        self._thread = Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self):
        """Stop publishing."""
        self._stopping.set()
        self._thread.join()

    def go_home(self):
        """Lead it home, as a user would: a policy that looks at noise drifts away."""
        self._returns = True
        while self._returns:
            time.sleep(PERIOD_S)

    def header(self, message, frame_id='base'):
        """Set the stamp (now) and the frame of a message."""
        message.header.stamp = self.client.get_clock().now().to_msg()
        message.header.frame_id = frame_id
        return message

    def make_image(self, size=96):
        """Return an rgb8 image of noise."""
        pixels = self._rng.integers(0, 256, (size, size, 3), np.uint8)
        return self.header(rgb_to_image(pixels), 'camera_optical_frame')

    def make_pose(self, x=HOME_M[0], y=HOME_M[1], z=HOME_M[2]):
        """Return a pose of the end effector inside the workspace."""
        message = self.header(PoseStamped())
        message.pose.position.x, message.pose.position.y, message.pose.position.z = x, y, z
        message.pose.orientation.w = 1.0
        return message

    def make_joints(self, names=('right_j0', 'r_close')):
        """Return a joint state with all positions at 0.01."""
        return self.header(JointState(name=list(names), position=[0.01] * len(names)))

    def make_info(self):
        """Return the intrinsics of a 96 x 96 camera."""
        message = self.header(CameraInfo(width=96, height=96), 'camera_optical_frame')
        message.k = [100.0, 0.0, 48.0, 0.0, 100.0, 48.0, 0.0, 0.0, 1.0]
        return message

    def make_extrinsics(self):
        """Return the pose of a camera one metre above the table, looking down."""
        message = self.header(PoseStamped())
        message.pose.position.y, message.pose.position.z = 0.65, 1.0
        message.pose.orientation.x, message.pose.orientation.w = 1.0, 0.0
        return message

    def _follow(self):
        """Move on by the newest command, and return where the end effector is, m."""
        now_s, command = time.monotonic(), self.twists[-1:]
        period_s, self._moved_s = now_s - self._moved_s, now_s
        if not self.follows:
            return self._at_m.tolist()
        if self._returns:
            way = np.array(HOME_M) - self._at_m
            distance_m = float(np.linalg.norm(way))
            self._at_m = self._at_m + min(1.0, RETURN_M_S * PERIOD_S / max(distance_m, 1e-9)) * way
            self._returns = distance_m > 1e-6
        elif command:
            stamp = command[0].header.stamp
            now = self.client.get_clock().now().nanoseconds * 1e-9
            if now - (stamp.sec + stamp.nanosec * 1e-9) < TIMEOUT_S:
                v = command[0].twist.linear
                self._at_m = self._at_m + period_s * np.array([v.x, v.y, v.z])
        return self._at_m.tolist()

    def _run(self):
        while not self._stopping.wait(PERIOD_S):
            if 'image' not in self.silent:
                self.image.publish(self.make_image())
            if 'pose' not in self.silent:
                self.pose.publish(self.make_pose(*self._follow()))
            if 'joints' not in self.silent:
                self.joints.publish(self.make_joints())
            self.info.publish(self.make_info())


def speed(twist):
    """Norm of a TwistStamped's linear part, m/s."""
    v = twist.twist.linear
    return float(np.linalg.norm([v.x, v.y, v.z]))

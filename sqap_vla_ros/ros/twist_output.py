"""Commands on the wire: end-effector twists and a gripper value."""
from geometry_msgs.msg import TwistStamped
from std_msgs.msg import Float64

from sqap_vla_ros.control.command import Command, STILL

FINAL_HOLDS = 3
"""Hold commands sent after the arm was told to stop for good."""


class TwistOutput:
    """Publishes `Command`s, stamped with the time of publishing, in the base frame."""

    def __init__(self, node, frame_id: str):
        self._node, self._frame_id = node, frame_id
        self._twist = node.create_publisher(TwistStamped, 'twist_command', 1)
        self._gripper = node.create_publisher(Float64, 'gripper_command', 1)
        self._last_gripper = None

    def publish(self, command: Command):
        """Send a twist, and the gripper value where it changed."""
        message = TwistStamped()
        message.header.stamp = self._node.get_clock().now().to_msg()
        message.header.frame_id = self._frame_id
        linear, angular = message.twist.linear, message.twist.angular
        linear.x, linear.y, linear.z = map(float, command.linear_m_s)
        angular.x, angular.y, angular.z = map(float, command.angular_rad_s)
        self._twist.publish(message)
        if command.gripper is not None and command.gripper != self._last_gripper:
            self._last_gripper = command.gripper
            self._gripper.publish(Float64(data=float(command.gripper)))

    def repeat_gripper(self):
        """Send the next gripper value even if it is the last one: whoever listens may be new."""
        self._last_gripper = None

    def final_hold(self):
        """Send standstill, a few times over."""
        for _ in range(FINAL_HOLDS):
            self.publish(STILL)

"""Output adapter for MoveIt Servo and other controllers that take TwistStamped."""

from builtin_interfaces.msg import Time
from geometry_msgs.msg import TwistStamped
from rclpy.node import Node

from sqap_vla_ros.control.command import Command
from sqap_vla_ros.profiles.robot_profile import Output, RobotProfile


class TwistOutput:
    """
    Publishes geometry_msgs/TwistStamped, m/s and rad/s in the frame of the output.

    The stamp is the time of the command: Servo drops commands that are older than its
    `incoming_command_timeout`, and stops if it receives none for that long.
    """

    def __init__(self, node: Node, output: Output, profile: RobotProfile) -> None:
        self._frame_id = output.frame or profile.base_frame
        self._publisher = node.create_publisher(TwistStamped, output.topic, 1)

    def publish(self, command: Command, stamp: Time) -> None:
        """Publish one command."""
        message = TwistStamped()
        message.header.stamp, message.header.frame_id = stamp, self._frame_id
        linear, angular = message.twist.linear, message.twist.angular
        linear.x, linear.y, linear.z = map(float, command.linear_m_s)
        angular.x, angular.y, angular.z = map(float, command.angular_rad_s)
        self._publisher.publish(message)

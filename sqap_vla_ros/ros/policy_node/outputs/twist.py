"""End-effector twists, for MoveIt Servo and everything else that takes TwistStamped."""

from geometry_msgs.msg import TwistStamped

from sqap_vla_ros.control.command import Command
from sqap_vla_ros.profiles.robot_profile import Output, RobotProfile


class TwistOutput:
    """
    Publishes geometry_msgs/TwistStamped, m/s and rad/s in the base frame.

    The stamp is the time of publishing: Servo drops commands that are older than its
    `incoming_command_timeout`, and stops by itself when none comes for that long.
    """

    def __init__(self, node, output: Output, profile: RobotProfile) -> None:
        self._frame_id = output.frame or profile.base_frame
        self._publisher = node.create_publisher(TwistStamped, output.topic, 1)

    def publish(self, command: Command, stamp) -> None:
        """Send one command."""
        message = TwistStamped()
        message.header.stamp, message.header.frame_id = stamp, self._frame_id
        linear, angular = message.twist.linear, message.twist.angular
        linear.x, linear.y, linear.z = map(float, command.linear_m_s)
        angular.x, angular.y, angular.z = map(float, command.angular_rad_s)
        self._publisher.publish(message)

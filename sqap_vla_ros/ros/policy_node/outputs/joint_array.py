"""Output adapter for forward_command_controller of ros2_control and similar controllers."""

from builtin_interfaces.msg import Time
from rclpy.node import Node
from std_msgs.msg import Float64MultiArray

from sqap_vla_ros.control.joint_command import JointCommand
from sqap_vla_ros.profiles.robot_profile import Output, RobotProfile


class JointArrayOutput:
    """
    Publishes std_msgs/Float64MultiArray: positions (rad, m) or velocities, ordered like `joints`.

    The message has neither a stamp nor names, and the controller keeps the last one forever. With
    positions the arm stops at the last one if the node dies. With velocities it would keep
    moving, so a profile must declare that the controller has a command timeout.
    """

    def __init__(self, node: Node, output: Output, profile: RobotProfile) -> None:
        self._names = output.joints
        self._velocity = output.interface == 'velocity'
        self._publisher = node.create_publisher(Float64MultiArray, output.topic, 1)

    def publish(self, command: JointCommand, stamp: Time) -> None:
        """Publish one command; positions only where the command has them."""
        values = command.velocities if self._velocity else command.positions
        if values:
            self._publisher.publish(
                Float64MultiArray(data=[float(values[name]) for name in self._names])
            )

"""Output adapter for simulators and drivers that take JointState commands."""

from builtin_interfaces.msg import Time
from rclpy.node import Node
from sensor_msgs.msg import JointState

from sqap_vla_ros.control.joint_command import JointCommand
from sqap_vla_ros.profiles.robot_profile import Output, RobotProfile


class JointStateOutput:
    """Publishes sensor_msgs/JointState, rad and rad/s (m, m/s), with the time of the command."""

    def __init__(self, node: Node, output: Output, profile: RobotProfile) -> None:
        self._names = output.joints
        self._frame_id = profile.base_frame
        self._publisher = node.create_publisher(JointState, output.topic, 1)

    def publish(self, command: JointCommand, stamp: Time) -> None:
        """Publish one command; nothing if it has no positions."""
        positions = command.positions
        if not positions:
            return
        message = JointState(
            name=list(self._names),
            position=[positions[name] for name in self._names],
            velocity=[command.velocities[name] for name in self._names],
        )
        message.header.stamp, message.header.frame_id = stamp, self._frame_id
        self._publisher.publish(message)

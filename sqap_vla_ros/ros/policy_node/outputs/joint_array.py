"""Plain numbers for ros2_control's forward_command_controller and its kin."""

from std_msgs.msg import Float64MultiArray

from sqap_vla_ros.control.joint_command import JointCommand
from sqap_vla_ros.ros.policy_node.outputs.joint_reference import JointReference


class JointArrayOutput:
    """
    Publishes std_msgs/Float64MultiArray: positions (rad, m) or velocities, in the joints' order.

    The message has neither stamp nor names, and the controller keeps the last one for ever: with
    positions the arm stands where it was told to be when the node dies, with velocities it would
    go on, which is why a profile must say that the controller stops by itself.
    """

    def __init__(self, node, output, profile) -> None:
        self._names = output.joints
        self._velocity = output.interface == 'velocity'
        self._reference = JointReference()
        self._publisher = node.create_publisher(Float64MultiArray, output.topic, 1)

    def publish(self, command: JointCommand, stamp) -> None:
        """Send one command; nothing while the joints' positions are unknown."""
        values = command.velocities if self._velocity else self._reference.advance(command)
        if values is not None:
            self._publisher.publish(
                Float64MultiArray(data=[float(values[name]) for name in self._names])
            )

"""
Registry of the output adapters: what a profile may name as `type` of an output.

An adapter turns commands into messages for one kind of controller. To add one to this package,
write it in a file of this folder and add a line to `ARM_OUTPUTS` or `GRIPPER_OUTPUTS`, and its
name to the list of the same kind in profiles/robot_profile.py.

To add one from another package, register it before the node starts; profiles may name it then:

    from sqap_vla_ros.ros.policy_node import node
    from sqap_vla_ros.ros.policy_node.outputs.registry import register_output

    class PointOutput:
        def __init__(self, node, output, profile):
            self._publisher = node.create_publisher(Vector3Stamped, output.topic, 1)

        def publish(self, command, stamp):
            ...

    register_output('point', PointOutput)
    node.main()

with this in the profile:

    outputs:
      - {type: point, topic: velocity}
"""

from collections.abc import Callable
from typing import Any, Protocol

from builtin_interfaces.msg import Time
from rclpy.node import Node

from sqap_vla_ros.profiles import robot_profile
from sqap_vla_ros.profiles.robot_profile import GripperOutput, Output, RobotProfile
from sqap_vla_ros.ros.policy_node.outputs.gripper import (
    GripperAction,
    GripperTopic,
    ParallelGripperAction,
)
from sqap_vla_ros.ros.policy_node.outputs.joint_array import JointArrayOutput
from sqap_vla_ros.ros.policy_node.outputs.joint_state import JointStateOutput
from sqap_vla_ros.ros.policy_node.outputs.joint_trajectory import JointTrajectoryOutput
from sqap_vla_ros.ros.policy_node.outputs.joint_trajectory_chunk import (
    JointTrajectoryChunkOutput,
)
from sqap_vla_ros.ros.policy_node.outputs.twist import TwistOutput


class ArmOutput(Protocol):
    """Publishes the commands of the arm on one topic."""

    def publish(self, command: Any, stamp: Time) -> None:
        """
        Publish one command; called from the command thread, at `command_rate_hz`.

        Args:
            command: `control.command.Command` of a profile with `action.space: twist`, otherwise
                `control.joint_command.JointCommand`. Limits have been applied. A twist is given
                in `frame` of the output, the base frame if it has none.
            stamp: Time that the command was made for, clock of the node.
        """


class GripperAdapter(Protocol):
    """Sends gripper values."""

    def send(self, value: float) -> bool | None:
        """
        Send a value between `open` and `closed` of the profile; called when it changes.

        Returns:
            False where it could not be sent: it is tried again with the next command.
        """


ArmFactory = Callable[[Node, Output, RobotProfile], ArmOutput]
GripperFactory = Callable[[Node, GripperOutput], GripperAdapter]

ARM_OUTPUTS: dict[str, ArmFactory] = {
    'twist_stamped': TwistOutput,
    'joint_trajectory': JointTrajectoryOutput,
    'joint_trajectory_chunk': JointTrajectoryChunkOutput,
    'float64_multi_array': JointArrayOutput,
    'joint_state': JointStateOutput,
}
GRIPPER_OUTPUTS: dict[str, GripperFactory] = {
    'float64': GripperTopic,
    'gripper_command': GripperAction,
    'parallel_gripper_command': ParallelGripperAction,
}


def register_output(type_name: str, factory: ArmFactory, *, joint_space: bool = False) -> None:
    """
    Add an output of the arm, so that profiles may name it.

    Args:
        type_name: `type` in the `outputs` of a profile.
        factory: Called with the node, the entry of the profile (`topic`, and `frame` or
            `joints`) and the profile; returns the adapter. It may raise `UserError`.
        joint_space: Whether the adapter takes `JointCommand`s; otherwise it takes `Command`s,
            which are twists.

    Raises:
        ValueError: The name is taken.
    """
    if type_name in ARM_OUTPUTS:
        raise ValueError(f'output type {type_name!r} is registered already')
    ARM_OUTPUTS[type_name] = factory
    types = robot_profile.JOINT_OUTPUTS if joint_space else robot_profile.TWIST_OUTPUTS
    types.append(type_name)


def register_gripper_output(type_name: str, factory: GripperFactory) -> None:
    """
    Add an output of the gripper, so that profiles may name it.

    Args:
        type_name: `type` in `gripper.outputs` of a profile.
        factory: Called with the node and the entry of the profile; returns the adapter. It may
            raise `UserError`.

    Raises:
        ValueError: The name is taken.
    """
    if type_name in GRIPPER_OUTPUTS:
        raise ValueError(f'gripper output type {type_name!r} is registered already')
    GRIPPER_OUTPUTS[type_name] = factory
    robot_profile.GRIPPER_OUTPUTS.append(type_name)

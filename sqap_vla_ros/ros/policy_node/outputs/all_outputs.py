"""All outputs of a profile behind one `publish`."""

from dataclasses import replace
import time

from sqap_vla_ros.control.command import STILL
from sqap_vla_ros.control.joint_command import JointCommand
from sqap_vla_ros.profiles.robot_profile import RobotProfile
from sqap_vla_ros.ros.policy_node.outputs.gripper import (
    GripperAction,
    GripperTopic,
    ParallelGripperAction,
)
from sqap_vla_ros.ros.policy_node.outputs.joint_array import JointArrayOutput
from sqap_vla_ros.ros.policy_node.outputs.joint_state import JointStateOutput
from sqap_vla_ros.ros.policy_node.outputs.joint_trajectory import JointTrajectoryOutput
from sqap_vla_ros.ros.policy_node.outputs.twist import TwistOutput

FINAL_HOLDS, FINAL_HOLD_PAUSE_S = 3, 0.02
"""Hold commands sent after the arm was told to stop for good; of several at once, a queue of one
command keeps the last and loses the end of the stop before."""
ARM = {
    'twist_stamped': TwistOutput,
    'joint_trajectory': JointTrajectoryOutput,
    'float64_multi_array': JointArrayOutput,
    'joint_state': JointStateOutput,
}
GRIPPER = {
    'float64': GripperTopic,
    'gripper_command': GripperAction,
    'parallel_gripper_command': ParallelGripperAction,
}


class Outputs:
    """
    Publishes commands on every output of a profile; one thread at a time.

    In a dry run they go to ~/dry_run/TOPIC instead, where no controller listens; gripper actions
    become values on a topic there.
    """

    def __init__(self, node, profile: RobotProfile, dry_run: bool = False) -> None:
        """Raise UserError where an output needs a package that is not installed."""
        if dry_run:
            profile = _diverted(profile)
        self._node = node
        self.topics = [output.topic for output in profile.outputs]
        """On which the arm is commanded."""
        self._arm = [ARM[output.kind](node, output, profile) for output in profile.outputs]
        self._grippers = [
            (output, GRIPPER[output.kind](node, output)) for output in profile.gripper.outputs
        ]
        self._last = None if profile.joint_space else STILL
        self._last_gripper = None

    def publish(self, command, stamp=None) -> None:
        """
        Send a `Command` or `JointCommand`, and the gripper value where it changed.

        stamp: builtin_interfaces/Time that the command was made for; None: now.
        """
        if stamp is None:
            stamp = self._node.get_clock().now().to_msg()
        for output in self._arm:
            output.publish(command, stamp)
        self._last = command
        if command.gripper is not None and command.gripper != self._last_gripper:
            self._last_gripper = command.gripper
            for output, adapter in self._grippers:
                adapter.send(output.opened + command.gripper * (output.closed - output.opened))

    def repeat_gripper(self) -> None:
        """Send the next gripper value even if it is the last one: whoever listens may be new."""
        self._last_gripper = None

    def final_hold(self) -> None:
        """Send standstill, a few times over; nothing where no joint command was ever sent."""
        if self._last is None:
            return
        still = (
            STILL
            if not isinstance(self._last, JointCommand)
            else replace(self._last.scaled(0.0), gripper=None)
        )
        for _ in range(FINAL_HOLDS):
            time.sleep(FINAL_HOLD_PAUSE_S)
            self.publish(still)


def _diverted(profile):
    gripper = replace(
        profile.gripper,
        outputs=tuple(
            replace(output, kind='float64', topic=_divert(output.topic))
            for output in profile.gripper.outputs
        ),
    )
    return replace(
        profile,
        gripper=gripper,
        outputs=tuple(replace(output, topic=_divert(output.topic)) for output in profile.outputs),
    )


def _divert(topic):
    return '~/dry_run/' + topic.lstrip('~/')

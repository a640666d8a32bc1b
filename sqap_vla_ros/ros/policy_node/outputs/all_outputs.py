"""All outputs of a profile behind one `publish`."""

from dataclasses import replace
import time

from builtin_interfaces.msg import Time
import numpy as np
from numpy.typing import ArrayLike, NDArray
from rclpy.node import Node
from scipy.spatial.transform import Rotation

from sqap_vla_ros.control.command import Command, STILL
from sqap_vla_ros.control.joint_command import JointCommand
from sqap_vla_ros.errors import UserError
from sqap_vla_ros.profiles.names import dry_run_topic
from sqap_vla_ros.profiles.robot_profile import Output, RobotProfile
from sqap_vla_ros.profiles.sections.outputs import frame_problem
from sqap_vla_ros.ros.common.throttle import Throttle
from sqap_vla_ros.ros.policy_node.outputs.registry import ARM_OUTPUTS, GRIPPER_OUTPUTS

FINAL_HOLDS, FINAL_HOLD_PAUSE_S = 3, 0.02
"""Standstill commands sent at the end, and the pause between them. A subscriber with a queue of
one keeps only the last of a burst and would lose the end of the stop before."""
LOG_PERIOD_S = 5.0
"""Shortest time between two lines about one output."""


class AllOutputs:
    """
    Publishes commands on every output of a profile; not thread-safe.

    In a dry run the commands go to ~/dry_run/TOPIC, where no controller listens, and gripper
    actions become values on a topic.

    An output whose frame is that of the end effector gets the twist in this frame: the newest
    measured orientation turns it, which changes neither speed. While no orientation has been
    measured, it gets standstill. An old orientation needs no check here: the pose is watched, and
    the arm holds without it.

    Args:
        node: Node that publishes.
        profile: Robot profile.
        dry_run: Whether to publish where no controller listens.

    Raises:
        UserError: An output needs a package that is not installed, or its frame is neither the
            base frame nor that of the end effector.
    """

    def __init__(self, node: Node, profile: RobotProfile, dry_run: bool = False) -> None:
        if dry_run:
            profile = _diverted(profile)
        for output in profile.outputs:
            problem = frame_problem(output, profile)
            if problem:
                raise UserError(f'profile: {problem} (base_frame may be set by its parameter)')
        self._node = node
        self._profile = profile
        self._end_effector_from_base: NDArray[np.float64] | None = None
        self.topics = [output.topic for output in profile.outputs]
        """Topics of the arm."""
        self.published = self.topics + [
            output.topic for output in profile.gripper.outputs if output.kind == 'float64'
        ]
        """Topics of arm and gripper."""
        self._arm = [
            (output, ARM_OUTPUTS[output.kind](node, output, profile)) for output in profile.outputs
        ]
        self._grippers = [
            (output, GRIPPER_OUTPUTS[output.kind](node, output))
            for output in profile.gripper.outputs
        ]
        self.actions = [
            output.topic for output, adapter in self._grippers if hasattr(adapter, 'served')
        ]
        """Actions of the gripper, not resolved."""
        self._last: Command | JointCommand | None = None if profile.joint_space else STILL
        self._unmeasured = Throttle(LOG_PERIOD_S)
        self._sent: dict[int, float] = {}
        """Index in `_grippers` to the last value that was sent there."""

    def measure_orientation(self, quaternion_xyzw: ArrayLike) -> None:
        """
        Store the measured orientation of the end effector; may be called from any thread.

        Args:
            quaternion_xyzw: [4], in the base frame, of unit length.
        """
        rotation = Rotation.from_quat(np.asarray(quaternion_xyzw, np.float64))
        self._end_effector_from_base = rotation.as_matrix().T

    def publish(self, command: Command | JointCommand, stamp: Time | None = None) -> None:
        """
        Publish a command, and the gripper value if it changed.

        Args:
            command: A twist in the base frame, or joint velocities, as `action.space` of the
                profile says.
            stamp: Time that the command was made for; None: now.
        """
        if stamp is None:
            stamp = self._node.get_clock().now().to_msg()
        for output, adapter in self._arm:
            adapter.publish(self._in_frame(output, command), stamp)
        self._last = command
        if command.gripper is None:
            return
        for index, (entry, gripper) in enumerate(self._grippers):
            value = entry.opened + command.gripper * (entry.closed - entry.opened)
            if self._sent.get(index) != value and gripper.send(value) is not False:
                self._sent[index] = value

    def unserved(self) -> list[str]:
        """List the actions of the gripper, not resolved, that nobody serves."""
        return [
            output.topic
            for output, adapter in self._grippers
            if not getattr(adapter, 'served', True)
        ]

    def repeat_gripper(self) -> None:
        """Publish the next gripper value even if it did not change: a subscriber may be new."""
        self._sent.clear()

    def final_hold(self) -> None:
        """Publish standstill several times; nothing if no joint command was ever published."""
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

    def _in_frame(self, output: Output, command: Command | JointCommand) -> Command | JointCommand:
        """Express a twist in the frame of an output."""
        base = output.frame in ('', self._profile.base_frame)
        if base or not isinstance(command, Command) or command.still:
            return command
        rotation = self._end_effector_from_base
        if rotation is None:
            if self._unmeasured.passes(output.topic):
                self._node.get_logger().warning(
                    f'{output.topic}: standstill is sent: no orientation of {output.frame} has '
                    'been measured yet'
                )
            return command.scaled(0.0)
        return _rotated(command, rotation)


def _diverted(profile: RobotProfile) -> RobotProfile:
    gripper = replace(
        profile.gripper,
        outputs=tuple(
            replace(output, kind='float64', topic=dry_run_topic(output.topic))
            for output in profile.gripper.outputs
        ),
    )
    return replace(
        profile,
        gripper=gripper,
        outputs=tuple(
            replace(output, topic=dry_run_topic(output.topic)) for output in profile.outputs
        ),
    )


def _rotated(command: Command, matrix: NDArray[np.float64]) -> Command:
    return Command(matrix @ command.linear_m_s, matrix @ command.angular_rad_s, command.gripper)

"""
The space in which a robot is commanded: end-effector twists or joint velocities.

The controller is the same for both. A `CommandSpace` holds what differs: the mapping from action
rows to commands, the limiter, and the measured position that the limiter needs.
"""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from sqap_vla_ros.action_chunk import ActionSpec
from sqap_vla_ros.control.command import Command, CommandMapping
from sqap_vla_ros.control.joint_command import JointCommand, JointCommandLimiter, JointMapping
from sqap_vla_ros.control.joint_limits import JointLimits
from sqap_vla_ros.control.limits import CommandLimiter, MotionLimits
from sqap_vla_ros.control.velocity_limiter import Limit

RobotCommand: TypeAlias = Command | JointCommand


class Limiter(Protocol):
    """What the limiters of all spaces have in common."""

    @property
    def still(self) -> bool:
        """Whether the last command was standstill."""

    @property
    def limited(self) -> frozenset[Limit]:
        """Limits that changed the last command."""

    @property
    def counts(self) -> Counter[Limit]:
        """Number of limited commands so far, by limit."""

    def reset(self) -> None:
        """Continue from standstill instead of the last command."""


class CommandSpace(ABC):
    """
    Turns action rows into limited commands; not thread-safe.

    Times are nanoseconds on the steady clock.
    """

    def __init__(self, limiter: Limiter) -> None:
        self._limiter = limiter

    def measure_pose(self, position_m: NDArray[np.float64], steady_ns: int) -> None:
        """
        Store the measured position of the end effector, where this space needs it.

        Args:
            position_m: float64 [3], base frame, metres, finite.
            steady_ns: When it arrived.
        """

    def measure_joints(self, positions: Mapping[str, float], steady_ns: int) -> None:
        """
        Store the measured joint positions, where this space needs them.

        Args:
            positions: Joint name to position, rad or m.
            steady_ns: When they arrived.
        """

    @abstractmethod
    def move(
        self, row: NDArray[np.float64], share: float, period_s: float, steady_ns: int
    ) -> RobotCommand:
        """
        Compute the command for an action row.

        Args:
            row: float64 [actions], in the units of the action spec.
            share: Factor on the velocities, for the ramp-in; 1 or more leaves them unchanged.
            period_s: Time since the last command, seconds.
            steady_ns: Now.

        Returns:
            The limited command.
        """

    @abstractmethod
    def stop(self, period_s: float, steady_ns: int) -> RobotCommand:
        """
        Compute the next command of the stop profile.

        Args:
            period_s: Time since the last command, seconds.
            steady_ns: Now.

        Returns:
            The command; standstill once the profile has ended.
        """

    @abstractmethod
    def needs_pose(self, limits: MotionLimits) -> bool:
        """Whether `limits` can be kept only while the pose is known."""

    @abstractmethod
    def set_limits(self, limits: MotionLimits) -> None:
        """Replace the limits of the end effector, at standstill, where this space has them."""

    def reset(self) -> None:
        """Continue from standstill instead of the last command."""
        self._limiter.reset()

    @property
    def still(self) -> bool:
        """Whether the last command was standstill."""
        return self._limiter.still

    @property
    def limited(self) -> frozenset[Limit]:
        """Limits that changed the last command."""
        return self._limiter.limited

    @property
    def counts(self) -> Counter[Limit]:
        """Number of limited commands so far, by limit."""
        return self._limiter.counts


class TwistSpace(CommandSpace):
    """
    End-effector twists within `MotionLimits`.

    Args:
        spec: Columns of the action rows.
        limits: Limits of the end effector.

    Raises:
        UserError: The columns are not those of a twist.
    """

    _limiter: CommandLimiter

    def __init__(self, spec: ActionSpec, limits: MotionLimits) -> None:
        self._mapping = CommandMapping(spec)
        super().__init__(CommandLimiter(limits))
        self._position_m: NDArray[np.float64] | None = None
        self._measured_ns = 0

    def measure_pose(self, position_m: NDArray[np.float64], steady_ns: int) -> None:
        """See `CommandSpace`."""
        self._position_m, self._measured_ns = position_m, steady_ns

    def move(
        self, row: NDArray[np.float64], share: float, period_s: float, steady_ns: int
    ) -> Command:
        """See `CommandSpace`."""
        wanted = self._mapping.command(row)
        if share < 1:
            wanted = wanted.scaled(share)
        return self._limiter.limit(wanted, period_s, self._place(steady_ns))

    def stop(self, period_s: float, steady_ns: int) -> Command:
        """See `CommandSpace`."""
        return self._limiter.limit(None, period_s, self._place(steady_ns))

    def needs_pose(self, limits: MotionLimits) -> bool:
        """See `CommandSpace`: with a workspace."""
        return limits.workspace_low_m is not None

    def set_limits(self, limits: MotionLimits) -> None:
        """See `CommandSpace`."""
        self._limiter.replace(limits)

    def _place(self, steady_ns: int) -> NDArray[np.float64] | None:
        """Extrapolate the measured position with the last command, [3] in the base frame."""
        if self._position_m is None:
            return None
        age_s = (steady_ns - self._measured_ns) * 1e-9
        return self._position_m + self._limiter.linear_m_s * age_s


class JointSpace(CommandSpace):
    """
    Joint velocities within the limits of each joint; no workspace is kept.

    Args:
        spec: Columns of the action rows.
        joints: Joint name to its limits.
        gripper_debounce_s: See `MotionLimits`.
        gripper_min_change: See `MotionLimits`.

    Raises:
        UserError: The columns do not command exactly these joints.
    """

    _limiter: JointCommandLimiter

    def __init__(
        self,
        spec: ActionSpec,
        joints: Mapping[str, JointLimits],
        gripper_debounce_s: float,
        gripper_min_change: float,
    ) -> None:
        self._mapping = JointMapping(spec, joints)
        super().__init__(JointCommandLimiter(joints, gripper_debounce_s, gripper_min_change))
        self._positions: Mapping[str, float] = {}
        self._measured_ns = 0

    def measure_joints(self, positions: Mapping[str, float], steady_ns: int) -> None:
        """See `CommandSpace`."""
        self._positions, self._measured_ns = dict(positions), steady_ns

    def move(
        self, row: NDArray[np.float64], share: float, period_s: float, steady_ns: int
    ) -> JointCommand:
        """See `CommandSpace`."""
        place = self._place(steady_ns)
        wanted = self._mapping.command(row, place)
        if share < 1:
            wanted = wanted.scaled(share)
        return self._limiter.limit(wanted, period_s, place)

    def stop(self, period_s: float, steady_ns: int) -> JointCommand:
        """See `CommandSpace`."""
        return self._limiter.limit(None, period_s, self._place(steady_ns))

    def needs_pose(self, limits: MotionLimits) -> bool:
        """See `CommandSpace`: never, as no workspace is kept."""
        return False

    def set_limits(self, limits: MotionLimits) -> None:
        """See `CommandSpace`: does nothing, the limits of the joints are fixed."""

    def _place(self, steady_ns: int) -> dict[str, float]:
        """Extrapolate the measured joint positions with the last command."""
        age_s = (steady_ns - self._measured_ns) * 1e-9
        velocities = self._limiter.velocities
        return {
            name: position + velocities.get(name, 0.0) * age_s
            for name, position in self._positions.items()
        }


def command_space(
    spec: ActionSpec, limits: MotionLimits, joints: Mapping[str, JointLimits] | None = None
) -> CommandSpace:
    """
    Make the space in which a policy commands its robot.

    Args:
        spec: Columns of the action rows.
        limits: Limits of the end effector. Joint space uses those of the gripper alone.
        joints: Joint name to its limits, for a policy that commands joints; None for twists.

    Returns:
        The space.

    Raises:
        UserError: The columns do not fit the space.
    """
    if joints is None:
        return TwistSpace(spec, limits)
    return JointSpace(spec, joints, limits.gripper_debounce_s, limits.gripper_min_change)

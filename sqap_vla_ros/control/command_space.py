"""
The space in which a robot is commanded: end-effector twists or joint velocities.

The controller is the same for both. A `CommandSpace` holds what differs: the mapping from action
rows to commands, the limiter, and the comparison of commands and measurements.
"""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from sqap_vla_ros.control.command import Command
from sqap_vla_ros.control.joint_command import JointCommand
from sqap_vla_ros.control.limits import MotionLimits
from sqap_vla_ros.control.plausibility import PathTracker
from sqap_vla_ros.control.velocity_limiter import Limit

SMALL_ERROR = 0.25
"""Share of the limit of a tracking error up to which positions go on as commanded after a gap."""

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

    @property
    def stop_time_s(self) -> float:
        """Longest time that a stop takes, seconds."""

    def reset(self) -> None:
        """Continue from standstill instead of the last command."""


def no_faster(commanded: Sequence[float], measured: Sequence[float] | None) -> list[float]:
    """
    Slow a command down to what is measured along it, but not to less than standstill.

    Args:
        commanded: [axes], velocity.
        measured: [axes], velocity; None: not known.

    Returns:
        [axes], between standstill and `commanded`.
    """
    if measured is None:
        return list(commanded)
    size = sum(axis * axis for axis in commanded)
    along = sum(a * b for a, b in zip(commanded, measured))
    share = min(max(along / size, 0.0), 1.0) if size else 0.0
    return [axis * share for axis in commanded]


class CommandSpace(ABC):
    """
    Turns action rows into limited commands; not thread-safe.

    Times are nanoseconds on the clock of the observations.
    """

    def __init__(self, limiter: Limiter) -> None:
        self._limiter = limiter

    def measure_pose(
        self, position_m: Sequence[float], quaternion_xyzw: Sequence[float] | None, stamp_ns: int
    ) -> bool:
        """
        Note the measured pose of the end effector, where this space needs it.

        Args:
            position_m: [3], base frame, metres, finite.
            quaternion_xyzw: [4], in the base frame, of unit length; None: not measured.
            stamp_ns: When it was measured.

        Returns:
            Whether it is newer than the one before; if not, it is ignored.
        """
        return True

    def measure_joints(self, positions: Mapping[str, float], stamp_ns: int) -> bool:
        """
        Note the measured joint positions, where this space needs them.

        Args:
            positions: Joint name to position, rad or m.
            stamp_ns: When they were measured.

        Returns:
            Whether they are newer than the ones before; if not, they are ignored.
        """
        return True

    @abstractmethod
    def move(
        self, row: NDArray[np.float64], share: float, period_s: float, now_ns: int
    ) -> RobotCommand:
        """
        Compute the command for an action row.

        Args:
            row: float64 [actions], in the units of the action spec.
            share: Factor on the velocities, for the ramp-in; 1 or more leaves them unchanged.
            period_s: Time since the last command, seconds.
            now_ns: Now.

        Returns:
            The limited command.
        """

    @abstractmethod
    def stop(self, period_s: float, now_ns: int) -> RobotCommand:
        """
        Compute the next command of the stop profile.

        Args:
            period_s: Time since the last command, seconds.
            now_ns: Now.

        Returns:
            The command; standstill once the profile has ended.
        """

    @abstractmethod
    def needs_pose(self, limits: MotionLimits) -> bool:
        """Whether `limits` can be kept only while the pose is known."""

    @abstractmethod
    def set_limits(self, limits: MotionLimits) -> None:
        """Replace the limits of the end effector, at standstill, where this space has them."""

    @property
    @abstractmethod
    def trackers(self) -> Mapping[str, PathTracker]:
        """What is compared with its measurement, by the name that people know it by."""

    def tracking_problem(self) -> str | None:
        """Say what does not do what it was told, in words; None if everything does."""
        for name, tracker in self.trackers.items():
            problem = tracker.problem(name)
            if problem:
                return problem
        return None

    def restart(self) -> None:
        """Begin anew where the robot is measured to be, at standstill."""
        self._limiter.reset()
        for tracker in self.trackers.values():
            tracker.restart()

    def consented(self) -> None:
        """
        Forgive what was missed before the user consented to motion.

        What is left of the last motion, or of a hand that moved the arm meanwhile, must not count
        against the next one. A robot that is commanded by positions goes on from where they have
        led unless it is far from there: the rest is what its servo needs to carry its weight.
        """
        for tracker in self.trackers.values():
            tracker.forgive_jump()
        if self.lost:
            self.restart()
            return
        for tracker in self.trackers.values():
            if not tracker.limits.absolute:
                tracker.restart()

    def forget(self, now_ns: int, period_s: float) -> None:
        """
        Forget all measurements, after a jump of the clock.

        Args:
            now_ns: Now, after the jump.
            period_s: Time since the last command, seconds.
        """
        for tracker in self.trackers.values():
            tracker.forget(now_ns, period_s)

    def jumps(self) -> list[str]:
        """Say what was measured to jump within the last JUMP_S, in words."""
        return [text for name, tracker in self.trackers.items() if (text := tracker.jump(name))]

    @property
    def jump_ns(self) -> int:
        """Stamp of the last jump of a measurement; 0: there was none."""
        return max(tracker.jump_ns for tracker in self.trackers.values())

    def measured_since(self, stamp_ns: int) -> bool:
        """Whether everything that is ever measured has been measured at a time or after it."""
        return all(tracker.measured_since(stamp_ns) for tracker in self.trackers.values())

    def withdraw(self) -> None:
        """Command no positions until `restart`: the robot is not where they would lead it from."""

    @property
    def lost(self) -> bool:
        """Whether the robot is not where the commands lead: motion must begin anew."""
        return any(tracker.astray for tracker in self.trackers.values())

    def after_gap(self, held_s: float, now_ns: int, running: bool) -> None:
        """
        Go on after a time without commands.

        Motion begins anew at the measured velocity, and at the measured position where that is not
        near the commanded one. A stop does not believe a measurement that much: it goes on from
        the last command, or from less where the robot is measured to be slower, and positions stay
        where the commands have led.

        Args:
            held_s: How long the last command held at most, seconds.
            now_ns: Now.
            running: Whether the robot is to move on, rather than to stop.
        """
        commanded_ns = 0
        for tracker in self.trackers.values():
            commanded_ns = tracker.commands.last_ns
            tracker.expire(held_s, now_ns)
            # A small error may be that of a controller at rest, and would grow with every gap.
            if running and tracker.error > SMALL_ERROR * tracker.limits.error:
                tracker.restart()
        self._begin_in_motion(running, commanded_ns)

    @abstractmethod
    def _begin_in_motion(self, running: bool, commanded_ns: int) -> None:
        """See `after_gap`; `commanded_ns` is the time of the last command."""

    @property
    def still(self) -> bool:
        """Whether the last command was standstill."""
        return self._limiter.still

    @property
    def stop_time_s(self) -> float:
        """Longest time that a stop takes, seconds."""
        return self._limiter.stop_time_s

    @property
    def limited(self) -> frozenset[Limit]:
        """Limits that changed the last command."""
        return self._limiter.limited

    @property
    def counts(self) -> Counter[Limit]:
        """Number of limited commands so far, by limit."""
        return self._limiter.counts

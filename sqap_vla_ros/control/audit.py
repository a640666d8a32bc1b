"""Independent check that commands keep the limits: in tests, in fault runs, on a bag."""

from collections import Counter
from enum import Enum
from math import hypot, isfinite

from sqap_vla_ros.control.command import Command
from sqap_vla_ros.control.limits import MotionLimits, or_infinite

_SLACK = 1e-6
"""Relative tolerance, for rounding."""
_LOST = 1.5
"""Ratio of a period to the next above which a command may have been lost on the wire."""
_STANDSTILL = 1e-8
"""m/s or rad/s; the limiter turns slower commands into standstill."""


class Violation(Enum):
    """Limit that a command broke."""

    NON_FINITE = 'non-finite'
    SPEED = 'speed'
    ACCELERATION = 'acceleration'
    JERK = 'jerk'
    WORKSPACE = 'workspace'
    GRIPPER = 'gripper'
    CONSENT = 'motion without consent'


class CommandAudit:
    """
    Differentiates commands and compares them with the limits; shares no code with the limiter.

    Feed it every command that was sent. It does not know positions, so it cannot check the
    workspace. Where periods are taken from a wire, they are inaccurate, and a command may have
    been lost. After a lost command, the acceleration before is a mean over a longer time that
    ended no longer ago, so the jerk is spread over half of both periods.

    Args:
        limits: Limits to check.
        jitter_s: Maximum error of the periods, seconds.
        gap_s: After a longer time without a command the robot may have stopped by itself, and the
            next one may have any velocity within the limit of speed; None: never.
    """

    def __init__(
        self, limits: MotionLimits, jitter_s: float = 0.0, gap_s: float | None = None
    ) -> None:
        self._jitter_s, self._gap_s = jitter_s, gap_s
        self.commands = 0
        """Number of commands so far."""
        self.violations: Counter[Violation] = Counter()
        """Number of violations so far, by kind."""
        # speed, then acceleration and jerk in motion, then those of a stop
        self._limits = (
            (
                limits.linear_speed_m_s,
                limits.linear_acceleration_m_s2,
                or_infinite(limits.linear_jerk_m_s3),
                limits.stop_deceleration_m_s2,
                or_infinite(limits.stop_jerk_m_s3),
            ),
            (
                limits.angular_speed_rad_s,
                limits.angular_acceleration_rad_s2,
                or_infinite(limits.angular_jerk_rad_s3),
                limits.angular_stop_deceleration_rad_s2,
                or_infinite(limits.angular_stop_jerk_rad_s3),
            ),
        )
        self.reset()

    def reset(self) -> None:
        """Forget earlier commands: the next one does not continue them."""
        self._velocity: list[list[float] | None] = [None, None]
        self._acceleration: list[list[float] | None] = [None, None]
        self._period_s = 0.0

    def check(self, command: Command, period_s: float, stopping: bool = True) -> set[Violation]:
        """
        Check one command.

        Args:
            command: The command.
            period_s: Time since the command before, seconds.
            stopping: Whether the limits of a stop applied; True where that is not known, as on a
                wire.

        Returns:
            The limits that it broke.
        """
        self.commands += 1
        if self._gap_s is not None and period_s > self._gap_s:
            self.reset()
        found: set[Violation] = set()
        twist: tuple[list[float], list[float]] = (
            command.linear_m_s.tolist(),
            command.angular_rad_s.tolist(),
        )
        if not all(map(isfinite, [*twist[0], *twist[1]])):
            found.add(Violation.NON_FINITE)
        if command.gripper is not None and not 0 <= command.gripper <= 1:
            found.add(Violation.GRIPPER)
        for group, velocity in enumerate(twist):
            found |= self._check_group(group, velocity, period_s, stopping)
        self._period_s = period_s
        self.violations.update(found)
        return found

    def _check_group(
        self, group: int, velocity: list[float], period_s: float, stopping: bool
    ) -> set[Violation]:
        speed, acceleration, jerk, deceleration, stop_jerk = self._limits[group]
        found: set[Violation] = set()
        if hypot(*velocity) > speed * (1 + _SLACK):
            found.add(Violation.SPEED)
        before, self._velocity[group] = self._velocity[group], velocity
        if before is None or not period_s > 0:
            return found
        change = [(new - old) / period_s for new, old in zip(velocity, before)]
        slack = _STANDSTILL / period_s
        wrong = self._jitter_s / period_s
        bound = (deceleration if stopping else acceleration) * (1 + wrong)
        if hypot(*change) > bound * (1 + _SLACK) + slack:
            found.add(Violation.ACCELERATION)
        last, self._acceleration[group] = self._acceleration[group], change
        if last is not None:
            size = hypot(*(new - old for new, old in zip(change, last)))
            time_s = period_s + self._jitter_s
            if self._jitter_s and self._period_s > _LOST * period_s:
                time_s += (self._period_s - period_s) / 2
            bound = (stop_jerk if stopping else jerk) * time_s + wrong * (
                hypot(*change) + hypot(*last)
            )
            if size > bound * (1 + _SLACK) + 2 * slack:
                found.add(Violation.JERK)
        return found

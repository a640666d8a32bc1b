"""An independent check that commands keep the limits: in tests, in fault runs, on a bag."""

from collections import Counter
from enum import Enum
from math import hypot, isfinite

from sqap_vla_ros.control.command import Command
from sqap_vla_ros.control.limits import MotionLimits, or_infinite

_SLACK = 1e-6
"""Relative, for rounding."""
_LOST = 1.5
"""Times as long as the next: between these two, a command may have been lost on the wire."""
_STANDSTILL = 1e-8
"""m/s or rad/s: the limiter turns slower commands into standstill."""


class Violation(Enum):
    """What a command broke."""

    NON_FINITE = 'non-finite'
    SPEED = 'speed'
    ACCELERATION = 'acceleration'
    JERK = 'jerk'
    WORKSPACE = 'workspace'
    GRIPPER = 'gripper'
    CONSENT = 'motion without consent'


class CommandAudit:
    """
    Differentiates commands and compares with the limits; shares no code with the limiter.

    Feed it every command that was sent. It knows nothing of positions. `jitter_s`: how far the
    times between commands may be wrong, as they are when taken from a wire. There a command may
    be lost, too: then the acceleration before is a mean over a longer time, that ended no longer
    ago, and the jerk is spread over half of both times.
    """

    def __init__(self, limits: MotionLimits, jitter_s: float = 0.0) -> None:
        self._jitter_s = jitter_s
        self.commands = 0
        self.violations: Counter[Violation] = Counter()
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
        """Begin anew: what comes next does not continue what came before."""
        self._velocity = [None, None]
        self._acceleration = [None, None]
        self._period_s = 0.0

    def check(self, command: Command, period_s: float, stopping: bool = True) -> set[Violation]:
        """
        Violations of one command.

        period_s: time since the one before. stopping: whether the limits of a stop applied; True
        where that is not known, on a wire.
        """
        self.commands += 1
        found = set()
        twist = command.linear_m_s.tolist(), command.angular_rad_s.tolist()
        if not all(map(isfinite, [*twist[0], *twist[1]])):
            found.add(Violation.NON_FINITE)
        if command.gripper is not None and not 0 <= command.gripper <= 1:
            found.add(Violation.GRIPPER)
        for group, velocity in enumerate(twist):
            found |= self._check_group(group, velocity, period_s, stopping)
        self._period_s = period_s
        self.violations.update(found)
        return found

    def _check_group(self, group, velocity, period_s, stopping):
        speed, acceleration, jerk, deceleration, stop_jerk = self._limits[group]
        found = set()
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

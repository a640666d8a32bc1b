"""
References for `fuzz_tracking`: what must hold of commands and of the arm, computed anew.

Nothing here calls the limiters, the trackers or the spaces; positions and velocities are those of
the messages and of the simulated arm.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from math import hypot, inf, sqrt

from sqap_vla_ros.control.limits import MAX_PERIOD_S

_SLACK = 1e-6
_SPEED_SLACK = 1e-7
"""m/s or rad/s, for commands that become standstill."""


class Fault(Enum):
    """What must never happen."""

    SPEED = 'too fast'
    ACCELERATION = 'acceleration'
    JERK = 'jerk'
    STOP_TIME = 'stop takes too long'
    CONSENT = 'motion without consent'
    AFTER_GAP = 'does not begin as measured after a gap'
    POSITION_STEP = 'commanded position does not follow from the commanded velocities'
    WITHDRAWN = 'position commanded although the arm is not there'
    OUTSIDE = 'arm outside its bounds'
    FALSE_HOLD = 'tracking error of an arm that follows'
    UNNOTICED = 'still running although arm or sensor stand still'


@dataclass(frozen=True)
class GroupReference:
    """Limits of axes that are limited together, m or rad and seconds."""

    axes: slice
    speed: float
    deceleration: float
    """Of a stop, the highest that is allowed."""
    jerk: float


class CommandReference:
    """
    Differentiates the commands.

    Args:
        groups: Their limits.
        faults: Counts what is broken.
    """

    def __init__(self, groups: Sequence[GroupReference], faults: Counter[Fault]) -> None:
        self._groups, self._faults = groups, faults
        self.velocity: list[float] | None = None
        """Of the last command; None: nothing is known."""
        self._acceleration: list[float] | None = None
        self._stop_s: float | None = None
        """How long the stop may take yet."""

    def reset(self) -> None:
        """Forget the last command."""
        self.velocity = self._acceleration = None

    def check(self, velocity: Sequence[float], period_s: float, running: bool) -> None:
        """Check a command that is sent `period_s` after the one before."""
        period_s = min(period_s, MAX_PERIOD_S)
        before, then = self.velocity, self._acceleration
        self.velocity = list(velocity)
        self._acceleration = None
        if before is not None:
            self._acceleration = [(b - a) / period_s for a, b in zip(before, velocity)]
        for group in self._groups:
            part = group.axes
            slack = _SPEED_SLACK / period_s
            if hypot(*velocity[part]) > group.speed * (1 + _SLACK):
                self._faults[Fault.SPEED] += 1
            change = self._acceleration and self._acceleration[part]
            if change and hypot(*change) > group.deceleration * (1 + _SLACK) + slack:
                self._faults[Fault.ACCELERATION] += 1
            if change and then is not None:
                size = hypot(*(b - a for a, b in zip(then[part], change)))
                if size > group.jerk * period_s * (1 + _SLACK) + 2 * slack:
                    self._faults[Fault.JERK] += 1
        self._check_stop(velocity, period_s, running)

    def _check_stop(self, velocity: Sequence[float], period_s: float, running: bool) -> None:
        if running or not any(velocity):
            self._stop_s = None
        elif self._stop_s is None:
            self._stop_s = max(self._longest_stop_s(group) for group in self._groups)
        else:
            self._stop_s -= period_s
            if self._stop_s < 0:
                self._faults[Fault.STOP_TIME] += 1

    def _longest_stop_s(self, group: GroupReference) -> float:
        """Ramp of the acceleration, then an S-curve; each is drawn out by whole periods."""
        assert self.velocity is not None
        change = hypot(*(self._acceleration or [0.0])[group.axes])
        ramp_s = change / group.jerk if group.jerk < inf else 0.0
        speed = hypot(*self.velocity[group.axes]) + change * ramp_s / 2
        if group.jerk < inf:
            ramp_s += 2 * sqrt(speed / group.jerk) + group.deceleration / group.jerk
        return ramp_s + speed / group.deceleration + 4 * MAX_PERIOD_S


class MeasuredVelocity:
    """Velocity of the last messages: those within 0.15 s, and at least two."""

    def __init__(self) -> None:
        self._messages: list[tuple[float, list[float]]] = []

    def add(self, stamp_s: float, place: list[float]) -> None:
        """Take a message; one that is not newer is ignored."""
        if not self._messages or stamp_s > self._messages[-1][0] + 1e-9:
            self._messages.append((stamp_s, place))
            while len(self._messages) > 2 and stamp_s - self._messages[0][0] > 0.15 + 1e-9:
                del self._messages[0]

    def forget(self) -> None:
        """Forget all messages."""
        self._messages.clear()

    @property
    def newest_s(self) -> float | None:
        """Stamp of the newest message."""
        return self._messages[-1][0] if self._messages else None

    @property
    def place(self) -> list[float] | None:
        """Place of the newest message."""
        return self._messages[-1][1] if self._messages else None

    @property
    def velocity(self) -> list[float] | None:
        """[axes]; None with fewer than two messages."""
        if len(self._messages) < 2:
            return None
        (then_s, then), (now_s, now) = self._messages[0], self._messages[-1]
        return [(b - a) / (now_s - then_s) for a, b in zip(then, now)]


class PositionReference:
    """
    Checks commanded positions: each follows from the one before and the velocity since.

    Args:
        faults: Counts what is broken.
    """

    def __init__(self, faults: Counter[Fault]) -> None:
        self._faults = faults
        self.position: list[float] | None = None
        """Of the last command; None: nothing is known."""
        self._velocity: list[float] = []

    def check(
        self,
        position: list[float] | None,
        velocity: list[float],
        period_s: float,
        anew: Sequence[float] | None,
        reach: float,
    ) -> None:
        """
        Check the positions of a command.

        Args:
            position: Of the command; None: it has none.
            velocity: Of the command.
            period_s: Time since the one before on the clock of the observations.
            anew: The newest measurement, where motion may begin anew; else None.
            reach: How far the arm may have come since then, m or rad.
        """
        before, self.position = self.position, position
        moved, self._velocity = self._velocity, list(velocity)
        if before is None or position is None:
            return
        for axis, now in enumerate(position):
            led = abs(now - (before[axis] + moved[axis] * period_s)) < 1e-6
            if not led and (anew is None or abs(now - anew[axis]) > reach + 1e-6):
                self._faults[Fault.POSITION_STEP] += 1


def outside(place: Sequence[float], low: Sequence[float], high: Sequence[float]) -> float:
    """Compute how far a place is outside its bounds on the worst axis."""
    return max(max(a - at, at - b) for at, a, b in zip(place, low, high))

"""
Velocity, acceleration and jerk limits that always leave room to stop: the core of all limiters.

The state is the last velocity v and acceleration a of a group of axes, limited by their Euclidean
norms: a twist is two groups of three axes, an arm is one group of one axis for each joint.

A step emits v' = v + a' period, |a' - a| <= jerk period. Two facts carry the guarantee, for any
sequence of periods (doc/control.md derives them):

* Ramping a down to zero along its own line adds at most a |a| / (2 jerk) to v. So v stays within
  the speed limit whenever both v and v + a |a| / (2 jerk) are.
* A stop is that ramp followed by an S-curve along the remaining velocity, and its end is known in
  closed form. A step is taken only if the stop after it ends within the bounds; otherwise the next
  step of the stop is taken.

Vectors are lists of floats: with three axes they are several times faster than arrays.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from math import hypot, inf, isfinite, sqrt
import operator
from typing import TypeAlias

_Places: TypeAlias = tuple[Sequence[float], Sequence[float]]
"""Lowest and highest place of each axis."""
_TINY = 1e-12
_STANDSTILL = 1e-9
"""Speeds below this become zero, m/s or rad/s; bounds are met to this tolerance, m or rad."""


class Limit(Enum):
    """Reason why a command was limited."""

    NON_FINITE = 'non-finite'
    POSITION_UNKNOWN = 'position unknown'
    WORKSPACE = 'workspace'
    JOINT_POSITION = 'joint position'
    SPEED = 'speed'
    ACCELERATION = 'acceleration'
    JERK = 'jerk'
    GRIPPER = 'gripper'


@dataclass(frozen=True)
class GroupLimits:
    """Limits of one group of axes, in m or rad and seconds; an infinite jerk is not limited."""

    speed: float
    acceleration: float
    jerk: float
    stop_deceleration: float
    stop_jerk: float
    low: tuple[float, ...]
    """Lowest position of each axis; -inf where nothing bounds it."""
    high: tuple[float, ...]
    margin: float = 0.0
    """Distance from the bounds at which motion is planned to end; the rest is left to noise."""
    bound: Limit = Limit.WORKSPACE
    """The limit that is reported at the bounds."""

    @property
    def bounded(self) -> bool:
        """Whether any axis has a bound; then the position must be known."""
        return any(map(isfinite, self.low + self.high))


class VelocityLimiter:
    """
    Limits the velocity of one group of axes; not thread-safe.

    Args:
        limits: Limits of the group; the length of `low` is the number of axes.
    """

    def __init__(self, limits: GroupLimits) -> None:
        self.limits = limits
        self.velocity = [0.0] * len(limits.low)
        """Last commanded velocity, m/s or rad/s."""
        self.acceleration = [0.0] * len(limits.low)
        """Acceleration of the last step."""
        self.limited: set[Limit] = set()
        """Limits that changed the last step."""
        self.stopping = False
        """Whether the last step was under the stop's limits rather than the motion's."""
        self._bounded = limits.bounded
        self._approach_s = (
            limits.acceleration / limits.stop_jerk + self._stop_time_s(limits.speed) / 2
        )

    @property
    def stop_time_s(self) -> float:
        """Longest time that a stop takes, seconds: from full speed and full acceleration."""
        limits = self.limits
        ramp_s = limits.stop_deceleration / limits.stop_jerk
        return ramp_s + self._stop_time_s(limits.speed)

    def reset(self, velocity: Sequence[float]) -> None:
        """
        Continue from the given velocity.

        Args:
            velocity: [axes], finite; scaled down to the speed limit.
        """
        share = min(1.0, self.limits.speed / max(hypot(*velocity), _TINY))
        self.velocity = [float(axis) * share for axis in velocity]
        self.acceleration = [0.0] * len(self.velocity)
        self.limited = set()
        self.stopping = False

    def step(
        self,
        wanted: Sequence[float] | None,
        period_s: float,
        position: Sequence[float],
        highest: Sequence[float] | None = None,
    ) -> list[float]:
        """
        Compute the velocity to command now.

        Args:
            wanted: [axes], finite; None stops.
            period_s: Time since the last step, seconds, positive.
            position: [axes], finite; ignored for a stop and where nothing is bounded.
            highest: [axes]; the axes are anywhere between `position` and here. None: they are
                exactly there.

        Returns:
            [axes], m/s or rad/s.
        """
        self.limited = set()
        if wanted is None:
            self.stopping = True
            acceleration = self._stop_step(period_s)
        else:
            places = (position, position if highest is None else highest)
            acceleration = self._move_step(wanted, period_s, places)
        velocity = _add(self.velocity, acceleration, period_s)
        if hypot(*velocity) < _STANDSTILL:
            velocity = [0.0] * len(velocity)
        if self.limits.jerk == inf:
            # Without a jerk limit the past acceleration constrains nothing.
            self.acceleration = [0.0] * len(velocity)
        else:
            self.acceleration = [
                (new - old) / period_s for new, old in zip(velocity, self.velocity)
            ]
        self.velocity = velocity
        return velocity

    def _move_step(self, wanted: Sequence[float], period_s: float, places: _Places) -> list[float]:
        limits = self.limits
        target = self._target(wanted, period_s, places)
        size = hypot(*self.acceleration)
        # A stop may brake harder than motion; its limits apply until that has been undone.
        self.stopping = size > limits.acceleration * (1 + 1e-9)
        jerk = limits.stop_jerk if self.stopping else limits.jerk
        track = self._track_step(target, jerk, period_s)
        if self._viable(track, jerk, period_s, places):
            return track
        self.limited.add(limits.bound if self._bounded else Limit.SPEED)
        coast = _scaled(self.acceleration, max(0.0, 1 - jerk * period_s / max(size, _TINY)))
        if self._viable(coast, jerk, period_s, places):
            return coast
        self.stopping = True
        return self._stop_step(period_s)

    def _target(
        self, wanted: Sequence[float], period_s: float, places: _Places
    ) -> Sequence[float]:
        limits = self.limits
        if self._bounded:
            bounded = [
                min(
                    max(axis, -self._approach(lowest - low, period_s)),
                    self._approach(high - highest, period_s),
                )
                for axis, lowest, highest, low, high in zip(
                    wanted, *places, limits.low, limits.high
                )
            ]
            if any(axis != free for axis, free in zip(bounded, wanted)):
                self.limited.add(limits.bound)
            wanted = bounded
        size = hypot(*wanted)
        if size > limits.speed:
            self.limited.add(Limit.SPEED)
            wanted = _scaled(wanted, limits.speed / size)
        return wanted

    def _approach(self, distance: float, period_s: float) -> float:
        """
        Solve u^2 / acceleration + u tau = distance for the speed u towards a bound.

        Far from the bound this brakes with half of the acceleration limit. Near it the speed
        decays with the time constant tau of a stop from the speed limit, so that motion along the
        bound at that speed can be stopped before it. Outside the bound u is zero.
        """
        if distance == inf:
            return inf
        limits = self.limits
        distance = max(distance - limits.margin, 0.0)
        tau = self._approach_s + 2 * period_s
        return 2 * distance / (tau + sqrt(tau**2 + 4 * distance / limits.acceleration))

    def _track_step(self, target: Sequence[float], jerk: float, period_s: float) -> list[float]:
        """Accelerate towards a velocity such that the acceleration is zero on arrival."""
        error = _add(target, self.velocity, -1.0)
        size = hypot(*error)
        pace = _soft_landing(size, jerk, period_s)
        if pace > self.limits.acceleration:
            self.limited.add(Limit.ACCELERATION)
            pace = self.limits.acceleration
        change = _add(_scaled(error, pace / max(size, _TINY)), self.acceleration, -1.0)
        share = jerk * period_s / max(hypot(*change), _TINY)
        if share < 1:
            self.limited.add(Limit.JERK)
        return _add(self.acceleration, change, min(1.0, share))

    def _stop_step(self, period_s: float) -> list[float]:
        """Compute the next acceleration of the stop: undo what is not braking, then brake."""
        limits = self.limits
        speed, braking, rest = self._split(self.velocity, self.acceleration)
        budget = limits.stop_jerk * period_s
        size = hypot(*rest)
        undone = min(size, budget)
        braking = min(
            braking + (budget - undone),
            limits.stop_deceleration,
            _soft_landing(speed, limits.stop_jerk, period_s),
        )
        return _add(
            _scaled(rest, 1 - undone / max(size, _TINY)),
            self.velocity,
            -braking / max(speed, _TINY),
        )

    def _split(
        self, velocity: Sequence[float], acceleration: Sequence[float]
    ) -> tuple[float, float, Sequence[float]]:
        """Return speed, deceleration that a stop keeps, and acceleration that it undoes first."""
        speed = hypot(*velocity)
        along = (sum(map(operator.mul, velocity, acceleration)) / speed) if speed > _TINY else 0.0
        across = hypot(*_add(acceleration, velocity, -along / max(speed, _TINY)))
        usable = (
            along <= 0
            and across <= -1e-6 * along + _TINY
            and along**2 <= 2 * self.limits.stop_jerk * speed * (1 + 1e-6) + _TINY
        )
        return (speed, -along, [0.0] * len(velocity)) if usable else (speed, 0.0, acceleration)

    def _viable(
        self,
        acceleration: Sequence[float],
        jerk: float,
        period_s: float,
        places: _Places,
    ) -> bool:
        """Whether the speed limit and the bounds can still be kept after this step."""
        limits = self.limits
        velocity = _add(self.velocity, acceleration, period_s)
        later = _add(velocity, acceleration, hypot(*acceleration) / (2 * jerk))
        if max(hypot(*velocity), hypot(*later)) > limits.speed * (1 + 1e-12):
            return False
        if not self._bounded:
            return True
        for (back, forth), lowest, highest, low, high in zip(
            self._stop_reach(velocity, acceleration, period_s), *places, limits.low, limits.high
        ):
            # Outside a bound, motion further out is refused and motion back inside is allowed.
            if (
                back > max(lowest - low, 0.0) + _STANDSTILL
                or forth > max(high - highest, 0.0) + _STANDSTILL
            ):
                return False
        return True

    def _stop_reach(
        self, velocity: Sequence[float], acceleration: Sequence[float], period_s: float
    ) -> list[tuple[float, float]]:
        """
        Bound how far a stop after this step leads down and up each axis.

        With short periods the ramp ends at velocity `after`; with long ones the velocity changes
        less. Both ends of that range are considered. Each command is held for a period, and the
        end of the curve takes one more.
        """
        jerk = self.limits.stop_jerk
        speed, braking, rest = self._split(velocity, acceleration)
        ramp_s = hypot(*rest) / jerk
        after = _add(velocity, rest, ramp_s / 2)
        speed = max(speed, hypot(*after))
        # An S-curve that already brakes is one that began earlier, from a higher speed.
        begun_s = braking / jerk
        before = speed + braking * begun_s / 2
        way = before * (self._stop_time_s(before) / 2 - begun_s) + braking * begun_s**2 / 6
        stop_s = ramp_s + way / max(speed, _TINY) + 2 * period_s
        return [
            (-stop_s * min(first, then, 0.0), stop_s * max(first, then, 0.0))
            for first, then in zip(velocity, after)
        ]

    def _stop_time_s(self, speed: float) -> float:
        """Duration of an S-curve from `speed` to standstill; it covers speed * duration / 2."""
        jerk, deceleration = self.limits.stop_jerk, self.limits.stop_deceleration
        if speed < deceleration**2 / jerk:
            return 2 * sqrt(speed / jerk)
        return speed / deceleration + deceleration / jerk


def _soft_landing(change: float, jerk: float, period_s: float) -> float:
    """
    Solve a period + a^2 / (2 jerk) = change for the acceleration a.

    From there, a can be ramped down to zero within the jerk limit before the change of speed is
    overshot.
    """
    return 2 * change / (period_s + sqrt(period_s**2 + 2 * change / jerk))


def _add(values: Sequence[float], others: Sequence[float], share: float) -> list[float]:
    return [value + share * other for value, other in zip(values, others)]


def _scaled(values: Sequence[float], share: float) -> list[float]:
    return [value * share for value in values]

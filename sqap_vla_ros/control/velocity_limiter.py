"""
Velocity, acceleration and jerk limits that can always still stop: the core of all limiters.

The state is the last velocity v and acceleration a of a group of axes, limited by their Euclidean
norms: a twist is two groups of three axes, an arm is one group of one axis for each joint.

A step emits v' = v + a' period, |a' - a| <= jerk period. Two facts carry the guarantee, for any
sequence of periods (doc/control.md derives them):

* Ramping a down to zero along its own line adds at most a |a| / (2 jerk) to v. So v stays within
  the speed limit whenever both v and v + a |a| / (2 jerk) are.
* Stopping is that ramp followed by an S-curve along the remaining velocity, and where that ends is
  known in closed form. A step is only taken when the stop after it ends within the bounds;
  otherwise the next step of the stop itself is taken.

Plain floats: with three axes they are several times faster than arrays.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from math import hypot, inf, isfinite, sqrt

_TINY = 1e-12
_STANDSTILL = 1e-9
"""Speeds below this become zero, m/s or rad/s; bounds are met to this, m or rad."""


class Limit(Enum):
    """What a command was limited by."""

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
    """Limits of one group of axes, m or rad and seconds; infinite jerk: not limited."""

    speed: float
    acceleration: float
    jerk: float
    stop_deceleration: float
    stop_jerk: float
    low: tuple[float, ...]
    """Lowest position of each axis; -inf where nothing bounds it."""
    high: tuple[float, ...]
    margin: float = 0.0
    """How far inside the bounds motion is planned to end; the rest is left to noise."""
    bound: Limit = Limit.WORKSPACE
    """What the bounds are called."""

    @property
    def bounded(self) -> bool:
        """Whether any axis has a bound, so that the position must be known."""
        return any(map(isfinite, self.low + self.high))


class VelocityLimiter:
    """Limits the velocity of one group of axes; not thread-safe."""

    def __init__(self, limits: GroupLimits) -> None:
        self.limits = limits
        self.velocity = self.acceleration = [0.0] * len(limits.low)
        self.limited: set[Limit] = set()
        """By what the last step was limited."""
        self.stopping = False
        """Whether the last step was under the stop's limits rather than the motion's."""
        self._bounded = limits.bounded
        self._approach_s = (
            limits.acceleration / limits.stop_jerk + self._stop_time_s(limits.speed) / 2
        )

    def reset(self, velocity: Sequence[float]) -> None:
        """Go on from a velocity; what exceeds the speed limit is scaled down."""
        share = min(1.0, self.limits.speed / max(hypot(*velocity), _TINY))
        self.velocity = [float(axis) * share for axis in velocity]
        self.acceleration = [0.0] * len(self.velocity)
        self.limited = set()
        self.stopping = False

    def step(
        self, wanted: Sequence[float] | None, period_s: float, position: Sequence[float]
    ) -> list[float]:
        """
        Velocity to command now.

        wanted: finite, or None to stop. period_s: since the last step, positive. position: finite;
        ignored where nothing is bounded.
        """
        self.limited = set()
        if wanted is None:
            self.stopping = True
            acceleration = self._stop_step(period_s)
        else:
            acceleration = self._move_step(wanted, period_s, position)
        velocity = _add(self.velocity, acceleration, period_s)
        if hypot(*velocity) < _STANDSTILL:
            velocity = [0.0] * len(velocity)
        if self.limits.jerk == inf:
            # Without a jerk limit the past acceleration binds nothing.
            self.acceleration = [0.0] * len(velocity)
        else:
            self.acceleration = [
                (new - old) / period_s for new, old in zip(velocity, self.velocity)
            ]
        self.velocity = velocity
        return velocity

    def _move_step(self, wanted, period_s, position):
        limits = self.limits
        target = self._target(wanted, period_s, position)
        size = hypot(*self.acceleration)
        # A stop may brake harder than motion may; its limits hold until that has been undone.
        self.stopping = size > limits.acceleration * (1 + 1e-9)
        jerk = limits.stop_jerk if self.stopping else limits.jerk
        track = self._track_step(target, jerk, period_s)
        if self._viable(track, jerk, period_s, position):
            return track
        self.limited.add(limits.bound if self._bounded else Limit.SPEED)
        coast = _scaled(self.acceleration, max(0.0, 1 - jerk * period_s / max(size, _TINY)))
        if self._viable(coast, jerk, period_s, position):
            return coast
        self.stopping = True
        return self._stop_step(period_s)

    def _target(self, wanted, period_s, position):
        limits = self.limits
        if self._bounded:
            bounded = [
                min(
                    max(axis, -self._approach(at - low, period_s)),
                    self._approach(high - at, period_s),
                )
                for axis, at, low, high in zip(wanted, position, limits.low, limits.high)
            ]
            if any(axis != free for axis, free in zip(bounded, wanted)):
                self.limited.add(limits.bound)
            wanted = bounded
        size = hypot(*wanted)
        if size > limits.speed:
            self.limited.add(Limit.SPEED)
            wanted = _scaled(wanted, limits.speed / size)
        return wanted

    def _approach(self, distance, period_s):
        """
        Speed u towards a bound: u^2 / acceleration + u tau = distance.

        Far away that brakes with half of the acceleration limit. Near it decays with the time
        constant tau, in which a stop from the highest speed covers its way: so that going along
        the bound at that speed can be stopped before it. Zero outside of the bound.
        """
        if distance == inf:
            return inf
        limits = self.limits
        distance = max(distance - limits.margin, 0.0)
        tau = self._approach_s + 2 * period_s
        return 2 * distance / (tau + sqrt(tau**2 + 4 * distance / limits.acceleration))

    def _track_step(self, target, jerk, period_s):
        """Acceleration towards a velocity, in time to arrive there with none."""
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

    def _stop_step(self, period_s):
        """Next acceleration of the stop: first undo what is not braking, then brake."""
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

    def _split(self, velocity, acceleration):
        """Speed, deceleration that a stop goes on with, acceleration that it undoes first."""
        speed = hypot(*velocity)
        along = (sum(map(_product, velocity, acceleration)) / speed) if speed > _TINY else 0.0
        across = hypot(*_add(acceleration, velocity, -along / max(speed, _TINY)))
        usable = (
            along <= 0
            and across <= -1e-6 * along + _TINY
            and along**2 <= 2 * self.limits.stop_jerk * speed * (1 + 1e-6) + _TINY
        )
        return (speed, -along, [0.0] * len(velocity)) if usable else (speed, 0.0, acceleration)

    def _viable(self, acceleration, jerk, period_s, position) -> bool:
        """Whether, after this step, the speed limit and the bounds can still be kept."""
        limits = self.limits
        velocity = _add(self.velocity, acceleration, period_s)
        later = _add(velocity, acceleration, hypot(*acceleration) / (2 * jerk))
        if max(hypot(*velocity), hypot(*later)) > limits.speed * (1 + 1e-12):
            return False
        if not self._bounded:
            return True
        for (back, forth), at, low, high in zip(
            self._stop_reach(velocity, acceleration, period_s), position, limits.low, limits.high
        ):
            # Outside of a bound nothing may lead further out, and anything may lead back in.
            if (
                back > max(at - low, 0.0) + _STANDSTILL
                or forth > max(high - at, 0.0) + _STANDSTILL
            ):
                return False
        return True

    def _stop_reach(self, velocity, acceleration, period_s):
        """
        How far a stop after this step leads down and up each axis, at most.

        With short periods the ramp ends at velocity `after`, with long ones it changes less: both
        ends of that range are taken. Commands are held for a period each, and the curve's end
        takes one more.
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

    def _stop_time_s(self, speed):
        """Duration of an S-curve from a speed to standstill; it covers speed * duration / 2."""
        jerk, deceleration = self.limits.stop_jerk, self.limits.stop_deceleration
        if speed < deceleration**2 / jerk:
            return 2 * sqrt(speed / jerk)
        return speed / deceleration + deceleration / jerk


def _soft_landing(change, jerk, period_s):
    """
    Acceleration to begin a change of speed with: a period + a^2 / (2 jerk) = change.

    Then a can be ramped down to zero within the jerk limit before the change is overshot.
    """
    return 2 * change / (period_s + sqrt(period_s**2 + 2 * change / jerk))


def _add(values, others, share):
    return [value + share * other for value, other in zip(values, others)]


def _scaled(values, share):
    return [value * share for value in values]


def _product(one, other):
    return one * other

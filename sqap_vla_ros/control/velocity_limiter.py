"""
Velocity, acceleration and jerk limits that can always still stop: the core of all limiters.

The state is the last velocity v and acceleration a. Groups are limited by their Euclidean norm and
do not influence one another: a twist is two groups of three axes, an arm of J joints is J groups of
one. All arrays are float64 [groups, axes], limits [groups, 1].

A step emits v' = v + a' period, |a' - a| <= jerk period. Two facts carry the guarantee, for any
sequence of periods (doc/control.md derives them):

* Ramping a down to zero along its own line adds at most a |a| / (2 jerk) to v. So v stays within
  the speed limit whenever both v and v + a |a| / (2 jerk) are.
* Stopping is that ramp followed by an S-curve along the remaining velocity, and where that ends is
  known in closed form. A step is only taken when the stop after it ends within the bounds;
  otherwise the next step of the stop itself is taken.
"""
from enum import Enum

import numpy as np

_TINY = 1e-12
_STANDSTILL = 1e-9
"""Speeds below this become zero, m/s or rad/s."""


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


class VelocityLimiter:
    """
    Limits velocities [groups, axes]; not thread-safe.

    `low` and `high` bound the position [groups, axes]; infinite where nothing does. `margin` is
    how far inside of them motion is planned to end; the rest is left to measurement noise.
    """

    def __init__(self, *, speed, acceleration, jerk, stop_deceleration, stop_jerk, low, high,
                 margin=0.0, bound: Limit = Limit.WORKSPACE):
        self._low, self._high = np.array(low, np.float64), np.array(high, np.float64)
        self._speed, self._acceleration, self._jerk, self._deceleration, self._stop_jerk = (
            np.reshape(np.asarray(value, np.float64), (-1, 1))
            for value in (speed, acceleration, jerk, stop_deceleration, stop_jerk))
        self._margin = margin
        self._bound = bound
        self.bounded = bool(np.isfinite(self._low).any() or np.isfinite(self._high).any())
        self.velocity = np.zeros(self._low.shape)
        self.acceleration = np.zeros(self._low.shape)
        self.limited: set[Limit] = set()
        """By what the last step was limited."""
        self.stopping = False
        """Whether the last step was under the stop's limits rather than the motion's."""

    def reset(self, velocity):
        """Go on from a velocity [groups, axes]; what exceeds the speed limit is scaled down."""
        velocity = np.array(velocity, np.float64).reshape(self._low.shape)
        size = _norm(velocity)
        self.velocity = velocity * np.minimum(1.0, self._speed / np.maximum(size, _TINY))
        self.acceleration = np.zeros(self._low.shape)
        self.limited = set()
        self.stopping = False

    def step(self, wanted, period_s: float, position) -> np.ndarray:
        """
        Velocity [groups, axes] to command now.

        wanted: finite [groups, axes], or None to stop. period_s: since the last step, positive.
        position: finite [groups, axes]; ignored where nothing is bounded.
        """
        self.limited = set()
        stop = self._stop_step(period_s)
        if wanted is None:
            acceleration, self.stopping = stop, True
        else:
            acceleration = self._move_step(wanted, stop, period_s, position)
        velocity = self.velocity + acceleration * period_s
        velocity[_norm(velocity)[:, 0] < _STANDSTILL] = 0.0
        # Without a jerk limit the past acceleration binds nothing.
        self.acceleration = np.where(np.isinf(self._jerk), 0.0,
                                     (velocity - self.velocity) / period_s)
        self.velocity = velocity
        return velocity

    def _move_step(self, wanted, stop, period_s, position):
        to_low, to_high = self._distances(position, 0.0)
        target = self._target(wanted, period_s, position)
        # A stop may brake harder than motion may; its limits hold until that has been undone.
        recovering = _norm(self.acceleration) > self._acceleration * (1 + 1e-9)
        jerk = np.where(recovering, self._stop_jerk, self._jerk)
        track = self._track_step(target, jerk, period_s)
        ok = self._viable(track, jerk, period_s, to_low, to_high)
        if ok.all():
            self.stopping = bool(recovering.any())
            return track
        size = _norm(self.acceleration)
        coast = self.acceleration * np.maximum(
            0.0, 1 - jerk * period_s / np.maximum(size, _TINY))
        coasting = ~ok & self._viable(coast, jerk, period_s, to_low, to_high)
        stopping = ~ok & ~coasting
        self.stopping = bool((stopping | recovering).any())
        self.limited.add(self._bound if stopping.any() else Limit.SPEED)
        return np.where(stopping, stop, np.where(coasting, coast, track))

    def _distances(self, position, margin):
        """Ways left to the bounds, zero outside of them: nothing forbids to come back in."""
        if not self.bounded:
            return np.inf, np.inf
        return (np.maximum(position - self._low - margin, 0.0),
                np.maximum(self._high - margin - position, 0.0))

    def _target(self, wanted, period_s, position):
        target = wanted
        if self.bounded:
            to_low, to_high = self._distances(position, self._margin)
            target = np.clip(wanted, -self._approach(to_low, period_s),
                             self._approach(to_high, period_s))
            if (target != wanted).any():
                self.limited.add(self._bound)
        size = _norm(target)
        if (size > self._speed).any():
            self.limited.add(Limit.SPEED)
            target = target * np.minimum(1.0, self._speed / np.maximum(size, _TINY))
        return target

    def _approach(self, distance, period_s):
        """
        Speed u towards a bound: u^2 / acceleration + u tau = distance.

        Far away that brakes with half of the acceleration limit, near it decays with the time
        constant tau, which the jerk limit and the command period set.
        """
        tau = self._acceleration / self._jerk + 2 * period_s
        bounded = np.isfinite(distance)
        way = np.where(bounded, distance, 0.0)
        speed = 2 * way / (tau + np.sqrt(tau ** 2 + 4 * way / self._acceleration))
        return np.where(bounded, speed, np.inf)

    def _track_step(self, target, jerk, period_s):
        """Acceleration towards a velocity, in time to arrive there with none."""
        error = target - self.velocity
        size = _norm(error)
        soft = _soft_landing(size, jerk, period_s)
        if (soft > self._acceleration).any():
            self.limited.add(Limit.ACCELERATION)
        wanted = error * (np.minimum(self._acceleration, soft) / np.maximum(size, _TINY))
        change = wanted - self.acceleration
        share = jerk * period_s / np.maximum(_norm(change), _TINY)
        if (share < 1).any():
            self.limited.add(Limit.JERK)
        return self.acceleration + change * np.minimum(1.0, share)

    def _stop_step(self, period_s):
        """Next acceleration of the stop: first undo what is not braking, then brake."""
        speed, braking, rest = self._split(self.velocity, self.acceleration)
        budget = self._stop_jerk * period_s
        size = _norm(rest)
        undone = np.minimum(size, budget)
        rest = rest * (1 - undone / np.maximum(size, _TINY))
        braking = np.minimum(np.minimum(braking + (budget - undone), self._deceleration),
                             _soft_landing(speed, self._stop_jerk, period_s))
        return rest - self.velocity * (braking / np.maximum(speed, _TINY))

    def _split(self, velocity, acceleration):
        """Speed, the deceleration that a stop can go on with, and the acceleration that it cannot."""
        speed = _norm(velocity)
        along = (acceleration * velocity).sum(-1, keepdims=True) / np.maximum(speed, _TINY)
        across = acceleration - velocity * (along / np.maximum(speed, _TINY))
        usable = ((along <= 0) & (_norm(across) <= 1e-6 * -along + _TINY)
                  & (along ** 2 <= 2 * self._stop_jerk * speed * (1 + 1e-6) + _TINY))
        return speed, np.where(usable, -along, 0.0), np.where(usable, 0.0, acceleration)

    def _viable(self, acceleration, jerk, period_s, to_low, to_high):
        """Groups [groups, 1] that, after this step, can keep to the speed limit and the bounds."""
        velocity = self.velocity + acceleration * period_s
        size = _norm(acceleration)
        fastest = np.maximum(_norm(velocity),
                             _norm(velocity + acceleration * (size / (2 * jerk))))
        ok = fastest <= self._speed * (1 + 1e-12)
        if self.bounded:
            back, forth = self._stop_reach(velocity, acceleration, period_s)
            ok &= ((back <= to_low + _STANDSTILL) & (forth <= to_high + _STANDSTILL)).all(
                -1, keepdims=True)
        return ok

    def _stop_reach(self, velocity, acceleration, period_s):
        """How far [groups, axes] a stop after this step leads down and up each axis."""
        jerk = self._stop_jerk
        speed, braking, rest = self._split(velocity, acceleration)
        ramp_s = _norm(rest) / jerk
        after = velocity + rest * (ramp_s / 2)
        ramp = velocity * ramp_s + rest * (ramp_s ** 2 / 3)
        # An S-curve that already brakes is one that began earlier, from a higher speed.
        begun_s = braking / jerk
        before = _norm(after) + braking * begun_s / 2
        knee = self._deceleration ** 2 / jerk
        whole_s = np.where(before < knee, 2 * np.sqrt(before / jerk),
                           before / self._deceleration + self._deceleration / jerk)
        way = before * (whole_s / 2 - begun_s) + braking * begun_s ** 2 / 6
        curve = after * (way / np.maximum(_norm(after), _TINY))
        # Within the ramp an axis may turn round; it then got less far than at its first speed.
        turn = np.where(velocity * after < 0, velocity * ramp_s, ramp)
        # Commands are held for a period each, and the curve's end takes one more.
        held_s = 2 * period_s
        forth = (np.maximum(np.maximum(turn, ramp + curve), 0.0)
                 + held_s * np.maximum(np.maximum(velocity, after), 0.0))
        back = (np.maximum(np.maximum(-turn, -ramp - curve), 0.0)
                + held_s * np.maximum(np.maximum(-velocity, -after), 0.0))
        return back, forth


def _norm(values):
    return np.sqrt((values * values).sum(-1, keepdims=True))


def _soft_landing(change, jerk, period_s):
    """
    Acceleration to begin a change of speed with: a period + a^2 / (2 jerk) = change.

    Then a can be ramped down to zero within the jerk limit before the change is overshot.
    """
    return 2 * change / (period_s + np.sqrt(period_s ** 2 + 2 * change / jerk))

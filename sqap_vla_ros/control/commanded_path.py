"""Where velocity commands lead, and what an arm that lags has yet to do of them."""

from bisect import bisect_right
from collections import deque
from collections.abc import Sequence
from math import exp, hypot
from typing import NamedTuple, TypeAlias

HISTORY_S = 5.0
"""Commands are remembered for this time; no measurement that is used is older."""

Range: TypeAlias = tuple[list[float], list[float]]
"""Lowest and highest value of each axis."""


class _Knot(NamedTuple):
    """A command: from `clock_ns` on, `velocity` holds; before, the path had come this far."""

    clock_ns: int
    place: list[float]
    velocity: list[float]
    length: float


class CommandedPath:
    """
    Integral of the commands to one group of axes; not thread-safe.

    Args:
        axes: Number of axes.
        delay_s: How long the arm may lag behind its commands, seconds.
    """

    def __init__(self, axes: int, delay_s: float) -> None:
        self._delay_s = delay_s
        self._still = [0.0] * axes
        self._knots: deque[_Knot] = deque()

    def command(self, velocity: Sequence[float], clock_ns: int) -> None:
        """
        Note a command; it holds until the next one.

        Args:
            velocity: [axes], m/s or rad/s.
            clock_ns: When it is sent.
        """
        place, length = self.at(clock_ns)
        if self._knots:
            clock_ns = max(clock_ns, self._knots[-1].clock_ns)
        self._knots.append(_Knot(clock_ns, place, list(velocity), length))
        while len(self._knots) > 1 and clock_ns - self._knots[1].clock_ns > HISTORY_S * 1e9:
            self._knots.popleft()

    @property
    def last_ns(self) -> int:
        """When the last command was sent; 0 before the first."""
        return self._knots[-1].clock_ns if self._knots else 0

    def expire(self, held_s: float, clock_ns: int) -> None:
        """
        Note that the last command did not hold until now: no other came in its time.

        Args:
            held_s: How long it held at most, seconds.
            clock_ns: Now.
        """
        if self._knots:
            end_ns = self._knots[-1].clock_ns + round(held_s * 1e9)
            self.command(self._still, min(end_ns, clock_ns))

    def jump(self, clock_ns: int, period_s: float) -> None:
        """
        Go on from the last command on a clock that has jumped.

        Args:
            clock_ns: Now, after the jump.
            period_s: Time since the last command, seconds.
        """
        if self._knots:
            last = self._knots[-1]
            place, length = self.at(last.clock_ns + round(period_s * 1e9))
            self._knots = deque([_Knot(clock_ns, place, last.velocity, length)])

    def at(self, clock_ns: int) -> tuple[list[float], float]:
        """
        Compute where the commands lead until a time.

        Args:
            clock_ns: The time; before the first command nothing moves.

        Returns:
            [axes], m or rad, relative to where they began, and the length of the path.
        """
        if not self._knots:
            return self._still, 0.0
        index = bisect_right(self._knots, clock_ns, key=lambda knot: knot.clock_ns) - 1
        knot = self._knots[max(index, 0)]
        after_s = max(clock_ns - knot.clock_ns, 0) * 1e-9
        return (
            [at + axis * after_s for at, axis in zip(knot.place, knot.velocity)],
            knot.length + hypot(*knot.velocity) * after_s,
        )

    def pending(self, clock_ns: int) -> Range:
        """
        Bound what a lagging arm has yet to do of the commands until a time.

        With a delay d and then a first-order lag of time constant T, d + T <= the limit D, the
        part of a command that is s old is 1 up to d and exp(-(s - d) / T) beyond. For every such
        arm it is at most 1 up to D and exp(-s / D) beyond. Motion down and up counts apart.
        """
        down, up = list(self._still), list(self._still)
        delay_s, end_s = self._delay_s, 0.0
        if not delay_s:
            return down, up
        for knot in reversed(self._knots):
            begin_s = (clock_ns - knot.clock_ns) * 1e-9  # the command is `end_s` to `begin_s` old
            if begin_s <= 0:
                continue
            weight = max(min(begin_s, delay_s) - end_s, 0.0) + delay_s * (
                exp(-max(end_s, delay_s) / delay_s) - exp(-max(begin_s, delay_s) / delay_s)
            )
            for axis, velocity in enumerate(knot.velocity):
                (up if velocity > 0 else down)[axis] += velocity * weight
            end_s = begin_s
            if end_s > 5 * delay_s:
                break
        return down, up

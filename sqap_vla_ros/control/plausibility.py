"""
How far measurements are believed: as far as the commands explain them.

The position of an arm is measured late, seldom, and sometimes wrongly: the last pose is sent again
with new stamps, a second publisher sends zeros, a controller has been deactivated. What was
commanded is known exactly. A `PathTracker` compares the two and answers three questions:

* How far did the arm not do what it was told? That is the tracking error.
* Where can the arm be now? Between the measurement, moved on by what was commanded since its
  stamp, and the place where the commands lead if the arm has yet to do what it missed.
* How fast does it move, as measured?

All times are nanoseconds on the clock of the observations, on which measurements are stamped: a
simulated arm moves in simulated time.
"""

from bisect import bisect_right
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, hypot
from typing import NamedTuple

from sqap_vla_ros.control.limits import require_positive

WINDOW = 2.0
"""Length of the commanded path over which the error of an arm that is commanded by velocities is
taken, in units of its limit: one that makes less than half of its path exceeds it."""
RECENT_S = 0.5
"""The fastest command within this time decides how far a lagging arm may be behind."""
HISTORY_S = 5.0
"""Commands are remembered for this time; no measurement that is used is older."""
JUMP_S = 1.0
"""For this time after a jump of the measurement nothing can be started."""
VELOCITY_S = 0.15
"""Measurements of this time give the measured velocity."""


@dataclass(frozen=True)
class TrackingLimits:
    """
    How far a measurement may differ from the commands.

    Raises:
        ValueError: A limit is wrong; the message names the field.
    """

    error: float = 0.05
    """Largest distance between what was commanded and what was measured, m or rad."""
    delay_s: float = 0.1
    """How long the arm may lag: `error` grows by this time times the fastest recent command."""
    absolute: bool = False
    """Whether the arm is commanded by positions. Then the error is that of the position, not that
    of the last part of the path, over which the drift of a velocity controller is forgotten."""

    def __post_init__(self) -> None:
        require_positive('error', self.error)
        if not 0 <= self.delay_s < 10:
            raise ValueError(f'delay_s is {self.delay_s}, expected 0 to 10 seconds')


class _Knot(NamedTuple):
    """A command: from `clock_ns` on, `velocity` holds; before, the path had come this far."""

    clock_ns: int
    place: list[float]
    velocity: list[float]
    length: float


class _Record(NamedTuple):
    """A measurement, and where the commands had led at its stamp."""

    stamp_ns: int
    measured: list[float]
    ahead: list[float]
    """Commanded minus measured place."""
    length: float
    pending: tuple[list[float], list[float]]
    """How far a lagging arm may still have to go, down (negative) and up, see `_pending`."""


class PathTracker:
    """
    Compares the commanded with the measured path of one group of axes; not thread-safe.

    Args:
        axes: Number of axes: 3 for a position or a rotation, 1 for a joint.
        limits: When the error is too large.
    """

    def __init__(self, axes: int, limits: TrackingLimits) -> None:
        self.limits = limits
        self._axes = axes
        self._window = WINDOW * limits.error
        self._knots: deque[_Knot] = deque()
        self._records: deque[_Record] = deque()
        self._anchor: _Record | None = None
        self._jump: tuple[int, float] | None = None
        """Stamp and size of the last jump of the measurement."""

    def restart(self) -> None:
        """Take the newest measurement for the truth: what was missed before is forgotten."""
        while len(self._records) > 1:
            self._records.popleft()
        self._anchor = self._records[-1] if self._records else None

    def forget(self) -> None:
        """Forget everything, after a jump of the clock."""
        self._knots.clear()
        self._records.clear()
        self._anchor = self._jump = None

    def command(self, velocity: Sequence[float], clock_ns: int) -> None:
        """
        Note a command; it holds until the next one.

        Args:
            velocity: [axes], m/s or rad/s.
            clock_ns: When it is sent.
        """
        place, length = self._commanded(clock_ns)
        if self._knots:
            clock_ns = max(clock_ns, self._knots[-1].clock_ns)
        self._knots.append(_Knot(clock_ns, place, list(velocity), length))
        while clock_ns - self._knots[0].clock_ns > HISTORY_S * 1e9:
            self._knots.popleft()

    def measure(self, position: Sequence[float], stamp_ns: int) -> bool:
        """
        Note a measurement.

        Args:
            position: [axes], finite, m or rad.
            stamp_ns: When it was taken.

        Returns:
            Whether it is newer than the one before; if not, it is ignored.
        """
        records = self._records
        if records and stamp_ns <= records[-1].stamp_ns:
            return False
        place, length = self._commanded(stamp_ns)
        records.append(
            _Record(
                stamp_ns,
                list(position),
                [a - b for a, b in zip(place, position)],
                length,
                self._pending(stamp_ns),
            )
        )
        if self._anchor is None:
            self._anchor = records[-1]
        self._window = max(self._window, WINDOW * self.allowed)
        if self.last_change > self.allowed:
            self._jump = stamp_ns, self.last_change
        # The first record lies just before the window and before the time of the velocity.
        while (
            len(records) > 2
            and (self.limits.absolute or records[1].length <= length - self._window)
            and stamp_ns - records[1].stamp_ns >= VELOCITY_S * 1e9
        ):
            records.popleft()
        return True

    @property
    def known(self) -> bool:
        """Whether there is a measurement."""
        return bool(self._records)

    @property
    def missed(self) -> list[float]:
        """[axes], m or rad: commanded minus measured motion; 0 before the first measurement."""
        if not self._records or self._anchor is None:
            return [0.0] * self._axes
        return [now - then for now, then in zip(self._records[-1].ahead, self._begin().ahead)]

    @property
    def error(self) -> float:
        """Size of `missed`, m or rad."""
        return hypot(*self.missed)

    @property
    def allowed(self) -> float:
        """Largest error that is accepted at present, m or rad."""
        if not self._knots:
            return self.limits.error
        since_ns = self._knots[-1].clock_ns - RECENT_S * 1e9
        speed = 0.0
        for knot in reversed(self._knots):
            speed = max(speed, hypot(*knot.velocity))
            if knot.clock_ns <= since_ns:
                break
        return self.limits.error + self.limits.delay_s * speed

    def problem(self, name: str) -> str | None:
        """
        Say in words that the error is too large.

        Args:
            name: What is measured, for the message.

        Returns:
            One line; None if the error is within its limit.
        """
        error, allowed = self.error, self.allowed
        if error <= allowed:
            return None
        what = 'jumped' if self.last_change > allowed / 2 else 'does not follow the commands'
        return f'{name} {what}: {error:.3f} from where they lead (limit {allowed:.3f})'

    def jump(self, name: str) -> str | None:
        """
        Say in words that the measurement has just jumped.

        Args:
            name: What is measured, for the message.

        Returns:
            One line; None if there was no jump within JUMP_S before the newest measurement.
        """
        if self._jump is None or self._records[-1].stamp_ns - self._jump[0] > JUMP_S * 1e9:
            return None
        return f'{name} jumped by {self._jump[1]:.3f} (limit {self.allowed:.3f})'

    def measured_since(self, stamp_ns: int) -> bool:
        """Whether there is a measurement of a time or after it; true if there never was any."""
        return not self._records or self._records[-1].stamp_ns >= stamp_ns

    @property
    def last_change(self) -> float:
        """How far the last measurement is from the one before and what was commanded since."""
        if len(self._records) < 2:
            return 0.0
        before, last = self._records[-2], self._records[-1]
        return hypot(*(now - then for now, then in zip(last.ahead, before.ahead)))

    def place(self, clock_ns: int) -> list[float] | None:
        """
        Move the newest measurement on by what was commanded since its stamp.

        Args:
            clock_ns: Now.

        Returns:
            [axes], m or rad; None without a measurement.
        """
        if not self._records:
            return None
        last = self._records[-1]
        return [at - ahead for at, ahead in zip(self._commanded(clock_ns)[0], last.ahead)]

    def span(self, clock_ns: int) -> tuple[list[float], list[float]] | None:
        """
        Bound where the arm can be, or will be without further commands.

        An arm that lags still has to do part of what was commanded. One that did not do what it
        was told may have yet to do it: that, and what it had to do when it began to miss.

        Args:
            clock_ns: Now.

        Returns:
            Lowest and highest place of each axis, m or rad; None without a measurement.
        """
        place = self.place(clock_ns)
        if place is None:
            return None
        now, then, missed = self._records[-1].pending, self._begin().pending, self.missed
        return (
            [at + min(a, b + m) for at, a, b, m in zip(place, now[0], then[0], missed)],
            [at + max(a, b + m) for at, a, b, m in zip(place, now[1], then[1], missed)],
        )

    def reference(self, clock_ns: int) -> list[float] | None:
        """
        Compute where the commands lead from the place of the last restart.

        No later measurement changes it, so it can be sent to a controller that takes positions.

        Args:
            clock_ns: Now.

        Returns:
            [axes], m or rad; None before the first measurement.
        """
        if self._anchor is None:
            return None
        return [at - ahead for at, ahead in zip(self._commanded(clock_ns)[0], self._anchor.ahead)]

    def velocity(self) -> list[float] | None:
        """
        Measure the velocity.

        Returns:
            [axes], m/s or rad/s, of the newest measurements within VELOCITY_S; None with fewer
            than two.
        """
        if not self._records:
            return None
        last = self._records[-1]
        first = next(r for r in self._records if last.stamp_ns - r.stamp_ns <= VELOCITY_S * 1e9)
        if first is last:
            return None
        span_s = (last.stamp_ns - first.stamp_ns) * 1e-9
        return [(now - then) / span_s for now, then in zip(last.measured, first.measured)]

    def _begin(self) -> _Record:
        """Find the record at the beginning of the window, or of the last restart."""
        if self.limits.absolute and self._anchor is not None:
            return self._anchor
        last = self._records[-1]
        begin = self._records[0]
        for record in self._records:
            if record.length > last.length - self._window:
                break
            begin = record
        return begin

    def _commanded(self, clock_ns: float) -> tuple[list[float], float]:
        """Compute where the commands lead until a time, and the length of that path."""
        if not self._knots:
            return [0.0] * self._axes, 0.0
        index = bisect_right(self._knots, clock_ns, key=lambda knot: knot.clock_ns) - 1
        knot = self._knots[max(index, 0)]
        after_s = max(clock_ns - knot.clock_ns, 0) * 1e-9
        return (
            [at + axis * after_s for at, axis in zip(knot.place, knot.velocity)],
            knot.length + hypot(*knot.velocity) * after_s,
        )

    def _pending(self, clock_ns: int) -> tuple[list[float], list[float]]:
        """
        Bound what a lagging arm has yet to do of the commands until a time.

        With a delay d and then a first-order lag of time constant T, d + T <= `delay_s` = D, the
        part of a command that is s old is 1 up to d and exp(-(s - d) / T) beyond. For every such
        arm it is at most 1 up to D and exp(-s / D) beyond. Motion down and up counts apart.
        """
        down, up = [0.0] * self._axes, [0.0] * self._axes
        delay_s, end_s = self.limits.delay_s, 0.0
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

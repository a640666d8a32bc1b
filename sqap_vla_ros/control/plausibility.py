"""
How far measurements are believed: as far as the commands explain them.

The position of an arm is measured late, seldom, and sometimes wrongly: the last pose is sent again
with new stamps, a second publisher sends zeros, a controller has been deactivated. What was
commanded is known exactly. A `PathTracker` compares the two and answers three questions:

* How far did the arm not do what it was told? That is the tracking error.
* Where can the arm be, once it has done what was commanded? There, whatever the measurements say
  that is in doubt, it must be within its bounds.
* How fast does it move, as measured?

An arm may lag: behind a command by a delay and a first-order lag, together at most `delay_s`. What
it has yet to do of the commands, the *pending* motion, lies within known bounds, and only what
they do not explain is an error. doc/control.md has the table of what is believed.

All times are nanoseconds on the clock of the observations, on which measurements are stamped: a
simulated arm moves in simulated time.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from math import hypot
from typing import NamedTuple

from sqap_vla_ros.control.commanded_path import CommandedPath, Range
from sqap_vla_ros.control.limits import require_positive

GAIN = 0.1
"""An arm that is commanded by velocities moves faster or slower than told by up to this share."""
STOOD = 0.02
"""A measurement that moves by less than this share of the error limit may be one that stands."""
PAST_STEPS = 20
"""Number of measurements that are kept of the part of the path over which errors are taken."""
JUMP_S = 1.0
"""For this time after a jump of the measurement nothing can be started."""
VELOCITY_S = 0.15
"""Measurements of this time give the measured velocity, or else the last two."""


@dataclass(frozen=True)
class TrackingLimits:
    """
    How far a measurement may differ from the commands.

    Raises:
        ValueError: A limit is wrong; the message names the field.
    """

    error: float = 0.05
    """Largest distance between what was commanded and what was measured that a lag of `delay_s`
    does not explain, m or rad."""
    delay_s: float = 0.1
    """How long the arm may lag."""
    absolute: bool = False
    """Whether the arm is commanded by positions. Then the error is that of the position, not that
    of the last part of the path, over which the drift of a velocity controller is forgotten."""

    def __post_init__(self) -> None:
        require_positive('error', self.error)
        if not 0 <= self.delay_s < 10:
            raise ValueError(f'delay_s is {self.delay_s}, expected 0 to 10 seconds')


class _Record(NamedTuple):
    """A measurement, and where the commands had led at its stamp."""

    stamp_ns: int
    measured: list[float]
    place: list[float]
    length: float
    pending: Range
    """What a lagging arm may have yet to do, down and up; see `CommandedPath.pending`."""

    @property
    def ahead(self) -> list[float]:
        """Commanded minus measured place."""
        return [a - b for a, b in zip(self.place, self.measured)]


class PathTracker:
    """
    Compares the commanded with the measured path of one group of axes; not thread-safe.

    Args:
        axes: Number of axes: 3 for a position or a rotation, 1 for a joint.
        limits: When the error is too large.
    """

    def __init__(self, axes: int, limits: TrackingLimits) -> None:
        self.limits = limits
        self._still = [0.0] * axes
        self._gains = (1.0,) if limits.absolute else (1 - GAIN, 1.0, 1 + GAIN)
        self.commands = CommandedPath(axes, limits.delay_s)
        self._past: deque[_Record] = deque()
        """Records at even steps along the commanded path; the first lies just before the window,
        or is that of the last restart."""
        self._recent: deque[_Record] = deque()
        """All records within VELOCITY_S, and at least two."""
        self._anchor: _Record | None = None
        """The record of the last restart."""
        self._stood: list[float] | None = None
        """For each axis: near this value its measurement stands still, while others may move."""
        self._ends: list[Range] = []
        """For each gain: where an axis that was truly measured at one of the records since it
        stands still goes, down and up, relative to the commanded place times the gain."""
        self._window = 0.0
        """Length of the commanded path over which errors are taken, m or rad: an arm that makes
        less than half of it exceeds the limit."""
        self._jump: tuple[int, float] | None = None
        """Stamp and size of the last jump of the measurement."""
        self._forgot_ns: int | None = None
        """When the clock jumped: what led to a measurement before then is not known."""

    def restart(self) -> None:
        """Take the newest measurement for the truth: what was missed before is forgotten."""
        self._anchor = None
        self._past.clear()
        if self._recent:
            last = self._recent[-1]
            if self.limits.absolute:
                # The arm will go to the commanded position, whatever was pending.
                last = last._replace(pending=(self._still, self._still))
            self._begin_anew(last)

    def forget(self, clock_ns: int, period_s: float) -> None:
        """
        Forget all measurements, after a jump of the clock; the commanded path goes on.

        Args:
            clock_ns: Now, on the clock after its jump.
            period_s: Time since the last command, seconds.
        """
        self.commands.jump(clock_ns, period_s)
        self._recent.clear()
        self._past.clear()
        self._stood = self._jump = None
        self._forgot_ns = clock_ns

    def expire(self, held_s: float, clock_ns: int) -> None:
        """
        Note that the last command did not hold until now; what was missed before is forgotten.

        Args:
            held_s: How long it held at most, seconds.
            clock_ns: Now.
        """
        self.commands.expire(held_s, clock_ns)
        self._recent = deque(self._record(old.measured, old.stamp_ns) for old in self._recent)
        self._past.clear()
        if self._recent:
            self._begin_anew(self._recent[-1])

    def measure(self, position: Sequence[float], stamp_ns: int) -> bool:
        """
        Note a measurement.

        Args:
            position: [axes], finite, m or rad.
            stamp_ns: When it was taken.

        Returns:
            Whether it is newer than the one before and than the last jump of the clock; if not, it
            is ignored.
        """
        recent = self._recent
        if recent and stamp_ns <= recent[-1].stamp_ns:
            return False
        if self._forgot_ns is not None and stamp_ns < self._forgot_ns:
            return False
        record = self._record(position, stamp_ns)
        if recent:
            jump = self._unexplained(recent[-1], record)
            if jump > self.limits.error:
                self._jump = stamp_ns, jump
        recent.append(record)
        while len(recent) > 2 and stamp_ns - recent[0].stamp_ns > VELOCITY_S * 1e9:
            recent.popleft()
        if not self._past:
            self._begin_anew(record)
            return True
        down, up = record.pending
        size = hypot(*(max(b, -a) for a, b in zip(down, up)))
        self._window = max(self._window, 2 * (self.limits.error + size))
        past = self._past
        if record.length - past[-1].length >= self._window / PAST_STEPS:
            past.append(record)
        while len(past) > 1 and past[1].length <= record.length - self._window:
            past.popleft()
        self._stand(record)
        return True

    @property
    def known(self) -> bool:
        """Whether there is a measurement."""
        return bool(self._recent)

    @property
    def missed(self) -> list[float]:
        """[axes], m or rad: commanded minus measured motion; 0 before the first measurement."""
        if not self._recent:
            return self._still
        return [now - then for now, then in zip(self._recent[-1].ahead, self._begin().ahead)]

    @property
    def error(self) -> float:
        """Size of what is missed and not explained by a lag, m or rad."""
        if not self._recent:
            return 0.0
        (down, up), (down_then, up_then) = self._recent[-1].pending, self._begin().pending
        return _outside(
            self.missed,
            [now - then for now, then in zip(down, up_then)],
            [now - then for now, then in zip(up, down_then)],
        )

    @property
    def astray(self) -> bool:
        """Whether the error exceeds its limit."""
        return self.error > self.limits.error

    def problem(self, name: str) -> str | None:
        """
        Say in words that the measurement jumped, or that the error is too large.

        Args:
            name: What is measured, for the message.

        Returns:
            One line; None if all is well.
        """
        jump, error = self.jump(name), self.error
        if jump or error <= self.limits.error:
            return jump
        return (
            f'{name} does not follow the commands: it is {error:.3f} from where they lead '
            f'(limit {self.limits.error:.3f})'
        )

    def jump(self, name: str) -> str | None:
        """
        Say in words that the measurement has just jumped.

        Args:
            name: What is measured, for the message.

        Returns:
            One line; None if there was no jump within JUMP_S before the newest measurement.
        """
        if self._jump is None or self._recent[-1].stamp_ns - self._jump[0] > JUMP_S * 1e9:
            return None
        return (
            f'{name} jumped by {self._jump[1]:.3f} more than was commanded '
            f'(limit {self.limits.error:.3f})'
        )

    @property
    def jump_ns(self) -> int:
        """Stamp of the last jump; 0: there was none."""
        return 0 if self._jump is None else self._jump[0]

    def forgive_jump(self) -> None:
        """Forget the last jump."""
        self._jump = None

    def measured_since(self, stamp_ns: int) -> bool:
        """Whether there is a measurement of a time or after it; true if there never was any."""
        return not self._recent or self._recent[-1].stamp_ns >= stamp_ns

    def place(self, clock_ns: int) -> list[float] | None:
        """
        Move the newest measurement on by what was commanded since its stamp.

        Args:
            clock_ns: Now.

        Returns:
            [axes], m or rad; None without a measurement.
        """
        return self._led(self._recent[-1], clock_ns) if self._recent else None

    def span(self, clock_ns: int) -> Range | None:
        """
        Bound where the arm can be once it has done what was commanded so far.

        From the newest measurement it goes on by what it has yet to do, a little faster or slower
        than told. If the measurement stands still, any of the same value may be the last true one,
        and the arm may have gone on from there. And it may have yet to do what it missed: all of
        it where positions are commanded, else that of the last part of the path.

        Args:
            clock_ns: Now.

        Returns:
            Lowest and highest place of each axis, m or rad; None without a measurement.
        """
        if not self._recent:
            return None
        place = self.commands.at(clock_ns)[0]
        low = high = self._led(self._lately(), clock_ns)
        for gain, (down, up) in zip(self._gains, self._ends):
            low = [min(a, gain * at + b) for a, at, b in zip(low, place, down)]
            high = [max(a, gain * at + b) for a, at, b in zip(high, place, up)]
        return low, high

    def reference(self, clock_ns: int) -> list[float] | None:
        """
        Compute where the commands lead from the place of the last restart.

        No later measurement changes it, so it can be sent to a controller that takes positions.

        Args:
            clock_ns: Now.

        Returns:
            [axes], m or rad; None before the first measurement.
        """
        return None if self._anchor is None else self._led(self._anchor, clock_ns)

    def velocity(self) -> list[float] | None:
        """
        Measure the velocity.

        Returns:
            [axes], m/s or rad/s, of the newest measurements within VELOCITY_S, and at least two;
            None where there are fewer.
        """
        if len(self._recent) < 2:
            return None
        first, last = self._recent[0], self._recent[-1]
        span_s = (last.stamp_ns - first.stamp_ns) * 1e-9
        return [(now - then) / span_s for now, then in zip(last.measured, first.measured)]

    def _record(self, position: Sequence[float], stamp_ns: int) -> _Record:
        place, length = self.commands.at(stamp_ns)
        pending = self.commands.pending(stamp_ns)
        return _Record(stamp_ns, list(position), place, length, pending)

    def _begin_anew(self, record: _Record) -> None:
        self._past.append(record)
        self._window = 2 * self.limits.error
        self._stood = None
        self._stand(record)
        if self._anchor is None:
            self._anchor = record

    def _begin(self) -> _Record:
        """Find the record at the beginning of the window, or of the last restart."""
        return self._anchor if self.limits.absolute and self._anchor else self._past[0]

    def _lately(self) -> _Record:
        """Find the record from which on the arm may have yet to do what it missed."""
        if self.limits.absolute:
            return self._begin()
        length = self._recent[-1].length - self.limits.error
        return next((r for r in reversed(self._past) if r.length <= length), self._past[0])

    def _stand(self, record: _Record) -> None:
        """Note, for each axis, a record among those of the same value, or as their first."""
        measured, (down, up) = record.measured, record.pending
        ends = [
            (
                [at + gain * (b - a) for at, a, b in zip(measured, record.place, down)],
                [at + gain * (b - a) for at, a, b in zip(measured, record.place, up)],
            )
            for gain in self._gains
        ]
        if self._stood is None:
            self._stood, self._ends = list(measured), ends
            return
        for axis, (at, stood) in enumerate(zip(measured, self._stood)):
            moved = abs(at - stood) > STOOD * self.limits.error
            if moved:
                self._stood[axis] = at
            for (low, high), (down, up) in zip(self._ends, ends):
                low[axis] = down[axis] if moved else min(low[axis], down[axis])
                high[axis] = up[axis] if moved else max(high[axis], up[axis])

    def _unexplained(self, first: _Record, last: _Record) -> float:
        """Compute how far a measured motion is from what an arm that lags or stands can do."""
        (down, up), (down_then, up_then) = last.pending, first.pending
        told = [b - a for a, b in zip(first.place, last.place)]
        return _outside(
            [b - a for a, b in zip(first.measured, last.measured)],
            [min(0.0, c - now + then) for c, now, then in zip(told, up, down_then)],
            [max(0.0, c - now + then) for c, now, then in zip(told, down, up_then)],
        )

    def _led(self, record: _Record, clock_ns: int) -> list[float]:
        """Compute where what was commanded since a record leads from it."""
        return [at - ahead for at, ahead in zip(self.commands.at(clock_ns)[0], record.ahead)]


def _outside(values: Sequence[float], low: Sequence[float], high: Sequence[float]) -> float:
    """Compute the distance of a point from a box."""
    return hypot(*(max(a - at, at - b, 0.0) for at, a, b in zip(values, low, high)))

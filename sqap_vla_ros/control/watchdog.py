"""Watchdogs for the inputs. Times are nanoseconds on the clock that each docstring names."""

from dataclasses import dataclass
import zlib

import numpy as np


@dataclass(frozen=True)
class StaleInput:
    """An input that did not come in time."""

    name: str
    age_s: float | None
    """Since it last came; None: never."""
    timeout_s: float

    def __str__(self) -> str:
        if self.age_s is None:
            return f'{self.name} has never arrived'
        return (
            f'{self.name} last arrived {self.age_s * 1e3:.0f} ms ago '
            f'(limit {self.timeout_s * 1e3:.0f} ms)'
        )


class InputWatchdog:
    """
    Ages of named inputs on the steady clock; stamps play no part, so no clock jump can fool it.

    timeouts_s: input name to the longest time between two arrivals, seconds.
    """

    def __init__(self, timeouts_s: dict[str, float]) -> None:
        for name, timeout_s in timeouts_s.items():
            if not 0 < timeout_s < float('inf'):
                raise ValueError(f'timeout of {name} is {timeout_s} s, expected a positive number')
        self.timeouts_s = dict(timeouts_s)
        self._arrived_ns: dict[str, int] = {}

    def feed(self, name: str, steady_ns: int) -> None:
        """Note that a valid input came; inputs without a timeout are ignored."""
        if name in self.timeouts_s:
            self._arrived_ns[name] = steady_ns

    def age_s(self, name: str, steady_ns: int) -> float | None:
        """Seconds since an input came; None: never."""
        arrived_ns = self._arrived_ns.get(name)
        return None if arrived_ns is None else (steady_ns - arrived_ns) * 1e-9

    def stale(self, steady_ns: int, ahead_s: float = 0.0) -> list[StaleInput]:
        """List the inputs that will be overdue in `ahead_s`, those that never came included."""
        found = []
        for name, timeout_s in self.timeouts_s.items():
            age_s = self.age_s(name, steady_ns)
            if age_s is None or age_s + ahead_s > timeout_s:
                found.append(StaleInput(name, age_s, timeout_s))
        return found


class FrozenCameraDetector:
    """
    Notices images that stay the same, byte for byte, while their stamps go on.

    Sensor noise changes every image of a real camera; a simulated one at rest is legitimately
    constant, which is why this warns and holds only where that is configured.
    """

    def __init__(self, images: int = 10) -> None:
        self._images = images
        self._last: int | None = None
        self._stamp_ns = 0
        self.repeated = 0
        """Images in a row that equalled the one before."""

    def feed(self, data, stamp_ns: int) -> bool:
        """Take in an image (an array or its bytes); returns `frozen`."""
        mark = zlib.crc32(np.ascontiguousarray(data) if isinstance(data, np.ndarray) else data)
        if mark == self._last and stamp_ns != self._stamp_ns:
            self.repeated += 1
        elif mark != self._last:
            self.repeated = 0
        self._last, self._stamp_ns = mark, stamp_ns
        return self.frozen

    @property
    def frozen(self) -> bool:
        """Whether as many images in a row were the same as were configured."""
        return self.repeated >= self._images


class ClockJumpDetector:
    """
    Compares a clock that may jump (wall clock, simulation time) with the steady clock.

    The clock may neither go back nor advance by more than `jump_s` beyond what the steady clock
    did since the clock last moved, and it may not stand still for longer than `pause_s`. A
    simulation that merely runs slower than real time is fine, and so are ticks that come late.
    """

    def __init__(self, jump_s: float = 0.2, pause_s: float = 0.5) -> None:
        self._jump_s, self._pause_s = jump_s, pause_s
        self._clock_ns: int | None = None
        self._moved_ns = 0

    def feed(self, clock_ns: int, steady_ns: int) -> str | None:
        """Read both clocks; returns what is wrong, in words, or None."""
        before_ns, self._clock_ns = self._clock_ns, clock_ns
        stood_s = (steady_ns - self._moved_ns) * 1e-9
        if before_ns is None or clock_ns != before_ns:
            self._moved_ns = steady_ns
        if before_ns is None:
            return None
        advance_s = (clock_ns - before_ns) * 1e-9
        if advance_s < 0:
            return f'clock jumped back by {-advance_s:.3f} s'
        if advance_s - stood_s > self._jump_s:
            return f'clock jumped ahead by {advance_s - stood_s:.3f} s'
        if advance_s == 0 and stood_s > self._pause_s:
            return f'clock stands still for {stood_s:.3f} s'
        return None

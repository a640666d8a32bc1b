"""Watchdogs for the inputs: stale inputs, frozen cameras, clock jumps."""

from dataclasses import dataclass
import zlib

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class StaleInput:
    """An input that did not arrive in time."""

    name: str
    age_s: float | None
    """Time since it last arrived; None: never."""
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
    Tracks the age of named inputs on the steady clock; clock jumps do not affect it.

    Args:
        timeouts_s: Input name to the maximum time between two arrivals, seconds.

    Raises:
        ValueError: A timeout is not a positive, finite number.
    """

    def __init__(self, timeouts_s: dict[str, float]) -> None:
        for name, timeout_s in timeouts_s.items():
            if not 0 < timeout_s < float('inf'):
                raise ValueError(f'timeout of {name} is {timeout_s} s, expected a positive number')
        self.timeouts_s = dict(timeouts_s)
        self._arrived_ns: dict[str, int] = {}

    def feed(self, name: str, steady_ns: int) -> None:
        """
        Note that a valid input arrived.

        Args:
            name: Of the input; ignored if it has no timeout.
            steady_ns: When it arrived.
        """
        if name in self.timeouts_s:
            self._arrived_ns[name] = steady_ns

    def age_s(self, name: str, steady_ns: int) -> float | None:
        """Seconds since an input arrived; None: never."""
        arrived_ns = self._arrived_ns.get(name)
        return None if arrived_ns is None else (steady_ns - arrived_ns) * 1e-9

    def stale(self, steady_ns: int, ahead_s: float = 0.0) -> list[StaleInput]:
        """
        List the inputs that are overdue, including those that never arrived.

        Args:
            steady_ns: Now.
            ahead_s: Also list those that will be overdue in this time, seconds.

        Returns:
            The overdue inputs, in the order of the timeouts.
        """
        found = []
        for name, timeout_s in self.timeouts_s.items():
            age_s = self.age_s(name, steady_ns)
            if age_s is None or age_s + ahead_s > timeout_s:
                found.append(StaleInput(name, age_s, timeout_s))
        return found


class FrozenCameraDetector:
    """
    Detects images that are equal, byte for byte, while their stamps advance and the arm moves.

    While nothing moves an equal image proves nothing: sensor noise changes every image of most
    real cameras, but not those of a simulated one, of a dark scene or of a driver that compresses.
    A camera that was found frozen stays so until its image changes.

    Args:
        images: Number of consecutive repeated images that count as frozen.
    """

    def __init__(self, images: int = 10) -> None:
        self._images = images
        self._last: int | None = None
        self._stamp_ns = 0
        self.repeated = 0
        """Number of images equal to the one before, without those of an arm at rest."""

    def feed(self, data: NDArray[np.uint8] | bytes, stamp_ns: int, moving: bool = True) -> bool:
        """
        Update with an image.

        Args:
            data: The image, or its bytes.
            stamp_ns: Its stamp.
            moving: Whether the arm moves, so that the next image should differ.

        Returns:
            `frozen`.
        """
        mark = zlib.crc32(
            np.ascontiguousarray(data).data if isinstance(data, np.ndarray) else data
        )
        if mark != self._last:
            self.repeated = 0
        elif stamp_ns != self._stamp_ns and moving:
            self.repeated += 1
        self._last, self._stamp_ns = mark, stamp_ns
        return self.frozen

    @property
    def frozen(self) -> bool:
        """Whether the configured number of consecutive images were repeated."""
        return self.repeated >= self._images


class ClockJumpDetector:
    """
    Compares a clock that may jump (wall clock, simulation time) with the steady clock.

    The clock must not go back. It must not advance by more than `jump_s` beyond the steady time
    since it last moved, nor stand still for longer than `pause_s`. A simulation slower than real
    time is accepted, and so are late ticks.

    Args:
        jump_s: Maximum jump ahead, seconds.
        pause_s: Maximum standstill, seconds.
    """

    def __init__(self, jump_s: float = 0.2, pause_s: float = 0.5) -> None:
        self._jump_s, self._pause_s = jump_s, pause_s
        self._clock_ns: int | None = None
        self._moved_ns = 0

    def feed(self, clock_ns: int, steady_ns: int) -> str | None:
        """
        Update with a reading of both clocks.

        Args:
            clock_ns: Time on the clock under test.
            steady_ns: Time on the steady clock.

        Returns:
            What is wrong, in words; None if nothing is.
        """
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

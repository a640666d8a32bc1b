"""The command timer: a thread of its own, on the steady clock."""

from collections.abc import Callable
from contextlib import suppress
import os
from threading import Event, get_native_id, Thread
import time

from rclpy.time import Time

SAME_MOMENT_NS = 100_000

NICENESS = -10
"""Of the command thread, where the process may have it (root, or an rtprio/nice limit)."""


def read_both(clock, tries: int = 5) -> tuple[Time, int]:
    """
    Read a ROS clock and the steady clock (ns) at the same moment.

    Reads again when something came in between, and takes the reading with the least in between:
    what a command is stamped with and what it was limited for must agree.
    """
    best = None
    for _ in range(tries):
        before_ns = time.monotonic_ns()
        now = clock.now()
        steady_ns = time.monotonic_ns()
        if best is None or steady_ns - before_ns < best[0]:
            best = steady_ns - before_ns, now, steady_ns
        if best[0] < SAME_MOMENT_NS:
            break
    return best[1:]


class CommandLoop:
    """
    Calls `tick` at a fixed rate, whatever the executor and the inference are doing.

    Not a ROS timer: those wait for the executor, and under `use_sim_time` for /clock, which a
    dead simulator never sends. A late tick is not made up for: no burst of commands.
    """

    def __init__(self, tick: Callable[[], None], rate_hz: float) -> None:
        self._tick = tick
        self.rate_hz = rate_hz
        self._stopping = Event()
        self._thread = Thread(target=self._run, name='commands', daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End; returns when the last tick is over."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        with suppress(PermissionError):
            os.setpriority(os.PRIO_PROCESS, get_native_id(), NICENESS)
        due_s = time.monotonic()
        while not self._stopping.is_set():
            due_s = max(due_s + 1 / self.rate_hz, time.monotonic())
            self._stopping.wait(due_s - time.monotonic())
            self._tick()

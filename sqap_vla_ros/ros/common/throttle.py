"""One limit of log lines for each topic, frame or output, so that none hides what another has."""

from collections.abc import Callable, Hashable
from threading import Lock
import time


class Throttle:
    """
    Lets one line through for each key and period; may be used by several threads.

    `throttle_duration_sec` of rclpy is kept per line of code: where one line of code serves
    several topics, the noisy one silences the others.

    Args:
        period_s: Shortest time between two lines of one key, s.
        clock: Returns a time that only grows, s.
    """

    def __init__(self, period_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._period_s, self._clock = period_s, clock
        self._passed_s: dict[Hashable, float] = {}
        self._lock = Lock()

    def passes(self, key: Hashable) -> bool:
        """Whether a line about `key` may be logged now; if so, it counts as logged."""
        now_s = self._clock()
        with self._lock:
            # In the order of the times, so that what no longer matters is at the front.
            for old in list(self._passed_s):
                if now_s - self._passed_s[old] < self._period_s:
                    break
                del self._passed_s[old]
            if key in self._passed_s:
                return False
            self._passed_s[key] = now_s
            return True

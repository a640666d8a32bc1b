"""How often something happens."""

from collections import deque


class RateMeter:
    """Events a second over the last `window` events. One thread at a time."""

    def __init__(self, window: int = 20) -> None:
        self._times_s = deque(maxlen=window)

    def tick(self, now_s: float) -> None:
        """Count an event, steady clock."""
        self._times_s.append(now_s)

    def hz(self, now_s: float) -> float:
        """Rate up to now: falls towards zero when events stop."""
        times = self._times_s
        if len(times) < 2:
            return 0.0
        return (len(times) - 1) / max(times[-1] - times[0], now_s - times[0], 1e-9)

"""Rates and latencies that the policy node measures for its diagnostics."""

from collections import deque

import numpy as np

from sqap_vla_ros.inference.runner import Answer


class RateMeter:
    """Rate of the last `window` events; not thread-safe."""

    def __init__(self, window: int = 20) -> None:
        self._times_s: deque[float] = deque(maxlen=window)

    def tick(self, now_s: float) -> None:
        """Count an event at a time on the steady clock, s."""
        self._times_s.append(now_s)

    def hz(self, now_s: float) -> float:
        """Rate up to now, Hz; it falls towards zero when events stop."""
        times = self._times_s
        if len(times) < 2:
            return 0.0
        return (len(times) - 1) / max(times[-1] - times[0], now_s - times[0], 1e-9)


class LatencyWindow:
    """Latencies of the last `length` inferences, and the number of all inferences."""

    def __init__(self, length: int = 300) -> None:
        self._latencies_ms: deque[float] = deque(maxlen=length)
        self.inferences = 0
        self.overruns = 0
        """Inferences that took longer than their chunk lasts."""
        self.last: Answer | None = None

    def add(self, answer: Answer, overrun: bool) -> None:
        """Count one inference."""
        self._latencies_ms.append(answer.inference.latencies_ms['total'])
        self.inferences += 1
        self.overruns += overrun
        self.last = answer

    def summary(self) -> dict[str, str]:
        """Percentiles in milliseconds and counts, as text; empty before the first inference."""
        if not self._latencies_ms:
            return {}
        values = list(self._latencies_ms)
        p50, p95, p99 = np.percentile(values, [50, 95, 99])
        return {
            'inference p50 (ms)': f'{p50:.1f}',
            'inference p95 (ms)': f'{p95:.1f}',
            'inference p99 (ms)': f'{p99:.1f}',
            'inference max (ms)': f'{max(values):.1f}',
            'inferences': str(self.inferences),
            'overruns': str(self.overruns),
        }

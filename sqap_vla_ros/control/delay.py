"""How long it takes from an observation to its chunk, as measured."""

from collections import deque

import numpy as np


class DelayEstimator:
    """
    A percentile of the last delays; the first ones, taken while everything warms up, are ignored.

    Real-time chunking freezes the rows that this delay covers; diagnostics show it.
    """

    def __init__(self, *, window: int = 50, percentile: float = 95.0, warm_up: int = 3) -> None:
        self._delays_s = deque(maxlen=window)
        self._percentile = percentile
        self._left_out = warm_up

    def add(self, delay_s: float) -> None:
        """Take in one measured delay, seconds."""
        if self._left_out > 0:
            self._left_out -= 1
        else:
            self._delays_s.append(delay_s)

    @property
    def delay_s(self) -> float | None:
        """The percentile of the window; None before anything but warm-up was measured."""
        return float(np.percentile(self._delays_s, self._percentile)) if self._delays_s else None

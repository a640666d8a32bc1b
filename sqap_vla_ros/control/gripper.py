"""Debounce of gripper commands."""


class GripperFilter:
    """
    Lets a gripper value through once it has been wanted for a while.

    A value that differs from the commanded one by at least `min_change` must stay so for
    `debounce_s`; flicker between two values therefore moves nothing.
    """

    def __init__(self, debounce_s: float, min_change: float) -> None:
        self._debounce_s = debounce_s
        self._min_change = min_change
        self.value: float | None = None
        """Commanded value, 0 .. 1; None until the first one has settled."""
        self._wanted_for_s = 0.0

    def step(self, wanted: float | None, period_s: float) -> float | None:
        """Value to command now. wanted: finite, clipped to 0 .. 1; None keeps the value."""
        if wanted is None:
            self._wanted_for_s = 0.0
            return self.value
        wanted = min(max(wanted, 0.0), 1.0)
        if self.value is not None and abs(wanted - self.value) < self._min_change:
            self._wanted_for_s = 0.0
            return self.value
        self._wanted_for_s += period_s
        if self._wanted_for_s >= self._debounce_s - 1e-9:
            self.value, self._wanted_for_s = wanted, 0.0
        return self.value

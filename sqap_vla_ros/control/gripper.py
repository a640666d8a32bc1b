"""Debouncing of gripper commands, in every command space."""


class GripperFilter:
    """
    Commands another gripper value only after it has been wanted for a while.

    A value that differs from the commanded one by at least `min_change` must do so for
    `debounce_s`. Flicker between two values therefore moves nothing.

    Args:
        debounce_s: How long another value must be wanted, seconds.
        min_change: Smaller changes are ignored.
    """

    def __init__(self, debounce_s: float, min_change: float) -> None:
        self._debounce_s = debounce_s
        self._min_change = min_change
        self.value: float | None = None
        """Commanded value, 0 open .. 1 closed; None until the first one has settled."""
        self._wanted_for_s = 0.0

    def step(self, wanted: float | None, period_s: float) -> float | None:
        """
        Compute the value to command now.

        Args:
            wanted: Finite; clipped to 0 .. 1. None keeps the commanded value.
            period_s: Time since the last call, seconds.

        Returns:
            The commanded value; None until one has settled.
        """
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

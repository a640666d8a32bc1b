"""The one value that passes from a policy to a controller. Imported by every layer; numpy only."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class ActionSpec:
    """What each column of a chunk means, and how long each row lasts."""

    names: tuple[str, ...]
    """One name a column, for example `('linear.x', 'linear.y', 'linear.z', 'gripper')`."""
    units: tuple[str, ...]
    """One unit a column: 'm/s', 'rad/s', 'm', 'rad', or '1' for a ratio in [0, 1]."""
    step_s: float
    """Robot time that one row lasts, seconds."""
    horizon: int
    """Rows in a chunk."""

    def __post_init__(self):
        if len(self.names) != len(self.units):
            raise ValueError(f'{len(self.names)} action names but {len(self.units)} units')
        if not self.step_s > 0 or self.horizon < 1:
            raise ValueError('step_s must be positive and horizon at least 1')


@dataclass(frozen=True)
class ActionChunk:
    """
    Actions for the time from `stamp_ns` on: row i covers [stamp + i step, stamp + (i + 1) step).

    Read-only; safe to hand between threads.
    """

    values: np.ndarray
    """float32 [horizon, actions], in `spec.units`."""
    spec: ActionSpec
    stamp_ns: int
    """Stamp of the observation that the chunk answers, nanoseconds, on the observation's clock."""
    generation: int = 0
    """Counts resets, holds and new instructions; chunks of an older one are never executed."""

    def __post_init__(self):
        values = np.array(self.values, dtype=np.float32)
        if values.shape != (self.spec.horizon, len(self.spec.names)):
            raise ValueError(
                f'action chunk has shape {values.shape}, expected '
                f'({self.spec.horizon}, {len(self.spec.names)})'
            )
        values.setflags(write=False)
        object.__setattr__(self, 'values', values)

    @property
    def finite(self) -> bool:
        """Whether every value is finite. Anything else must not reach a robot."""
        return bool(np.isfinite(self.values).all())

"""Action chunks: what a policy passes to a controller. Depends on numpy only."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sqap_vla_ros.columns import checked_columns, Column, names_and_units


@dataclass(frozen=True)
class ActionSpec:
    """
    What each column of a chunk means, and how long each row lasts.

    Raises:
        ValueError: the numbers of names, units and columns differ, a unit is not known, the step
            is not positive, or there is no row.
    """

    names: tuple[str, ...]
    """Name of each column, for example `('linear.x', 'linear.y', 'linear.z', 'gripper')`."""
    units: tuple[str, ...]
    """Unit of each column, one of `columns.UNITS`."""
    step_s: float
    """Duration of a row in robot time, seconds."""
    horizon: int
    """Number of rows in a chunk."""
    columns: tuple[Column, ...] = ()
    """Meaning of each column; empty: what `columns_from_units` says of names and units."""

    @classmethod
    def of(cls, columns: Sequence[Column], step_s: float, horizon: int) -> 'ActionSpec':
        """Make a spec from the meaning of its columns."""
        return cls(*names_and_units(columns), step_s, horizon, tuple(columns))

    def __post_init__(self) -> None:
        if len(self.names) != len(self.units):
            raise ValueError(f'{len(self.names)} action names but {len(self.units)} units')
        object.__setattr__(self, 'columns', checked_columns(self.columns, self.names, self.units))
        if not self.step_s > 0 or self.horizon < 1:
            raise ValueError('step_s must be positive and horizon at least 1')


@dataclass(frozen=True)
class ActionChunk:
    """
    Actions from `stamp_ns` on: row i covers [stamp + i * step, stamp + (i + 1) * step).

    The values are read-only, so a chunk can be shared between threads.

    Raises:
        ValueError: the shape of `values` does not match `spec`.
    """

    values: np.ndarray
    """float32 [horizon, actions], in `spec.units`."""
    spec: ActionSpec
    stamp_ns: int
    """Stamp of the observation that the chunk was inferred from, nanoseconds, in that clock."""
    generation: int = 0
    """Incremented by resets, holds and new instructions; chunks of an older generation are never
    executed."""

    def __post_init__(self) -> None:
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
        """Whether every value is finite. A chunk that is not must never reach a robot."""
        return bool(np.isfinite(self.values).all())

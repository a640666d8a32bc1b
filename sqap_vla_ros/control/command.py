"""What is sent to a robot, and how the columns of an action row become it."""

from dataclasses import dataclass

import numpy as np

from sqap_vla_ros.action_chunk import ActionSpec
from sqap_vla_ros.errors import UserError

_AXES = ('x', 'y', 'z')
_RATE_UNITS = {'linear': ('m/s', 'm'), 'angular': ('rad/s', 'rad')}


@dataclass(frozen=True)
class Command:
    """An end-effector twist in the base frame and a gripper value. Read-only."""

    linear_m_s: np.ndarray
    """float64 [3]."""
    angular_rad_s: np.ndarray
    """float64 [3], rotation vector a second."""
    gripper: float | None = None
    """0 open .. 1 closed; None leaves the gripper as it is."""

    def __post_init__(self):
        for name in ('linear_m_s', 'angular_rad_s'):
            values = np.array(getattr(self, name), np.float64)
            if values.shape != (3,):
                raise ValueError(f'{name} has shape {values.shape}, expected (3,)')
            values.setflags(write=False)
            object.__setattr__(self, name, values)

    @property
    def finite(self) -> bool:
        """Whether every value is finite."""
        return bool(
            np.isfinite(self.linear_m_s).all()
            and np.isfinite(self.angular_rad_s).all()
            and (self.gripper is None or np.isfinite(self.gripper))
        )

    @property
    def still(self) -> bool:
        """Whether it moves nothing but, perhaps, the gripper."""
        return not (self.linear_m_s.any() or self.angular_rad_s.any())

    def scaled(self, share: float) -> 'Command':
        """Make the same command with its velocities times `share`."""
        return Command(self.linear_m_s * share, self.angular_rad_s * share, self.gripper)


STILL = Command(np.zeros(3), np.zeros(3))


class CommandMapping:
    """
    Finds twist and gripper columns by name, never by place.

    Names: 'linear.x' .. 'linear.z', 'angular.x' .. 'angular.z', 'gripper'. Each group of three is
    there whole or not at all; an absent group is commanded zero. Units: 'm/s' and 'rad/s', or 'm'
    and 'rad' for what is covered during one row; the gripper's is '1'.

    Raises UserError for a column that it does not know, misses, or that has another unit.
    """

    def __init__(self, spec: ActionSpec) -> None:
        columns = {name: index for index, name in enumerate(spec.names)}
        repeated = sorted({name for name in spec.names if spec.names.count(name) > 1})
        if repeated:
            raise UserError(f'action columns {repeated} appear more than once')
        known = {f'{group}.{axis}' for group in _RATE_UNITS for axis in _AXES} | {'gripper'}
        unknown = [name for name in spec.names if name not in known]
        if unknown:
            raise UserError(
                f'action columns {unknown} are not known; twist commands have {sorted(known)}'
            )
        self._groups = {}
        for group, units in _RATE_UNITS.items():
            names = [f'{group}.{axis}' for axis in _AXES]
            missing = [name for name in names if name not in columns]
            if len(missing) == 3:
                continue
            if missing:
                raise UserError(f'action columns {missing} are missing: {group} needs x, y and z')
            indices = [columns[name] for name in names]
            found = {spec.units[index] for index in indices}
            if len(found) > 1 or not found <= set(units):
                raise UserError(
                    f'action columns {names} have units {sorted(found)}, expected '
                    f'{units[0]!r} or, for each row, {units[1]!r}'
                )
            per_row = found == {units[1]}
            self._groups[group] = np.array(indices), 1 / spec.step_s if per_row else 1.0
        self._gripper = columns.get('gripper')
        if self._gripper is not None and spec.units[self._gripper] != '1':
            raise UserError(
                f"action column 'gripper' has unit {spec.units[self._gripper]!r}, "
                f"expected '1' (0 open .. 1 closed)"
            )
        if not self._groups:
            raise UserError(
                f'action columns {list(spec.names)} hold no motion: '
                "'linear.x' .. 'linear.z' or 'angular.x' .. 'angular.z' are needed"
            )

    def command(self, row: np.ndarray) -> Command:
        """Command for one action row [actions]; not limited yet."""
        row = np.asarray(row, np.float64)
        gripper = None if self._gripper is None else float(row[self._gripper])
        return Command(self._part(row, 'linear'), self._part(row, 'angular'), gripper)

    def _part(self, row, group):
        if group not in self._groups:
            return np.zeros(3)
        indices, scale = self._groups[group]
        return row[indices] * scale

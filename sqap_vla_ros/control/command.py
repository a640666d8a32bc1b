"""End-effector twist commands, and the mapping from the columns of an action row to them."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sqap_vla_ros.action_chunk import ActionSpec
from sqap_vla_ros.columns import AXIS_ANGLE, Column
from sqap_vla_ros.errors import UserError

_AXES = ('x', 'y', 'z')
_RATE_UNITS = {'linear': ('m/s', 'm'), 'angular': ('rad/s', 'rad')}


@dataclass(frozen=True, init=False)
class Command:
    """
    An end-effector twist in the base frame and a gripper value. Read-only.

    Args:
        linear_m_s: [3], m/s.
        angular_rad_s: [3], rad/s.
        gripper: 0 open .. 1 closed, or None.

    Raises:
        ValueError: A velocity does not have shape (3,).
    """

    linear_m_s: NDArray[np.float64]
    """float64 [3]."""
    angular_rad_s: NDArray[np.float64]
    """float64 [3], rotation vector per second."""
    gripper: float | None
    """0 open .. 1 closed; None leaves the gripper as it is."""

    def __init__(
        self, linear_m_s: ArrayLike, angular_rad_s: ArrayLike, gripper: float | None = None
    ) -> None:
        for name, values in (('linear_m_s', linear_m_s), ('angular_rad_s', angular_rad_s)):
            array = np.array(values, np.float64)
            if array.shape != (3,):
                raise ValueError(f'{name} has shape {array.shape}, expected (3,)')
            array.setflags(write=False)
            object.__setattr__(self, name, array)
        object.__setattr__(self, 'gripper', gripper)

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
        """Whether both velocities are zero; the gripper may move."""
        return not (self.linear_m_s.any() or self.angular_rad_s.any())

    @property
    def fastest(self) -> float:
        """Largest component of the velocities, m/s or rad/s."""
        return float(np.abs([self.linear_m_s, self.angular_rad_s]).max())

    def scaled(self, share: float) -> 'Command':
        """Return the same command with its velocities multiplied by `share`."""
        return Command(self.linear_m_s * share, self.angular_rad_s * share, self.gripper)


STILL = Command(np.zeros(3), np.zeros(3))


def check_converted(column: Column) -> None:
    """
    Check that `SiActions` has converted a column, or that it needs no conversion.

    Raises:
        UserError: a gripper is not 0 (open) .. 1 (closed), or a rotation no rotation vector, or
            the frame is not the base frame.
    """
    where = f'action column {column.name!r}'
    if column.is_gripper and (column.unit, column.opened, column.closed) != ('1', 0.0, 1.0):
        raise UserError(
            f'{where} has unit {column.unit!r}, {column.opened} is open and {column.closed} '
            "closed; expected '1' (0 open .. 1 closed)"
        )
    if column.rotation not in ('', AXIS_ANGLE) or column.frame not in ('', 'base'):
        raise UserError(
            f'{where}: rotation is {column.rotation!r} and frame {column.frame!r}, expected '
            f'{AXIS_ANGLE!r} and base'
        )


class CommandMapping:
    """
    Maps action rows to commands; finds the columns by name, never by position.

    Names: 'linear.x' .. 'linear.z', 'angular.x' .. 'angular.z', 'gripper'. Each group of three is
    either complete or absent; an absent group is commanded zero. Units: 'm/s' and 'rad/s', or 'm'
    and 'rad' for the displacement during one row; '1' for the gripper.

    Args:
        spec: Columns of the action rows.

    Raises:
        UserError: A column is unknown, repeated or missing, or has another unit.
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
        self._groups: dict[str, tuple[NDArray[np.intp], float]] = {}
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
            self._groups[group] = np.array(indices, np.intp), 1 / spec.step_s if per_row else 1.0
        self._gripper = columns.get('gripper')
        for column in spec.columns:
            check_converted(column)
        if not self._groups:
            raise UserError(
                f'action columns {list(spec.names)} hold no motion: '
                "'linear.x' .. 'linear.z' or 'angular.x' .. 'angular.z' are needed"
            )

    def command(self, row: NDArray[np.float64]) -> Command:
        """
        Convert an action row to a command, without limits.

        Args:
            row: [actions], in the units of the spec.

        Returns:
            The command; finite only if the row is.
        """
        row = np.asarray(row, np.float64)
        gripper = None if self._gripper is None else float(row[self._gripper])
        return Command(self._part(row, 'linear'), self._part(row, 'angular'), gripper)

    def _part(self, row: NDArray[np.float64], group: str) -> NDArray[np.float64]:
        if group not in self._groups:
            return np.zeros(3)
        indices, scale = self._groups[group]
        return row[indices] * scale

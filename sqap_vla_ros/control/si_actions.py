"""Action chunks from a dataset's units to SI: velocities, rotation vectors, gripper 0 to 1."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from sqap_vla_ros.action_chunk import ActionChunk, ActionSpec
from sqap_vla_ros.columns import (
    ANGULAR,
    AXIS_ANGLE,
    Column,
    DISPLACEMENT,
    EULER,
    GRIPPER,
    JOINT_POSITION,
    JOINT_VELOCITY,
    LINEAR,
    POSITION,
    RATIO,
    VELOCITY,
)
from sqap_vla_ros.errors import UserError

Values = NDArray[np.float64]
_AXES = ('x', 'y', 'z')
_SI_UNITS = {
    'length': 'm',
    'angle': 'rad',
    'speed': 'm/s',
    'angular speed': 'rad/s',
}
_PER_SECOND = {'m': 'm/s', 'rad': 'rad/s'}


class SiActions:
    """
    Converts chunks to SI, as far as that needs no robot.

    Displacements per step become velocities, Euler angles become rotation vectors, and a gripper
    becomes 0 (open) .. 1 (closed). The frames of the columns stay as they are, and so do joint
    positions in percent, which only the calibration of a robot can convert.

    Args:
        spec: what the policy's chunks consist of.

    Raises:
        UserError: nobody said what a column means, or it cannot be commanded.
    """

    def __init__(self, spec: ActionSpec) -> None:
        for column in spec.columns:
            _check(column)
        _check_groups(spec)
        self._step_s = spec.step_s
        self._factors = np.array([_factor(column, spec.step_s) for column in spec.columns])
        self._grippers = [
            (index, column) for index, column in enumerate(spec.columns) if column.is_gripper
        ]
        self._euler = _euler_columns(spec)
        self.spec = ActionSpec.of(
            [_in_si(column) for column in spec.columns], spec.step_s, spec.horizon
        )
        """What converted chunks consist of."""
        self._same = (
            not self._euler
            and bool((self._factors == 1).all())
            and all((c.opened, c.closed) == (0.0, 1.0) for _, c in self._grippers)
        )

    def chunk(self, chunk: ActionChunk) -> ActionChunk:
        """Return the chunk in SI. Values that are not finite stay so."""
        if self._same:
            return replace(chunk, spec=self.spec)
        return replace(chunk, values=self.values(chunk.values.astype(np.float64)), spec=self.spec)

    def values(self, rows: Values) -> Values:
        """Convert rows float64 [rows, actions]; see `chunk`."""
        with np.errstate(invalid='ignore', over='ignore'):
            converted: Values = rows * self._factors
            finite = np.isfinite(rows[:, self._euler]).all(axis=1)
            if self._euler and finite.any():
                angles = rows[finite][:, self._euler] * (self._factors[self._euler] * self._step_s)
                turns = Rotation.from_euler('xyz', angles)
                rows_and_columns = np.ix_(np.flatnonzero(finite), np.array(self._euler))
                converted[rows_and_columns] = turns.as_rotvec() / self._step_s
            for index, column in self._grippers:
                assert column.opened is not None and column.closed is not None
                span = column.closed - column.opened
                converted[:, index] = np.clip((rows[:, index] - column.opened) / span, 0, 1)
        return converted


def _check(column: Column) -> None:
    """Raise UserError for a column that no controller of this package can command."""
    where = f'policy: action column {column.name!r} (unit {column.unit!r})'
    if not column.quantity:
        raise UserError(
            f'{where}: nobody said what it means; import the policy again with --columns'
        )
    if column.name.startswith('end_effector.'):
        raise UserError(
            f'{where} is a pose of the end effector; this node commands velocities of the end '
            'effector (linear.x, angular.x, ...) or joints'
        )
    kinds = {
        LINEAR: (DISPLACEMENT, VELOCITY),
        ANGULAR: (DISPLACEMENT, VELOCITY),
        JOINT_VELOCITY: (DISPLACEMENT, VELOCITY),
        JOINT_POSITION: (POSITION,),
    }
    for prefix, quantities in kinds.items():
        if column.name.startswith(prefix):
            if prefix in (LINEAR, ANGULAR) and column.name.removeprefix(prefix) not in _AXES:
                raise UserError(f'{where} is not known; its axis is x, y or z')
            if column.quantity not in quantities:
                raise UserError(
                    f'{where} is a {column.quantity}, expected one of {", ".join(quantities)}'
                )
            if prefix in (LINEAR, ANGULAR):
                _check_cartesian(column, where)
            elif column.measures == 'ratio':
                raise UserError(
                    f'{where}: expected a unit of length or angle, or fraction, percent or '
                    'percent_signed of the calibrated range'
                )
            return
    if column.name != GRIPPER:
        raise UserError(
            f'{where} is not known; this node commands linear.x .. .z, angular.x .. .z, '
            'joint_position.NAME, joint_velocity.NAME and gripper'
        )


def _check_cartesian(column: Column, where: str) -> None:
    linear = column.name.startswith(LINEAR)
    if column.measures not in (('length', 'speed') if linear else ('angle', 'angular speed')):
        raise UserError(f'{where}: expected a unit of {"length" if linear else "angle"}')
    if not linear and column.rotation not in (EULER, AXIS_ANGLE):
        raise UserError(
            f'{where}: rotation is {column.rotation!r}, expected {EULER} or {AXIS_ANGLE}'
        )
    if not linear and column.rotation == EULER and column.quantity == VELOCITY:
        raise UserError(
            f'{where}: rates of Euler angles are not supported, expected {AXIS_ANGLE} (rad/s '
            f'about the axes), or {DISPLACEMENT}s'
        )
    if column.frame not in ('base', 'end_effector'):
        raise UserError(
            f'{where}: frame is {column.frame!r}, expected base or end_effector; describe a fixed '
            'camera frame as base, and give its pose as action.policy_frame of the profile'
        )


def _check_groups(spec: ActionSpec) -> None:
    """Raise UserError where the three axes of a velocity are not complete, or of two frames."""
    for prefix in (LINEAR, ANGULAR):
        frames = {c.frame for c in spec.columns if c.name.startswith(prefix)}
        missing = [name for axis in _AXES if (name := f'{prefix}{axis}') not in spec.names]
        if 0 < len(missing) < 3:
            raise UserError(
                f'policy: action column {missing[0]!r} is missing; the three axes belong together'
            )
        if len(frames) > 1:
            raise UserError(
                f'policy: action columns {prefix}x .. {prefix}z are in the frames '
                f'{" and ".join(sorted(frames))}; expected one frame'
            )


def _factor(column: Column, step_s: float) -> float:
    if column.quantity == RATIO or column.measures not in _SI_UNITS:
        return 1.0
    return column.si / step_s if column.quantity == DISPLACEMENT else column.si


def _in_si(column: Column) -> Column:
    if column.quantity == RATIO:
        return Column(GRIPPER, RATIO, '1', opened=0.0, closed=1.0)
    if column.measures not in _SI_UNITS:
        return replace(column, low=None, high=None)
    unit = _SI_UNITS[column.measures]
    quantity = column.quantity
    if quantity == DISPLACEMENT:
        quantity, unit = VELOCITY, _PER_SECOND[unit]
    rotation = AXIS_ANGLE if column.rotation else ''
    return Column(column.name, quantity, unit, column.frame, rotation)


def _euler_columns(spec: ActionSpec) -> list[int]:
    """Return the indices of angular.x, .y and .z where they are Euler angles, else none."""
    found = [c for c in spec.columns if c.name.startswith(ANGULAR)]
    alike = {(c.quantity, c.unit, c.frame, c.rotation) for c in found}
    if len(alike) > 1:
        raise UserError(
            f'policy: action columns {[c.name for c in found]} differ in quantity, unit, frame or '
            'rotation; they are one rotation'
        )
    if not found or found[0].rotation != EULER:
        return []
    return [spec.names.index(f'{ANGULAR}{axis}') for axis in _AXES]

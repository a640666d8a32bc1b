"""What each column of a policy's state and action means: quantity, unit, frame, range."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
import math
from typing import Any

from sqap_vla_ros.errors import shown

UNITS = {
    'm': ('length', 1.0),
    'mm': ('length', 1e-3),
    'cm': ('length', 1e-2),
    'rad': ('angle', 1.0),
    'deg': ('angle', math.pi / 180),
    'm/s': ('speed', 1.0),
    'mm/s': ('speed', 1e-3),
    'cm/s': ('speed', 1e-2),
    'rad/s': ('angular speed', 1.0),
    'deg/s': ('angular speed', math.pi / 180),
    '1': ('ratio', 1.0),
    'fraction': ('calibrated range', 1.0),
    'percent': ('calibrated range', 1.0),
    'percent_signed': ('calibrated range', 1.0),
}
"""
Unit to what it measures and its size in SI.

'fraction' is 0..1, 'percent' 0..100 and 'percent_signed' -100..100 of a joint's calibrated range,
which the robot profile gives (`calibrated_range`); LeRobot's servo arms are recorded so.
"""
DISPLACEMENT, VELOCITY, POSITION, OFFSET, RATIO = (
    'displacement',
    'velocity',
    'position',
    'offset',
    'ratio',
)
_MEASURES = {
    DISPLACEMENT: ('length', 'angle'),
    VELOCITY: ('speed', 'angular speed'),
    POSITION: ('length', 'angle', 'calibrated range', 'ratio'),
    OFFSET: ('length', 'angle', 'calibrated range'),
    RATIO: ('ratio', 'length', 'angle', 'calibrated range'),
}
"""
Quantity to what its unit may measure.

'displacement' is the motion during one step, 'offset' a position relative to the state of the
observation, 'ratio' how far a gripper is closed, between the values `opened` and `closed`. The
components of a quaternion and of a rotation matrix are positions of unit '1'.
"""
_MOTION = {
    'length': DISPLACEMENT,
    'angle': DISPLACEMENT,
    'speed': VELOCITY,
    'angular speed': VELOCITY,
}
FRAMES = ('base', 'end_effector', 'camera')
EULER, AXIS_ANGLE, QUATERNION, ROTATION_6D = (
    'euler_xyz',
    'axis_angle',
    'quaternion_xyzw',
    'rotation_6d',
)
ROTATIONS = (EULER, AXIS_ANGLE, QUATERNION, ROTATION_6D)
"""
Rotation representations. 'euler_xyz': roll, pitch and yaw about fixed axes. 'axis_angle': a
rotation vector. 'quaternion_xyzw': x, y, z, w. 'rotation_6d': the first two columns of the
rotation matrix (arXiv 1812.07035).
"""
LINEAR, ANGULAR, TOOL = 'linear.', 'angular.', 'end_effector.'
JOINT, JOINT_POSITION, JOINT_VELOCITY = 'joint.', 'joint_position.', 'joint_velocity.'
GRIPPER = 'gripper'
ORIENTATIONS = {
    EULER: ('roll', 'pitch', 'yaw'),
    AXIS_ANGLE: ('rx', 'ry', 'rz'),
    QUATERNION: ('qx', 'qy', 'qz', 'qw'),
    ROTATION_6D: ('r1', 'r2', 'r3', 'r4', 'r5', 'r6'),
}
"""Rotation representation to the names of its components, after 'end_effector.'."""

MOST_COLUMNS = 256
"""Of a state or an action."""
LARGEST = 1e9
"""Of the numbers that describe a column."""


@dataclass(frozen=True)
class Column:
    """
    One column of a state or an action.

    Raises:
        ValueError: a word is not known, or the fields contradict each other.
    """

    name: str
    """
    Actions: 'linear.x', 'angular.x', 'joint_position.NAME', 'joint_velocity.NAME', 'gripper'.
    States: 'end_effector.x', 'end_effector.qx' (see `ORIENTATIONS`), 'joint.NAME', 'gripper' or,
    for further fingers, 'gripper_2' and so on.
    """
    quantity: str
    """'displacement', 'velocity', 'position', 'offset' or 'ratio'; '' where nobody said it."""
    unit: str
    """One of `UNITS`."""
    frame: str = ''
    """Of Cartesian columns: 'base', 'end_effector' or 'camera'."""
    rotation: str = ''
    """Of columns that are part of a rotation: one of `ROTATIONS`."""
    opened: float | None = None
    """Of a gripper: the value when it is open, in `unit`."""
    closed: float | None = None
    """Of a gripper: the value when it is closed, in `unit`."""
    low: float | None = None
    """Lower end of the training data's range, in `unit`; None: not known."""
    high: float | None = None
    """Upper end of the training data's range, in `unit`; None: not known."""

    def __post_init__(self) -> None:
        where = f'column {self.name[:80]!r}'
        if not self.name:
            raise ValueError('a column has no name')
        if not self.name.isprintable() or len(self.name.split()) != 1:
            raise ValueError(f'{where}: a name is one word')
        if self.name in (JOINT, JOINT_POSITION, JOINT_VELOCITY):
            raise ValueError(f'{where}: the name of the joint is missing after {self.name!r}')
        if self.unit not in UNITS:
            raise ValueError(f'{where}: unit is {self.unit!r}, expected one of {", ".join(UNITS)}')
        for field, value, known in (
            ('quantity', self.quantity, ('', *_MEASURES)),
            ('frame', self.frame, ('', *FRAMES)),
            ('rotation', self.rotation, ('', *ROTATIONS)),
        ):
            if value not in known:
                raise ValueError(
                    f'{where}: {field} is {value!r}, expected one of {", ".join(known[1:])}'
                )
        if self.quantity and UNITS[self.unit][0] not in _MEASURES[self.quantity]:
            raise ValueError(f'{where}: a {self.quantity} has no unit {self.unit!r}')
        numbers = (self.opened, self.closed, self.low, self.high)
        if not all(number is None or math.isfinite(number) for number in numbers):
            raise ValueError(f'{where}: opened, closed, low and high must be finite numbers')
        if self.low is not None and self.high is not None and self.low > self.high:
            raise ValueError(f'{where}: low is {self.low:g}, above high {self.high:g}')
        if not self.is_gripper and (self.opened, self.closed) != (None, None):
            raise ValueError(f'{where}: only a gripper has opened and closed')
        if self.rotation and self.name.startswith((LINEAR, JOINT, JOINT_POSITION, JOINT_VELOCITY)):
            raise ValueError(f'{where}: it is no part of a rotation')
        if self.is_gripper and self.quantity:
            if self.quantity != RATIO:
                raise ValueError(
                    f'{where}: a gripper is a ratio, in any unit; opened and closed say its ends'
                )
            if self.opened is None or self.closed is None or abs(self.opened - self.closed) < 1e-9:
                raise ValueError(
                    f'{where}: opened and closed must say which of its values is the open '
                    'gripper and which the closed one'
                )
        elif self.quantity == RATIO:
            raise ValueError(f'{where}: only a gripper is a ratio')

    @property
    def is_gripper(self) -> bool:
        """Whether it is how far a gripper is closed."""
        return self.name == GRIPPER or self.name.startswith(f'{GRIPPER}_')

    @property
    def joint(self) -> str | None:
        """The policy's name of the joint; None where it is no joint."""
        for prefix in (JOINT, JOINT_POSITION, JOINT_VELOCITY):
            if self.name.startswith(prefix):
                return self.name.removeprefix(prefix)
        return None

    @property
    def si(self) -> float:
        """Size of the unit in SI."""
        return UNITS[self.unit][1]

    @property
    def measures(self) -> str:
        """What the unit measures: 'length', 'angle', 'speed', ..."""
        return UNITS[self.unit][0]

    def closure(self, value: float) -> float:
        """Convert a gripper's value to 0 (open) .. 1 (closed); not clipped."""
        assert self.opened is not None and self.closed is not None
        return (value - self.opened) / (self.closed - self.opened)

    def from_closure(self, closure: float) -> float:
        """Convert 0 (open) .. 1 (closed) to a gripper's value; the inverse of `closure`."""
        assert self.opened is not None and self.closed is not None
        return self.opened + closure * (self.closed - self.opened)


def check_state_column(column: Column) -> None:
    """
    Check that a robot can measure a state column.

    Raises:
        ValueError: nobody said what it means, or it is no position, orientation, joint or gripper
            in the base frame.
    """
    where = f'state column {column.name!r} (unit {column.unit!r})'
    if not column.quantity:
        raise ValueError(
            f'{where}: nobody said what it means; import the policy again with --columns'
        )
    if column.frame not in ('', 'base'):
        raise ValueError(f'{where}: frame is {column.frame!r}; the pose is measured in base')
    if column.is_gripper:
        return
    component = column.name.removeprefix(TOOL)
    known = column.name.startswith(JOINT) or (
        component != column.name
        and (component in ('x', 'y', 'z') or component in ORIENTATIONS.get(column.rotation, ()))
    )
    if not known:
        raise ValueError(
            f'{where} is not known; a robot measures end_effector.x .. .z, end_effector.qx .. '
            '.qw, .rx .. .rz, .roll .. .yaw, .r1 .. .r6, gripper and joint.NAME'
        )
    if column.quantity != POSITION:
        raise ValueError(f'{where} is a {column.quantity}; positions are measured')
    wanted: tuple[str, ...] = ('length', 'angle', 'calibrated range')
    if component in ('x', 'y', 'z'):
        wanted = ('length',)
    elif not column.name.startswith(JOINT):
        wanted = ('angle',) if column.rotation in (EULER, AXIS_ANGLE) else ('ratio',)
    if column.measures not in wanted:
        units = ', '.join(unit for unit, (what, _) in UNITS.items() if what in wanted)
        raise ValueError(f'{where}: expected one of the units {units}')


def columns_from_units(names: Sequence[str], units: Sequence[str]) -> tuple[Column, ...]:
    """
    Give names and units, as policies of version 1 have them, their meaning.

    A length or an angle of 'linear' and 'angular' is a displacement per step in the base frame,
    as a rotation vector. Unit '1' of a gripper is 0 (open) .. 1 (closed).

    Args:
        names: of the columns.
        units: of the columns.

    Returns:
        The columns; `quantity` is '' where the name is not known.

    Raises:
        ValueError: the numbers of names and units differ, or a unit is not known.
    """
    if len(names) != len(units) or len(names) > MOST_COLUMNS:
        raise ValueError(
            f'{len(names)} names but {len(units)} units, expected as many, at most {MOST_COLUMNS}'
        )
    return tuple(_guess(name, unit) for name, unit in zip(names, units))


def _guess(name: str, unit: str) -> Column:
    measured = UNITS.get(unit, ('', 0))[0]
    if name == GRIPPER or name.startswith(f'{GRIPPER}_'):
        ends = (0.0, 1.0) if unit == '1' else (None, None)
        return Column(name, RATIO if unit == '1' else '', unit, opened=ends[0], closed=ends[1])
    if name.startswith((LINEAR, ANGULAR)):
        rotation = AXIS_ANGLE if name.startswith(ANGULAR) else ''
        return Column(name, _MOTION.get(measured, ''), unit, 'base', rotation)
    if name.startswith(JOINT_VELOCITY):
        quantity = _MOTION.get(measured, '')
        return Column(name, quantity, unit)
    if name.startswith((JOINT, JOINT_POSITION)):
        known = measured in ('length', 'angle', 'calibrated range')
        return Column(name, POSITION if known else '', unit)
    component = name.removeprefix(TOOL)
    if component in ('x', 'y', 'z') and measured == 'length':
        return Column(name, POSITION, unit, 'base')
    for rotation, components in ORIENTATIONS.items():
        if component in components:
            wanted = ('angle',) if rotation in (EULER, AXIS_ANGLE) else ('ratio',)
            quantity = POSITION if measured in wanted else ''
            return Column(name, quantity, unit, 'base', rotation)
    return Column(name, '', unit)


def names_and_units(columns: Sequence[Column]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the names of columns, and their units."""
    return tuple(column.name for column in columns), tuple(column.unit for column in columns)


def checked_columns(
    columns: Sequence[Column], names: Sequence[str], units: Sequence[str]
) -> tuple[Column, ...]:
    """
    Complete the meaning of columns.

    Args:
        columns: the columns; empty: what `columns_from_units` says.
        names: their names.
        units: their units.

    Raises:
        ValueError: names, units and columns do not agree.
    """
    if not columns:
        return columns_from_units(names, units)
    if names_and_units(columns) != (tuple(names), tuple(units)):
        raise ValueError(f'columns {list(names)} with units {list(units)} are described otherwise')
    return tuple(columns)


def columns_from_plain(data: Any) -> tuple[Column, ...]:
    """
    Build columns from plain data, as JSON or YAML hold them.

    Raises:
        ValueError: an entry is no mapping, has an unknown key, or contradicts itself.
    """
    if not isinstance(data, (list, tuple)):
        raise ValueError(f'expected a list of columns, got {type(data).__name__}')
    if len(data) > MOST_COLUMNS:
        raise ValueError(f'has {len(data)} columns, expected at most {MOST_COLUMNS}')
    known = [field.name for field in fields(Column)]
    columns = []
    for index, entry in enumerate(data):
        if not isinstance(entry, dict):
            raise ValueError(
                f'column {index} is {shown(entry)}, expected a mapping with name, unit, ...'
            )
        unknown = sorted(set(map(str, entry)) - set(known))
        if unknown:
            raise ValueError(
                f'column {index}: key {shown(unknown[0])} is not known; known: {", ".join(known)}'
            )
        values = dict(entry)
        for key in ('name', 'quantity', 'unit', 'frame', 'rotation'):
            if key in values and not isinstance(values[key], str):
                raise ValueError(
                    f'column {index}: {key} is {shown(values[key])}, expected text (quote it: '
                    f"'{shown(values[key])}')"
                )
        for key in ('opened', 'closed', 'low', 'high'):
            number = values.get(key)
            if isinstance(number, bool) or not isinstance(number, (int, float, type(None))):
                raise ValueError(f'column {index}: {key} is {shown(number)}, expected a number')
            if number is not None and not abs(number) <= LARGEST:
                raise ValueError(f'column {index}: {key} is {shown(number)}, beyond {LARGEST:g}')
            if number is not None:
                values[key] = float(number)
        missing = [key for key in ('name', 'quantity', 'unit') if key not in values]
        if missing:
            raise ValueError(f'column {index}: {missing[0]} is missing')
        columns.append(Column(**values))
    return tuple(columns)

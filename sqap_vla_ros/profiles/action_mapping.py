"""Maps a policy's actions to a robot: units, scale, frame and names."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from sqap_vla_ros.action_chunk import ActionChunk, ActionSpec
from sqap_vla_ros.columns import ANGULAR, Column, LINEAR
from sqap_vla_ros.control.joint_command import POSITION, VELOCITY
from sqap_vla_ros.control.joint_limits import JointLimits
from sqap_vla_ros.control.plausibility import TrackingLimits
from sqap_vla_ros.control.si_actions import SiActions
from sqap_vla_ros.errors import UserError
from sqap_vla_ros.profiles.calibration import Calibration, joint_calibration
from sqap_vla_ros.profiles.robot_profile import (
    Joint,
    JOINT_POSITION,
    JOINT_VELOCITY,
    RobotProfile,
    Tracking,
)

Values = NDArray[np.float64]
_RENAMED = {
    LINEAR: (LINEAR, VELOCITY),
    ANGULAR: (ANGULAR, VELOCITY),
    VELOCITY: (VELOCITY,),
    POSITION: (POSITION,),
    '': (),
}
"""How the name of a column begins, to how its name on the robot may begin."""


class ActionMapping:
    """
    Maps chunks of one policy to one robot.

    Everything becomes SI (see `SiActions`). Velocities are scaled and rotated from the frame in
    which the policy was trained to the base frame. Joints get the robot's names and zeros.

    Args:
        profile: the robot.
        spec: what the policy's chunks consist of.

    Raises:
        UserError: the robot cannot do what a column means, or the profile does not say how.
    """

    def __init__(self, profile: RobotProfile, spec: ActionSpec) -> None:
        action = profile.action
        self._si = SiActions(spec)
        columns = self._si.spec.columns
        names = [column.name for column in columns]
        _check_renamed(profile, names)
        targets = [_name_on_robot(column, profile) for column in columns]
        _check_space(profile, targets)
        calibrations = [
            _calibration(profile, column, target) for column, target in zip(columns, targets)
        ]
        self._offset = np.array([calibration.offset for calibration in calibrations])
        factors = np.array([calibration.factor for calibration in calibrations])
        matrix = np.diag(factors)
        rotation = Rotation.from_quat(action.policy_frame.quaternion_xyzw).as_matrix()
        self._in_tool: list[list[int]] = []
        """Indices of each group of three whose frame is the end effector: linear, then angular."""
        for group, scale in (('linear', action.linear_scale), ('angular', action.angular_scale)):
            indices = [names.index(name) for axis in 'xyz' if (name := f'{group}.{axis}') in names]
            if len(indices) != 3:
                continue
            if columns[indices[0]].frame == 'end_effector':
                self._in_tool.append(indices)
                matrix[np.ix_(indices, indices)] *= scale
            else:
                matrix[np.ix_(indices, indices)] = scale * factors[indices][:, None] * rotation
        for index, column in enumerate(columns):
            if column.name.startswith(VELOCITY):
                matrix[index, index] *= action.joint_scale
        self._angular = (
            [names.index(f'angular.{axis}') for axis in 'xyz']
            if (self._in_tool and 'angular.x' in names)
            else []
        )
        self._turns_in_tool = bool(self._angular) and self._angular in self._in_tool
        identity = np.array_equal(matrix, np.eye(len(matrix))) and not self._offset.any()
        self._matrix = None if identity else matrix
        self.spec = ActionSpec.of(
            [_on_robot(column, profile) for column in columns], spec.step_s, spec.horizon
        )
        """What mapped chunks consist of."""

    @property
    def needs_orientation(self) -> bool:
        """Whether `chunk` needs the orientation of the end effector."""
        return bool(self._in_tool)

    def chunk(self, chunk: ActionChunk, orientation: Values | None = None) -> ActionChunk:
        """
        Return the chunk for the robot. Values that are not finite stay so.

        Args:
            chunk: of the policy.
            orientation: of the end effector when it was observed, quaternion [4] (x y z w) in the
                base frame. Each row of a chunk in the frame of the end effector turns that frame
                for the rows after it.

        Raises:
            UserError: the chunk is in the frame of the end effector and no orientation is given.
        """
        converted = self._si.chunk(chunk)
        if self._matrix is None and not self._in_tool:
            return replace(converted, spec=self.spec)
        values = converted.values.astype(np.float64)
        with np.errstate(invalid='ignore', over='ignore'):
            if self._matrix is not None:
                values = values @ self._matrix.T + self._offset
            if self._in_tool:
                if orientation is None:
                    raise UserError(
                        'policy: its actions are in the frame of the end effector, whose '
                        'orientation is not measured'
                    )
                values = self._to_base(values, orientation)
        return replace(converted, values=values, spec=self.spec)

    def _to_base(self, values: Values, orientation: Values) -> Values:
        """Rotate each row from the frame of the end effector, as it will be then, to the base."""
        tool = Rotation.from_quat(orientation)
        rotated = values.copy()
        for row, turned in zip(values, rotated):
            for indices in self._in_tool:
                turned[indices] = tool.apply(row[indices])
            if not self._angular or not np.isfinite(row[self._angular]).all():
                continue
            turn = Rotation.from_rotvec(row[self._angular] * self.spec.step_s)
            tool = tool * turn if self._turns_in_tool else turn * tool
        return rotated


def joint_limits(profile: RobotProfile) -> dict[str, JointLimits] | None:
    """
    Return the controller's joint limits, by joint name; None for a robot commanded by twists.

    Raises:
        ValueError: a joint has no velocity or acceleration limit. `read_profile` reports it.
    """
    if not profile.joint_space:
        return None
    # A position is kept by its controller; a velocity drifts away from where it should lead.
    absolute = all(output.interface != 'velocity' for output in profile.outputs)
    return {joint.name: _limits(joint, profile.tracking, absolute) for joint in profile.joints}


def _limits(joint: Joint, tracking: Tracking, absolute: bool) -> JointLimits:
    if joint.velocity is None or joint.acceleration is None:
        raise ValueError(f'joint {joint.name!r} needs a velocity and an acceleration limit')
    prismatic = joint.kind == 'prismatic'
    error = tracking.prismatic_error_m if prismatic else tracking.revolute_error_rad
    return JointLimits(
        joint.velocity,
        joint.acceleration,
        joint.jerk,
        joint.lower,
        joint.upper,
        tracking=TrackingLimits(error, tracking.delay_s, absolute),
    )


def _on_robot(column: Column, profile: RobotProfile) -> Column:
    """Return a column in SI with the robot's name, in the base frame."""
    name = _name_on_robot(column, profile)
    frame = 'base' if column.frame else ''
    unit = column.unit
    if column.measures == 'calibrated range':
        unit = 'm' if _kind(profile, name.removeprefix(POSITION)) == 'prismatic' else 'rad'
    rotation = column.rotation
    if name.startswith((VELOCITY, POSITION)):
        frame = rotation = ''
    return replace(column, name=name, frame=frame, unit=unit, rotation=rotation)


def _name_on_robot(column: Column, profile: RobotProfile) -> str:
    name = column.name
    if name in profile.action.columns:
        return profile.action.columns[name]
    for kind in (VELOCITY, POSITION):
        if name.startswith(kind):
            return kind + profile.robot_joint(name.removeprefix(kind))
    return name


def _calibration(profile: RobotProfile, column: Column, name: str) -> Calibration:
    """Return how a column maps to the column `name` of the robot."""
    for kind in (VELOCITY, POSITION):
        if name.startswith(kind):
            return joint_calibration(profile, column, name.removeprefix(kind))
    return Calibration()


def _check_renamed(profile: RobotProfile, names: list[str]) -> None:
    """Raise UserError for an entry of `action.columns` that is unknown or changes the meaning."""
    for old, new in profile.action.columns.items():
        where = f'profile: action.columns has {old}: {new}'
        if old not in names:
            raise UserError(f'{where}, and the policy has no such column: {", ".join(names)}')
        kinds = _RENAMED[next((kind for kind in _RENAMED if old.startswith(kind)), '')]
        if not new.startswith(kinds) and new != old:
            raise UserError(
                f'{where}; expected a name that begins with {" or ".join(kinds)}'
                if kinds
                else f'{where}; a {old} keeps its name'
            )


def _check_space(profile: RobotProfile, names: list[str]) -> None:
    """Raise UserError where a policy commands joints otherwise than the profile says."""
    other = {JOINT_VELOCITY: POSITION, JOINT_POSITION: VELOCITY}.get(profile.action.space, '')
    found = [name for name in names if other and name.startswith(other)]
    if found:
        raise UserError(
            f'policy: action column {found[0]!r} does not fit action.space: '
            f'{profile.action.space} of the profile; take {other.rstrip(".")} there'
        )


def _kind(profile: RobotProfile, joint: str) -> str:
    return next((known.kind for known in profile.joints if known.name == joint), 'revolute')

"""Maps a policy's actions to a robot: units, scale, frame and names."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from sqap_vla_ros.action_chunk import ActionChunk, ActionSpec
from sqap_vla_ros.columns import Column
from sqap_vla_ros.control.joint_command import POSITION, VELOCITY
from sqap_vla_ros.control.joint_limits import JointLimits
from sqap_vla_ros.control.si_actions import SiActions
from sqap_vla_ros.errors import UserError
from sqap_vla_ros.profiles.calibration import joint_calibration
from sqap_vla_ros.profiles.robot_profile import Joint, RobotProfile

Values = NDArray[np.float64]


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
        calibrations = [joint_calibration(profile, column) for column in columns]
        self._offset = np.array([calibration.offset for calibration in calibrations])
        matrix = np.diag([calibration.factor for calibration in calibrations])
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
                matrix[np.ix_(indices, indices)] = scale * rotation
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
    return {joint.name: _limits(joint) for joint in profile.joints}


def _limits(joint: Joint) -> JointLimits:
    if joint.velocity is None or joint.acceleration is None:
        raise ValueError(f'joint {joint.name!r} needs a velocity and an acceleration limit')
    return JointLimits(joint.velocity, joint.acceleration, joint.jerk, joint.lower, joint.upper)


def _on_robot(column: Column, profile: RobotProfile) -> Column:
    """Return a column in SI with the robot's name, in the base frame and in SI."""
    name = column.name
    if name in profile.action.columns:
        name = profile.action.columns[name]
    else:
        for kind in (VELOCITY, POSITION):
            if name.startswith(kind):
                name = kind + profile.robot_joint(name.removeprefix(kind))
    frame = 'base' if column.frame else ''
    unit = column.unit
    if column.measures == 'calibrated range':
        unit = 'm' if _kind(profile, name.removeprefix(POSITION)) == 'prismatic' else 'rad'
    if name.startswith((VELOCITY, POSITION)):
        frame = ''
    return replace(column, name=name, frame=frame, unit=unit)


def _kind(profile: RobotProfile, joint: str) -> str:
    return next((known.kind for known in profile.joints if known.name == joint), 'revolute')

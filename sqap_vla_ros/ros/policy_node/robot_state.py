"""The state vector of a policy, from the pose of the end effector and the joint states."""

from collections.abc import Callable, Mapping
import math

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from sqap_vla_ros.columns import (
    AXIS_ANGLE,
    check_state_column,
    Column,
    EULER,
    ORIENTATIONS,
    QUATERNION,
    TOOL,
)
from sqap_vla_ros.errors import UserError
from sqap_vla_ros.policy import PolicySpec
from sqap_vla_ros.profiles.calibration import joint_calibration
from sqap_vla_ros.profiles.robot_profile import JOINT_POSITION, RobotProfile
from sqap_vla_ros.ros.policy_node.parameters import PolicyNodeSettings

Vector = NDArray[np.float64]
FAR = 3.0
"""A state this many times the training data's range beyond it is reported: in such a case the
unit or the frame is wrong more often than the arm is really there."""
BEYOND_LIMITS = {'revolute': 0.5, 'prismatic': 0.1}
"""How far beyond its limits in the profile a joint may be measured, rad or m."""
BEYOND_GRIPPER = 0.5
"""The same for the gripper, in parts of the way from open to closed."""
_AXES = ('x', 'y', 'z')


class RobotState:
    """
    Computes `Observation.state`, in the units and the frame of the policy.

    Args:
        profile: The robot.
        spec: What the policy needs.
        settings: Which joint is the gripper, and where it is open and closed.

    Raises:
        UserError: The robot cannot measure a column of the state, or nobody said what it means.
    """

    def __init__(
        self, profile: RobotProfile, spec: PolicySpec, settings: PolicyNodeSettings
    ) -> None:
        self._profile, self._spec, self._settings = profile, spec, settings
        for column in spec.state:
            self._check(column)
        self.joints = [name for name in map(self._joint, spec.state) if name]
        """Joints of the robot that must be measured."""
        if profile.joint_space:
            self.joints += [joint.name for joint in profile.joints]
        self.plausible = self._plausible()
        """Joint of the robot to the lowest and highest position that it can be measured at."""
        self._readers = [self._reader(column) for column in spec.state]

    def vector(
        self,
        pose: tuple[Vector | None, Vector | None],
        joints: Mapping[str, float] | None,
    ) -> NDArray[np.float32] | None:
        """
        Compute the state.

        Args:
            pose: Measured end effector in the base frame: position [3], m, and quaternion [4]
                (x y z w); None if the policy needs none.
            joints: Joint name to position, rad or m; None if the policy needs none.

        Returns:
            float32 [states], in the units of the spec; None for a policy without a state.
        """
        if not self._spec.state:
            return None
        tool: dict[str, float] = {}
        if pose[0] is not None and pose[1] is not None:
            tool = self._tool(pose[0], pose[1])
        return np.array([read(tool, joints or {}) for read in self._readers], np.float32)

    def far_outside(self, vector: NDArray[np.float32]) -> list[str]:
        """
        Find values far outside the range of the training data.

        Args:
            vector: What `vector` returned.

        Returns:
            One line for each such column.
        """
        found = []
        for column, value in zip(self._spec.state, vector):
            if column.low is None or column.high is None or not column.high > column.low:
                continue
            reach = FAR * (column.high - column.low)
            if not column.low - reach <= value <= column.high + reach:
                found.append(
                    f'state {column.name} is {value:.4g} {column.unit}, and the training data had '
                    f'{column.low:.4g} .. {column.high:.4g}; check unit, zero and frame'
                )
        return found

    def _plausible(self) -> dict[str, tuple[float, float]]:
        found = {
            joint.name: (
                joint.lower - BEYOND_LIMITS.get(joint.kind, math.inf),
                joint.upper + BEYOND_LIMITS.get(joint.kind, math.inf),
            )
            for joint in self._profile.joints
        }
        gripper = self._settings.gripper_joint
        if gripper:
            ends = sorted(
                (self._settings.gripper_open_position, self._settings.gripper_closed_position)
            )
            beyond = BEYOND_GRIPPER * (ends[1] - ends[0])
            found[gripper] = ends[0] - beyond, ends[1] + beyond
        if self._profile.action.space == JOINT_POSITION:
            # Turns without an end: a target of the training data would be whole turns away.
            for column in self._spec.state:
                trained = self._trained_turn(column)
                if trained is not None:
                    joint = self._profile.robot_joint(column.joint or '')
                    found[joint] = trained[0] - math.pi, trained[1] + math.pi
        return found

    def _trained_turn(self, column: Column) -> tuple[float, float] | None:
        """Range of the training data of a continuous joint, rad of the robot; None for others."""
        name = None if column.joint is None else self._profile.robot_joint(column.joint)
        kinds = {joint.name: joint.kind for joint in self._profile.joints}
        if kinds.get(name or '') != 'continuous' or column.low is None or column.high is None:
            return None
        calibration = joint_calibration(self._profile, column)
        low, high = sorted(
            calibration.factor * value * column.si + calibration.offset
            for value in (column.low, column.high)
        )
        return low, high

    def _check(self, column: Column) -> None:
        try:
            check_state_column(column)
        except ValueError as error:
            raise UserError(f'policy: {error}') from None
        if (
            column.is_gripper
            and not self._settings.gripper_joint
            and self._profile.gripper.assumed is None
        ):
            raise UserError(
                'policy: its state has the gripper, and nothing measures how far it is closed; '
                'set gripper.joint in the profile or parameter gripper_joint, or '
                'gripper.assumed where nothing measures it'
            )
        joint_calibration(self._profile, column)

    def _joint(self, column: Column) -> str | None:
        """Joint of the robot that measures a state column; None or '' if no joint does."""
        if column.is_gripper:
            return self._settings.gripper_joint
        return None if column.joint is None else self._profile.robot_joint(column.joint)

    def _reader(
        self, column: Column
    ) -> Callable[[Mapping[str, float], Mapping[str, float]], float]:
        """Return a function from the tool's components and the joints to the column's value."""
        joint = self._joint(column)
        if column.is_gripper:
            if not joint:
                assumed = self._profile.gripper.assumed
                assert assumed is not None  # see `_check`
                return lambda tool, joints: column.from_closure(assumed)
            return lambda tool, joints: column.from_closure(self._closure(joints[joint]))
        if joint is not None:
            calibration = joint_calibration(self._profile, column)
            trained = self._trained_turn(column)
            if trained is not None:
                middle = sum(trained) / 2
                return lambda tool, joints: (
                    calibration.to_policy(_nearest_turn(joints[joint], middle)) / column.si
                )
            return lambda tool, joints: calibration.to_policy(joints[joint]) / column.si
        component = column.name.removeprefix(TOOL)
        return lambda tool, joints: tool[component] / column.si

    def _closure(self, position: float) -> float:
        opened = self._settings.gripper_open_position
        closed = self._settings.gripper_closed_position
        return min(max((position - opened) / (closed - opened), 0.0), 1.0)

    def _tool(self, position_m: Vector, quaternion: Vector) -> dict[str, float]:
        """Components of the end effector's pose in the frame of the policy, by name."""
        frame = self._profile.action.policy_frame
        to_policy = Rotation.from_quat(frame.quaternion_xyzw).inv()
        place = to_policy.apply(position_m - np.array(frame.position_m))
        tool = dict(zip(_AXES, map(float, place)))
        rotations = {column.rotation for column in self._spec.state if column.rotation}
        if not rotations:
            return tool
        turned = to_policy * Rotation.from_quat(quaternion)
        for rotation in rotations:
            names = ORIENTATIONS[rotation]
            centre = [self._centre(TOOL + name) for name in names]
            values = components(turned, rotation, centre)
            tool |= dict(zip(names, map(float, values)))
        return tool

    def _centre(self, name: str) -> float | None:
        """Middle of the training data's range of a column, in SI; None if it is not known."""
        for column in self._spec.state:
            if column.name == name and column.low is not None and column.high is not None:
                return (column.low + column.high) / 2 * column.si
        return None


def components(turn: Rotation, rotation: str, centre: list[float | None]) -> Vector:
    """
    Return a rotation's components in a representation.

    Two quaternions, two rotation vectors and many triples of Euler angles stand for one rotation.
    Of these, the one nearest to the training data is returned: a hand that points down is half a
    turn away from the base frame, where the usual choice (w >= 0) jumps.

    Args:
        turn: the rotation.
        rotation: one of `columns.ROTATIONS`.
        centre: middle of the training data for each component, SI; None where it is not known.

    Returns:
        float64, in the order of `columns.ORIENTATIONS`, rad where they are angles.
    """
    if rotation == EULER:
        angles = turn.as_euler('xyz')
        return np.array(
            [
                angle if middle is None else _nearest_turn(angle, middle)
                for angle, middle in zip(angles, centre)
            ]
        )
    if rotation == QUATERNION:
        quaternion = turn.as_quat()
        quaternion *= -1.0 if quaternion[3] < 0 else 1.0
        return _nearest([quaternion, -quaternion], centre)
    if rotation == AXIS_ANGLE:
        vector = turn.as_rotvec()
        angle = float(np.linalg.norm(vector))
        if angle < 1e-9:
            return np.asarray(vector)
        return _nearest([vector, vector * (1 - 2 * math.pi / angle)], centre)
    return np.asarray(turn.as_matrix()[:, :2].T.ravel())


def _nearest_turn(angle: float, middle: float) -> float:
    """Add whole turns to an angle, rad, so that it comes nearest to another one."""
    return angle + 2 * math.pi * round((middle - angle) / (2 * math.pi))


def _nearest(candidates: list[Vector], centre: list[float | None]) -> Vector:
    known = [middle for middle in centre if middle is not None]
    if len(known) != len(centre):
        return candidates[0]
    distances = [float(np.linalg.norm(vector - np.array(known))) for vector in candidates]
    return candidates[int(np.argmin(distances))]

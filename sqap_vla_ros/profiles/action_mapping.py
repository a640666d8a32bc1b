"""From what a policy was trained to output to what a robot understands: scale, frame, names."""

from dataclasses import replace

import numpy as np

from sqap_vla_ros.action_chunk import ActionChunk, ActionSpec
from sqap_vla_ros.control.joint_command import POSITION, VELOCITY
from sqap_vla_ros.control.joint_limits import JointLimits
from sqap_vla_ros.profiles.robot_profile import RobotProfile


class ActionMapping:
    """
    Maps chunks of one policy to one robot.

    Velocities are scaled and turned from the frame that the policy was trained in to the base
    frame; joints get the robot's names. Positions and the gripper are not scaled.
    """

    def __init__(self, profile: RobotProfile, spec: ActionSpec) -> None:
        action = profile.action
        self.spec = replace(spec, names=tuple(_renamed(name, profile) for name in spec.names))
        """What the mapped chunks consist of."""
        matrix = np.eye(len(spec.names))
        turn = _matrix(action.policy_frame.quaternion_xyzw)
        columns = {name: index for index, name in enumerate(spec.names)}
        for group, scale in (('linear', action.linear_scale), ('angular', action.angular_scale)):
            indices = [columns.get(f'{group}.{axis}') for axis in 'xyz']
            if None not in indices:
                matrix[np.ix_(indices, indices)] = scale * turn
        for index, name in enumerate(self.spec.names):
            if name.startswith(VELOCITY) and not spec.names[index].startswith('linear.'):
                matrix[index, index] = action.joint_scale
        self._matrix = None if np.array_equal(matrix, np.eye(len(matrix))) else matrix

    def chunk(self, chunk: ActionChunk) -> ActionChunk:
        """Return the chunk for the robot; one that is not finite stays so."""
        values = chunk.values
        if self._matrix is not None:
            with np.errstate(invalid='ignore'):
                values = values @ self._matrix.T.astype(np.float32)
        return replace(chunk, values=values, spec=self.spec)


def joint_limits(profile: RobotProfile) -> dict[str, JointLimits] | None:
    """Limits for the controller; None for a robot that is commanded by twists."""
    if not profile.joint_space:
        return None
    return {
        joint.name: JointLimits(
            joint.velocity, joint.acceleration, joint.jerk, joint.lower, joint.upper
        )
        for joint in profile.joints
    }


def _renamed(name, profile):
    if name in profile.action.columns:
        return profile.action.columns[name]
    for kind in (VELOCITY, POSITION):
        if name.startswith(kind):
            return kind + profile.robot_joint(name.removeprefix(kind))
    return name


def _matrix(quaternion_xyzw):
    x, y, z, w = np.array(quaternion_xyzw) / np.linalg.norm(quaternion_xyzw)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )

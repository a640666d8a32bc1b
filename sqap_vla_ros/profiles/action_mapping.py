"""Maps a policy's actions to a robot: scale, frame and names."""

from dataclasses import replace

import numpy as np
from scipy.spatial.transform import Rotation

from sqap_vla_ros.action_chunk import ActionChunk, ActionSpec
from sqap_vla_ros.control.joint_command import POSITION, VELOCITY
from sqap_vla_ros.control.joint_limits import JointLimits
from sqap_vla_ros.profiles.robot_profile import Joint, RobotProfile


class ActionMapping:
    """
    Maps chunks of one policy to one robot.

    Velocities are scaled and rotated from the frame in which the policy was trained to the base
    frame. Joints get the robot's names. Positions and the gripper are not scaled.

    Args:
        profile: the robot.
        spec: what the policy's chunks consist of.
    """

    def __init__(self, profile: RobotProfile, spec: ActionSpec) -> None:
        action = profile.action
        self.spec = replace(spec, names=tuple(_renamed(name, profile) for name in spec.names))
        """What mapped chunks consist of."""
        matrix = np.eye(len(spec.names))
        rotation = Rotation.from_quat(action.policy_frame.quaternion_xyzw).as_matrix()
        columns = {name: index for index, name in enumerate(spec.names)}
        for group, scale in (('linear', action.linear_scale), ('angular', action.angular_scale)):
            indices = [columns[name] for axis in 'xyz' if (name := f'{group}.{axis}') in columns]
            if len(indices) == 3:
                matrix[np.ix_(indices, indices)] = scale * rotation
        for index, name in enumerate(self.spec.names):
            if name.startswith(VELOCITY) and not spec.names[index].startswith('linear.'):
                matrix[index, index] = action.joint_scale
        self._matrix = None if np.array_equal(matrix, np.eye(len(matrix))) else matrix

    def chunk(self, chunk: ActionChunk) -> ActionChunk:
        """Return the chunk for the robot. Values that are not finite stay so."""
        values = chunk.values
        if self._matrix is not None:
            with np.errstate(invalid='ignore'):
                values = values @ self._matrix.T.astype(np.float32)
        return replace(chunk, values=values, spec=self.spec)


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


def _renamed(name: str, profile: RobotProfile) -> str:
    if name in profile.action.columns:
        return profile.action.columns[name]
    for kind in (VELOCITY, POSITION):
        if name.startswith(kind):
            return kind + profile.robot_joint(name.removeprefix(kind))
    return name

"""The state vector of a policy, from the pose of the end effector and the joint states."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from sqap_vla_ros.errors import UserError
from sqap_vla_ros.policy import PolicySpec
from sqap_vla_ros.profiles.robot_profile import RobotProfile
from sqap_vla_ros.ros.policy_node.input_topics import END_EFFECTOR
from sqap_vla_ros.ros.policy_node.parameters import PolicyNodeSettings


class RobotState:
    """
    Computes `Observation.state`.

    Raises:
        UserError: The policy needs the gripper and nothing measures it.
    """

    def __init__(
        self, profile: RobotProfile, spec: PolicySpec, settings: PolicyNodeSettings
    ) -> None:
        self._profile, self._spec, self._settings = profile, spec, settings
        if (
            'gripper' in spec.state_names
            and not settings.gripper_joint
            and profile.gripper.assumed is None
        ):
            raise UserError(
                'policy: its state has the gripper, and nothing measures how far it is closed; '
                'set gripper.joint in the profile or parameter gripper_joint, or '
                'gripper.assumed where nothing measures it'
            )
        self.joints = [name for name in map(self._joint, spec.state_names) if name]
        """Joints of the robot that must be measured."""
        if profile.joint_space:
            self.joints += [joint.name for joint in profile.joints]

    def vector(
        self, position_m: NDArray[np.float64] | None, joints: Mapping[str, float] | None
    ) -> NDArray[np.float32] | None:
        """
        Compute the state.

        Args:
            position_m: Measured end effector [3], base frame; None if the policy needs none.
            joints: Joint name to position, rad or m; None if the policy needs none.

        Returns:
            float32 [states], positions in the frame that the policy was trained in; None for a
            policy without a state.
        """
        if not self._spec.state_names:
            return None
        if position_m is not None:
            frame = self._profile.action.policy_frame
            position_m = (
                Rotation.from_quat(frame.quaternion_xyzw)
                .inv()
                .apply(position_m - np.array(frame.position_m))
            )
        return np.array(
            [self._value(name, position_m, joints) for name in self._spec.state_names],
            np.float32,
        )

    def _joint(self, state_name: str) -> str | None:
        """Joint of the robot that measures a state column; None or '' if no joint does."""
        if state_name == 'gripper':
            return self._settings.gripper_joint
        if not state_name.startswith('joint.'):
            return None
        return self._profile.robot_joint(state_name.removeprefix('joint.'))

    def _value(
        self,
        name: str,
        position_m: NDArray[np.float64] | None,
        joints: Mapping[str, float] | None,
    ) -> float | None:
        if name in END_EFFECTOR:
            assert position_m is not None  # a required topic, see `topics_of`
            return float(position_m[END_EFFECTOR.index(name)])
        joint = self._joint(name)
        if not joint:
            return self._profile.gripper.assumed
        assert joints is not None
        position = joints[joint]
        if name != 'gripper':
            return position
        opened = self._settings.gripper_open_position
        closed = self._settings.gripper_closed_position
        return min(max((position - opened) / (closed - opened), 0.0), 1.0)

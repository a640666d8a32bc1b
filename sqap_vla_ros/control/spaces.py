"""The spaces that a robot can be commanded in."""

from collections.abc import Mapping

from sqap_vla_ros.action_chunk import ActionSpec
from sqap_vla_ros.control.command_space import CommandSpace
from sqap_vla_ros.control.joint_limits import JointLimits
from sqap_vla_ros.control.joint_space import JointSpace
from sqap_vla_ros.control.limits import MotionLimits
from sqap_vla_ros.control.twist_space import TwistSpace


def command_space(
    spec: ActionSpec, limits: MotionLimits, joints: Mapping[str, JointLimits] | None = None
) -> CommandSpace:
    """
    Make the space in which a policy commands its robot.

    Args:
        spec: Columns of the action rows.
        limits: Limits of the end effector. Joint space uses those of the gripper alone.
        joints: Joint name to its limits, for a policy that commands joints; None for twists.

    Returns:
        The space.

    Raises:
        UserError: The columns do not fit the space.
    """
    if joints is None:
        return TwistSpace(spec, limits)
    return JointSpace(spec, joints, limits.gripper_debounce_s, limits.gripper_min_change)

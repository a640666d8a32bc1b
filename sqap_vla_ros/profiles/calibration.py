"""From a policy's joint values to the robot's: zero, direction and calibrated range."""

from dataclasses import dataclass

from sqap_vla_ros.columns import Column, VELOCITY
from sqap_vla_ros.errors import UserError
from sqap_vla_ros.profiles.robot_profile import Joint, RobotProfile


@dataclass(frozen=True)
class Calibration:
    """robot = factor * policy + offset, in SI on the robot's side."""

    factor: float = 1.0
    offset: float = 0.0

    def to_policy(self, value: float) -> float:
        """Convert a value of the robot, in SI, to the policy's unit."""
        return (value - self.offset) / self.factor


def joint_calibration(
    profile: RobotProfile, column: Column, robot_joint: str | None = None
) -> Calibration:
    """
    Find how a column's values map to the robot's joint.

    Args:
        profile: the robot.
        column: an action or state column; its unit is applied here for percentages alone.
        robot_joint: the robot's name of the joint; None: as the profile maps the column's.

    Returns:
        The identity for a column that is no joint.

    Raises:
        UserError: the column is in percent and the profile has no `calibrated_range` for it, or
            its unit does not fit the type of the joint.
    """
    name = robot_joint
    if name is None:
        if column.joint is None:
            return Calibration()
        name = profile.robot_joint(column.joint)
    joint = next((known for known in profile.joints if known.name == name), Joint(name))
    linear = column.measures in ('length', 'speed')
    given = joint in profile.joints and column.measures != 'calibrated range'
    if given and linear != (joint.kind == 'prismatic'):
        raise UserError(
            f'policy: column {column.name!r} is in {column.unit}, but joint {name!r} of the '
            f'profile is {joint.kind}'
        )
    if column.measures != 'calibrated range':
        zero = 0.0 if column.quantity == VELOCITY else joint.policy_zero
        return Calibration(float(joint.policy_direction), zero)
    if joint.calibrated_range is None:
        raise UserError(
            f'policy: column {column.name!r} is in {column.unit} of the calibrated range of joint '
            f'{name!r}, and the profile does not say it; add calibrated_range: [lower, upper] to '
            'that joint'
        )
    lower, upper = joint.calibrated_range
    if column.unit == 'percent_signed':
        return Calibration((upper - lower) / 200, (lower + upper) / 2)
    return Calibration((upper - lower) / (100 if column.unit == 'percent' else 1), lower)

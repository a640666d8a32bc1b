"""Sections `limits` and `rates`: values of the policy node's parameters."""

from sqap_vla_ros.control.limits import MotionLimits
from sqap_vla_ros.profiles.document import Section
from sqap_vla_ros.profiles.ranges import PARAMETERS

# Key below `limits` and `rates` to the node's parameter and the dimension.
LIMITS = {
    'linear_speed': ('max_linear_speed_m_s', 'speed'),
    'angular_speed': ('max_angular_speed_rad_s', 'angular speed'),
    'linear_acceleration': ('max_linear_acceleration_m_s2', 'acceleration'),
    'linear_jerk': ('max_linear_jerk_m_s3', 'jerk'),
    'stop_deceleration': ('stop_deceleration_m_s2', 'acceleration'),
    'stop_jerk': ('stop_jerk_m_s3', 'jerk'),
}
MARGIN_M = MotionLimits().workspace_margin_m
RATES = {'command': ('command_rate_hz', 'rate'), 'inference': ('inference_rate_hz', 'rate')}


def read_settings(top: Section) -> dict[str, object]:
    """
    Read `limits` and `rates`.

    Returns:
        Values of the policy node's parameters, by parameter name.
    """
    values: dict[str, float] = {}
    corners: dict[str, list[float]] = {}
    for name, table in (('limits', LIMITS), ('rates', RATES)):
        section = top.section(name)
        if section is None:
            continue
        for key, (parameter, dimension) in table.items():
            low, high = PARAMETERS[parameter]
            value = section.number(key, dimension, low=low, high=high)
            if value is not None:
                values[parameter] = value
        if name == 'limits':
            for end in ('low', 'high'):
                parameter = f'workspace_{end}_m'
                corner = section.numbers(
                    f'workspace_{end}', 'length', 3, largest=PARAMETERS[parameter][1]
                )
                if corner is not None:
                    corners[parameter] = list(corner)
            _check_limits(section, values, corners)
        section.close()
    return {**values, **corners}


def check_limits(top: Section, joint_space: bool) -> None:
    """
    Report limits that are missing for twists, or that have no effect in joint space.

    Args:
        top: the profile.
        joint_space: whether the profile commands joints.
    """
    section = top.section('limits')
    given = () if section is None else section.keys()
    line = top.line_of('limits')
    if joint_space:
        if given:
            top.problem(
                f'limits: {", ".join(given)} would have no effect: with action.space '
                'joint_velocity or joint_position the limits of joints are kept, and no workspace',
                line,
            )
        return
    missing = [key for key in (*LIMITS, 'workspace_low', 'workspace_high') if key not in given]
    if missing:
        top.problem(
            f'limits: {", ".join(missing)} missing; without them the limits of the simulated arm '
            'would hold on this robot, and with twists the workspace is what keeps the arm off '
            'the table',
            line,
        )


def _check_limits(
    section: Section, values: dict[str, float], corners: dict[str, list[float]]
) -> None:
    low, high = corners.get('workspace_low_m'), corners.get('workspace_high_m')
    if low and high and not all(a + 2 * MARGIN_M < b for a, b in zip(low, high)):
        section.problem(
            'limits: workspace_low is not below workspace_high, by more than '
            f'{2000 * MARGIN_M:g} mm, on every axis',
            section.line_of('workspace_low'),
        )
    for stop, motion, key in (
        ('stop_deceleration_m_s2', 'max_linear_acceleration_m_s2', 'stop_deceleration'),
        ('stop_jerk_m_s3', 'max_linear_jerk_m_s3', 'stop_jerk'),
    ):
        if stop in values and motion in values and values[stop] < values[motion]:
            section.problem(
                f'limits.{key} is {values[stop]:g}, below {motion} '
                f'{values[motion]:g}: stopping may not be gentler than moving',
                section.line_of(key),
            )

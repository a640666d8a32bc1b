"""Sections `limits` and `rates`: values of the policy node's parameters."""

from sqap_vla_ros.profiles.document import Section

# Key below `limits` and `rates` to the node's parameter and the dimension.
LIMITS = {
    'linear_speed': ('max_linear_speed_m_s', 'speed'),
    'angular_speed': ('max_angular_speed_rad_s', 'angular speed'),
    'linear_acceleration': ('max_linear_acceleration_m_s2', 'acceleration'),
    'linear_jerk': ('max_linear_jerk_m_s3', 'jerk'),
    'stop_deceleration': ('stop_deceleration_m_s2', 'acceleration'),
    'stop_jerk': ('stop_jerk_m_s3', 'jerk'),
}
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
            value = section.positive(key, dimension)
            if value is not None:
                values[parameter] = value
        if name == 'limits':
            for end in ('low', 'high'):
                corner = section.numbers(f'workspace_{end}', 'length', 3)
                if corner is not None:
                    corners[f'workspace_{end}_m'] = list(corner)
            _check_limits(section, values, corners)
        section.close()
    return {**values, **corners}


def _check_limits(
    section: Section, values: dict[str, float], corners: dict[str, list[float]]
) -> None:
    low, high = corners.get('workspace_low_m'), corners.get('workspace_high_m')
    if (low is None) != (high is None):
        section.problem('limits: workspace_low and workspace_high must be given together')
    elif low is not None and high is not None and not all(a < b for a, b in zip(low, high)):
        section.problem(
            'limits: workspace_low is not below workspace_high on every axis',
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

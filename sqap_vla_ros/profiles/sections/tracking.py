"""Section `tracking`: how far the robot may be from where its commands lead."""

from sqap_vla_ros.profiles.document import Section
from sqap_vla_ros.profiles.robot_profile import Tracking

MAX_ERROR = {'length': 1.0, 'angle': 3.2}
"""m and rad."""
MAX_DELAY_S = 2.0


def read_tracking(section: Section | None) -> Tracking:
    """Read `tracking`; what is missing has the default of `Tracking`."""
    default = Tracking()
    if section is None:
        return default

    def error(key: str, dimension: str, value: float) -> float:
        return section.number(key, dimension, value, high=MAX_ERROR[dimension], positive=True)

    tracking = Tracking(
        error('position_error', 'length', default.position_error_m),
        error('orientation_error', 'angle', default.orientation_error_rad),
        error('revolute_error', 'angle', default.revolute_error_rad),
        error('prismatic_error', 'length', default.prismatic_error_m),
        section.number('delay', 'time', default.delay_s, low=0.0, high=MAX_DELAY_S),
    )
    section.close()
    return tracking

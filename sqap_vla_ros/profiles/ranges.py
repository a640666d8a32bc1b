"""
Ranges of the numbers that describe a robot.

They are far wider than any arm needs, so that a value outside them is a mistake: a wrong unit, or
a place holder. The policy node gives its parameters the same ranges.
"""

from math import pi

from sqap_vla_ros.control.limits import MAX_PERIOD_S

PARAMETERS = {
    'inference_rate_hz': (0.1, 200.0),
    'command_rate_hz': (1 / MAX_PERIOD_S, 500.0),  # at less the limiter cannot keep its limits
    'max_linear_speed_m_s': (0.001, 5.0),
    'max_angular_speed_rad_s': (0.001, 20.0),
    'max_linear_acceleration_m_s2': (0.01, 100.0),
    'max_linear_jerk_m_s3': (0.1, 10_000.0),
    'stop_deceleration_m_s2': (0.01, 100.0),
    'stop_jerk_m_s3': (0.1, 10_000.0),
    'workspace_low_m': (-3.0, 3.0),
    'workspace_high_m': (-3.0, 3.0),
}
"""Parameter of the policy node that a profile sets, to its lowest and highest value."""
TURN = 2 * pi
MAX_POSITION = {'angle': 10 * TURN, 'length': 10.0}
"""Farthest position of a joint, rad or m."""
BARE_POSITION = {'angle': 2 * TURN, 'length': 10.0}
"""Farthest position of a joint that may be given without a unit: 180 was meant in degrees."""
MAX_VELOCITY = {'angle': 20.0, 'length': 10.0}
"""Of a joint, rad/s or m/s."""
BARE_VELOCITY = {'angle': TURN, 'length': 10.0}
MAX_ACCELERATION = {'angle': 200.0, 'length': 100.0}
MAX_JERK = {'angle': 20_000.0, 'length': 10_000.0}
MAX_DISTANCE_M = 10.0
"""Of a camera, or of the frame in which a policy was trained, from the base frame."""
MAX_GRIPPER = {'length': 0.5, 'angle': TURN, 'ratio': 1e6}
"""Position of an open or a closed gripper: 85 was meant in millimetres."""
MAX_EFFORT = 1000.0
"""Of a gripper, N or Nm."""
MIN_FOCAL_LENGTH = 0.05
"""In widths or heights of the image."""
MAX_IMAGE_PIXELS = 20_000
"""Rows or columns of an image, and the largest focal length."""

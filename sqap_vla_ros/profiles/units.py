"""Numbers with units, as in data sheets."""

import math
import re

from sqap_vla_ros.errors import shown

LONGEST = 60
"""Characters of a number with its unit."""
UNITS = {
    'length': {'m': 1.0, 'mm': 1e-3, 'cm': 1e-2},
    'speed': {'m/s': 1.0, 'mm/s': 1e-3},
    'acceleration': {'m/s^2': 1.0, 'mm/s^2': 1e-3},
    'jerk': {'m/s^3': 1.0},
    'angle': {'rad': 1.0, 'deg': math.pi / 180},
    'angular speed': {'rad/s': 1.0, 'deg/s': math.pi / 180, 'rpm': 2 * math.pi / 60},
    'angular acceleration': {'rad/s^2': 1.0, 'deg/s^2': math.pi / 180},
    'angular jerk': {'rad/s^3': 1.0, 'deg/s^3': math.pi / 180},
    'time': {'s': 1.0, 'ms': 1e-3},
    'rate': {'Hz': 1.0},
    'ratio': {'1': 1.0},
}
"""Dimension to unit to the unit's size in SI. A number without a unit is in SI units."""
_QUANTITY = re.compile(r'([-+]?[0-9.]+(?:[eE][-+]?[0-9]+)?)\s*(\S.*)?')


def has_unit(text: str) -> bool:
    """Whether a number is followed by a unit, known or not."""
    match = _QUANTITY.fullmatch(text.strip())
    return match is not None and match.group(2) is not None


def quantity(text: str, dimension: str) -> float:
    """
    Convert a number with an optional unit to SI units.

    Args:
        text: for example '180 deg/s' or '3.14'.
        dimension: one of `UNITS`.

    Raises:
        ValueError: with what was expected.
    """
    if len(text) > LONGEST:
        raise ValueError(f'{shown(text)} is not a number')
    match = _QUANTITY.fullmatch(text.strip())
    try:
        number = float(match.group(1)) if match else float(text)
    except ValueError:
        raise ValueError(f'{shown(text)} is not a number') from None
    unit = match.group(2) if match else None
    if not math.isfinite(number):
        raise ValueError(f'{shown(text)} is not a finite number')
    if unit is None:
        return number
    if unit not in UNITS[dimension]:
        raise ValueError(
            f'unit {shown(unit)} is not a unit of {dimension}; expected one of '
            f'{", ".join(UNITS[dimension])}'
        )
    return number * UNITS[dimension][unit]

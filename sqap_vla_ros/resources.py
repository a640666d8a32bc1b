"""Files shipped with the package: in a source checkout, or installed under share/."""

import os
from pathlib import Path
import sys

from sqap_vla_ros.errors import UserError


def find_resource(name: str) -> Path:
    """
    Find a file or directory shipped with the package.

    Args:
        name: path relative to the repository, for example 'policies/small'.

    Returns:
        Its path in the source checkout, or else in the first installation that has it.

    Raises:
        UserError: neither the checkout nor an installation has it.
    """
    prefixes = [p for p in os.environ.get('AMENT_PREFIX_PATH', '').split(os.pathsep) if p]
    roots = [
        Path(__file__).parents[1],
        *(Path(prefix) / 'share' / 'sqap_vla_ros' for prefix in [*prefixes, sys.prefix]),
    ]
    for root in roots:
        if (root / name).exists():
            return root / name
    raise UserError(
        f'{name} was found neither in the source tree ({roots[0]}) nor in an '
        'installation; install the package, or run from its checkout'
    )


def ros_home() -> Path:
    """Directory of what ROS programs write: $ROS_HOME, or ~/.ros."""
    return Path(os.environ.get('ROS_HOME') or '~/.ros').expanduser()

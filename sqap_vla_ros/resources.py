"""Files that come with the package: in a source checkout, or installed under share/."""

import os
from pathlib import Path
import sys

from sqap_vla_ros.errors import UserError


def find_resource(name: str) -> Path:
    """
    Path of a file or directory of the package, for example 'policies/small'.

    Raises UserError when neither the checkout nor an installation has it.
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

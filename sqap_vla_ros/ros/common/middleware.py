"""Settings that one middleware needs and the others do not know."""

from collections.abc import Mapping
from pathlib import Path

FAST_DDS = 'rmw_fastrtps'
"""How the identifiers of its implementations begin; one of them is the default of ROS 2."""
FAST_DDS_PROFILES = ('FASTRTPS_DEFAULT_PROFILES_FILE', 'FASTDDS_DEFAULT_PROFILES_FILE')
"""Environment variables: of Fast DDS 2, and of Fast DDS 3 (from Kilted on)."""


def image_transport_variables(profiles: Path, environment: Mapping[str, str]) -> dict[str, str]:
    """
    Make room for images between processes of one machine.

    Only Fast DDS needs it: its shared memory is too small for one image of 640x480.

    Args:
        profiles: Profiles of Fast DDS, `config/fastdds_shm.xml`.
        environment: Variables that are set.

    Returns:
        Further variables; none where another middleware is chosen or the user has set profiles.
    """
    chosen = environment.get('RMW_IMPLEMENTATION') or FAST_DDS
    if not chosen.startswith(FAST_DDS) or any(environment.get(n) for n in FAST_DDS_PROFILES):
        return {}
    return dict.fromkeys(FAST_DDS_PROFILES, str(profiles))

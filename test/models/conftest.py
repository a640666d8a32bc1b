"""Tiny released checkpoints of every family, imported once a session."""

import pytest

from sqap_vla_ros.models.import_policy import import_policy

from support.pi0_folders import broken, originals, refusal
from support.released_families import FAMILIES, write_released

__all__ = ('broken', 'originals', 'refusal')


@pytest.fixture(scope='session')
def released(tmp_path_factory):
    """Family name to (folder of the released checkpoint, import options)."""
    root = tmp_path_factory.mktemp('released')
    return {family: (root / family, write_released(family, root / family)) for family in FAMILIES}


@pytest.fixture(scope='session')
def imported(released, tmp_path_factory):
    """Family name to policy directory."""
    root = tmp_path_factory.mktemp('imported')
    for family, (folder, options) in released.items():
        import_policy(folder, root / family, options)
    return {family: root / family for family in released}

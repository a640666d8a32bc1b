"""A profile to change, for the tests of this folder."""

import pytest

from support.profiles import PROFILE


@pytest.fixture
def write(tmp_path):
    """Write PROFILE with a replacement; returns its path."""

    def write(old='', new=''):
        assert old in PROFILE
        path = tmp_path / 'profile.yaml'
        path.write_text(PROFILE.replace(old, new, 1) if old else PROFILE, 'utf-8')
        return path

    return write

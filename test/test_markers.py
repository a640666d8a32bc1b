"""`make test-fast` leaves out what it should, and its table names paths that exist."""

from pathlib import PurePosixPath

import pytest

from support.markers import marker_of, MARKS, TESTS


@pytest.mark.parametrize('path', MARKS)
def test_paths_of_the_table_exist(path):
    assert (TESTS / path).exists(), (
        f'test/{path} is gone: correct MARKS in test/support/markers.py'
    )


@pytest.mark.parametrize(
    ('path', 'marker'),
    [
        ('ros/policy_node/test_node.py', 'ros'),
        ('ros/policy_node/test_inputs.py', None),
        ('simulation/test_arm.py', 'simulation'),
        ('control/test_limits.py', None),
        ('test_package.py', None),
    ],
)
def test_the_longest_path_decides(path, marker):
    assert marker_of(PurePosixPath(path)) == marker

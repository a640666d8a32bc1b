"""Which tests start nodes and which render, by folder; `make test-fast` leaves both out."""

from pathlib import Path, PurePath

import pytest

TESTS = Path(__file__).resolve().parents[1]
MARKS = {
    'evaluation/test_evaluation.py': 'simulation',
    'evaluation/test_ray_cluster.py': 'simulation',
    'faults': 'ros',
    'launch': 'ros',
    'ros': 'ros',
    'ros/common': None,
    'ros/common/test_callbacks.py': 'ros',
    'ros/common/test_graph_checks.py': 'ros',
    'ros/common/test_node_process.py': 'ros',
    'ros/common/test_parameter_checks.py': 'ros',
    'ros/common/test_qos.py': 'ros',
    'ros/policy_node/test_goals.py': None,
    'ros/policy_node/test_input_cameras.py': None,
    'ros/policy_node/test_inputs.py': None,
    'ros/policy_node/test_motion_control.py': None,
    'ros/policy_node/test_instruction_fuzz.py': None,
    'ros/policy_node/test_reports.py': None,
    'ros/stand_ins/test_faulty_stream.py': None,
    'ros/test_gazebo.py': None,
    'ros/test_parameter_reference.py': None,
    'simulation': 'simulation',
    'system': 'ros',
    'system/test_child_process.py': None,
    'system/test_soak_report.py': None,
    'system/test_timing.py': None,
    'training': 'simulation',
}
"""Folder or file below test/ and its marker; the longest path that matches decides."""


def marker_of(path: PurePath) -> str | None:
    """Marker of a test file, given by its path below test/; None for a test of plain Python."""
    for candidate in (path, *path.parents):
        if candidate.as_posix() in MARKS:
            return MARKS[candidate.as_posix()]
    return None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of `MARKS`."""
    for item in items:
        if item.path.is_relative_to(TESTS):
            marker = marker_of(item.path.relative_to(TESTS))
            if marker is not None:
                item.add_marker(marker)

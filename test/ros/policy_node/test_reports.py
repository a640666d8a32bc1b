"""The commanded path in RViz."""

import numpy as np
import pytest

pytest.importorskip('visualization_msgs')

from sqap_vla_ros.action_chunk import ActionChunk, ActionSpec
from sqap_vla_ros.ros.policy_node.reports import path_marker

NAMES = ('gripper', 'linear.x', 'linear.y', 'linear.z')


@pytest.mark.parametrize('unit, factor', [('m/s', 0.5), ('m', 1.0)])
def test_the_line_follows_the_velocities_from_the_end_effector(unit, factor):
    spec = ActionSpec(NAMES, ('1', unit, unit, unit), 0.5, 2)
    chunk = ActionChunk(np.array([[1, 0.1, 0, 0], [1, 0, 0.2, 0]]), spec, 5_000_000_001)
    marker = path_marker(chunk, np.array([1.0, 2.0, 3.0]), 'base')
    points = [(p.x, p.y, p.z) for p in marker.points]
    assert np.array(points) == pytest.approx(
        np.array([[1, 2, 3], [1 + 0.1 * factor, 2, 3], [1 + 0.1 * factor, 2 + 0.2 * factor, 3]])
    )
    assert marker.header.frame_id == 'base' and marker.header.stamp.nanosec == 1
    assert marker.color.a == 1.0 and marker.scale.x > 0


def test_what_has_no_path_has_no_marker():
    joints = ActionSpec(('joint_velocity.a',), ('rad/s',), 0.1, 1)
    assert path_marker(ActionChunk(np.zeros((1, 1)), joints, 0), np.zeros(3), 'base') is None
    spec = ActionSpec(NAMES, ('1', 'm/s', 'm/s', 'm/s'), 0.5, 1)
    chunk = ActionChunk(np.full((1, 4), np.nan), spec, 0)
    assert path_marker(chunk, np.zeros(3), 'base') is None

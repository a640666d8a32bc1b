"""The end effector's surroundings in the image."""

import numpy as np
import pytest

from sqap_vla_ros.camera import PinholeCamera
from sqap_vla_ros.compression.pruning.protection import patch_distances_m

GRID = (4, 8)


def camera(width=80, height=40, depth=2.0):
    """Look along z from `depth` metres behind the base frame's origin, 100 px focal length."""
    pose = np.eye(4)
    pose[2, 3] = depth
    k = np.array([[100.0, 0, width / 2], [0, 100, height / 2], [0, 0, 1]])
    return PinholeCamera(k, pose, width, height)


def test_the_patch_that_shows_the_point_is_at_no_distance():
    # Pixel (40 + 100 * 0.3 / 2, 20 - 100 * 0.1 / 2) = (55, 15): row 1, column 5.
    distances = patch_distances_m(camera(), np.array([0.3, -0.1, 0.0]), GRID)
    assert np.flatnonzero(distances == 0).tolist() == [1 * 8 + 5]


def test_distances_are_metres_at_the_points_depth():
    distances = patch_distances_m(camera(), np.array([0.3, -0.1, 0.0]), GRID).reshape(GRID)
    # From pixel 55 to the edges of columns 4 and 7 at pixels 50 and 70; 50 px a metre.
    assert distances[1, 4] == pytest.approx(5 / 50)
    assert distances[1, 7] == pytest.approx(15 / 50)
    assert distances[3, 7] == pytest.approx(np.hypot(15, 15) / 50)


def test_a_disc_covers_more_patches_when_it_is_nearer():
    counts = [
        (patch_distances_m(camera(depth=d), np.zeros(3), GRID) <= 0.1).sum()
        for d in (0.5, 1.0, 4.0)
    ]
    assert counts[0] > counts[1] >= counts[2] >= 1


@pytest.mark.parametrize(
    'point', [[0, 0, -5.0], [10.0, 0, 0], [0, -3.0, 0], [np.nan, 0, 0], [np.inf, 0, 0]]
)
def test_nothing_is_near_a_point_that_the_camera_does_not_see(point):
    assert np.isinf(patch_distances_m(camera(), np.array(point), GRID)).all()


def test_nothing_is_near_where_camera_or_point_is_unknown():
    assert np.isinf(patch_distances_m(None, np.zeros(3), GRID)).all()
    assert np.isinf(patch_distances_m(camera(), None, GRID)).all()

"""The end effector's surroundings in the image."""

import numpy as np
import pytest

from sqap_vla_ros.camera import PinholeCamera
from sqap_vla_ros.compression.pruning.protection import patch_distances_m
from sqap_vla_ros.token_geometry import LETTERBOX, SQUASH, TokenGeometry

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


def test_in_a_letterbox_the_patch_that_shows_the_point_is_protected_and_no_bar():
    geometry = TokenGeometry(LETTERBOX, 1.0, 224, 14)
    seen = camera(640, 480, depth=1.0)
    for row in (20, 60, 240, 420, 460):
        point = np.array([0.0, (row - 240) / 100, 0.0])
        distances = patch_distances_m(seen, point, (16, 16), geometry).reshape(16, 16)
        # 480 rows become 168 of the 224, below a bar of 28: two rows of patches.
        assert (distances == 0).any(1).nonzero()[0].tolist() == [int((row * 168 / 480 + 28) / 14)]
        assert np.isinf(distances[:2]).all() and np.isinf(distances[14:]).all()
        assert np.isfinite(distances[2:14]).all()


def test_a_centre_crop_moves_what_a_patch_shows():
    # Pixel 69 of 80 is in the last of 8 columns of the whole image, which begins at 70, not yet;
    # of the middle 80 % of each side, 8 .. 72, the last column begins at 64.
    point = np.array([(69 - 40) * 2 / 100, 0.0, 0.0])
    whole = patch_distances_m(camera(), point, GRID)
    cropped = patch_distances_m(camera(), point, GRID, TokenGeometry(SQUASH, 0.64))
    assert set(np.flatnonzero(whole == 0) % 8) == {6}
    assert set(np.flatnonzero(cropped == 0) % 8) == {7}


@pytest.mark.parametrize(
    'point', [[0, 0, -5.0], [10.0, 0, 0], [0, -3.0, 0], [np.nan, 0, 0], [np.inf, 0, 0]]
)
def test_nothing_is_near_a_point_that_the_camera_does_not_see(point):
    assert np.isinf(patch_distances_m(camera(), np.array(point), GRID)).all()


def test_nothing_is_near_where_camera_or_point_is_unknown():
    assert np.isinf(patch_distances_m(None, np.zeros(3), GRID)).all()
    assert np.isinf(patch_distances_m(camera(), None, GRID)).all()

"""The picture of kept tokens."""

import numpy as np

from sqap_vla_ros.overlay import COLOURS, draw_overlays
from sqap_vla_ros.policy import Criterion, TokenSelection

WHITE = np.full((40, 40, 3), 255, np.uint8)
SELECTION = TokenSelection(
    (2, 2), np.array([1, 4]), np.array([Criterion.ATTENTION, Criterion.ROBOT], np.uint8)
)
"""Upper right of the first camera, upper left of the second."""


def test_each_camera_shows_its_own_tokens():
    picture = draw_overlays({'side': WHITE, 'wrist': WHITE}, SELECTION, {})
    assert picture.shape == (40, 80, 3)
    assert tuple(picture[0, 20]) == COLOURS[Criterion.ATTENTION]
    assert tuple(picture[0, 40]) == COLOURS[Criterion.ROBOT]
    bright = picture.reshape(2, 20, 4, 20, 3)[:, 10, :, 10, 0] == 255
    assert bright.tolist() == [[False, True, True, False], [False] * 4]


def test_cameras_of_other_sizes_are_as_high_as_the_first():
    picture = draw_overlays({'side': WHITE, 'wrist': WHITE[:20]}, None, {})
    assert picture.shape == (40, 120, 3) and (picture == 255).all()

"""The picture of kept tokens."""

import numpy as np

from sqap_vla_ros.overlay import COLOURS, draw_overlays
from sqap_vla_ros.policy import Criterion, TokenSelection
from sqap_vla_ros.token_geometry import LETTERBOX, SQUASH, TokenGeometry

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


def test_tokens_of_a_letterbox_are_drawn_where_they_see_the_image_and_bars_nowhere():
    # 80 x 40 pixels in a square of 4 x 4 tokens: the first and the last row are bars.
    image = np.full((40, 80, 3), 200, np.uint8)
    criteria = np.full(3, Criterion.SPATIAL, np.uint8)
    selection = TokenSelection(
        (4, 4), np.array([0, 5, 15]), criteria, TokenGeometry(LETTERBOX, 1.0, 224, 56)
    )
    picture = draw_overlays({'camera': image}, selection, {})
    assert picture.shape == image.shape
    bright = picture.reshape(2, 20, 4, 20, 3)[:, 10, :, 10, 0] == 200
    assert bright.tolist() == [[False, True, False, False], [False] * 4]
    framed = (picture == COLOURS[Criterion.SPATIAL]).all(-1)
    assert framed[:20, 20:40].any() and not framed[20:].any() and not framed[:, :20].any()


def test_what_a_crop_removes_is_dark():
    image = np.full((40, 40, 3), 200, np.uint8)
    selection = TokenSelection(
        (1, 1), np.array([0]), np.zeros(1, np.uint8), TokenGeometry(SQUASH, 0.25)
    )
    picture = draw_overlays({'camera': image}, selection, {})
    assert (picture[:10] == 50).all() and (picture[20, 15:25] == 200).all()

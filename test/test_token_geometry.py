"""The map between pixels of an image and tokens is that of each family's own preprocessing."""

import numpy as np
import pytest

from sqap_vla_ros.token_geometry import LETTERBOX, SQUASH, TokenGeometry

torch = pytest.importorskip('torch')

from sqap_vla_ros.models.families.pi0.preprocessing import letterbox
from sqap_vla_ros.models.preprocessing.images import centre_crop, squash

GRID = (16, 16)
OPENVLA = TokenGeometry(SQUASH, 0.9, 224, 14)
PREPROCESSING = {
    LETTERBOX: (TokenGeometry(LETTERBOX, 1.0, 224, 14), lambda image: letterbox(image, 224)),
    SQUASH: (TokenGeometry(SQUASH, 1.0, 224, 14), lambda image: squash(image, 224)),
    'crop': (OPENVLA, lambda image: centre_crop(squash(image, 224), 0.9)),
}
SIZES = [(640, 480), (480, 640), (641, 479), (224, 224), (1280, 720), (100, 37)]


def token_that_shows(preprocess, column, row, width, height):
    """Paint a dot around a pixel, preprocess, and return the row and column of its token."""
    radius = max(width, height) // 64
    image = np.zeros((height, width, 3), np.uint8)
    image[
        max(row - radius, 0) : row + radius + 1, max(column - radius, 0) : column + radius + 1
    ] = 255
    grey = preprocess(torch.from_numpy(image)).float().sum(0).numpy()
    places = np.indices(grey.shape) + 0.5
    return (places * grey).sum((1, 2)) / grey.sum() / 14


@pytest.mark.parametrize('size', SIZES)
@pytest.mark.parametrize('name', PREPROCESSING)
def test_a_pixel_is_shown_by_the_token_that_preprocessing_puts_it_in(name, size):
    geometry, preprocess = PREPROCESSING[name]
    width, height = size
    edges_x, edges_y = geometry.edges(GRID, width, height)
    for across, down in ((0.1, 0.2), (0.5, 0.5), (0.8, 0.3), (0.35, 0.9)):
        column, row = round(across * width), round(down * height)
        seen_row, seen_column = token_that_shows(preprocess, column, row, width, height)
        x, y = geometry.to_input(column + 0.5, row + 0.5, width, height)
        assert (x / 14, y / 14) == pytest.approx((seen_column, seen_row), abs=0.1)
        found_row = np.searchsorted(edges_y, row + 0.5) - 1
        found_column = np.searchsorted(edges_x, column + 0.5) - 1
        assert abs(found_row + 0.5 - seen_row) <= 0.6
        assert abs(found_column + 0.5 - seen_column) <= 0.6


def test_the_rectangles_of_a_squashed_image_divide_it():
    found = TokenGeometry().rectangles((2, 4), 80, 40)
    assert found[0].tolist() == [0, 0, 20, 20] and found[7].tolist() == [60, 20, 80, 40]


def test_tokens_in_the_bars_of_a_letterbox_show_nothing():
    geometry = TokenGeometry(LETTERBOX, 1.0, 224, 14)
    found = geometry.rectangles(GRID, 640, 480).reshape(16, 16, 4)
    area = (found[..., 2] - found[..., 0]) * (found[..., 3] - found[..., 1])
    assert (area[:2] == 0).all() and (area[14:] == 0).all()
    assert area[2:14] == pytest.approx(40 * 40)
    assert area.sum() == pytest.approx(640 * 480)
    tall = geometry.rectangles(GRID, 480, 640).reshape(16, 16, 4)
    np.testing.assert_allclose(tall, found.transpose(1, 0, 2)[..., [1, 0, 3, 2]])


def test_a_centre_crop_leaves_a_margin_that_no_token_shows():
    edges_x, edges_y = OPENVLA.edges(GRID, 200, 100)
    reach = 0.9**0.5
    assert (edges_x[0], edges_x[-1]) == pytest.approx((100 - 100 * reach, 100 + 100 * reach))
    assert (edges_y[0], edges_y[-1]) == pytest.approx((50 - 50 * reach, 50 + 50 * reach))
    assert OPENVLA.to_input(0.0, 50.0, 200, 100)[0] < 0


def test_patches_that_do_not_fill_the_input_leave_a_strip_at_its_end():
    edges_x, _ = TokenGeometry(SQUASH, 1.0, 384, 14).edges((27, 27), 384, 384)
    assert edges_x[-1] == 378


def test_without_the_size_of_the_input_nothing_is_rounded():
    exact = TokenGeometry(LETTERBOX)
    assert exact.to_input(320, 0, 640, 480) == pytest.approx((0.5, 0.125))
    assert exact.edges((8, 8), 640, 480)[1] == pytest.approx([0, *range(0, 481, 80), 480])


@pytest.mark.parametrize(
    'fields, match',
    [
        ({'fit': 'stretch'}, "fit is 'stretch'"),
        ({'crop_area': 0.0}, 'crop_area'),
        ({'crop_area': 1.5}, 'crop_area'),
        ({'image_size': 10, 'patch_size': 20}, 'patch_size'),
    ],
)
def test_values_that_make_no_sense_are_refused(fields, match):
    with pytest.raises(ValueError, match=match):
        TokenGeometry(**fields)

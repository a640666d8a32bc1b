"""The projection of points, with the distortion of the lens."""

import cv2
import numpy as np
import pytest

from sqap_vla_ros.camera import PinholeCamera

K = np.array([[500.0, 3.0, 320], [0, 510, 240], [0, 0, 1]])
PLUMB_BOB = (-0.3, 0.1, 0.002, -0.001, 0.02)
RATIONAL = (0.4, 0.05, 0.001, -0.002, 0.01, 0.7, 0.1, 0.02)
EQUIDISTANT = (-0.02, 0.01, 0.001, -0.0005)


def camera(model='', coefficients=()):
    return PinholeCamera(K, np.eye(4), 640, 480, model, coefficients)


@pytest.mark.parametrize('point', [(0.0, 0.0, 1.0), (0.3, -0.2, 1.0), (-0.5, 0.4, 2.0)])
@pytest.mark.parametrize(
    'model, coefficients',
    [
        ('', ()),
        ('plumb_bob', PLUMB_BOB),
        ('plumb_bob', (-0.2, 0.1, 0.0, 0.0)),
        ('rational_polynomial', RATIONAL),
    ],
)
def test_distortion_is_that_of_opencv(model, coefficients, point):
    expected, _ = cv2.projectPoints(
        np.array([point]), np.zeros(3), np.zeros(3), np.diag([1.0, 1, 1]), np.array(coefficients)
    )
    x, y = expected.ravel()
    column, row, depth = camera(model, coefficients).project(np.array(point))
    assert (column, row) == pytest.approx((500 * x + 3 * y + 320, 510 * y + 240))
    assert depth == point[2]


@pytest.mark.parametrize('point', [(0.0, 0.0, 1.0), (0.3, -0.2, 1.0), (2.0, 1.0, 0.7)])
def test_a_fisheye_is_that_of_opencv(point):
    expected, _ = cv2.fisheye.projectPoints(
        np.array([[point]]), np.zeros(3), np.zeros(3), np.eye(3), np.array(EQUIDISTANT)
    )
    x, y = expected.ravel()
    column, row, _ = camera('equidistant', EQUIDISTANT).project(np.array(point))
    assert (column, row) == pytest.approx((500 * x + 3 * y + 320, 510 * y + 240))


def test_a_point_beyond_the_reach_of_the_distortion_model_is_not_in_the_image():
    # r (1 - 0.5 r^2) falls from r = 0.82 on, and is back in the middle at r = 1.41.
    lens = camera('plumb_bob', (-0.5, 0.0, 0.0, 0.0))
    assert lens.project(np.array([0.5, 0.0, 1.0])) is not None
    assert lens.project(np.array([1.4, 0.0, 1.0])) is None


def test_the_plain_data_of_a_camera_make_the_same_camera_also_those_of_older_bags():
    sent = camera('plumb_bob', PLUMB_BOB)
    got = PinholeCamera.from_plain_data(sent.as_plain_data())
    assert got.as_plain_data() == sent.as_plain_data() and got.intrinsics.dtype == np.float64
    old = {k: v for k, v in sent.as_plain_data().items() if not k.startswith('distortion')}
    assert PinholeCamera.from_plain_data(old).distortion == ()

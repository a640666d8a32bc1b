"""The intrinsics of the image that arrives, which CameraInfo gives for the full sensor."""

import numpy as np
import pytest

pytest.importorskip('rclpy')

from sensor_msgs.msg import CameraInfo, RegionOfInterest

from sqap_vla_ros.compression.pruning.protection import patch_distances_m
from sqap_vla_ros.errors import UserError
from sqap_vla_ros.ros.common.messages import pinhole_camera

K = [1000.0, 0.0, 640.0, 0.0, 1000.0, 480.0, 0.0, 0.0, 1.0]
P = [900.0, 0.0, 600.0, 0.0, 0.0, 900.0, 500.0, 0.0, 0.0, 0.0, 1.0, 0.0]
POSE = np.zeros(3), np.array([0.0, 0.0, 0.0, 1.0])
POINT = np.array([0.25, 0.15, 1.0])
"""Seen in pixel (890, 630) of the full image."""
ROI = RegionOfInterest(x_offset=320, y_offset=240, width=640, height=480)


def info(**fields):
    return CameraInfo(**{'width': 1280, 'height': 960, 'k': K, 'p': P, **fields})


@pytest.mark.parametrize(
    'fields, size, pixel',
    [
        ({}, (1280, 960), (890, 630)),
        ({'roi': ROI}, (640, 480), (890 - 320, 630 - 240)),
        ({'binning_x': 2, 'binning_y': 2}, (640, 480), (445, 315)),
        ({'binning_x': 1, 'binning_y': 4}, (1280, 240), (890, 157.5)),
        ({'roi': ROI, 'binning_x': 2, 'binning_y': 2}, (320, 240), (285, 195)),
        ({'roi': RegionOfInterest(width=1280, height=960)}, (1280, 960), (890, 630)),
        ({'width': 1281, 'binning_x': 2}, (640, 960), (445, 630)),
        ({'width': 1281, 'binning_x': 2}, (641, 960), (445, 630)),
    ],
)
def test_a_point_is_projected_into_the_image_that_arrives(fields, size, pixel):
    camera = pinhole_camera(info(**fields), *POSE, size)
    assert (camera.width, camera.height) == size
    assert camera.project(POINT)[:2] == pytest.approx(pixel)
    patch = int(np.argmin(patch_distances_m(camera, POINT, (16, 16))))
    row, column = int(pixel[1] / size[1] * 16), int(pixel[0] / size[0] * 16)
    assert divmod(patch, 16) == (row, column)


def test_a_rectified_image_has_the_projection_of_p_and_no_distortion():
    message = info(distortion_model='plumb_bob', d=[-0.35, 0.12, 0.0, 0.0, 0.0])
    rectified = pinhole_camera(message, *POSE, (1280, 960), rectified=True)
    assert rectified.project(POINT)[:2] == pytest.approx((825.0, 635.0))
    raw = pinhole_camera(message, *POSE, (1280, 960))
    squared = 0.25**2 + 0.15**2
    shrunk = 1 - 0.35 * squared + 0.12 * squared**2
    assert raw.project(POINT)[:2] == pytest.approx((640 + 250 * shrunk, 480 + 150 * shrunk))


STEREO = [900.0, 0.0, 600.0, -90.0, 0.0, 900.0, 500.0, 0.0, 0.0, 0.0, 1.0, 0.0]


@pytest.mark.parametrize(
    'fields, arguments, match',
    [
        ({}, ((640, 480),), 'for an image of 1280 x 960 pixels .*, the image has 640 x 480;'),
        ({'roi': ROI}, ((1280, 960),), 'for an image of 640 x 480 pixels'),
        ({'binning_x': 2, 'binning_y': 2}, ((1280, 960),), 'for an image of 640 x 480 pixels'),
        # A driver that gives the size of the binned image, and k of the sensor.
        ({'width': 640, 'height': 480, 'binning_x': 2, 'binning_y': 2}, (), 'centre of k'),
        ({'roi': RegionOfInterest(x_offset=10)}, (), 'roi of 0 x 0 at'),
        ({'roi': RegionOfInterest(x_offset=900, width=640, height=480)}, (), 'does not lie in'),
        ({'roi': ROI}, ((640, 480), True), 'rectified image of a part'),
        ({'p': STEREO}, (None, True), 'second camera of a stereo pair'),
        ({'p': [0.0] * 12}, (None, True), 'p has no positive focal lengths'),
        ({'binning_x': 2000}, (), 'leaves nothing'),
        ({'k': [0.0] * 9}, (), 'k has no positive focal lengths'),
        ({'k': [np.nan, *K[1:]]}, (), 'k has no positive focal lengths'),
        ({'k': [*K[:2], np.inf, *K[3:]]}, (), 'k has no positive focal lengths'),
        ({'k': np.array(K).reshape(3, 3).T.ravel().tolist()}, (), 'swapped'),
        ({'width': 0}, (), 'width or height is 0'),
        ({'d': [0.1] * 5, 'distortion_model': 'double_sphere'}, (), "'double_sphere' with 5"),
        ({'d': [0.1] * 6, 'distortion_model': 'plumb_bob'}, (), "'plumb_bob' with 6"),
        ({'d': [np.nan] * 5, 'distortion_model': 'plumb_bob'}, (), 'd has NaN'),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(fields, arguments, match):
    with pytest.raises(UserError, match=match) as caught:
        pinhole_camera(info(**fields), *POSE, *arguments)
    assert '\n' not in str(caught.value) and len(str(caught.value)) < 400


QUARTER = [0.0, 0.0, 1.0, 0.0, 1.0, 0.0, -1.0, 0.0, 0.0]


@pytest.mark.parametrize(
    'fields, arguments, match',
    [
        ({'k': [0.9, 0, 0.5, 0, 1.2, 0.5, 0, 0, 1]}, (), 'in pixels, not in mm'),
        ({'k': [1e6, 0, 640, 0, 1e6, 480, 0, 0, 1]}, (), 'do not fit an image of 1280 x 960'),
        ({'k': [1000, 0, 640, 0, 100, 480, 0, 0, 1]}, (), '1000 and 100 pixels'),
        ({'r': QUARTER}, (None, True), 'r turns the rectified image by 90.0 degrees'),
        ({'r': [1.0, *QUARTER[1:]]}, (None, True), 'no rotation matrix'),
    ],
)
def test_intrinsics_that_no_camera_has_are_refused(fields, arguments, match):
    if 'k' in fields:
        fields = {'k': list(map(float, fields['k']))}
    test_what_makes_no_sense_is_refused_in_one_line(fields, arguments, match)
    assert pinhole_camera(info(r=QUARTER), *POSE)  # a raw image is not turned


def test_coefficients_of_zero_are_no_distortion_whatever_the_model_is_called():
    camera = pinhole_camera(info(d=[0.0] * 14, distortion_model='?'), *POSE)
    assert camera.distortion == ()

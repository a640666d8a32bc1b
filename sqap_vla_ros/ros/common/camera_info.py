"""
The intrinsics that a sensor_msgs/CameraInfo gives for an image.

`k`, `p`, `width` and `height` describe the full image of the sensor. A driver that sends a part of
it (`roi`) or fewer pixels (`binning_x`, `binning_y`) leaves them as they are, so that the numbers
for the image itself follow from all of them, as in image_geometry.
"""

from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation
from sensor_msgs.msg import CameraInfo

from sqap_vla_ros.camera import DISTORTIONS
from sqap_vla_ros.errors import UserError
from sqap_vla_ros.profiles.ranges import MIN_FOCAL_LENGTH

FOCAL_LENGTHS = MIN_FOCAL_LENGTH, 50.0
"""Shortest and longest focal length, in widths or heights of the image."""
MAX_ASPECT = 2.5
"""Largest ratio of the two focal lengths: of the sides of a pixel."""
MAX_RECTIFIED_TURN_DEG = 1.0
"""Largest turn of `r` that is neglected."""
SHOWN = 40
"""Characters of a name from a message that are shown."""


@dataclass(frozen=True)
class ImageIntrinsics:
    """Intrinsics of an image as it arrives."""

    matrix: np.ndarray
    """float64 [3, 3], pixels of the image."""
    width: int
    height: int
    distortion_model: str = ''
    distortion: tuple[float, ...] = ()


def image_intrinsics(
    info: CameraInfo, size: tuple[int, int] | None = None, rectified: bool = False
) -> ImageIntrinsics:
    """
    Find the intrinsics of the image that a CameraInfo belongs to.

    Args:
        info: The message.
        size: Width and height of the image, pixels; None: not known, then not compared.
        rectified: Whether the image is undistorted: then `p` holds and not `k` and `d`.

    Returns:
        The intrinsics, with `roi` and binning applied.

    Raises:
        UserError: The message makes no sense, or describes an image of another size.
    """
    full = info.width, info.height
    if 0 in full:
        raise UserError('camera_info: width or height is 0')
    name = 'p' if rectified else 'k'
    matrix = _matrix(name, np.array(info.p if rectified else info.k, np.float64), full)
    left, top, width, height = _region(info)
    if rectified:
        _check_turn(info)
    if rectified and (width, height) != full:
        raise UserError(
            'camera_info: a rectified image of a part of the sensor (roi) is not supported; '
            'publish the whole image, or give intrinsics in the profile'
        )
    binning = max(info.binning_x, 1), max(info.binning_y, 1)
    matrix[0, 2] -= left
    matrix[1, 2] -= top
    matrix[0] /= binning[0]
    matrix[1] /= binning[1]
    columns, rows = width // binning[0], height // binning[1]
    if not (columns and rows):
        raise UserError(
            f'camera_info: binning {binning[0]} x {binning[1]} leaves nothing of {width} x '
            f'{height} pixels'
        )
    if size is not None:
        # Drivers round the last, incomplete pixel up or down.
        spare = width % binning[0] > 0, height % binning[1] > 0
        if not (0 <= size[0] - columns <= spare[0] and 0 <= size[1] - rows <= spare[1]):
            raise UserError(
                f'these intrinsics are for an image of {columns} x {rows} pixels (after roi and '
                f'binning), the image has {size[0]} x {size[1]}; publish the camera_info of this '
                'image (the resize node of image_proc does), or give its own intrinsics in the '
                'profile'
            )
        columns, rows = size
    model, coefficients = ('', ()) if rectified else _distortion(info)
    return ImageIntrinsics(matrix, columns, rows, model, coefficients)


def _matrix(name: str, values: np.ndarray, full: tuple[int, int]) -> np.ndarray:
    """Check `k` [9] or `p` [12] of the full image; returns float64 [3, 3]."""
    rows = values.reshape(3, -1)
    matrix = rows[:, :3].copy()
    if not (np.isfinite(rows).all() and matrix[0, 0] > 0 and matrix[1, 1] > 0):
        raise UserError(f'camera_info: {name} has no positive focal lengths; calibrate the camera')
    if matrix[2].tolist() != [0.0, 0.0, 1.0] or matrix[1, 0] != 0:
        raise UserError(
            f'camera_info: {name} has {matrix[1, 0]:g} and {matrix[2].tolist()} below the '
            'diagonal, expected 0 and [0.0, 0.0, 1.0]; are its rows and columns swapped?'
        )
    if rows[:, 3:].any():
        raise UserError(
            'camera_info: p is that of the second camera of a stereo pair, whose pose is that of '
            'the first; use the first, or give intrinsics in the profile'
        )
    focal = matrix[0, 0], matrix[1, 1]
    shortest, longest = FOCAL_LENGTHS
    if not all(shortest * n < f < longest * n for f, n in zip(focal, full)) or max(
        focal
    ) > MAX_ASPECT * min(focal):
        raise UserError(
            f'camera_info: the focal lengths of {name}, {focal[0]:g} and {focal[1]:g} pixels, do '
            f'not fit an image of {full[0]} x {full[1]}; they are in pixels, not in mm or parts '
            'of the width'
        )
    centre = matrix[0, 2], matrix[1, 2]
    if not all(0 < c < length for c, length in zip(centre, full)):
        raise UserError(
            f'camera_info: the centre of {name}, ({centre[0]:g}, {centre[1]:g}), is outside width '
            f'and height, {full[0]} x {full[1]}; all of them must be those of the full image, '
            'before roi and binning'
        )
    return matrix


def _region(info: CameraInfo) -> tuple[int, int, int, int]:
    """Left, top, width and height of the part of the full image that is sent."""
    roi = info.roi
    if not (roi.x_offset or roi.y_offset or roi.width or roi.height):
        return 0, 0, info.width, info.height
    if (
        not (roi.width and roi.height)
        or roi.x_offset + roi.width > info.width
        or roi.y_offset + roi.height > info.height
    ):
        raise UserError(
            f'camera_info: roi of {roi.width} x {roi.height} at ({roi.x_offset}, '
            f'{roi.y_offset}) does not lie in width and height, {info.width} x {info.height}; '
            'all of them are pixels of the full image'
        )
    return roi.x_offset, roi.y_offset, roi.width, roi.height


def _check_turn(info: CameraInfo) -> None:
    """Check that the rectified image looks where the camera does; zeros mean that nobody set r."""
    turn = np.array(info.r, np.float64).reshape(3, 3)
    if not turn.any():
        return
    orthogonal = np.isfinite(turn).all() and np.abs(turn @ turn.T - np.eye(3)).max() <= 1e-3
    if not orthogonal or np.linalg.det(turn) < 0:
        raise UserError('camera_info: r is no rotation matrix; calibrate the camera')
    degrees = float(np.degrees(Rotation.from_matrix(turn).magnitude()))
    if degrees > MAX_RECTIFIED_TURN_DEG:
        raise UserError(
            f'camera_info: r turns the rectified image by {degrees:.1f} degrees against the '
            'camera, so the pose of optical_frame is not that of the image; use the raw image, or '
            'give intrinsics and the pose of the rectified camera in the profile'
        )


def _distortion(info: CameraInfo) -> tuple[str, tuple[float, ...]]:
    """Model and coefficients of the lens; empty where it does not distort."""
    coefficients = tuple(float(value) for value in info.d)
    if not np.isfinite(coefficients).all():
        raise UserError('camera_info: d has NaN or infinite values; calibrate the camera')
    if not any(coefficients):
        return '', ()
    count = DISTORTIONS.get(info.distortion_model)
    if count is None or any(coefficients[count:]):
        known = ', '.join(f'{name} (at most {n})' for name, n in DISTORTIONS.items())
        raise UserError(
            f'camera_info: distortion_model {info.distortion_model[:SHOWN]!a} with '
            f'{len(coefficients)} coefficients is not supported; expected {known}, or d without '
            'values and a rectified image'
        )
    return info.distortion_model, coefficients[:count]

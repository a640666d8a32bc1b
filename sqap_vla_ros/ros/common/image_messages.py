"""Uint8 RGB arrays to image messages; the other way is in `images/conversion.py`."""

from typing import Any

import numpy as np
from sensor_msgs.msg import Image


def rgb_to_image(rgb: np.ndarray, header: Any | None = None) -> Image:
    """
    Make a sensor_msgs/Image, rgb8.

    Args:
        rgb: uint8 [height, width, 3].
        header: std_msgs/Header of the message; empty by default.

    Raises:
        ValueError: The array has another type or shape.

    """
    height, width, channels = rgb.shape
    if rgb.dtype != np.uint8 or channels != 3:
        raise ValueError(f'expected uint8 [height, width, 3], got {rgb.dtype} {rgb.shape}')
    message = Image(height=height, width=width, encoding='rgb8', step=3 * width, is_bigendian=0)
    if header is not None:
        message.header = header
    message.data = rgb.tobytes()  # bytes: the setter would check an array's elements one by one
    return message
